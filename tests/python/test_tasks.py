"""Submitting functions and getting what they return."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meeting
import mobula as ray
import numpy as np
import pytest
from mobula import exceptions

pytestmark = pytest.mark.usefixtures("shared_session")

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@ray.remote
def add(x: Any, y: Any = 1, *rest: Any, **named: Any) -> Any:
    return x + y + sum(rest) + sum(named.values())


@ray.remote
def nothing() -> None:
    return None


@ray.remote
def process_id() -> int:
    return os.getpid()


@ray.remote
def fibonacci(n: int) -> int:
    if n < 2:
        return n
    return sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))


def test_a_task_runs_in_another_process() -> None:
    assert ray.get(process_id.remote()) != os.getpid()


def test_arguments_of_all_kinds() -> None:
    assert ray.get(add.remote(1)) == 2
    assert ray.get(add.remote(1, 2)) == 3
    assert ray.get(add.remote(1, y=2)) == 3
    assert ray.get(add.remote(x=1, y=2)) == 3
    assert ray.get(add.remote(1, 2, 3, 4, a=5, b=6)) == 21
    assert ray.get(nothing.remote()) is None


def test_two_tasks_run_at_the_same_time(tmp_path: Path) -> None:
    task = ray.remote(meeting.meet)
    refs = [task.remote(tmp_path, "a", ["b"]), task.remote(tmp_path, "b", ["a"])]
    assert ray.get(refs) == [True, True]


def test_many_tasks() -> None:
    assert ray.get([add.remote(i) for i in range(20_000)]) == [i + 1 for i in range(20_000)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), {}), ((1,), {"no_such": 2}), ((1,), {"x": 1}), ((1, 2, 3), {})],
)
def test_arguments_that_do_not_fit_are_refused_at_once(
    arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    @ray.remote
    def two(x: Any, y: Any = 1) -> Any:
        return x

    with pytest.raises(TypeError):
        two.remote(*arguments, **named)


def test_keyword_only_and_positional_only_arguments() -> None:
    @ray.remote
    def picky(a: int, /, b: int = 2, *, c: int, d: int = 4) -> tuple[int, ...]:
        return a, b, c, d

    assert ray.get(picky.remote(1, c=3)) == (1, 2, 3, 4)
    for arguments, named in [((1,), {}), ((), {"a": 1, "c": 2}), ((1, 2, 3), {"c": 1})]:
        with pytest.raises(TypeError):
            picky.remote(*arguments, **named)


def test_refs_as_arguments_stand_for_their_values() -> None:
    one = add.remote(0)
    assert ray.get(add.remote(one, one)) == 2
    assert ray.get(add.remote(1, y=ray.put(5))) == 6
    chain = one
    for _ in range(50):
        chain = add.remote(chain)
    assert ray.get(chain) == 51


def test_refs_inside_of_arguments_stay_refs() -> None:
    @ray.remote
    def look(values: list[Any], named: dict[str, Any]) -> tuple[list[bool], list[int], int]:
        refs = [isinstance(v, ray.ObjectRef) for v in values]
        return refs, ray.get(values), ray.get(named["a"])

    refs = [add.remote(1), ray.put(7)]
    assert ray.get(look.remote(refs, {"a": ray.put(9)})) == ([True, True], [2, 7], 9)


def test_a_ref_that_is_returned() -> None:
    @ray.remote
    def submit() -> list[Any]:
        return [add.remote(1), ray.put("inner")]

    first, second = ray.get(submit.remote())
    assert ray.get([first, second]) == [2, "inner"]


def test_a_ref_outlives_the_worker_call_that_made_it() -> None:
    @ray.remote
    def make() -> list[Any]:
        return [ray.put(bytes(200_000))]

    refs = [ray.get(make.remote())[0] for _ in range(5)]
    assert [len(ray.get(ref)) for ref in refs] == [200_000] * 5


def test_nested_tasks() -> None:
    assert ray.get(fibonacci.remote(8)) == 21


def test_tasks_nested_deeper_than_there_are_cpus() -> None:
    @ray.remote
    def down(levels: int) -> int:
        return 0 if levels == 0 else 1 + ray.get(down.remote(levels - 1))

    assert ray.get(down.remote(12)) == 12


def test_a_task_waits_for_many_of_its_own() -> None:
    @ray.remote
    def fan(n: int) -> int:
        return sum(ray.get([add.remote(i) for i in range(n)]))

    assert ray.get([fan.remote(100) for _ in range(4)]) == [5050] * 4


def test_closures_and_lambdas() -> None:
    factor = 3

    @ray.remote
    def scaled(x: int) -> int:
        return x * factor

    assert ray.get(scaled.remote(5)) == 15
    assert ray.get(ray.remote(lambda x: x + factor).remote(1)) == 4


def test_a_closure_over_a_ref() -> None:
    ref = ray.put([1, 2, 3])

    @ray.remote
    def total() -> int:
        return sum(ray.get(ref))

    assert ray.get(total.remote()) == 6


def test_functions_are_arguments_and_results() -> None:
    @ray.remote
    def apply(function: Callable[[int], int], x: int) -> int:
        return function(x)

    @ray.remote
    def make(n: int) -> Callable[[int], int]:
        return lambda x: x + n

    assert ray.get(apply.remote(lambda x: x * 2, 4)) == 8
    assert ray.get(make.remote(3))(4) == 7


def test_a_remote_function_as_an_argument() -> None:
    @ray.remote
    def call(function: Any, x: int) -> Any:
        return ray.get(function.remote(x))

    assert ray.get(call.remote(add, 4)) == 5


def test_a_function_with_options_as_an_argument() -> None:
    @ray.remote
    def call(function: Any, x: int) -> Any:
        return ray.get(function.remote(x))

    assert ray.get(call.remote(add.options(num_cpus=0.5), 4)) == 5


def test_two_functions_that_call_each_other() -> None:
    @ray.remote
    def even(n: int) -> bool:
        return True if n == 0 else bool(ray.get(odd.remote(n - 1)))

    @ray.remote
    def odd(n: int) -> bool:
        return False if n == 0 else bool(ray.get(even.remote(n - 1)))

    assert ray.get(even.remote(4)) is True


def test_several_returns() -> None:
    @ray.remote(num_returns=3)
    def three() -> tuple[int, str, list[int]]:
        return 1, "two", [3]

    refs = three.remote()
    assert len(refs) == 3
    assert ray.get(refs) == [1, "two", [3]]
    assert ray.get(three.options(num_returns=1).remote()) == (1, "two", [3])


def test_no_returns(tmp_path: Path) -> None:
    @ray.remote(num_returns=0)
    def silent(path: str) -> str:
        Path(path).touch()
        return "unseen"

    path = str(tmp_path / "ran")
    assert silent.remote(path) is None
    assert meeting.wait_for(path)


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_returns(values: tuple[int, ...]) -> None:
    @ray.remote(num_returns=2)
    def some() -> tuple[int, ...]:
        return values

    for ref in some.remote():
        with pytest.raises(ValueError, match="num_returns=2"):
            ray.get(ref)


def test_no_sequence_where_several_returns_were_announced() -> None:
    @ray.remote(num_returns=2)
    def one() -> int:
        return 1

    with pytest.raises(TypeError):
        ray.get(one.remote())


def test_a_generator_with_a_number_of_returns() -> None:
    @ray.remote(num_returns=2)
    def pair() -> Any:
        yield "a"
        yield "b"

    assert ray.get(pair.remote()) == ["a", "b"]


def test_large_arguments_and_results() -> None:
    @ray.remote
    def echo(data: bytes) -> bytes:
        return data

    for size in (99_000, 102_400, 1_000_000, 20_000_000):
        data = os.urandom(1000) * (size // 1000)
        assert ray.get(echo.remote(data)) == data


def test_many_large_results_at_once() -> None:
    @ray.remote
    def block(i: int) -> bytes:
        return bytes([i]) * 1_000_000

    for i, data in enumerate(ray.get([block.remote(i) for i in range(50)])):
        assert data[:1] == bytes([i])
        assert len(data) == 1_000_000


def test_a_method_can_be_remote_and_static() -> None:
    class Numbers:
        @staticmethod
        @ray.remote
        def double(x: int) -> int:
            return 2 * x

    assert ray.get(Numbers.double.remote(4)) == 8


def test_a_recursive_data_structure() -> None:
    @ray.remote
    def is_recursive(values: list[Any]) -> bool:
        return values[0] is values

    values: list[Any] = []
    values.append(values)
    assert ray.get(is_recursive.remote(values))


def test_the_same_argument_twice_is_the_same_object_inside_one_value() -> None:
    @ray.remote
    def same(pair: tuple[Any, Any]) -> bool:
        return pair[0] is pair[1]

    item = [1]
    assert ray.get(same.remote((item, item)))


def test_a_task_may_start_processes() -> None:
    @ray.remote
    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", "print('from a child')"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert ray.get(run.remote()) == "from a child\n"


def test_a_task_may_fork() -> None:
    @ray.remote
    def fork() -> int:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"child")
            os._exit(7)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        assert os.read(reader, 10) == b"child"
        os.close(reader)
        return os.waitstatus_to_exitcode(status)

    assert ray.get(fork.remote()) == 7
    assert ray.get(add.remote(1)) == 2


def test_a_task_may_use_multiprocessing() -> None:
    @ray.remote
    def pool() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(meeting.square, range(5))

    assert ray.get(pool.remote()) == [0, 1, 4, 9, 16]


def test_a_task_may_use_threads() -> None:
    @ray.remote
    def threads() -> list[int]:
        from concurrent.futures import ThreadPoolExecutor

        def submit(i: int) -> int:
            return int(ray.get(add.remote(i)))

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(submit, range(20)))

    assert ray.get(threads.remote()) == list(range(1, 21))


def test_many_threads_of_the_driver_submit_and_get() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def loop(start: int) -> list[int]:
        return [ray.get(add.remote(i)) for i in range(start, start + 200)]

    with ThreadPoolExecutor(8) as pool:
        results = [value for values in pool.map(loop, range(0, 1600, 200)) for value in values]
    assert results == [i + 1 for i in range(1600)]


def test_workers_draw_different_random_numbers(tmp_path: Path) -> None:
    @ray.remote
    def draw(me: int) -> tuple[int, float, float, bytes]:
        import random

        import numpy as np

        meeting.meet(tmp_path, f"draw{me}", [f"draw{1 - me}"])  # In two workers, then.
        return os.getpid(), random.random(), float(np.random.random()), os.urandom(8)

    first, second = ray.get([draw.remote(0), draw.remote(1)])
    for one, other in zip(first, second, strict=True):
        assert one != other


@pytest.mark.mobula_only
def test_retry_exceptions(tmp_path: Path) -> None:
    counter = tmp_path / "calls"

    @ray.remote(max_retries=3, retry_exceptions=[KeyError])
    def flaky(succeed_at: int, error: type[Exception]) -> int:
        call = meeting.count_call(counter)
        if call < succeed_at:
            raise error("again")
        return call

    assert ray.get(flaky.remote(3, KeyError)) == 3
    counter.unlink()
    with pytest.raises(KeyError):
        ray.get(flaky.remote(9, KeyError))
    assert meeting.calls(counter) == 4
    counter.unlink()
    with pytest.raises(ValueError, match="again"):
        ray.get(flaky.remote(9, ValueError))
    assert meeting.calls(counter) == 1


def test_a_dependency_that_failed_fails_the_task() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("first")

    with pytest.raises(KeyError) as caught:
        ray.get(add.remote(fail.remote()))
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert "fail" in str(caught.value)


# ---- where functions may come from ----------------------------------------------------------


def test_functions_and_classes_of_the_script_itself(run_script: RunScript) -> None:
    text = """
