"""Which calls fit a function: what Python itself would take, as far as that can be known before.

A wrapper made with functools.wraps shows the signature of what it wraps, but takes what its own code
takes. Where that is `*args, **kwargs` and its first step is to hand them on as they are, what it wraps
must take them too.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WRAPPERS_MAX = 100
_Parameter = inspect.Parameter
_POSITIONAL = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
_PREFIXES: dict[Any, str] = {_Parameter.VAR_POSITIONAL: "*", _Parameter.VAR_KEYWORD: "**"}
# Instructions that say nothing about what is called.
_SILENT = {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME", "NOT_TAKEN"}
_LOADS = {"LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_CONST", "LOAD_DEREF", "LOAD_GLOBAL"}
# Of which some, since Python 3.13, are two in one.
_FAST = re.compile(r"(?:LOAD|STORE)_FAST(?:_BORROW)?")
_CACHED: Any = type(functools.cache(lambda: None))
_CO_VARARGS = inspect.CO_VARARGS
_CO_VARKEYWORDS = inspect.CO_VARKEYWORDS


def of(function: Callable[..., Any]) -> inspect.Signature:
    """ValueError: it does not tell. TypeError: it is no function."""
    if isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType):
        return _without_first(of(function.__func__))
    if isinstance(function, _CACHED):
        return of(function.__wrapped__)
    if not isinstance(function, types.FunctionType):
        return inspect.signature(function)
    return inspect.Signature(_taken(function, 0))


def checked(function: Any) -> Any:
    """A plain function whose code takes what `function` takes; None: that is not known. Also of what
    functools.cache and lru_cache make."""
    name = str(getattr(function, "__name__", function))
    try:
        return stub(_text(list(of(function).parameters.values())), name)
    except (SyntaxError, TypeError, ValueError):
        return None


def parameters(function: Any, skip_first: bool) -> str:
    """A function's parameters as source text, without values of defaults."""
    try:
        signature = of(function)
    except (TypeError, ValueError):
        return "*args, **kwargs"
    return _text(list((_without_first(signature) if skip_first else signature).parameters.values()))


@functools.lru_cache(maxsize=4096)
def stub(text: str, name: str) -> Callable[..., Any]:
    """A function with these parameters, against which calls are checked; `name` is for errors."""
    made: Callable[..., Any] = eval(f"lambda {text}: None")  # Names, no values.
    made.__name__ = made.__qualname__ = name
    return made


def of_constructor(cls: type) -> list[inspect.Signature]:
    """What the arguments for an instance must fit, all of them."""
    own_call: Any = type(cls).__call__
    if own_call is not type.__call__:
        constructors = [own_call]
    else:
        both: Any = (
            (getattr(cls, name), getattr(object, name)) for name in ("__init__", "__new__")
        )
        constructors = [constructor for constructor, default in both if constructor is not default]
    if not constructors:
        return [inspect.Signature()]
    found = []
    for constructor in constructors:
        try:
            text = parameters(constructor, True)
            found.append(inspect.signature(stub(text, "__init__")))
        except (TypeError, ValueError, SyntaxError):
            continue
    return found


def _text(listed: Sequence[inspect.Parameter]) -> str:
    pieces = []
    last_kind = None
    for parameter in listed:
        kind = parameter.kind
        if last_kind is _Parameter.POSITIONAL_ONLY and kind is not last_kind:
            pieces.append("/")
        if kind is _Parameter.KEYWORD_ONLY and last_kind not in (
            _Parameter.KEYWORD_ONLY,
            _Parameter.VAR_POSITIONAL,
        ):
            pieces.append("*")
        prefix = _PREFIXES.get(kind, "")
        has_default = parameter.default is not _Parameter.empty
        pieces.append(f"{prefix}{parameter.name}{'=None' if has_default else ''}")
        last_kind = kind
    if last_kind is _Parameter.POSITIONAL_ONLY:
        pieces.append("/")
    return ", ".join(pieces)


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    listed = list(signature.parameters.values())
    if listed and listed[0].kind in _POSITIONAL:
        listed = listed[1:]
    return signature.replace(parameters=listed)


# ---- wrappers ------------------------------------------------------------------------------------


def _taken(function: types.FunctionType, depth: int) -> list[inspect.Parameter]:
    own = _own(function)
    wrapped = getattr(function, "__wrapped__", None)
    if depth == _WRAPPERS_MAX or not isinstance(wrapped, types.FunctionType):
        return own
    given = _handed_on(function, wrapped)
    if given is None:
        return own
    return _combined(own, _taken(wrapped, depth + 1), given)


