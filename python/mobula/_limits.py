"""How long names may be and how many there may be of things; and how lists are shortened for people.

docs/limits.md has them all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

NAME_BYTES_MAX = 16 << 10
# Of one node, task, actor or bundle.
RESOURCES_MAX = 100_000
RESOURCE_NAMES_BYTES_MAX = 64 << 20
LABELS_MAX = 100_000
LABELS_BYTES_MAX = 64 << 20
CONCURRENCY_GROUPS_MAX = 1000
RETURNS_MAX = 1_000_000

_SHOWN_MAX = 20
_SHOWN_NAME_MAX = 80


def check_name(what: str, name: str) -> None:
    """ValueError: it is too long."""
    if len(name) * 4 <= NAME_BYTES_MAX:
        return
    size = _size(name)
    if size > NAME_BYTES_MAX:
        raise ValueError(
            f"{what} has {size:,} bytes, but at most {NAME_BYTES_MAX:,} are allowed: {shown(name)!r}"
        )


def check_texts(options: Mapping[str, Any]) -> None:
    """Of keywords. ValueError: a text is too long for a name."""
    for keyword, value in options.items():
        if isinstance(value, str):
            check_name(keyword, value)


def check_returns(count: int) -> None:
    """Of a call. ValueError: too many."""
    if count > RETURNS_MAX:
        raise ValueError(f"num_returns is {count:,}, but at most {RETURNS_MAX:,} are allowed")


def check_resources(resources: Mapping[str, Any]) -> None:
    """ValueError: there are too many kinds, or the names are too long."""
    if len(resources) > RESOURCES_MAX:
        raise ValueError(
            f"there are {len(resources):,} kinds of resources, but at most {RESOURCES_MAX:,} are "
            "allowed"
        )
    for name in resources:
        if isinstance(name, str):
            check_name("The name of a resource", name)
    _check_sum("the names of resources", resources, RESOURCE_NAMES_BYTES_MAX)


def check_labels(labels: Mapping[str, str]) -> None:
    """ValueError: there are too many, or they are too long."""
    if len(labels) > LABELS_MAX:
        raise ValueError(
            f"there are {len(labels):,} labels, but at most {LABELS_MAX:,} are allowed"
        )
    for key, value in labels.items():
        check_name("The key of a label", key)
        check_name(f"The value of the label {shown(key)!r}", value)
    _check_sum("labels", [*labels, *labels.values()], LABELS_BYTES_MAX)


def _check_sum(what: str, texts: Collection[str], most: int) -> None:
    if len(texts) * NAME_BYTES_MAX <= most:
        return
    size = sum(_size(text) for text in texts)
    if size > most:
        raise ValueError(f"{what} have {size:,} bytes in all, but at most {most:,} are allowed")


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def shown(name: str) -> str:
    """For people."""
    return name if len(name) <= _SHOWN_NAME_MAX else f"{name[: _SHOWN_NAME_MAX - 3]}..."


def listed(texts: Iterable[str], separator: str = ", ", most: int = _SHOWN_MAX) -> str:
    """Of many, the first, and how many there are more; for people."""
    texts = list(texts)
    if len(texts) > most:
        left = len(texts) - most
        texts = [*texts[:most], f"... and {left:,} more"]
    return separator.join(texts)


def listed_values(values: Iterable[object], most: int = _SHOWN_MAX) -> str:
    """As a list is shown, of many the first."""
    return f"[{listed(map(short_text, values), most=most)}]"


def short_text(value: object) -> str:
    """As it is shown; of a large dict the first items."""
    if isinstance(value, Mapping):
        pairs = (f"{_short_repr(key)}: {_short_repr(item)}" for key, item in value.items())
        return f"{{{listed(pairs)}}}"
    return _short_repr(value)


def _short_repr(value: object) -> str:
    return repr(shown(value)) if isinstance(value, str) else repr(value)