import sys
import mobula as ray
import numpy as np

LIMIT = 10

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

def helper(x):
    return min(x, LIMIT)

@ray.remote
def capped(point):
    assert isinstance(point, Point)
    return Point(helper(point.x))

if __name__ == "__main__":
    ray.init(num_cpus=1)
    assert ray.get(capped.remote(Point(20))) == Point(10)
    assert ray.get(capped.remote(Point(3))) == Point(3)
    print("done")
"""
    assert run_script(text).stdout == "done\n"


def test_a_module_beside_the_script(run_script: RunScript, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def triple(x):\n    return 3 * x\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from package.inner import half\n")
    (tmp_path / "package" / "inner.py").write_text("def half(x):\n    return x // 2\n")
    text = """
import beside, package
import mobula as ray
import numpy as np

@ray.remote
def both(x):
    return beside.triple(x), package.half(x)

print(ray.get(both.remote(4)), ray.get(ray.remote(beside.triple).remote(5)))
"""
    # Found although the working directory is another one.
    assert run_script(text, cwd="/").stdout == "(12, 2) 15\n"


def test_a_program_on_the_command_line() -> None:
    text = "import mobula as ray; print(ray.get(ray.remote(lambda: 5).remote()))"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "5\n"


def test_a_program_from_standard_input() -> None:
    text = "import mobula as ray\n@ray.remote\ndef f(): return 6\n\nprint(ray.get(f.remote()))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=text, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "6\n"


def test_workers_have_the_drivers_working_directory(run_script: RunScript, tmp_path: Path) -> None:
    text = """
