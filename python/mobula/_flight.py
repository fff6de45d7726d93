"""What is in flight, and which of it is the next to be done."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Where is looked first for something that is done, and for how long.
_HEAD = 16
_HEAD_S = 0.001


class Flight:
    """Refs, or parts of a pool, in the order in which they were sent. For one thread at a time."""

    def __init__(
        self,
        is_ready: Callable[[Any], bool],
        wait_for_any: Callable[[Sequence[Any], float | None], bool],
    ) -> None:
        self.parts: deque[Any] = deque()
        self._done: deque[Any] = deque()  # Ready, and not taken.
        self._is_ready = is_ready
        self._wait_for_any = wait_for_any
        self._head_is_slow = False

    def __len__(self) -> int:
        return len(self.parts) + len(self._done)

    def has_first(self) -> bool:
        """Is there one that `first_done` finds without a look at the others?"""
        return bool(self._done or (self.parts and self._is_ready(self.parts[0])))

    def first_done(self, timeout: float | None) -> Any:
        """Takes one that is ready out; there must be some in flight. None: there was none in time."""
        if self._done:
            return self._done.popleft()
        if self._is_ready(self.parts[0]):
            return self.parts.popleft()
        # Where many are in flight, one near the first is the next to be done.
        head = list(itertools.islice(self.parts, _HEAD))
        if len(self.parts) > len(head) and not self._head_is_slow:
            brief = _HEAD_S if timeout is None else min(timeout, _HEAD_S)
            self._head_is_slow = not self._wait_for_any(head, brief)
        if self._head_is_slow or len(self.parts) <= len(head):
            head = list(self.parts)
            if not self._wait_for_any(head, timeout):
                return None
        for _ in head:
            self.parts.popleft()
        rest: list[Any] = []
        for part in head:
            (self._done if self._is_ready(part) else rest).append(part)
        self._head_is_slow = self._head_is_slow and not self._is_ready(head[0])
        self.parts.extendleft(reversed(rest))
        return self._done.popleft()
