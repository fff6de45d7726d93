"""What a worker does that is an actor: it makes the instance, and executes calls of its methods.

An actor with one call at a time leaves executing to the extension. One with `max_concurrency` or
concurrency groups has threads, each of which does the same for its group; one with a method that is
`async def` has an event loop for each group, the first in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from mobula import _after_task, _core

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHOWN_NAME_MAX = 100
_REPR_MAX = 250
# How long an event loop looks for calls before it leaves that to a thread.
_LOOK_SECONDS_MAX = 100e-6

_EXIT_REASON = (
    "The actor is dead because its worker process has died: it exited by itself, with exit code 0. "
)


class _ActorExit(SystemExit):
    """Raised by `exit_actor`."""


class _Actor:
    """This process."""

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self.actor_id: str = identity["actor_id"]
        self.class_name: str = identity["class_name"]
        self.shown_name: str = self.class_name  # Beside what it prints.
        self.repr = ""  # What the instance calls itself, if its class says how.
        self.name: str = identity["name"]
        self.namespace: str = identity["namespace"]
        self.restarts: int = identity["restarts"]
        self.resources: dict[str, float] = identity["resources"]
        self.is_made = False
        self.cpus_for_life = 0.0
        self.instance: Any = None
        self.group_count = 1
        self.is_async = False
        self.is_concurrent = False


_actor: _Actor | None = None


def this_actor() -> _Actor | None:
    """The actor that this process is, if it is one."""
    return _actor


# ---- its beginning -------------------------------------------------------------------------------


def become() -> bool:
    """Makes the actor. True: the extension executes its calls; False: they are over, or there is no
    actor."""
    global _actor
    _actor = _Actor(_core.actor_identity())
    _core.name_output(_actor.shown_name)
    loop = None
    try:
        settings, construct = _read_spec(_actor)
        if settings["is_async"]:
            loop = asyncio.new_event_loop()
            _construct_in(loop, construct)
        else:
            construct()
    except SystemExit as error:
        _after_task.end_child(error)
        raise  # The process ends, as it would from a method.
    except BaseException as error:
        _after_task.end_child(error)
        _fail(error)
        return False
    _after_task.end_child(None)
    _core.name_output(_actor.shown_name)
    groups = [("_default", settings["max_concurrency"]), *settings["groups"].items()]
    _actor.group_count = len(groups)
    _actor.is_async = settings["is_async"]
    _actor.is_concurrent = _actor.is_async or groups != [("_default", 1)]
    _core.actor_made(len(groups), _actor.repr)
    if loop is not None:
        _run_loops([limit for _, limit in groups], loop)
        return False
    if len(groups) == 1 and groups[0][1] == 1:
        return True
    _run_threads([limit for _, limit in groups])
    return False


def _construct_in(loop: asyncio.AbstractEventLoop, construct: Callable[[], None]) -> None:
    """On the loop on which the actor's coroutines will run: its constructor may start some."""

    async def run() -> BaseException | None:
        try:
            construct()
        except BaseException as error:
            return error
        return None

    asyncio.set_event_loop(loop)
    error = loop.run_until_complete(run())
    if error is not None:
        raise error


def _read_spec(actor: _Actor) -> tuple[Mapping[str, Any], Callable[[], None]]:
    """(settings, what makes the instance)."""
    class_ref, args, kwargs, settings = _core.get(_core.actor_ref(True))
    refs = [value for value in (*args, *kwargs.values()) if isinstance(value, _core.ObjectRef)]
    values = iter(_core.get(refs) if refs else ())

    def value_of(argument: Any) -> Any:
        return next(values) if isinstance(argument, _core.ObjectRef) else argument

    args = tuple(value_of(value) for value in args)
    kwargs = {name: value_of(value) for name, value in kwargs.items()}
    actor.cpus_for_life = settings["cpus_for_life"]
    cls = _core.get(class_ref).cls
    sys.modules["mobula.actor"].bind_own_name(cls)  # It is loaded with what was just read.
    return settings, functools.partial(_construct, actor, cls, args, kwargs)