import os
import mobula as ray
import numpy as np
print(ray.get(ray.remote(os.getcwd and (lambda: os.getcwd())).remote()))
"""
    folder = tmp_path / "here"
    folder.mkdir()
    assert run_script(text, cwd=folder).stdout == f"{folder}\n"


def test_max_calls_ends_the_worker(shared_session: None) -> None:
    @ray.remote(max_calls=2)
    def pid() -> int:
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(6)]
    assert [pids.count(p) for p in dict.fromkeys(pids)] == [2, 2, 2]
    # Many at once: what waits for a worker that ends goes elsewhere.
    many = ray.get([pid.remote() for _ in range(60)])
    assert max(many.count(p) for p in set(many)) <= 2


def test_a_gpu_is_left_clean(shared_session: None) -> None:
    @ray.remote(num_gpus=1)
    def pid() -> int:
        return os.getpid()

    assert len({ray.get(pid.remote()) for _ in range(3)}) == 3
    kept = pid.options(num_gpus=0.5).remote()
    assert ray.get(kept) > 0


def test_max_calls_loses_no_results(shared_session: None) -> None:
    @ray.remote(max_calls=1)
    def large(i: int) -> Any:
        return np.full(300_000, i)

    @ray.remote(max_calls=1)
    def nested(i: int) -> Any:
        return [ray.put(np.full(200_000, i)), ray.put(i)]

    for i, array in enumerate(ray.get([large.remote(i) for i in range(8)])):
        assert array[0] == i and len(array) == 300_000
    for i, (array_ref, small_ref) in enumerate(ray.get([nested.remote(i) for i in range(4)])):
        assert ray.get(array_ref)[0] == i and ray.get(small_ref) == i
