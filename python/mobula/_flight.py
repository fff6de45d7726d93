"""What is in flight, and which of it is the next to be done."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

from mobula import _core, _futures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Where is looked first for something that is done, and for how long.
_HEAD = 32
_HEAD_S = 0.001
# Who takes what comes fast waits for so much of the head together, or this long: it would sleep and be
# woken for each. After a wait in vain, and when so many were taken, it is tried again.
_TOGETHER = 16
_TOGETHER_S = 0.0005
_TRY_AGAIN_AFTER = 64


def wait_for_refs(refs: Sequence[Any], count: int, timeout: float | None) -> bool:
    """Until `count` of them are ready. False: not in time."""
    return len(_core.wait(list(refs), num_returns=count, timeout=timeout)[0]) == count


class Flight:
    """Refs, or parts of a pool, in the order in which they were sent. For one thread at a time."""

    def __init__(
        self,
        is_ready: Callable[[Any], bool] = _futures.is_ready_now,
        wait_for: Callable[[Sequence[Any], int, float | None], bool] = wait_for_refs,
    ) -> None:
        self.parts: deque[Any] = deque()
        self._done: deque[Any] = deque()  # Ready, and not taken.
        self._is_ready = is_ready
        self._wait_for = wait_for
        self._head_is_slow = False
        self._slow_for = 0  # So many more are taken before it is tried to wait for some together.

    def __len__(self) -> int:
        return len(self.parts) + len(self._done)

    def has_first(self) -> bool:
        """Is there one that `first_done` finds without a look at the others?"""
        return bool(self._done or (self.parts and self._is_ready(self.parts[0])))

    def first(self) -> Any:
        """Takes the first out, be it ready or not."""
        if not self._is_ready(self.parts[0]):
            self._wait_for_some()
        return self.parts.popleft()

    def first_done(self, timeout: float | None) -> Any:
        """Takes one that is ready out; there must be some in flight. None: there was none in time."""
        while not self._done:
            if not self._look_for_some(timeout):
                return None
        return self._done.popleft()

    def _look_for_some(self, timeout: float | None) -> bool:
        if self._is_ready(self.parts[0]):
            self._done.append(self.parts.popleft())
            return True
        # Where many are in flight, one near the first is the next to be done.
        head = list(itertools.islice(self.parts, _HEAD))
        if len(self.parts) > len(head) and not self._head_is_slow and not self._wait_for_some():
            brief = _HEAD_S if timeout is None else min(timeout, _HEAD_S)
            self._head_is_slow = not self._wait_for(head, 1, brief)
        if self._head_is_slow or len(self.parts) <= len(head):
            head = list(self.parts)
            if not self._wait_for(head, 1, timeout):
                return False
        for _ in head:
            self.parts.popleft()
        rest: list[Any] = []
        for part in head:
            (self._done if self._is_ready(part) else rest).append(part)
        self._head_is_slow = self._head_is_slow and not self._is_ready(head[0])
        self.parts.extendleft(reversed(rest))
        return True

    def _wait_for_some(self) -> bool:
        """A moment, if that may do: for several of the head."""
        if self._slow_for > 0:
            self._slow_for -= 1
            return False
        if len(self.parts) < _HEAD:
            return False
        head = list(itertools.islice(self.parts, _HEAD))
        if not self._wait_for(head, _TOGETHER, _TOGETHER_S):
            self._slow_for = _TRY_AGAIN_AFTER
            return False
        return True