def _own(function: types.FunctionType) -> list[inspect.Parameter]:
    """By its code, whatever it says of itself."""
    bare = types.FunctionType(
        function.__code__, {}, function.__name__, function.__defaults__, function.__closure__
    )
    bare.__kwdefaults__ = function.__kwdefaults__
    return list(inspect.signature(bare).parameters.values())


def _combined(
    own: list[inspect.Parameter], inner: list[inspect.Parameter], given: int
) -> list[inspect.Parameter]:
    """Those of a wrapper that calls `f(<given values>, *args, **kwargs)`, where f takes `inner`."""
    rest = [parameter for parameter in inner if parameter.kind in _POSITIONAL]
    others = [parameter for parameter in inner if parameter.kind not in _POSITIONAL]
    takes_any = any(parameter.kind is _Parameter.VAR_POSITIONAL for parameter in others)
    if len(rest) < given and not takes_any:
        return own
    rest = rest[given:]
    first = [parameter for parameter in own if parameter.kind in _POSITIONAL]
    keywords = [parameter for parameter in own if parameter.kind is _Parameter.KEYWORD_ONLY]
    names = {parameter.name for parameter in (*first, *keywords)}
    if any(parameter.name in names for parameter in (*rest, *others)):
        return own
    together = [*first, *rest, *keywords, *others]
    try:
        signature = inspect.Signature(sorted(together, key=lambda parameter: parameter.kind))
    except ValueError:  # One with a default before one without.
        return own
    return list(signature.parameters.values())


def _handed_on(function: types.FunctionType, wrapped: Any) -> int | None:
    """How many values the wrapper puts before its own *args, if it calls `wrapped` with these and its
    own **kwargs, and does nothing before that which could change or avoid it. None: else."""
    code = function.__code__
    if not code.co_flags & _CO_VARARGS or not code.co_flags & _CO_VARKEYWORDS:
        return None
    if getattr(code, "co_exceptiontable", b""):
        return None  # The call may be in a `try`.
    at = code.co_argcount + code.co_kwonlyargcount
    args, kwargs = code.co_varnames[at : at + 2]
    before: list[dis.Instruction] = []
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name == "CALL_FUNCTION_EX":
            given = _call(function, wrapped, before, (args, kwargs))
            if given is not None:
                return given
        if "JUMP" in name or name.startswith("SETUP_"):
            return None
        if name in ("RETURN_VALUE", "RAISE_VARARGS", "FOR_ITER"):
            return None
        if name not in _SILENT:
            before.append(instruction)
    return None


def _call(
    function: types.FunctionType,
    wrapped: Any,
    before: list[dis.Instruction],
    names: tuple[str, str],
) -> int | None:
    """`before`: the instructions up to a call with *args and **kwargs."""
    args, kwargs = names
    steps = [single for step in before for single in _singles(step)]

    def take(*opnames: str) -> Any:
        opname, value = steps.pop() if steps else ("", None)
        if opname not in opnames:
            raise LookupError
        return value

    try:
        take("DICT_MERGE")
        if take("LOAD_FAST", "LOAD_FAST_BORROW") != kwargs:
            return None
        if take("BUILD_MAP") != 0:
            return None
        adds = steps[-1][0] in ("LIST_TO_TUPLE", "CALL_INTRINSIC_1")
        if adds:
            take("LIST_TO_TUPLE", "CALL_INTRINSIC_1")
            take("LIST_EXTEND")
        if take("LOAD_FAST", "LOAD_FAST_BORROW") != args:
            return None
        given = int(take("BUILD_LIST")) if adds else 0
        for _ in range(given):
            take(*_LOADS)
        callee = take("LOAD_DEREF", "LOAD_GLOBAL")
    except (IndexError, LookupError):
        return None
    touched = {value for name, value in steps if name.startswith(("STORE_", "DELETE_"))}
    used = {value for name, value in steps if name.startswith("LOAD_FAST")}
    if touched & {args, kwargs} or kwargs in used:
        return None
    return given if _value_of(function, callee) is wrapped else None


def _singles(step: dis.Instruction) -> list[tuple[str, Any]]:
    names = _FAST.findall(step.opname)
    if len(names) > 1 and isinstance(step.argval, tuple):
        return list(zip(names, step.argval, strict=True))
    return [(step.opname, step.argval)]


def _value_of(function: types.FunctionType, name: str) -> Any:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    try:
        return cells[name].cell_contents if name in cells else function.__globals__.get(name)
    except ValueError:  # It is empty.
        return None
