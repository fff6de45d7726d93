"""joblib with the backend that `ray.util.joblib` registers."""

import os

import joblib
import numpy as np
import ray
from _checks import check, done, raises
from joblib import Parallel, delayed
from ray.util.joblib import register_ray


def square(number):
    return number * number


def where(_):
    return os.getpid()


def refuse(number):
    if number == 7:
        raise ValueError("no seven")
    return number


def total(array, start):
    return float(array[start:].sum())


def nested(number):
    return sum(Parallel(n_jobs=2)(delayed(square)(one) for one in range(number)))


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def apply(self, number):
        return self.factor * number


ray.init(num_cpus=2)
register_ray()
check("joblib knows the backend", "ray" in joblib.parallel.BACKENDS)
with joblib.parallel_backend("ray"):
    check(
        "squares", Parallel()(delayed(square)(n) for n in range(100)) == [n * n for n in range(100)]
    )
    pids = set(Parallel(n_jobs=2)(delayed(where)(n) for n in range(40)))
    check("calls run in other processes", os.getpid() not in pids)
    ordered = Parallel(n_jobs=2, batch_size=5)(delayed(square)(n) for n in range(33))
    check("batches of five", ordered == [n * n for n in range(33)])
    one_by_one = Parallel(n_jobs=2, batch_size=1, pre_dispatch=4)(
        delayed(square)(n) for n in range(20)
    )
    check("four ahead at most", one_by_one == [n * n for n in range(20)])
    failing = Parallel(n_jobs=2)
    calls = [delayed(refuse)(n) for n in range(10)]
    check("an error arrives", lambda: raises(ValueError, failing, calls))
    check("and the backend works on", Parallel()([delayed(square)(3)]) == [9])
    array = np.arange(2_000_000, dtype=np.float64)
    sums = Parallel(n_jobs=2)(
        delayed(total)(array, start) for start in range(0, 2_000_000, 250_000)
    )
    check(
        "sixteen megabytes go along",
        sums == [float(array[s:].sum()) for s in range(0, 2_000_000, 250_000)],
    )
    scale = Scale(4)
    check(
        "methods",
        Parallel()(delayed(scale.apply)(n) for n in range(9)) == [4 * n for n in range(9)],
    )
    check(
        "closures",
        Parallel()(delayed(lambda n: n + array[2])(n) for n in range(5))
        == [2.0, 3.0, 4.0, 5.0, 6.0],
    )
    inner = Parallel(n_jobs=2)(delayed(nested)(n) for n in (3, 5, 7))
    check("calls that use joblib themselves", inner == [5, 30, 91])
    check("no calls", Parallel()([]) == [])
with joblib.parallel_config(backend="ray", n_jobs=2):
    check(
        "parallel_config",
        Parallel()(delayed(square)(n) for n in range(10)) == [n * n for n in range(10)],
    )
with Parallel(n_jobs=2, backend="ray") as pool:
    rounds = [pool(delayed(square)(n) for n in range(10)) for _ in range(5)]
    check("one pool for five rounds", rounds == [[n * n for n in range(10)]] * 5)
large = Parallel(n_jobs=2, backend="ray")(delayed(square)(n) for n in range(5000))
check("five thousand calls", large == [n * n for n in range(5000)])
ray.shutdown()
done()
