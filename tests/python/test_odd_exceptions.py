"""Exceptions with constructors, fields and members that pickle alone does not bring home arrive by
every way that there is: raised or as values, at any depth."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import copy
import copyreg
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import mobula as ray
import odd_exceptions
import pytest
from mobula import exceptions
from mobula.util import ActorPool
from mobula.util.multiprocessing import Pool
from mobula.util.queue import Queue
from odd_exceptions import AS_VALUES_ONLY, KINDS

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.mobula_only]

EVERY_KIND = {**KINDS, **AS_VALUES_ONLY}
needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are new in 3.11")


def name_of(make: Any) -> str:
    return str(make.__name__)


def get(ref: Any) -> Any:
    return ray.get(ref, timeout=30)


def expect(error: Any, make: Callable[[], BaseException]) -> None:
    """The class, the fields and the notes of what `make` makes."""
    original = make()
    assert type(original).__name__ in [kind.__name__ for kind in type(error).__mro__]
    found = {name: getattr(error, name) for name in EVERY_KIND[make]}
    assert found == EVERY_KIND[make]
    assert error.__notes__ == ["a note"]


def made(make: Callable[[], BaseException]) -> BaseException:
    error = make()
    error.__dict__["__notes__"] = ["a note"]
    return error


@ray.remote(max_retries=0)
def fail(make: Any) -> None:
    raise made(make)


@ray.remote
def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("make", KINDS, ids=name_of)
def test_a_raised_one_is_an_instance_of_its_class_with_its_fields(make: Any) -> None:
    with pytest.raises(exceptions.RayTaskError) as caught:
        get(fail.remote(make))
    error: Any = caught.value
    expect(error.cause, make)
    expect(error, make)
    assert isinstance(error, type(error.cause))
    assert "Traceback" in str(error) or "odd_exceptions.py" in str(error) or "in fail" in str(error)


@pytest.mark.parametrize("make", KINDS, ids=name_of)
def test_what_get_raised_can_be_copied_and_pickled(make: Any) -> None:
    with pytest.raises(exceptions.RayTaskError) as caught:
        get(fail.remote(make))
    error = caught.value
    ways = (copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), _sent)
    for way in ways:
        again = way(error)
        assert isinstance(again, exceptions.RayTaskError)
        expect(again, make)
        expect(again.cause, make)
        assert str(again) == str(error)
    assert copy.copy(error).cause is error.cause


def _sent(value: Any) -> Any:
    return get(same.remote(value))


@pytest.mark.parametrize("make", EVERY_KIND, ids=name_of)
def test_one_that_is_a_value_arrives_whole(make: Any) -> None:
    error = made(make)
    expect(get(ray.put(error)), make)
    expect(get(ray.put([error]))[0], make)
    expect(get(same.remote(error)), make)
    expect(get(ray.remote(lambda: made(make)).remote()), make)

    @ray.remote
    def items() -> Any:
        yield made(make)

    expect(get(next(iter(items.remote()))), make)


@pytest.mark.parametrize("make", EVERY_KIND, ids=name_of)
def test_one_inside_of_another_arrives_whole(make: Any) -> None:
    @ray.remote(max_retries=0)
    def outer(how: str) -> None:
        inner = made(make)
        if how == "argument":
            raise ValueError("v", inner)
        if how == "attribute":
            error: Any = ValueError("v")
            error.inner = [inner]
            raise error
        if how == "cause":
            raise ValueError("v") from inner
        if how == "context":
            error = ValueError("v")
            error.__context__ = inner
            raise error
        if how == "group":
            kind: Any = builtins.BaseExceptionGroup  # type: ignore[attr-defined, unused-ignore]
            raise kind("g", [TypeError("t"), inner])

    def raised(how: str) -> Any:
        with pytest.raises(exceptions.RayTaskError) as caught:
            get(outer.remote(how))
        return caught.value.cause

    expect(raised("argument").args[1], make)
    expect(raised("attribute").inner[0], make)
    expect(raised("cause").__cause__, make)
    expect(raised("context").__context__, make)
    if sys.version_info >= (3, 11):
        expect(raised("group").exceptions[1], make)


def test_no_constructor_runs_again() -> None:
    @ray.remote
    def count() -> int:
        return len(odd_exceptions.calls)

    before = len(odd_exceptions.calls)
    error = odd_exceptions.side_effects()
    assert get(ray.put(error)).number == 5
    assert len(odd_exceptions.calls) == before + 1


# ---- by every way that an error can take ---------------------------------------------------------


@ray.remote
class Actor:
    def fail(self, *_: Any) -> None:
        raise made(odd_exceptions.keyword_only)

    def items(self) -> Any:
        yield 1
        raise made(odd_exceptions.keyword_only)


@ray.remote
class AsyncActor:
    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise made(odd_exceptions.keyword_only)

    async def items(self) -> Any:
        yield 1
        raise made(odd_exceptions.keyword_only)

    async def nested(self) -> Any:
        return await fail.remote(odd_exceptions.keyword_only)


@ray.remote(max_retries=0)
def nested() -> Any:
    return get(fail.remote(odd_exceptions.keyword_only))


@ray.remote(max_retries=0)
def items() -> Any:
    yield 1
    raise made(odd_exceptions.keyword_only)


def boom(_: Any = None) -> None:
    raise made(odd_exceptions.keyword_only)


def second_of(generator: Any) -> Any:
    steps = iter(generator)
    get(next(steps))
    return get(next(steps))


def by_pool() -> Any:
    with Pool(1) as pool:
        return pool.map(boom, [1])


def by_pool_later() -> Any:
    with Pool(1) as pool:
        return pool.apply_async(boom, (1,)).get(timeout=30)


def by_executor() -> Any:
    with ray.Executor() as executor:
        return executor.submit(boom, 1).result(timeout=30)


def by_joblib() -> Any:
    joblib = pytest.importorskip("joblib")
    from mobula.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray"):
        return joblib.Parallel(n_jobs=1)([joblib.delayed(boom)(1)])


def by_dask() -> Any:
    pytest.importorskip("dask")
    from mobula.util.dask import ray_dask_get

    return ray_dask_get({"x": (boom, 1)}, ["x"])


async def awaited() -> Any:
    return await fail.remote(odd_exceptions.keyword_only)


async def gathered() -> Any:
    refs = [fail.remote(odd_exceptions.keyword_only)]
    raise (await asyncio.gather(*refs, return_exceptions=True))[0]


KEYWORD = odd_exceptions.keyword_only
WAYS: dict[str, Callable[[], Any]] = {
    "nested task": lambda: get(nested.remote()),
    "generator": lambda: second_of(items.remote()),
    "actor": lambda: get(Actor.remote().fail.remote()),
    "actor's generator": lambda: second_of(Actor.remote().items.remote()),
    "async actor": lambda: get(AsyncActor.remote().fail.remote()),
    "async generator": lambda: second_of(AsyncActor.remote().items.remote()),
    "task of an async actor": lambda: get(AsyncActor.remote().nested.remote()),
    "argument": lambda: get(same.remote(fail.remote(KEYWORD))),
    "future": lambda: fail.remote(KEYWORD).future().result(timeout=30),
    "await": lambda: asyncio.run(awaited()),
    "gather": lambda: asyncio.run(gathered()),
    "ActorPool": lambda: list(ActorPool([Actor.remote()]).map(lambda a, v: a.fail.remote(v), [1])),
    "Pool.map": by_pool,
    "Pool.apply_async": by_pool_later,
    "Executor": by_executor,
    "joblib": by_joblib,
    "dask": by_dask,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_arrives_by(way: str) -> None:
    with pytest.raises(Exception) as caught:
        WAYS[way]()
    expect(caught.value, odd_exceptions.keyword_only)


@ray.remote(num_cpus=0)
class CannotBeMade:
    def __init__(self, make: Any) -> None:
        raise made(make) from KeyError("k")

    def method(self) -> None: ...


@pytest.mark.parametrize("make", KINDS, ids=name_of)
def test_what_a_constructor_raised_is_the_cause_of_the_death(make: Any) -> None:
    actor = CannotBeMade.remote(make)
    for _ in range(2):  # A call that waited for the actor, and one after its death.
        with pytest.raises(exceptions.ActorDiedError) as caught:
            get(actor.method.remote())
        expect(caught.value.__cause__, make)
        assert caught.value.__cause__.__cause__.args == ("k",)  # type: ignore[union-attr]
        assert caught.value.actor_init_failed


def test_a_large_exception_of_a_constructor_is_only_told() -> None:
    actor = CannotBeMade.remote(lambda: ValueError("x" * 50_000))
    with pytest.raises(exceptions.ActorDiedError, match="ValueError: xxx") as caught:
        get(actor.method.remote())
    assert caught.value.__cause__ is None


def test_it_arrives_by_a_queue() -> None:
    queue = Queue()
    queue.put(made(odd_exceptions.frozen))
    expect(queue.get(timeout=30), odd_exceptions.frozen)
    queue.shutdown()


def test_except_with_the_original_class_works_in_a_program(run_script: Any) -> None:
    text = """
