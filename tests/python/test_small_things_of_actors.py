"""Methods, futures and amounts: what actors and their callers do as Ray does, one small thing each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def fail() -> None:
    raise ValueError("no")


# ---- a method and an attribute of one name


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0  # type: ignore[method-assign,assignment]
        self.kept = lambda: "of the instance"

    def increase(self) -> None:
        self.value += 1  # type: ignore[method-assign,operator,assignment]

    def value(self) -> Any:
        return self.value

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @ray.method(num_returns=2)
    def two(self) -> tuple[int, int]:
        return 1, 2

    def items(self) -> Iterator[int]:
        yield 1

    def hide(self) -> None:
        for name in ("increase", "static", "of_class", "two", "later"):
            setattr(self, name, None)

    async def later(self) -> str:
        return "later"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def test_the_method_of_the_class_is_called() -> None:
    counter = Counter.remote()
    counter.increase.remote()
    assert ray.get(counter.value.remote()) == 1


def test_a_method_that_an_instance_hides_is_called_all_the_same() -> None:
    counter = Counter.remote()
    ray.get(counter.hide.remote())
    ray.get(counter.increase.remote())
    assert ray.get(counter.value.remote()) == 1
    assert ray.get([counter.static.remote(), counter.of_class.remote()]) == ["static", "Counter"]
    assert ray.get(counter.two.remote()) == [1, 2]
    assert ray.get(counter.later.remote()) == "later"


def test_a_method_with_threads_or_retries_is_the_one_of_the_class() -> None:
    class Plain:
        def __init__(self) -> None:
            self.name = "attribute"  # type: ignore[method-assign,assignment]

        def name(self) -> str:
            return "method"

    threaded = ray.remote(max_concurrency=2)(Plain).remote()
    assert ray.get(threaded.name.remote()) == "method"  # type: ignore[attr-defined]
    retried = threaded.name.options(retry_exceptions=True, max_task_retries=1)  # type: ignore[attr-defined]
    assert ray.get(retried.remote()) == "method"


def test_a_method_says_how_much_it_returns() -> None:
    counter = Counter.remote()
    assert counter.value._num_returns == 1
    assert counter.two._num_returns == 2
    assert counter.items._num_returns == "streaming"
    assert counter.two.options(num_returns=1)._num_returns == 1


def test_the_type_of_a_remote_class_has_its_name() -> None:
    assert type(Counter).__name__ == "ActorClass(Counter)"
    assert isinstance(Counter, ray.actor.ActorClass)
    assert type(Counter) is not type(ray.remote(type("Other", (), {})))


# ---- futures outside of a running loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


def test_futures_made_before_the_loop_runs(loop: asyncio.AbstractEventLoop) -> None:
    futures = [echo.remote(i).as_future() for i in range(3)]
    assert loop.run_until_complete(asyncio.gather(*futures)) == [0, 1, 2]
    assert all(future.get_loop() is loop for future in futures)


def test_an_error_and_a_time_limit_of_such_futures(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(ValueError, match="no"):
        loop.run_until_complete(fail.remote().as_future())
    waits = asyncio.wait_for(echo.remote(7).as_future(), 60)
    assert loop.run_until_complete(waits) == 7
    ready = echo.remote(8)
    ray.wait([ready])
    assert loop.run_until_complete(ready.as_future()) == 8


def test_refs_are_gathered_by_a_loop_that_does_not_run_yet(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def gather() -> list[int]:
        return list(await asyncio.gather(*[echo.remote(i) for i in range(3)]))

    assert loop.run_until_complete(gather()) == [0, 1, 2]
    done, _ = loop.run_until_complete(asyncio.wait([echo.remote(1).as_future()]))
    assert [future.result() for future in done] == [1]


def test_the_running_loop_is_the_one_of_a_future(loop: asyncio.AbstractEventLoop) -> None:
    async def look() -> bool:
        return bool(echo.remote(1).as_future().get_loop() is asyncio.get_running_loop())

    other = asyncio.new_event_loop()
    assert other.run_until_complete(look())
    other.close()


def test_without_any_loop_there_is_no_future() -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            echo.remote(1).as_future()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(raised) == 1


# ---- fractions of resources


def assigned() -> dict[str, float]:
    return dict(ray.get_runtime_context().get_assigned_resources())


class Assigned:
    def get(self) -> dict[str, float]:
        return assigned()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (0.12345678, 0.1234),
        (0.00019999, 0.0001),
        (0.0001, 0.0001),
        (0.29, 0.29),
        (0.1, 0.1),
        (1.00005, 1.0),
        (1.5, 1.5),
        (0.99999, 0.9999),
    ],
)
def test_amounts_are_cut_and_not_rounded_up(asked: float, given: float) -> None:
    assert ray.get(ray.remote(num_cpus=asked)(assigned).remote()) == {"CPU": given}
    actor = ray.remote(num_cpus=asked)(Assigned).remote()
    assert ray.get(actor.get.remote()) == {"CPU": given}


def test_amounts_of_gpus_and_of_ones_own_are_cut_too() -> None:
    task = ray.remote(num_cpus=0, num_gpus=0.12345678, resources={"token": 0.55555})(assigned)
    assert ray.get(task.remote()) == {"GPU": 0.1234, "token": 0.5555}


@pytest.mark.parametrize("amount", [0.00009, 0.00005, 0.00001, 1e-10])
def test_less_than_the_smallest_amount_is_refused(amount: float) -> None:
    for options in ({"num_cpus": amount}, {"num_gpus": amount}, {"resources": {"token": amount}}):
        with pytest.raises(ValueError, match=r"cannot go beyond 0\.0001"):
            ray.remote(**options)(assigned).remote()  # type: ignore[call-overload]
        with pytest.raises(ValueError, match=r"cannot go beyond 0\.0001"):
            ray.remote(**options)(Assigned).remote()  # type: ignore[call-overload]


@pytest.mark.mobula_only  # In Ray 0.57 is 0.5699, since binary fractions say so.
def test_what_is_meant_as_a_multiple_is_one() -> None:
    assert ray.get(ray.remote(num_cpus=0.57)(assigned).remote()) == {"CPU": 0.57}


# ---- what `dir` tells of a handle


def test_dir_of_a_handle_tells_methods_only() -> None:
    """Libraries that wrap an actor set all of it on an object of their own: no `__class__`, then."""
    handle = Counter.remote()
    assert {"increase", "value", "__ray_ready__"} <= set(dir(handle))
    assert not {"__class__", "__dict__", "_mobula_ref", "_actor_id"} & set(dir(handle))
    assert ray.get(handle.increase.remote()) is None
