"""The node's table of keys and values, under the names by which Ray's libraries call it.

Small notes for other programs of the session: bytes by key and namespace, in the daemon's memory. They
stay until they are removed or the daemon ends. A key has at most 8 KiB, a value 16 MiB, all together
128 MiB; what does not fit is a ValueError or an ObjectStoreFullError, and nothing changes.
Each call asks the daemon and waits for its answer, some tens of microseconds.
"""

from __future__ import annotations

from mobula import _core, _session

# wire::fb::KeyValueOp
_PUT, _PUT_NEW, _GET, _EXISTS, _REMOVE, _REMOVE_ALL, _LIST = range(7)
_RESERVED = b"@namespace_"


def _internal_kv_initialized() -> bool:
    """Is there a session, so that the other functions can be called?"""
    return _core.is_connected()


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """The value of `key`; None if it has none."""
    found, _, value = _call(_GET, namespace, key)
    return value if found else None


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Has `key` a value?"""
    found, _, _ = _call(_EXISTS, namespace, key)
    return found


def _internal_kv_put(
    key: str | bytes,
    value: str | bytes,
    overwrite: bool = True,
    *,
    namespace: str | bytes | None = None,
) -> bool:
    """Gives `key` this value; without `overwrite` only if it has none. Returns whether it had one."""
    found, _, _ = _call(_PUT if overwrite else _PUT_NEW, namespace, key, _bytes("value", value))
    return found


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Removes `key`, or all keys that begin with it. Returns how many there were."""
    _, count, _ = _call(_REMOVE_ALL if del_by_prefix else _REMOVE, namespace, key)
    return count


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """The keys that begin with `prefix`, in order."""
    _, _, packed = _call(_LIST, namespace, prefix)
    keys = []
    at = 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "little")
        keys.append(packed[at + 4 : end])
        at = end
    return keys


def _call(
    op: int, namespace: str | bytes | None, key: str | bytes, value: bytes = b""
) -> tuple[bool, int, bytes]:
    key = _bytes("key", key)
    if key.startswith(_RESERVED):
        raise ValueError(f"a key cannot begin with {_RESERVED.decode()}")
    space = b"" if namespace is None else _bytes("namespace", namespace)
    _session.require_session()
    return _core.key_value(op, space, key, value)


def _bytes(what: str, given: str | bytes) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if not isinstance(given, bytes):
        raise TypeError(f"The {what} must be bytes or a string, not {type(given).__name__}.")
    return given


__all__ = [
    "_internal_kv_del",
    "_internal_kv_exists",
    "_internal_kv_get",
    "_internal_kv_initialized",
    "_internal_kv_list",
    "_internal_kv_put",
]