import mobula as ray

class Odd(Exception):
    def __init__(self, *, status):
        super().__init__(status)
        self.status = status

class Holder(Odd):
    __slots__ = ("inner",)

@ray.remote(max_retries=0)
def fail():
    error = Holder(status=1)
    error.inner = Odd(status=2)
    raise error

ray.init(num_cpus=1)
try:
    ray.get(fail.remote())
except Odd as error:
    print(type(error).__name__, error.status, type(error.inner).__name__, error.inner.status)
"""
    assert run_script(text).stdout == "RayTaskError(Holder) 1 Odd 2\n"


# ---- causes, contexts, notes ---------------------------------------------------------------------


def test_causes_contexts_and_what_suppresses_them_arrive() -> None:
    @ray.remote(max_retries=0)
    def chained(how: str) -> None:
        try:
            {}["key"]
        except KeyError as error:
            if how == "cause":
                raise ValueError("v") from error
            if how == "suppressed":
                raise ValueError("v") from None
            raise ValueError("v")  # noqa: B904

    def raised(how: str) -> Any:
        with pytest.raises(ValueError) as caught:
            get(chained.remote(how))
        return caught.value.cause  # type: ignore[attr-defined]

    cause = raised("cause")
    assert isinstance(cause.__cause__, KeyError)
    assert cause.__context__ is cause.__cause__
    suppressed = raised("suppressed")
    assert suppressed.__cause__ is None
    assert suppressed.__suppress_context__
    assert isinstance(suppressed.__context__, KeyError)
    context = raised("context")
    assert (context.__cause__, context.__suppress_context__) == (None, False)
    assert context.__context__.args == ("key",)


def test_an_exception_in_its_own_argument_is_one_object_there_too() -> None:
    error = ValueError("v", TypeError("inner"))
    error.__cause__ = error.args[1]
    error.myself = error  # type: ignore[attr-defined]
    again = get(ray.put(error))
    assert again.__cause__ is again.args[1]
    assert again.myself is again
    error.args = (error,)
    again = get(ray.put(error))
    assert again.args[0] is again


def test_a_long_chain_is_no_reason_to_fail() -> None:
    error: BaseException = ValueError(0)
    for i in range(500):
        outer = ValueError(i)
        outer.__context__ = error
        error = outer
    assert get(ray.put(error)).args == (499,)


def test_exceptions_that_wrap_each_other_take_no_time() -> None:
    error = odd_exceptions.keyword_only()
    for _ in range(30):
        outer = ValueError(error, [error])
        outer.__cause__ = outer.__context__ = error
        error = outer
    again = get(ray.put(error))
    for _ in range(30):
        again = again.__cause__
    assert again.status == 404


def test_a_cause_that_cannot_be_pickled_stays_behind() -> None:
    error = ValueError("v")
    error.__cause__ = TypeError(threading.Lock())
    assert get(ray.put(error)).__cause__ is None
    with pytest.raises(TypeError, match="lock"):
        ray.put(error.__cause__)


def test_a_note_added_on_the_way_arrives() -> None:
    @ray.remote(max_retries=0)
    def passes_on() -> None:
        try:
            ray.get(fail.remote(odd_exceptions.keyword_only))
        except Exception as error:
            error.add_note("passed on")  # type: ignore[attr-defined, unused-ignore]
            raise

    with pytest.raises(exceptions.RayTaskError) as caught:
        get(passes_on.remote())
    assert caught.value.__notes__ == ["a note", "passed on"]
    assert isinstance(caught.value, type(caught.value.cause))


def test_notes_of_a_plain_exception_are_on_what_get_raises() -> None:
    @ray.remote(max_retries=0)
    def noted() -> None:
        error = Exception("x")
        error.__notes__ = ["n"]  # type: ignore[attr-defined, unused-ignore]
        raise error

    with pytest.raises(exceptions.RayTaskError) as caught:
        get(noted.remote())
    assert caught.value.__notes__ == ["n"]


# ---- what cannot be pickled or loaded ------------------------------------------------------------


def test_what_cannot_be_pickled_is_told_and_the_rest_arrives() -> None:
    @ray.remote(max_retries=0)
    def outer() -> None:
        raise ValueError("outer", odd_exceptions.with_socket()) from odd_exceptions.with_socket()

    with pytest.raises(ValueError, match="outer") as caught:
        get(outer.remote())
    text = str(caught.value)
    cause: Any = caught.value.cause  # type: ignore[attr-defined]
    for inner in (cause.args[1], cause.__cause__):
        assert type(inner).__name__ == "Connected"
        assert (inner.host, inner.args[0], hasattr(inner, "lock")) == ("h", "h", False)
        assert "socket" in repr(inner.args[1])
    assert "Connected.lock: cannot pickle '_thread.lock' object" in text
    assert "Connected.args[1]: cannot pickle 'socket' object" in text


@needs_groups
def test_a_member_of_a_group_that_cannot_be_pickled_leaves_its_place_to_a_stand_in() -> None:
    @ray.remote(max_retries=0)
    def outer() -> None:
        guard = threading.Lock()

        class Guarded(Exception):
            held = guard

        kind: Any = builtins.ExceptionGroup  # type: ignore[attr-defined, unused-ignore]
        raise kind("g", [odd_exceptions.keyword_only(), Guarded("it")])

    with pytest.raises(exceptions.RayTaskError) as caught:
        get(outer.remote())
    first, second = caught.value.cause.exceptions
    assert first.status == 404
    assert isinstance(second, exceptions.UnserializableException)
    assert "Guarded('it')" in str(second)


def test_a_pool_tells_what_a_call_raised_without_what_cannot_be_pickled() -> None:
    def fails(_: int) -> None:
        raise odd_exceptions.with_socket()

    with Pool(1) as pool, pytest.raises(Exception, match="h") as caught:
        pool.map(fails, [1])
    assert caught.value.host == "h"  # type: ignore[attr-defined]


def test_classes_that_only_the_worker_has_leave_what_else_there_is(tmp_path: Any) -> None:
    @ray.remote(max_retries=0)
    def outer(folder: str, how: str) -> None:
        sys.path.insert(0, folder)
        import only_there  # type: ignore[import-not-found]

        odd = only_there.Odd("odd", status=4)
        if how == "raised":
            raise odd
        error: Any = ValueError("v", odd)
        error.inner, error.plain, error.thing = odd, 5, only_there.Thing()
        raise error from odd

    (tmp_path / "only_there.py").write_text(
        "class Odd(Exception):\n"
        "    def __init__(self, text, *, status):\n"
        "        super().__init__(text)\n"
        "        self.status = status\n"
        "class Thing: pass\n"
    )
    with pytest.raises(ValueError, match="v") as caught:
        get(outer.remote(str(tmp_path), "inside"))
    cause: Any = caught.value.cause  # type: ignore[attr-defined]
    assert (cause.plain, cause.args[0]) == (5, "v")
    for inner in (cause.inner, cause.args[1], cause.__cause__):
        assert isinstance(inner, exceptions.UnserializableException)
        assert (inner.status, inner.args) == (4, ("odd",))
    assert "only_there.Thing" in repr(cause.thing)
    assert "Did not arrive: only_there.Odd: ModuleNotFoundError" in str(caught.value)
    with pytest.raises(exceptions.UnserializableException, match="Odd: odd") as raised:
        get(outer.remote(str(tmp_path), "raised"))
    assert raised.value.status == 4  # type: ignore[attr-defined]


class FailsThere:
    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return int, (self.text,)


def test_an_attribute_that_cannot_be_loaded_is_told_and_the_rest_arrives() -> None:
    @ray.remote(max_retries=0)
    def outer() -> None:
        error: Any = odd_exceptions.keyword_only()
        error.thing = FailsThere("no number")
        raise error

    with pytest.raises(exceptions.RayTaskError) as caught:
        get(outer.remote())
    expect_status = caught.value.cause.status
    assert expect_status == 404
    assert "Did not arrive: int: ValueError: invalid literal" in str(caught.value)


# ---- what happens to it afterwards ---------------------------------------------------------------


def test_an_attribute_error_may_leave_a_getattr() -> None:
    @ray.remote(max_retries=0)
    def lookup() -> Any:
        return object().missing  # type: ignore[attr-defined]

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            return get(lookup.remote())

    proxy = Proxy()
    with pytest.raises(AttributeError, match="missing") as caught:
        _ = proxy.anything
    assert (caught.value.name, caught.value.obj) == ("anything", proxy)
    assert getattr(Proxy(), "anything", 5) == 5
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), AttributeError)


def test_fields_can_be_set_on_what_get_raised() -> None:
    with pytest.raises(exceptions.RayTaskError) as caught:
        get(fail.remote(odd_exceptions.os_error))
    error: Any = caught.value
    error.filename, error.extra = "other", 1
    again = copy.copy(error)
    assert (error.filename, again.extra, error.cause.filename) == ("other", 1, "f")


def test_no_code_of_a_metaclass_is_told_of_our_class() -> None:
    table: list[str] = []

    class Registering(type):
        def __init__(cls, name: str, bases: Any, namespace: Any) -> None:
            super().__init__(name, bases, namespace)
            table.append(name)

    class Listed(Exception, metaclass=Registering):
        pass

    error = exceptions.RayTaskError("f", "text", Listed("x")).as_instanceof_cause()
    assert isinstance(error, Listed)
    assert table == ["Listed"]


def test_a_retry_is_told_with_the_first_line_and_without_notes(capfd: Any) -> None:
    from mobula import _failures

    def told(error: BaseException) -> str:
        try:
            raise error
        except BaseException:
            _failures._told.clear()
            _failures.tell_retry(told, 1, 2)
        return str(capfd.readouterr().err)

    noted = ValueError("the real reason\nmore")
    noted.__notes__ = ["see the manual"]  # type: ignore[attr-defined, unused-ignore]
    assert "told failed with ValueError: the real reason. It is called again" in told(noted)
    assert "KeyError: 'k'." in told(KeyError("k"))
    assert "told failed with SyntaxError: bad (file, line 1)." in told(
        SyntaxError("bad", ("file", 1, 2, "text"))
    )
    dual = exceptions.RayTaskError("f", "a\nb", ValueError("inner")).as_instanceof_cause()
    assert "told failed with ValueError: inner." in told(dual)
    assert "failed with concurrent.futures" in told(concurrent.futures.CancelledError())


def test_an_actor_may_call_itself_or_fail_with_a_text_that_is_no_utf8() -> None:
    @ray.remote
    class Odd:
        def __init__(self, fails: bool) -> None:
            if fails:
                raise ValueError("\udcff")

        def __repr__(self) -> str:
            return "\udcff"

        def value(self) -> int:
            print("told")
            return 5

    assert ray.get(Odd.remote(False).value.remote()) == 5
    with pytest.raises(exceptions.ActorDiedError, match="ValueError"):
        ray.get(Odd.remote(True).value.remote())


def test_a_reducer_for_all_exceptions_does_not_stand_in_for_their_own_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As tblib's: it registers one for every class there is."""

    class Own(Exception):
        def __init__(self, code: int, *, where: str) -> None:
            super().__init__(f"{code} at {where}")
            self.where = where

    def reduce_any(error: BaseException) -> Any:
        return type(error), error.args

    for kind in (BaseException, Exception, ValueError, Own):
        monkeypatch.setitem(copyreg.dispatch_table, kind, reduce_any)
    error = Own(7, where="here")
    error.__cause__ = ValueError("why")
    came = ray.get(ray.put(error))
    assert (type(came), str(came), came.where) == (Own, "7 at here", "here")
    assert str(came.__cause__) == "why"
    # One that is for the class alone counts.
    monkeypatch.setitem(copyreg.dispatch_table, Own, lambda error: (ValueError, ("instead",)))
    assert repr(ray.get(ray.put(error))) == "ValueError('instead')"


def test_a_weak_reference_with_a_callback_is_refused_with_a_reason() -> None:
    held = type("Held", (), {})
    weak = weakref.ref(held, print)
    with pytest.raises(TypeError, match="weak reference with a callback"):
        ray.put(weak)
