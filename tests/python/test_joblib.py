"""joblib and scikit-learn on Mobula."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from leftovers import wait_until
from mobula.util.joblib import register_ray

joblib = pytest.importorskip("joblib")

pytestmark = pytest.mark.usefixtures("shared_session")


@pytest.fixture(autouse=True)
def registered() -> None:
    register_ray()


def test_calls_run_in_workers_and_results_keep_their_order() -> None:
    with joblib.parallel_backend("ray"):
        squares = joblib.Parallel(n_jobs=-1)(joblib.delayed(pow)(i, 2) for i in range(1000))
        pids = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(8))
    assert squares == [i**2 for i in range(1000)]
    assert os.getpid() not in pids


def test_an_error_is_the_one_that_was_raised() -> None:
    with joblib.parallel_backend("ray"), pytest.raises(ZeroDivisionError):
        joblib.Parallel()(joblib.delayed(operator.truediv)(1, i) for i in range(3))
    with joblib.parallel_backend("ray"):  # It works on.
        assert joblib.Parallel()(joblib.delayed(abs)(i) for i in [-1]) == [1]


@pytest.mark.mobula_only
def test_a_large_array_is_sent_once() -> None:
    array = np.ones(1_000_000)

    def where(values: np.ndarray) -> tuple[float, bool]:
        return float(values.sum()), values.flags.writeable

    with joblib.parallel_backend("ray"):
        found = joblib.Parallel()(joblib.delayed(where)(array) for _ in range(20))
    assert found == [(1e6, False)] * 20  # A view of the object store, which is read-only.


@pytest.mark.mobula_only
def test_results_can_be_had_one_by_one() -> None:
    with joblib.parallel_backend("ray"):
        results = joblib.Parallel(return_as="generator")(
            joblib.delayed(pow)(i, 2) for i in range(10)
        )
        assert list(results) == [i**2 for i in range(10)]


def test_a_grid_search_finds_what_it_finds_serially() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    data, target = load_iris(return_X_y=True)
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3, 4]}, cv=3)
    search.fit(data, target)
    serial = search.cv_results_["mean_test_score"]
    with joblib.parallel_backend("ray"):
        search.fit(data, target)
    assert list(search.cv_results_["mean_test_score"]) == list(serial)


@pytest.mark.mobula_only
def test_options_of_the_tasks_can_be_given() -> None:
    with joblib.parallel_backend("ray", ray_remote_args={"num_cpus": 2}):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(_cpus)() for _ in range(2)) == [2.0, 2.0]


def _cpus() -> float:
    return float(ray.get_runtime_context().get_assigned_resources()["CPU"])


def _wait_for_file(path: str) -> str:
    wait_until(lambda: os.path.exists(path), path)
    return path


def _square_unless(x: int, bad: int = -1) -> int:
    if x == bad:
        raise LookupError(x)
    return x * x


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
@pytest.mark.parametrize("pre_dispatch", ["all", 1, "2*n_jobs"])
def test_batches_of_any_size_give_the_same(batch_size: Any, pre_dispatch: Any) -> None:
    offset = 1
    with joblib.parallel_backend("ray"):
        parallel = joblib.Parallel(n_jobs=2, batch_size=batch_size, pre_dispatch=pre_dispatch)
        found = parallel(joblib.delayed(lambda x, y=0: x + y + offset)(i, y=2) for i in range(50))
        assert found == [i + 3 for i in range(50)]
        # Functions of all kinds in one batch, each with its own arguments.
        mixed = parallel(
            joblib.delayed(abs)(-i) if i % 2 else joblib.delayed(_square_unless)(i, bad=-5)
            for i in range(50)
        )
        assert mixed == [i if i % 2 else i * i for i in range(50)]


@pytest.mark.mobula_only
def test_results_in_the_order_in_which_they_are_done(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with joblib.parallel_backend("ray"):
        results = joblib.Parallel(n_jobs=2, return_as="generator_unordered", batch_size=1)(
            [joblib.delayed(_wait_for_file)(gate), *(joblib.delayed(abs)(-i) for i in range(20))]
        )
        assert sorted(next(results) for _ in range(20)) == list(range(20))
        Path(gate).touch()
        assert list(results) == [gate]


@pytest.mark.mobula_only
def test_an_error_ends_what_is_under_way(tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    calls = [joblib.delayed(_square_unless)(3, 3), *[joblib.delayed(_wait_for_file)(never)] * 20]
    with joblib.parallel_backend("ray"):
        for pre_dispatch in ("all", "2*n_jobs"):
            with pytest.raises(LookupError):
                joblib.Parallel(n_jobs=2, batch_size=1, pre_dispatch=pre_dispatch)(calls)
        with joblib.Parallel(n_jobs=2, batch_size=1) as parallel:
            for _ in range(3):
                with pytest.raises(LookupError):
                    parallel(calls)
                assert parallel(joblib.delayed(abs)(-i) for i in range(9)) == list(range(9))


@pytest.mark.mobula_only
def test_what_the_iterable_raises_is_raised() -> None:
    def calls() -> Iterator[Any]:
        for i in range(30):
            yield joblib.delayed(abs)(i)
        raise LookupError("no more")

    with joblib.parallel_backend("ray"), pytest.raises(LookupError, match="no more"):
        joblib.Parallel(n_jobs=2, batch_size=1)(calls())


@pytest.mark.mobula_only
def test_a_call_that_is_late_is_a_timeout(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with joblib.parallel_backend("ray"):
        with pytest.raises(Exception) as caught:
            joblib.Parallel(n_jobs=2, timeout=0.1)([joblib.delayed(_wait_for_file)(gate)])
        assert "Timeout" in type(caught.value).__name__
        assert joblib.Parallel(n_jobs=2, timeout=60)([joblib.delayed(abs)(-1)]) == [1]


@pytest.mark.mobula_only
def test_threads_may_each_have_a_parallel() -> None:
    def run(offset: int) -> list[int]:
        with joblib.parallel_backend("ray"):
            return joblib.Parallel(n_jobs=2, batch_size=1)(  # type: ignore[no-any-return]
                joblib.delayed(operator.add)(i, offset) for i in range(100)
            )

    with ThreadPoolExecutor(3) as threads:
        for offset, found in enumerate(threads.map(run, range(3))):
            assert found == [i + offset for i in range(100)]


@pytest.mark.mobula_only
def test_refs_among_the_arguments_stay_refs() -> None:
    ref = ray.put(5)
    with joblib.parallel_backend("ray"):
        for batch_size in (1, 2):
            kinds = joblib.Parallel(n_jobs=2, batch_size=batch_size)(
                joblib.delayed(isinstance)(value, ray.ObjectRef) for value in [ref, 5] * 4
            )
            assert kinds == [True, False] * 4


def _seven_after(path: str) -> int:
    wait_until(lambda: os.path.exists(path), path)
    return 7


@pytest.mark.mobula_only
@pytest.mark.parametrize("other", ["generator", "generator_unordered", "list"])
def test_a_generator_goes_on_beside_calls_that_begin_and_end(other: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with joblib.parallel_config(backend="ray", n_jobs=2):
        results = joblib.Parallel(return_as="generator")([joblib.delayed(_seven_after)(str(go))])
        for _ in range(2):
            others = joblib.Parallel(return_as=other)(joblib.delayed(abs)(-n) for n in range(20))
            assert sorted(others) == list(range(20))
        go.touch()
        assert list(results) == [7]
