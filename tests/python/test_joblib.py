"""joblib and scikit-learn on Mobula."""

from __future__ import annotations

import operator
import os

import mobula as ray
import numpy as np
import pytest
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
