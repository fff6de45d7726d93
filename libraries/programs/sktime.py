"""sktime: evaluation, searches and panels with `backend="ray"`; the same figures as without."""

import numpy as np
import pandas as pd
import ray
from _checks import check, done
from sktime.forecasting.model_evaluation import evaluate
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.forecasting.naive import NaiveForecaster
from sktime.forecasting.trend import PolynomialTrendForecaster
from sktime.split import ExpandingWindowSplitter
from sktime.utils.parallel import parallelize

KEEP = {"mute_warnings": True, "shutdown_ray": False, "ray_remote_args": {"num_cpus": 2}}
END = {**KEEP, "shutdown_ray": True}
random = np.random.default_rng(0)
months = pd.period_range("2015-01", periods=96, freq="M")
series = pd.Series(np.arange(96) + 5 * random.standard_normal(96), index=months)
panel = pd.DataFrame(
    {"value": random.standard_normal(150).cumsum()},
    index=pd.MultiIndex.from_product([range(5), pd.period_range("2015-01", periods=30, freq="M")]),
)
splitter = ExpandingWindowSplitter(initial_window=60, step_length=6, fh=[1, 2, 3])
forecaster = PolynomialTrendForecaster(degree=1)


def added(item, meta):
    return item + meta["more"]


def evaluated():
    on_ray = evaluate(forecaster, splitter, series, backend="ray", backend_params=dict(KEEP))
    alone = evaluate(forecaster, splitter, series)
    name = "test_MeanAbsolutePercentageError"
    return np.allclose(on_ray[name], alone[name]) and len(on_ray) == len(alone) > 3


def searched():
    space = {"strategy": ["last", "mean", "drift"], "window_length": [6, 12]}
    more = {"backend": "ray", "backend_params": dict(KEEP)}
    found = [
        ForecastingGridSearchCV(NaiveForecaster(), splitter, space, **one).fit(series)
        for one in (more, {})
    ]
    return found[0].best_params_ == found[1].best_params_


def of_a_panel():
    on_ray = forecaster.clone()
    on_ray.set_config(**{"backend:parallel": "ray", "backend:parallel:params": dict(KEEP)})
    wanted = forecaster.clone().fit(panel, fh=[1, 2]).predict()
    return np.allclose(on_ray.fit(panel, fh=[1, 2]).predict(), wanted)


check(
    "a loop starts Ray",
    lambda: parallelize(added, range(20), {"more": 3}, "ray", dict(KEEP)) == list(range(3, 23)),
)
check("and leaves it there", ray.is_initialized())
check("evaluate", evaluated)
check("grid search", searched)
check("a forecaster for each series of a panel", of_a_panel)
check(
    "a loop that ends Ray",
    lambda: (
        parallelize(added, [1], {"more": 1}, "ray", dict(END)) == [2] and not ray.is_initialized()
    ),
)
done()
