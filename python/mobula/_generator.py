"""Generators: what a task that yields its results gives to its caller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from mobula._core import ObjectRef


class ObjectRefGenerator:
    """The refs of the items that a generator task yields, in order, each as soon as it is there.

    Iterate over it, or use `async for`: the items are `ObjectRef`s. If the task fails, the last ref
    raises the error. `mobula.wait` takes it and tells when the next item can be had without waiting.
    Items that nobody takes any more are dropped. It stays in its process: it cannot be pickled.
    """

    __slots__ = ("__weakref__", "_stream")

    def __init__(self, stream: _core.Stream) -> None:
        self._stream = stream

    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> ObjectRef[Any]:
        ref = self._stream.next(None)
        if ref is None:
            raise StopIteration
        return ref

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> ObjectRef[Any]:
        ready = self._stream.peek()
        if not _core.is_ready(ready):
            from mobula import _loops

            await _loops.asyncio_future(ready, wants_value=False)
        del ready
        ref = self._stream.next(None)
        if ref is None:
            raise StopAsyncIteration
        return ref

    def send(self, value: Any) -> Any:
        """NotImplementedError: nothing can be sent into a task that runs elsewhere."""
        raise NotImplementedError("`gen.send` is not supported: the task runs elsewhere.")

    def throw(self, *error: Any) -> Any:
        """NotImplementedError, like `send`."""
        raise NotImplementedError("`gen.throw` is not supported: the task runs elsewhere.")

    def close(self) -> Any:
        """NotImplementedError: use `mobula.cancel`, or drop the generator."""
        raise NotImplementedError("`gen.close` is not supported. Use `cancel`, or drop it.")

    async def asend(self, value: Any) -> Any:
        """NotImplementedError, like `send`."""
        raise NotImplementedError("`gen.asend` is not supported: the task runs elsewhere.")

    async def athrow(self, *error: Any) -> Any:
        """NotImplementedError, like `send`."""
        raise NotImplementedError("`gen.athrow` is not supported: the task runs elsewhere.")

    async def aclose(self) -> Any:
        """NotImplementedError, like `close`."""
        raise NotImplementedError("`gen.aclose` is not supported. Use `cancel`, or drop it.")

    def completed(self) -> ObjectRef[Any]:
        """A ref that is ready when the task has ended. Its value is None, also if the task raised: that
        error is the last item. It is an error if the task was cancelled, or its worker died."""
        return self._stream.completed

    def next_ready(self) -> bool:
        """Can the next item be had without waiting? False at the end."""
        return _core.is_ready(self._stream.peek()) and not self._stream.at_end()

    def is_finished(self) -> bool:
        """Has the task ended, and were all its items taken?"""
        return self._stream.at_end()

    def _next_ready(self) -> ObjectRef[Any]:
        # For `_core.wait`.
        return self._stream.peek()

    def __reduce__(self) -> Any:
        raise TypeError(
            "An ObjectRefGenerator cannot be sent to another process: its items belong to this one. "
            "Send the refs that it gives."
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.completed.hex()})"


class DynamicObjectRefGenerator:
    """What the ref of a task with num_returns="dynamic" stands for: the refs of all its items. Going
    through them takes them away."""

    def __init__(self, refs: list[ObjectRef[Any]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        while self._refs:
            yield self._refs.pop(0)

    def __len__(self) -> int:
        return len(self._refs)
