"""Indicators and combinations of columns over many parameters, each parameter a task."""

import numpy as np
import pandas as pd
import ray
import vectorbt as vbt
from _checks import check, done
from vectorbt.base import combine_fns

ray.init(num_cpus=2)
prices = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0, 2.5, 4.0], "b": [5.0, 4.0, 3.0, 6.0, 7.0]},
    index=pd.date_range("2024-01-01", periods=5),
)


def moving_mean(column, window, scale=1.0):
    rows = [column[max(0, i + 1 - window) : i + 1].mean(axis=0) for i in range(len(column))]
    return np.array(rows) * scale


def scaled(i, column, factors):
    return column * factors[i]


Mean = vbt.IndicatorFactory(
    input_names=["close"], param_names=["window"], output_names=["mean"]
).from_apply_func(moving_mean)
windows = np.arange(1, 9)
alone, parallel = (Mean.run(prices, windows, use_ray=use).mean for use in (False, True))

check("an indicator has a column for each window", parallel.shape == (5, 16))
check("it is the same in parallel as alone", parallel.equals(alone))
check("its columns have their names", list(parallel.columns) == list(alone.columns))
check(
    "an argument goes to all tasks",
    np.allclose(Mean.run(prices, [2, 3], scale=10.0, use_ray=True).mean, alone.iloc[:, 2:6] * 10),
)
columns = combine_fns.apply_and_concat_one_ray(4, scaled, np.ones((3, 2)), [1, 2, 3, 4])
check("results lie beside each other", np.array_equal(columns[0], [1, 1, 2, 2, 3, 3, 4, 4]))
halves = combine_fns.ray_apply(
    4, scaled, np.ones((3, 2)), [1, 2, 3, 4], ray_func_kwargs={"num_cpus": 0.5}
)
check("options of tasks are passed on", [half[0, 0] for half in halves] == [1, 2, 3, 4])
total = prices.vbt.combine([prices * 2, prices * 3], combine_func=np.add, concat=True, use_ray=True)
check("frames are combined in parallel", np.allclose(total, np.hstack([prices * 3, prices * 4])))
done()
