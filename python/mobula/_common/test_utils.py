"""Helpers for tests of programs that run tasks: a signal, a semaphore, and waiting for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from mobula._remote import remote


@remote(num_cpus=0)
class SignalActor:
    """Tasks wait here until somebody sends the signal."""

    def __init__(self) -> None:
        self._sent = asyncio.Event()
        self._waiters = 0

    async def send(self, clear: bool = False) -> None:
        """Lets all go on who wait, and, unless `clear`, all who come later."""
        self._sent.set()
        if clear:
            self._sent.clear()

    async def wait(self, should_wait: bool = True) -> None:
        """Returns when the signal is sent; at once without `should_wait`."""
        if not should_wait:
            return
        self._waiters += 1
        try:
            await self._sent.wait()
        finally:
            self._waiters -= 1

    async def cur_num_waiters(self) -> int:
        """How many wait now."""
        return self._waiters


@remote(num_cpus=0)
class Semaphore:
    """A semaphore for tasks."""

    def __init__(self, value: int = 1) -> None:
        self._semaphore = asyncio.Semaphore(value)

    async def acquire(self) -> None:
        """Waits until there is one, and takes it."""
        await self._semaphore.acquire()

    async def release(self) -> None:
        """Gives one back."""
        self._semaphore.release()

    async def locked(self) -> bool:
        """Is there none left?"""
        return self._semaphore.locked()


def wait_for_condition(
    condition_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    raise_exceptions: bool = False,
    **kwargs: Any,
) -> None:
    """Returns once `condition_predictor(**kwargs)` is true. RuntimeError: not within `timeout` seconds;
    what it raised last is the cause. `raise_exceptions`: what it raises comes through at once."""
    deadline = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            if condition_predictor(**kwargs):
                return
        except Exception as error:
            if raise_exceptions:
                raise
            last = error
        if time.monotonic() > deadline:
            break
        time.sleep(retry_interval_ms / 1000)
    raise RuntimeError(_not_met(last)) from last


async def async_wait_for_condition(
    condition_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    **kwargs: Any,
) -> None:
    """The same for coroutines; `condition_predictor` may be one."""
    deadline = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            met = condition_predictor(**kwargs)
            if await met if asyncio.iscoroutine(met) else met:
                return
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(retry_interval_ms / 1000)
    raise RuntimeError(_not_met(last)) from last


def _not_met(last: Exception | None) -> str:
    text = "The condition wasn't met before the timeout expired."
    return f"{text} Last exception: {last!r}" if last else text


__all__ = ["Semaphore", "SignalActor", "async_wait_for_condition", "wait_for_condition"]