def _construct(
    actor: _Actor, cls: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    if type(cls).__call__ is type.__call__:
        # What it says of itself is wanted also if its constructor fails.
        actor.instance = cls.__new__(cls, *args, **kwargs)
        if isinstance(actor.instance, cls):
            actor.instance.__init__(*args, **kwargs)
    else:
        actor.instance = cls(*args, **kwargs)
    actor.is_made = True
    own_repr: Any = type(actor.instance).__repr__
    if own_repr is not object.__repr__:
        with contextlib.suppress(Exception):  # It is the user's, and only for people.
            said = repr(actor.instance)[:_REPR_MAX]
            actor.repr = said.replace("\0", "").encode(errors="replace").decode()
            actor.shown_name = actor.repr[:_SHOWN_NAME_MAX]


def _fail(error: BaseException) -> None:
    """The actor cannot be made. The daemon ends this process."""
    from mobula import _exceptions_pickled, _serialization

    assert _actor is not None
    # What stands above the class's own code is of no use to anybody.
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__") == __name__:
        step = step.tb_next
    error = error.with_traceback(step)  # Frozen classes refuse to have it set.
    described = _serialization.encode_failure(error, f"{_actor.class_name}.__init__", False)
    text = _serialization.decode_failure(described).traceback_text
    said = f"The actor died because of an error raised in its creation task, {text}"
    said = said.encode("utf-8", "replace").decode()  # No lone surrogates.
    # For those who never look at a call of it.
    print(f"Exception raised in creation task: {said}", file=sys.stderr, flush=True)
    _core.actor_failed(said, _exceptions_pickled.in_letters(error))


# ---- its end -------------------------------------------------------------------------------------


def exit_actor() -> NoReturn:
    """See `mobula.actor.exit_actor`."""
    if _actor is None:
        raise TypeError(
            "exit_actor API is called on a non-actor worker. Call this API inside an actor methods "
            "if you'd like to exit the actor gracefully."
        )
    raise _ActorExit(0)


def note_exit(error: SystemExit) -> None:
    """The actor leaves: what the daemon is to tell others. A code that says failure is a crash, after
    which it may come back."""
    if error.code in (None, 0):
        left = isinstance(error, _ActorExit)
        why = "exit_actor() is called." if left else "It raised SystemExit."
        _core.actor_exiting(_EXIT_REASON + why)


def finish() -> None:
    """What an orderly end includes: the actor's own farewell, and the exit handlers of the program."""
    import atexit

    if _actor is None:
        return
    farewell = getattr(_actor.instance, "__ray_shutdown__", None)
    try:
        if callable(farewell):
            farewell()
    except Exception:
        traceback.print_exc()
    atexit._run_exitfuncs()
    _let_go(_actor)


def _let_go(actor: _Actor) -> None:
    """What happens to an object that nobody refers to any more; this process ends without that."""
    instance = actor.instance
    finalize = getattr(type(instance), "__del__", None)
    try:
        if finalize is not None:
            finalize(instance)
        if not actor.is_concurrent:  # Else calls may still use them.
            vars(instance).clear()
    except Exception:  # It has no attributes of its own, or its own code fails.
        if finalize is not None:
            traceback.print_exc()


def leave(error: SystemExit) -> NoReturn:
    """From any thread: the process ends, in order."""
    _after_task.end_child(error)
    try:
        note_exit(error)
        finish()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        code = error.code
        os._exit(code & 0xFF if isinstance(code, int) else 0 if code is None else 1)


# ---- methods -------------------------------------------------------------------------------------


def method(description: Any, group: int) -> Callable[..., Any]:
    """What is called for a method that a caller described."""
    assert _actor is not None
    name, retry, is_dynamic = (
        description if isinstance(description, tuple) else (description, None, False)
    )
    if group >= _actor.group_count:
        raise ValueError(f"Actor {_actor.class_name} has no concurrency group number {group}")
    function: Callable[..., Any] = _special(_actor, name) or _own(_actor.instance, name)
    if retry is not None:
        function = _retrying(function, *retry)
    if is_dynamic:
        from mobula import _remote

        function = _remote._Dynamic(function)
    return function


def _own(instance: Any, name: str) -> Any:
    """The method of the class, also if the instance has an attribute of that name."""
    cls = type(instance)
    for base in cls.__mro__:
        if name in vars(base):
            value = vars(base)[name]
            bind = getattr(type(value), "__get__", None)
            return value if bind is None else bind(value, instance, cls)
    return getattr(instance, name)


def _special(actor: _Actor, name: str) -> Callable[..., Any] | None:
    if name == "__ray_ready__":
        return lambda: True
    if name == "__ray_terminate__":
        return exit_actor
    if name == "__ray_call__":
        return lambda function, *args, **kwargs: function(actor.instance, *args, **kwargs)
    return None


def _retrying(function: Any, retries_max: int, exceptions: Any) -> Callable[..., Any]:
    from mobula import _cancelled, _failures, _remote

    kinds = (Exception,) if exceptions is True else exceptions
    if not asyncio.iscoroutinefunction(function):
        return _remote._Retrying(function, kinds, retries_max)

    @functools.wraps(function)
    async def again(*args: Any, **kwargs: Any) -> Any:
        retries = 0
        while True:
            try:
                return await function(*args, **kwargs)
            except kinds:
                if retries == retries_max or _cancelled.is_current_task():
                    raise
                retries += 1
                _failures.tell_retry(function, retries, retries_max)

    return again


# ---- threads -------------------------------------------------------------------------------------


def _run_threads(limits: list[int]) -> None:
    threads = []
    for group, limit in enumerate(limits):
        for number in range(limit):
            if group == 0 and number == 0:
                continue  # The main thread.
            name = f"mobula-actor-{group}-{number}"
            threads.append(
                threading.Thread(target=_run_calls, args=(group,), name=name, daemon=True)
            )
    for thread in threads:
        thread.start()
    _run_calls(0)


def _run_calls(group: int) -> None:
    try:
        _core.run_calls(group)
    except SystemExit as error:
        leave(error)


# ---- event loops ---------------------------------------------------------------------------------


class _LoopGroup(_core.LoopCalls):
    """The calls of one concurrency group, on an event loop of their own.

    A thread waits for calls and tells the loop. That takes two changes of threads, so after a call the
    loop looks for the next one by itself for a moment, on credit (docs/decisions/waiting.md). While it
    does, the thread rests, and callers need not wake anybody."""

    cancelled_error = asyncio.CancelledError

    def __init__(self, number: int, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        self._taken = threading.Event()  # The thread is to wait for calls.
        self._looking = False
        self._last_found = 0.0
        self._credit = _LOOK_SECONDS_MAX
        self._ready = getattr(loop, "_ready", None)  # What it runs next, if it shows that.
        self.loop = loop

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        threading.Thread(target=self._feed, name="mobula-feeder", daemon=True).start()
        self.loop.run_forever()

    def _feed(self) -> None:
        """Tells the loop whenever calls have come."""
        while True:
            more = _core.wait_for_call(self._number)
            self._taken.clear()
            self.loop.call_soon_threadsafe(self._told)
            if not more:
                return
            self._taken.wait()

    def _told(self) -> None:
        soon = time.perf_counter() - self._last_found < 2 * _LOOK_SECONDS_MAX
        self._credit = min(self._credit + (10e-6 if soon else 0.5e-6), _LOOK_SECONDS_MAX)
        self.refill()

    def _look(self) -> None:
        self._looking = False
        self.refill()

    def refill(self) -> None:
        found = self.take(self.loop.create_task, self._ready)
        if self.is_over:
            self.loop.stop()
        elif not self.is_full:
            self._drained(found > 0)

    def _drained(self, found: bool) -> None:
        """There is no call now: the loop looks again, or the thread waits for the next."""
        now = time.perf_counter()
        if found:
            if self._looking or now - self._last_found < _LOOK_SECONDS_MAX:
                self._credit = min(self._credit + 15e-6, _LOOK_SECONDS_MAX)
            self._last_found = now
        if self._credit > 0.0:
            if now - self._last_found < _LOOK_SECONDS_MAX:
                if not self._looking:
                    self._looking = True
                    self.loop.call_soon(self._look)
                return
            self._credit -= 4 * _LOOK_SECONDS_MAX
        self._taken.set()

    def cancel(self, call: _core.ActorCall) -> None:
        task = self.tasks.get(call)
        if task is not None:
            call.note_cancelled()
            task.cancel()

    def on_error(self, call: _core.ActorCall, error: BaseException) -> None:
        if isinstance(error, SystemExit):
            leave(error)
        _without_our_frames(error)
        if isinstance(error, asyncio.CancelledError):
            error = _cancellation()
        try:
            call.fail(error)
        except SystemExit as exit_error:
            leave(exit_error)

    async def send_items(self, call: _core.ActorCall, items: Any) -> None:
        async for item in items:
            if call.waits:
                wanted = await self.loop.run_in_executor(None, call.yield_item, item)
            else:
                wanted = call.yield_item(item)
            if not wanted:
                return


def _cancellation() -> BaseException:
    from mobula import exceptions

    task = _core.current_task()
    return exceptions.TaskCancelledError(task["task_id"] if task else None)


def _without_our_frames(error: BaseException) -> BaseException:
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__") == __name__:
        step = step.tb_next
    return error.with_traceback(step)


def _run_loops(limits: list[int], first: asyncio.AbstractEventLoop) -> None:
    groups = [
        _LoopGroup(number, limit, asyncio.new_event_loop() if number else first)
        for number, limit in enumerate(limits)
    ]
    threading.Thread(
        target=_pass_cancels, args=(groups,), name="mobula-cancels", daemon=True
    ).start()
    for group in groups[1:]:
        threading.Thread(target=group.run, name="mobula-loop", daemon=True).start()
    groups[0].run()


def _pass_cancels(groups: list[_LoopGroup]) -> None:
    """Cancels the asyncio tasks whose calls are cancelled."""
    while (key := _core.next_cancelled_call()) is not None:
        for group in groups:
            call = group.find(*key)
            if call is not None:
                group.loop.call_soon_threadsafe(group.cancel, call)
