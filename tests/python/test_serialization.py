"""Values on their way to bytes and back, without a session: what is pickled how, refs inside values,
errors that name the culprit, and that no bytes can crash the decoder."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import enum
import fractions
import functools
import gc
import os
import pickle
import random
import struct
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import cloudpickle
import conftest
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if conftest.AGAINST_RAY:
    pytest.skip("these are Mobula's own parts", allow_module_level=True)

import mobula as ray
import numpy as np
from mobula import _core, _hooks, _serialization

encode = _core._encode_for_test
decode = _core._decode_for_test
new_ref = _core._new_ref_for_test

HEADER = struct.Struct("<QIB3x")  # wire::ValueHeader: payload size, refs, kind.
KINDS = {"none": 0, "int": 3, "string": 5, "pickle": 16, "buffers": 17, "task error": 32}


def round_trip(value: Any) -> Any:
    encoded, refs = encode(value)
    return decode(encoded, refs)


def kind_of(value: Any) -> int:
    return int(HEADER.unpack_from(encode(value)[0])[2])


def wire_value(kind: str, payload: bytes) -> bytes:
    value = HEADER.pack(len(payload), 0, KINDS[kind]) + payload
    return value + bytes(-len(value) % 8)


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


class Colour(enum.Enum):
    RED = 1


PLAIN = [None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.5, float("inf"), "", "äß€😀", b"", b"\0x"]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_travel_without_pickle(value: Any) -> None:
    assert kind_of(value) < KINDS["pickle"]
    result = round_trip(value)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, 10**100, "\ud800", (), [1, "a"], {"k": {1, 2}}, bytearray(b"ab")],
    ids=repr,
)
def test_other_builtin_values_are_pickled(value: Any) -> None:
    assert kind_of(value) == KINDS["pickle"]
    assert round_trip(value) == value


def test_subclasses_of_plain_types_stay_what_they_are() -> None:
    class Number(int):
        pass

    result = round_trip(Number(5))
    assert result == 5
    assert type(result).__name__ == "Number"


def test_a_nan_keeps_its_bits() -> None:
    (odd,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000123))
    assert struct.pack("<d", round_trip(odd)) == struct.pack("<d", odd)


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers())
        | st.builds(Point, inner, inner)
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(json_like)
def test_any_value_comes_back_equal(value: Any) -> None:
    assert round_trip(value) == value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["ref", "array", "text"]), max_size=12), st.randoms())
def test_refs_and_buffers_keep_their_places(parts: list[str], draw: random.Random) -> None:
    made: list[Any] = []
    for part in parts:
        if part == "ref":
            made.append(new_ref(draw.randrange(2**64)))
        elif part == "array":
            made.append(np.arange(draw.randrange(200), dtype=draw.choice(["i1", "f8", "c16"])))
        else:
            made.append("x" * draw.randrange(50))
    encoded, refs = encode({"deep": [made]})
    assert refs == [item for item, part in zip(made, parts, strict=True) if part == "ref"]
    for given_item, item in zip(made, decode(encoded, refs)["deep"][0], strict=True):
        assert type(item) is type(given_item)
        if isinstance(item, np.ndarray):
            assert item.dtype == given_item.dtype
            assert np.array_equal(item, given_item)
        else:
            assert item == given_item


# ---- arrays --------------------------------------------------------------------------------------


def buffers_of(encoded: bytes) -> list[tuple[int, int]]:
    """(offset from the start of the value, size) of each buffer out of band."""
    _, refs, kind = HEADER.unpack_from(encoded)
    assert kind == KINDS["buffers"]
    start = HEADER.size + 16 * refs
    (count,) = struct.unpack_from("<Q", encoded, start)
    table = [struct.unpack_from("<QQ", encoded, start + 8 + 16 * i) for i in range(count - 1)]
    return [(start + offset, length) for offset, length in table]


def test_array_data_lies_outside_of_the_pickle_and_aligned() -> None:
    first, second = np.arange(1000.0), np.arange(7, dtype=np.int8)
    encoded, _ = encode([first, new_ref(1), second, new_ref(2)])
    places = buffers_of(encoded)
    assert [length for _, length in places] == [first.nbytes, second.nbytes]
    assert all(offset % 64 == 0 for offset, _ in places)
    assert encoded[places[0][0] :][: first.nbytes] == first.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5),
        np.zeros((3, 0)),
        np.array(7.5),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24).reshape(4, 6)[::2, ::3],
        np.array(["a", None, 3], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-01"], dtype="M8[D]"),
        np.array(["ab", "c"]),
        np.array([b"ab", b""]),
        np.array(["", ""], dtype="U0"),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([1.5, 2.5], dtype="e"),
        np.array([1j, 2], dtype=np.clongdouble),
        np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"})),
        np.ma.masked_array([1, 2], mask=[False, True]),
        np.arange(3).view(np.recarray),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_all_kinds_come_back_equal(array: np.ndarray) -> None:
    result = round_trip(array)
    assert type(result) is type(array)
    assert result.dtype == array.dtype
    assert result.dtype.metadata == array.dtype.metadata
    assert result.shape == array.shape
    assert (result == array).all()


def test_arrays_come_back_read_only_whatever_their_size() -> None:
    for size in (1, 100, 10_000):
        assert not round_trip(np.zeros(size)).flags.writeable
        assert not round_trip([np.zeros(size)])[0].flags.writeable


# ---- functions and classes -----------------------------------------------------------------------


def test_closures_and_lambdas_travel_by_value() -> None:
    offset = 3
    assert round_trip(lambda x: x + offset)(4) == 7
    assert round_trip(functools.partial(lambda a, b: a - b, 10))(3) == 7


def test_functions_that_can_be_imported_travel_by_name() -> None:
    encoded, _ = encode(textwrap.dedent)
    assert len(encoded) < 100
    assert decode(encoded, []) is textwrap.dedent
    assert round_trip(fractions.Fraction) is fractions.Fraction
    assert round_trip(fractions.Fraction(1, 3)) == fractions.Fraction(1, 3)
    assert round_trip(Colour.RED) is Colour.RED
    assert round_trip(type(None)) is type(None)


def test_a_shadowed_function_travels_by_value() -> None:
    def dedent(text: str) -> str:
        return text + "!"

    dedent.__module__ = textwrap.__name__
    dedent.__qualname__ = "dedent"  # Looks importable, but that name is another function's.
    assert round_trip(dedent)("a") == "a!"


def test_modules_registered_by_value_travel_by_value() -> None:
    cloudpickle.register_pickle_by_value(textwrap)
    try:
        encoded, _ = encode(textwrap.shorten)
    finally:
        cloudpickle.unregister_pickle_by_value(textwrap)
    assert len(encoded) > 200
    assert decode(encoded, []) is not textwrap.shorten


def test_what_main_defines_travels_by_value() -> None:
    program = textwrap.dedent("""
        import pickle
        from mobula import _core
        class Thing:
            def __init__(self, x): self.x = x
            def double(self): return 2 * self.x
        def call(thing): return thing.double()
        print(_core._encode_for_test([Thing(21), call])[0].hex())
    """)
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    thing, call = decode(bytes.fromhex(made.stdout), [])
    assert call(thing) == 42


def test_functions_pickled_one_after_the_other_do_not_share_globals() -> None:
    first = round_trip(lambda: SHARED)
    second = round_trip(lambda: SHARED)
    assert first() == second() == "shared"
    first.__globals__["SHARED"] = "changed"
    assert second() == "shared"


SHARED = "shared"


def test_a_reduce_that_pickles_again_gets_a_pickler_of_its_own() -> None:
    class Wrapped:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __reduce__(self) -> Any:
            if self.depth == 0:
                return int, ("5",)
            return unwrap, (encode(Wrapped(self.depth - 1))[0],)

    assert round_trip([Wrapped(30), 1]) == [5, 1]


def unwrap(encoded: bytes) -> Any:
    return decode(encoded, [])


def closure_of(value: Any) -> Any:
    return lambda: value


def test_many_threads_pickle_at_once() -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        try:
            for _ in range(200):
                value = [closure_of(draw.random()), np.arange(draw.randrange(50)), draw.random()]
                result = round_trip(value)
                assert result[0]() == value[0]()
                assert np.array_equal(result[1], value[1])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- refs ----------------------------------------------------------------------------------------


def test_a_ref_is_a_value_of_its_own() -> None:
    ref, same, other = new_ref(7), new_ref(7), new_ref(8)
    assert ref == same != other
    assert hash(ref) == hash(same)
    assert {ref: 1}[same] == 1
    assert repr(ref) == f"ObjectRef({ref.hex()})"
    assert len(ref.hex()) == 56
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert len(ref.task_id()) == 48
    assert not ref.is_nil()
    assert new_ref(0).is_nil()
    assert ref != 7
    with pytest.raises(TypeError):
        assert ref < other  # type: ignore[operator]
    with pytest.raises(TypeError):
        _core.ObjectRef()
    assert weakref.ref(ref)() is ref
    assert copy.copy(ref) is ref
    assert copy.deepcopy([ref])[0] is ref


def test_a_ref_type_can_be_annotated() -> None:
    assert _core.ObjectRef[int].__origin__ is _core.ObjectRef


def test_a_ref_cannot_be_pickled_by_itself() -> None:
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        pickle.dumps(new_ref(1))
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        cloudpickle.dumps([new_ref(1)])
    with pytest.raises(RuntimeError, match="can only be loaded as part"):
        _core.load_ref(0)
    with pytest.raises(RuntimeError, match="outside of a value"):
        _core.dumps(1)


def test_a_pickle_inside_a_reduce_records_its_refs_too() -> None:
    inner, outer = new_ref(1), new_ref(2)

    class Holder:
        def __reduce__(self) -> Any:
            return load_all, (pickle.dumps([inner]), _core.dumps({"ref": inner}))

    encoded, refs = encode([outer, Holder()])
    assert refs == [outer, inner, inner]
    assert decode(encoded, refs) == [outer, ([inner], {"ref": inner})]


def load_all(*pickles: bytes) -> tuple[Any, ...]:
    return tuple(pickle.loads(item) for item in pickles)


def test_values_loaded_while_another_one_is_loaded_have_refs_of_their_own() -> None:
    class Nested:
        def __reduce__(self) -> Any:
            return decode_with, (encode([new_ref(5)])[0], 50)

    ref = new_ref(1)
    encoded, refs = encode([ref, Nested(), ref, new_ref(2)])
    assert decode(encoded, refs) == [ref, [new_ref(50)], ref, new_ref(2)]


def decode_with(encoded: bytes, index: int) -> Any:
    return decode(encoded, [new_ref(index)])


# ---- what cannot be serialized -------------------------------------------------------------------


def explain(role: str, value: Any, position: Any, function: Any) -> str:
    with pytest.raises(Exception) as caught:
        encode(value)
    return str(_serialization.serialization_error(role, value, position, function, caught.value))


def test_the_error_names_argument_task_and_culprit() -> None:
    def task(first: int, second: Any) -> None: ...

    lock = threading.Lock()
    text = explain("argument", {"a": [1, (lock,)]}, 1, task)
    assert "(argument 2, 'second')" in text
    assert task.__qualname__ in text
    assert "cannot pickle '_thread.lock' object" in text
    assert text.endswith("<value>['a'][1][0]")
    assert "argument 'key'" in explain("argument", lock, "key", task)
    assert "the put value <unlocked" in explain("put value", lock, None, None)
    assert "result" in explain("result", [lock], 1, "f")
    assert "(number 2) of task f" in explain("result", [lock], 1, "f")


def test_the_culprit_is_found_in_objects_and_closures() -> None:
    lock = threading.Lock()

    def closes() -> Any:
        return lock

    assert explain("function", closes, None, closes).endswith("<value> -> lock")
    assert explain("argument", Point(1, {"k": lock}), 0, closes).endswith("<value>.y['k']")


def test_what_a_users_reduce_raises_stays_as_it_is() -> None:
    class Stubborn:
        def __reduce__(self) -> Any:
            raise LookupError("not me")

    with pytest.raises(LookupError, match="not me") as caught:
        encode([Stubborn()])
    error = caught.value
    assert _serialization.serialization_error("argument", 1, 0, len, error) is error


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(pickle.PicklingError, match="nested too deeply"):
        encode(deep)
    assert round_trip([1]) == [1]  # The next one gets a fresh pickler.
    while deep:  # Python's own way of freeing it has limits too.
        deep = deep.pop()


# ---- exceptions ----------------------------------------------------------------------------------


def failure_of(error: BaseException) -> _serialization.TaskFailure:
    """What arrives where `get` is called."""
    for with_cause in (True, False):
        try:
            encoded, refs = encode(_serialization.encode_failure(error, "f", with_cause))
        except Exception:
            continue
        return _serialization.decode_failure(decode(encoded, refs))
    raise AssertionError("the error could not be described")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Picky(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class Holding(Exception):
    def __init__(self) -> None:
        super().__init__("holding on")
        self.lock = threading.Lock()


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_arrives_with_its_traceback() -> None:
    failure = failure_of(raised(ValueError("bad", 3)))
    assert type(failure.cause) is ValueError
    assert failure.cause.args == ("bad", 3)
    assert failure.class_name == "ValueError"
    text = failure.traceback_text
    assert text.startswith(f"mobula::f() (pid={os.getpid()}, ip=127.0.0.1)\n")
    assert f'File "{__file__}"' in text
    assert "    raise error\n" in text  # The source line.
    assert text.endswith("ValueError: ('bad', 3)")


def test_causes_and_contexts_are_told() -> None:
    def fail() -> None:
        try:
            try:
                {}["key"]
            except KeyError as error:
                raise TypeError("second") from error
        except TypeError:
            raise ValueError("third")  # noqa: B904

    with pytest.raises(ValueError, match="third") as caught:
        fail()
    text = failure_of(caught.value).traceback_text
    positions = [
        text.index(part)
        for part in (
            "KeyError: 'key'",
            "was the direct cause of",
            "TypeError: second",
            "During handling of",
            "mobula::f()",
            "ValueError: third",
        )
    ]
    assert positions == sorted(positions)


@pytest.mark.parametrize("error", [Picky(1, 2), Holding(), Speechless()], ids=repr)
def test_exceptions_that_pickle_badly_arrive_readable(error: BaseException) -> None:
    failure = failure_of(raised(error))
    assert type(failure.cause) is type(error)
    assert bool(failure.left_out) == isinstance(error, Holding)
    if not isinstance(error, Speechless):
        assert str(error) in failure.traceback_text
    assert type(error).__name__ in failure.traceback_text


def test_refs_inside_an_exception_are_recorded() -> None:
    encoded, refs = encode(_serialization.encode_failure(raised(ValueError(new_ref(9))), "f", True))
    assert refs == [new_ref(9)]
    failure = decode_in_value(encoded, refs)
    assert failure.cause.args == (new_ref(9),)


def decode_in_value(encoded: bytes, refs: list[Any]) -> Any:
    """Decodes the failure where the extension does: while its value is being loaded."""
    size, count, _ = HEADER.unpack_from(encoded)
    body = encoded[HEADER.size + 16 * count :][:size]

    class Load:
        def __reduce__(self) -> Any:
            return decode_failure_of, (body,)

    outer, found = encode([Load(), *refs])
    assert found == refs
    return decode(outer, refs)[0]


def decode_failure_of(body: bytes) -> Any:
    return _serialization.decode_failure(pickle.loads(body))


def test_a_deep_recursion_is_cut_short() -> None:
    def dive(n: int) -> int:
        return dive(n + 1)

    with pytest.raises(RecursionError) as caught:
        dive(0)
    encoded, _ = encode(_serialization.encode_failure(caught.value, "f", True))
    assert len(encoded) < 50_000
    assert "frames left out" in failure_of(caught.value).traceback_text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in 3.11")
def test_exception_groups_show_their_members() -> None:
    group = builtins.ExceptionGroup("several", [ValueError("one"), raised(TypeError("two"))])
    text = failure_of(raised(group)).traceback_text
    assert "ValueError: one" in text
    assert "TypeError: two" in text


# ---- signatures ----------------------------------------------------------------------------------


def signature_samples() -> list[Any]:
    def plain(a, b=1): ...  # type: ignore[no-untyped-def]
    def positional(a, b, /, c=2): ...  # type: ignore[no-untyped-def]
    def keyword_only(a, *, k, d=1): ...  # type: ignore[no-untyped-def]
    def anything(*args, **kwargs): ...  # type: ignore[no-untyped-def]
    def mixed(a, b=1, *args, c, **kwargs): ...  # type: ignore[no-untyped-def]
    def shadow(a, /, **kwargs): ...  # type: ignore[no-untyped-def]
    def empty(): ...  # type: ignore[no-untyped-def]

    return [plain, positional, keyword_only, anything, mixed, shadow, empty]


calls = st.tuples(
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "k", "d", "other"]), st.integers()),
)


class NotStarted(Exception):
    """Instead of a session."""


class NoSessions:
    def auto_init(self) -> None:
        raise NotStarted


@pytest.fixture
def no_session() -> Iterator[None]:
    """A call whose arguments fit goes on to ask for a session, and gets NotStarted."""
    ray.shutdown()
    _core.set_hooks(NoSessions())  # type: ignore[arg-type]
    yield
    _hooks.install()


def accepts(function: Any, call: tuple[list[int], dict[str, int]]) -> bool:
    args, kwargs = call
    try:
        function(*args, **kwargs)
    except TypeError:
        return False
    except NotStarted:
        pass
    return True


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("function", signature_samples(), ids=lambda f: f.__name__)
def test_a_call_is_refused_exactly_when_python_would(function: Any) -> None:
    submitter = _core.Submitter(_core.FunctionSource(function, function.__name__), {"CPU": 1})

    @settings(max_examples=200, deadline=None)
    @given(calls)
    def check(call: tuple[list[int], dict[str, int]]) -> None:
        assert accepts(submitter, call) == accepts(function, call)

    check()


@pytest.mark.usefixtures("no_session")
def test_the_signature_is_the_one_that_a_wrapper_hands_its_arguments_to() -> None:
    def inner(a: int, b: int) -> None: ...

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> None:
        inner(*args, **kwargs)

    submitter = _core.Submitter(_core.FunctionSource(outer, "outer"), {})
    with pytest.raises(TypeError, match="too many"):
        submitter(1, 2, 3)


def test_submitters_check_what_they_are_given() -> None:
    source = _core.FunctionSource(len, "len")
    assert (source.function, source.name) == (len, "len")
    with pytest.raises(TypeError):
        _core.FunctionSource(3, "three")  # type: ignore[arg-type]
    for bad in ({"num_returns": -1}, {"max_retries": -2}, {"resources": {"CPU": -1}}):
        with pytest.raises(ValueError):
            _core.Submitter(**{"source": source, "resources": {}, **bad})
    with pytest.raises(ValueError):
        _core.Submitter(source, {"CPU": float("nan")})
    with pytest.raises(TypeError):
        _core.Submitter(source, {"CPU": "many"})  # type: ignore[dict-item]


# ---- hostile bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        bytes(15),
        HEADER.pack(8, 0, KINDS["none"]),  # Longer than the bytes.
        HEADER.pack(2**64 - 1, 0, KINDS["string"]) + bytes(8),
        HEADER.pack(0, 2**32 - 1, KINDS["pickle"]) + bytes(16),
        wire_value("none", b"") + bytes(8),
        HEADER.pack(0, 0, 7),  # No such kind.
        HEADER.pack(0, 0, 18),  # Keyword names are no value.
        HEADER.pack(0, 0, 49) + bytes(32),
        wire_value("int", b"1234567"),
        wire_value("string", b"\xff"),
        wire_value("buffers", b""),
        wire_value("buffers", struct.pack("<Q", 0)),
        wire_value("buffers", struct.pack("<Q", 2**63)),
        wire_value("buffers", struct.pack("<QQQ", 1, 2**64 - 8, 16)),
        wire_value("buffers", struct.pack("<QQQ", 1, 0, 25)),
    ],
)
def test_malformed_values_are_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError):
        decode(encoded, [])


def test_a_pickle_that_names_a_missing_ref_is_refused() -> None:
    encoded, refs = encode([new_ref(1), new_ref(2)])
    with pytest.raises(ray.exceptions.RaySystemError, match="index out of range"):
        decode(encoded, refs[:1])


FUZZ = """
import random, resource, sys
import numpy as np
from mobula import _core
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
draw = random.Random(int(sys.argv[1]))
ref = _core._new_ref_for_test(1)
seeds = [_core._encode_for_test(value)[0] for value in (
    5, "text", b"bytes", [1, 2.5, "x", {"a": (None, True)}], [ref, "y", ref], np.arange(20.0),
    {"a": np.arange(5), "b": [ref, np.zeros(3, "i1")]},
)]
errors = 0
for _ in range(int(sys.argv[2])):
    value = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 5))):
        how = draw.random()
        at = draw.randrange(len(value)) if value else 0
        if how < 0.5 and value:
            value[at] = draw.choice((0, 1, 255, draw.randrange(256)))
        elif how < 0.7:
            del value[at : at + draw.randrange(1, 9)]
        elif how < 0.9:
            value[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            value[:] = value[:at]
    try:
        _core._decode_for_test(bytes(value), [ref, ref])
    except Exception:
        errors += 1
assert errors > 0
print("survived")
"""


@pytest.mark.random
def test_no_bytes_crash_the_decoder() -> None:
    seed = os.environ.get("MOBULA_SEED") or str(random.SystemRandom().randrange(2**32))
    print("seed", seed)
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FUZZ, seed, "20000"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "survived\n"), run.stderr


# ---- nothing leaks -------------------------------------------------------------------------------


LOOPS = {
    "plain": lambda: round_trip(12345678901),
    "containers": lambda: round_trip({"a": [1, (2.5, "x")]}),
    "arrays": lambda: round_trip([np.arange(10), np.arange(3)]),
    "refs": lambda: round_trip([new_ref(3), new_ref(4)]),
    "function": lambda: round_trip(closure_of(3))(),
    "unpicklable": lambda: refused(TypeError, encode, [new_ref(1), threading.Lock()]),
    "malformed": lambda: refused(ValueError, decode, bytes(15), []),
    "hash, hex and repr": lambda: (hash(new_ref(1)), new_ref(1).hex(), repr(new_ref(1))),
    "submitter": lambda: _core.Submitter(_core.FunctionSource(closure_of(1), "f"), {"CPU": 1}),
}


def refused(error: type[Exception], function: Any, *args: Any) -> None:
    with pytest.raises(error):
        function(*args)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_nothing_leaks(loop: Any) -> None:
    def blocks_after(count: int) -> int:
        for _ in range(count):
            loop()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after(100)
    grown = []
    for _ in range(5):  # One block lost in each round would be 200 of them.
        before = blocks_after(0)
        grown.append(blocks_after(200) - before)
    assert min(grown) < 50


def test_a_function_that_refers_to_its_own_submitter_is_collected() -> None:
    class Marker:
        pass

    def make() -> weakref.ref[Marker]:
        held: list[Any] = [Marker()]

        def recursive() -> Any:
            return held

        held.append(_core.Submitter(_core.FunctionSource(recursive, "recursive"), {}))
        return weakref.ref(held[0])

    gone = make()
    gc.collect()
    assert gone() is None
