"""Values of data points: the executor, map and reduce, and valuations of pyDVL by its Ray backend."""

import numpy as np
import ray
from _checks import check, done, raises
from pydvl.parallel import JoblibParallelBackend, MapReduceJob, RayParallelBackend
from pydvl.utils import Dataset, Scorer, Utility
from pydvl.value import combinatorial_exact_shapley, compute_loo
from ray.exceptions import RayTaskError
from sklearn.linear_model import LinearRegression

check("without a session it says so", lambda: raises(RuntimeError, RayParallelBackend))
ray.init(num_cpus=2)
backend = RayParallelBackend()


def square(x):
    return x * x


def fail(x):
    raise ArithmeticError(x)


with backend.executor(max_workers=2) as executor:
    futures = [executor.submit(square, x) for x in range(20)]
    check("futures have results", [one.result() for one in futures] == [x * x for x in range(20)])
    check("map is in order", list(executor.map(square, range(10))) == [x * x for x in range(10)])
    check(
        "options of a task",
        executor.submit(square, 3, remote_function_options={"num_cpus": 0.5}).result() == 9,
    )
    check("an error arrives", lambda: raises(RayTaskError, executor.submit(fail, 1).result))
check("CPUs are counted", backend.effective_n_jobs(-1) == 2)
check("a function is wrapped", backend.get(backend.wrap(square)(7)) == 49)
job = MapReduceJob(
    np.arange(100), map_func=np.sum, reduce_func=np.sum, parallel_backend=backend, n_jobs=2
)
check("map and reduce", job() == 4950)

random = np.random.default_rng(0)
x = random.normal(size=(12, 2))
y = x @ np.array([1.0, -2.0]) + random.normal(scale=0.1, size=12)
data = Dataset(x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
scorer = Scorer("neg_mean_squared_error", default=-10.0)
utility = Utility(LinearRegression(), data, scorer, show_warnings=False)


def shapley(**where):
    return combinatorial_exact_shapley(utility, progress=False, **where).values


here = shapley(parallel_backend=JoblibParallelBackend(), n_jobs=1)
check("exact Shapley values", np.allclose(shapley(parallel_backend=backend, n_jobs=2), here))
check(
    "they add up to what all data are worth",
    np.isclose(here.sum(), utility(data.indices) - utility(())),
)
without = compute_loo(utility, parallel_backend=backend, n_jobs=2, progress=False)
expected = [utility(data.indices) - utility(set(data.indices) - {index}) for index in data.indices]
check("leave one out", np.allclose(without.values[np.argsort(without.indices)], expected))
done()
