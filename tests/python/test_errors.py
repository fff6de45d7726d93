"""Exceptions and crashes in tasks, as `get` tells of them."""

from __future__ import annotations

import functools
import os
import pickle
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meeting
import mobula as ray
import pytest
from mobula import exceptions

pytestmark = pytest.mark.usefixtures("shared_session")


class Custom(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


@ray.remote
def fail(error: BaseException) -> None:
    raise error


@ray.remote
def one() -> int:
    return 1


def get_error(ref: Any) -> Any:
    with pytest.raises(BaseException) as caught:
        ray.get(ref)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        KeyError("key"),
        OSError(2, "No such file"),
        StopIteration(3),
        ZeroDivisionError(),
        AssertionError("must"),
        Custom(3, "three"),
        MemoryError(),
        RecursionError("deep"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_arrives_as_what_it_was(error: BaseException) -> None:
    caught = get_error(fail.remote(error))
    assert isinstance(caught, exceptions.RayTaskError)
    assert isinstance(caught, type(error))
    assert type(caught.cause) is type(error)
    assert caught.cause.args == error.args


def test_attributes_arrive() -> None:
    caught = get_error(fail.remote(Custom(3, "three")))
    assert (caught.code, caught.text) == (3, "three")


def test_the_text_is_the_traceback_of_the_task() -> None:
    def inner_helper() -> None:
        raise ValueError("the reason")

    @ray.remote
    def outer_task() -> None:
        inner_helper()

    caught = get_error(outer_task.remote())
    text = str(caught)
    assert "::outer_task()" in text
    assert "the reason" in text
    assert "inner_helper" in text
    assert os.path.basename(__file__) in text
    assert 'raise ValueError("the reason")' in text


@pytest.mark.mobula_only
def test_the_text_names_the_process() -> None:
    @ray.remote
    def boom() -> None:
        raise ValueError(os.getpid())

    caught = get_error(boom.remote())
    assert caught.pid == caught.cause.args[0]
    assert str(caught).startswith(f"mobula::boom() (pid={caught.pid}")
    assert caught.function_name == "boom"


def test_causes_and_contexts_are_shown() -> None:
    @ray.remote
    def chained() -> None:
        try:
            raise KeyError("the first one")
        except KeyError as error:
            raise ValueError("the second one") from error

    text = str(get_error(chained.remote()))
    assert "the first one" in text
    assert "the second one" in text
    assert "direct cause" in text


def test_the_drivers_own_traceback_shows_the_task() -> None:
    try:
        ray.get(fail.remote(ValueError("shown")))
    except ValueError:
        text = traceback.format_exc()
    assert "RayTaskError(ValueError)" in text
    assert "ValueError: shown" in text


def test_errors_go_up_through_nested_tasks() -> None:
    @ray.remote
    def middle() -> None:
        ray.get(fail.remote(Custom(4, "four")))

    @ray.remote
    def top() -> None:
        ray.get(middle.remote())

    caught = get_error(top.remote())
    assert isinstance(caught, Custom)
    assert type(caught.cause) is Custom
    assert caught.code == 4
    text = str(caught)
    for name in ("top", "middle", "fail"):
        assert f"::{name}()" in text


def test_get_of_a_list_raises_the_error_in_it() -> None:
    with pytest.raises(ValueError, match="in the middle"):
        ray.get([one.remote(), fail.remote(ValueError("in the middle")), one.remote()])


@pytest.mark.mobula_only
def test_an_error_can_be_got_again_and_pickled() -> None:
    ref = fail.remote(ValueError("again"))
    first, second = get_error(ref), get_error(ref)
    assert first is not second
    assert str(first) == str(second)
    copy = pickle.loads(pickle.dumps(first))
    assert isinstance(copy, ValueError)
    assert isinstance(copy, exceptions.RayTaskError)
    assert str(copy) == str(first)


def test_an_error_can_be_handled_inside_of_a_task() -> None:
    @ray.remote
    def handle() -> str:
        try:
            ray.get(fail.remote(KeyError("k")))
        except KeyError as error:
            return type(error.cause).__name__  # type: ignore[attr-defined]
        return "nothing"

    assert ray.get(handle.remote()) == "KeyError"


def test_an_exception_that_is_not_an_exception() -> None:
    class Odd(BaseException):
        pass

    @ray.remote
    def odd() -> None:
        raise Odd("odd")

    caught = get_error(odd.remote())
    assert isinstance(caught, exceptions.RayTaskError)
    assert "odd" in str(caught)


def test_keyboard_interrupt_in_a_task_is_a_cancellation() -> None:
    @ray.remote
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert isinstance(get_error(interrupted.remote()), exceptions.TaskCancelledError)
    assert ray.get(one.remote()) == 1


@pytest.mark.mobula_only
def test_an_exception_that_cannot_be_pickled_still_tells_its_story() -> None:
    @ray.remote
    def boom() -> None:
        guard = threading.Lock()

        class Guarded(Exception):  # Not even its class can be pickled.
            held = guard

        raise Guarded("with a lock")

    caught = get_error(boom.remote())
    assert isinstance(caught, exceptions.RayTaskError)
    assert isinstance(caught.cause, exceptions.UnserializableException)
    assert "with a lock" in str(caught)


@pytest.mark.mobula_only
def test_an_attribute_that_cannot_be_pickled_is_told_and_the_rest_arrives() -> None:
    @ray.remote
    def boom() -> None:
        error = ValueError("with a lock")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    caught = get_error(boom.remote())
    assert isinstance(caught, ValueError)
    assert not hasattr(caught.cause, "lock")  # type: ignore[attr-defined]
    assert "ValueError: with a lock" in str(caught)
    assert "Did not arrive: ValueError.lock: cannot pickle '_thread.lock' object" in str(caught)


@pytest.mark.mobula_only
def test_an_exception_whose_own_reduce_does_not_work_arrives_without_it() -> None:
    class Needy(Exception):
        def __reduce__(self) -> Any:
            return int, ("no number",)

    @ray.remote
    def boom() -> None:
        raise Needy("1 and 2")

    caught = get_error(boom.remote())
    assert isinstance(caught, exceptions.RayTaskError)
    assert isinstance(caught.cause, Needy)
    assert "1 and 2" in str(caught)
    assert ray.get(one.remote()) == 1


class Needy(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a


class ByName(OSError):
    def __init__(self, *, name: str) -> None:
        super().__init__(2, "not there", name)


class New(ValueError):
    def __new__(cls, a: int) -> New:
        return super().__new__(cls)

    def __init__(self, a: int) -> None:
        self.a = a


@pytest.mark.mobula_only
def test_exceptions_keep_class_and_fields_whatever_their_init_takes() -> None:
    @ray.remote
    def boom(kind: str) -> None:
        if kind == "by name":
            raise ByName(name="f")
        raise Needy(1, 2) if kind == "needy" else New(3)

    @ray.remote
    def nested(kind: str) -> None:
        ray.get(boom.remote(kind))

    for task in (boom, nested):
        needy: Any = get_error(task.remote("needy"))
        assert isinstance(needy, Needy)
        assert (needy.cause.a, needy.cause.args) == (1, ("1 and 2",))
        by_name: Any = get_error(task.remote("by name"))
        assert isinstance(by_name, ByName)
        assert (by_name.cause.errno, by_name.cause.filename) == (2, "f")
        new: Any = get_error(task.remote("new"))
        assert isinstance(new, New)
        assert new.cause.a == 3


def test_large_exceptions_arrive_whole() -> None:
    @ray.remote
    def boom() -> None:
        raise ValueError("x" * 1_000_000)

    @ray.remote
    def nested() -> None:
        ray.get(boom.remote())

    for task in (boom, nested):
        caught: Any = get_error(task.remote())
        assert isinstance(caught, ValueError)
        assert len(caught.cause.args[0]) == 1_000_000


def test_a_result_that_cannot_be_pickled_is_named() -> None:
    @ray.remote
    def lock() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        ray.get(lock.remote())


def test_a_function_that_cannot_be_pickled_is_named() -> None:
    guard = threading.Lock()

    @ray.remote
    def guarded() -> Any:
        return guard

    with pytest.raises(TypeError, match="guarded"):
        guarded.remote()


def test_a_recursion_without_end() -> None:
    @ray.remote
    def dive() -> None:
        def down(n: int) -> int:
            return down(n + 1) + 1

        down(0)

    caught = get_error(dive.remote())
    assert isinstance(caught, RecursionError)
    assert len(str(caught)) < 100_000


def test_thousands_of_failures() -> None:
    refs = [fail.remote(ValueError(i)) for i in range(2000)]
    for i, ref in enumerate(refs):
        with pytest.raises(ValueError) as caught:
            ray.get(ref)
        assert caught.value.cause.args == (i,)  # type: ignore[attr-defined]


# ---- crashes --------------------------------------------------------------------------------


def crash(how: Callable[[], Any]) -> Any:
    return get_error(ray.remote(max_retries=0)(how).remote())


@pytest.mark.parametrize(
    "name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGBUS", "SIGILL", "SIGFPE"]
)
def test_a_signal_is_named(name: str) -> None:
    number = getattr(signal, name)
    caught = crash(lambda: os.kill(os.getpid(), number))
    assert isinstance(caught, exceptions.WorkerCrashedError)
    if "mobula" in ray.__name__:
        assert name in str(caught)


@pytest.mark.parametrize("code", [0, 1, 3, 77])
def test_an_exit_code_is_named(code: int) -> None:
    caught = crash(lambda: os._exit(code))
    assert isinstance(caught, exceptions.WorkerCrashedError)
    if "mobula" in ray.__name__:
        assert re.search(rf"\bcode {code}\b", str(caught))


def test_sys_exit_ends_the_worker() -> None:
    caught = crash(lambda: sys.exit(5))
    assert isinstance(caught, exceptions.WorkerCrashedError)
    if "mobula" in ray.__name__:
        assert re.search(r"\bcode 5\b", str(caught))


@pytest.mark.mobula_only
def test_the_last_words_on_stderr_are_told() -> None:
    def dying() -> None:
        print("what went wrong", file=sys.stderr)
        os._exit(9)

    assert "what went wrong" in str(crash(dying))


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_crashes_are_retried_that_often(tmp_path: Path, max_retries: int) -> None:
    counter = tmp_path / "calls"

    @ray.remote(max_retries=max_retries)
    def die() -> None:
        meeting.count_call(counter)
        os.kill(os.getpid(), signal.SIGKILL)

    assert isinstance(get_error(die.remote()), exceptions.WorkerCrashedError)
    assert meeting.calls(counter) == 1 + max_retries


def test_the_default_is_three_retries(tmp_path: Path) -> None:
    counter = tmp_path / "calls"

    @ray.remote
    def die_thrice() -> int:
        call = meeting.count_call(counter)
        if call <= 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return call

    assert ray.get(die_thrice.remote()) == 4


def test_without_limit(tmp_path: Path) -> None:
    counter = tmp_path / "calls"

    @ray.remote(max_retries=-1)
    def die_often() -> int:
        call = meeting.count_call(counter)
        if call <= 6:
            os._exit(1)
        return call

    assert ray.get(die_often.remote()) == 7


def test_a_crash_harms_no_other_task() -> None:
    @ray.remote(max_retries=0)
    def sometimes(i: int) -> int:
        if i % 50 == 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    refs = [sometimes.remote(i) for i in range(400)]
    good = 0
    for i, ref in enumerate(refs):
        if i % 50 == 25:
            assert isinstance(get_error(ref), exceptions.WorkerCrashedError)
        else:
            assert ray.get(ref) == i
            good += 1
    assert good == 392


def test_a_killed_worker_is_replaced() -> None:
    @ray.remote
    def process_id() -> int:
        return os.getpid()

    for _ in range(5):
        pid = ray.get(process_id.remote())
        os.kill(pid, signal.SIGKILL)
        assert ray.get(process_id.remote()) != pid


def test_a_worker_killed_from_outside_while_it_runs(tmp_path: Path) -> None:
    counter = tmp_path / "calls"

    @ray.remote
    def work() -> int:
        call = meeting.count_call(counter)
        Path(tmp_path, f"pid{call}").write_text(str(os.getpid()))
        Path(tmp_path, f"started{call}").touch()
        if call == 1:
            signal.pause()
        return call

    ref = work.remote()
    assert meeting.wait_for(tmp_path / "started1")
    os.kill(int(Path(tmp_path, "pid1").read_text()), signal.SIGKILL)
    assert ray.get(ref) == 2


def test_a_nested_task_that_crashes(tmp_path: Path) -> None:
    @ray.remote(max_retries=0)
    def die() -> None:
        os._exit(4)

    @ray.remote
    def outer() -> str:
        try:
            ray.get(die.remote())
        except exceptions.WorkerCrashedError as error:
            return str(error)
        return "survived"

    text = ray.get(outer.remote())
    assert text != "survived"
    if "mobula" in ray.__name__:
        assert re.search(r"\bcode 4\b", text)


def test_who_depends_on_a_failed_task_is_named_first() -> None:
    @ray.remote
    def raises() -> None:
        raise LookupError("the cause")

    @ray.remote
    def needs(value: Any) -> Any:
        return value

    for ref in (needs.remote(raises.remote()), needs.remote(needs.remote(raises.remote()))):
        with pytest.raises(LookupError, match="the cause") as caught:
            ray.get(ref)
        assert isinstance(caught.value, ray.exceptions.RayTaskError)
        text = str(caught.value)
        assert text.index("needs") < text.index("raises")


def test_who_depends_on_a_crashed_task_fails_with_its_death() -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        os._exit(7)

    @ray.remote
    def needs(value: Any) -> Any:
        return value

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="code 7"):
        ray.get(needs.remote(dies.remote()))


def test_arguments_are_checked_against_the_wrapped_signature() -> None:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @ray.remote
    @decorate
    def one(value: int) -> int:
        return value

    with pytest.raises(TypeError):
        one.remote()
    assert ray.get(one.remote(3)) == 3
