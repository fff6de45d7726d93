"""Hamilton: a graph of functions, each of which is a task of Ray."""

import os

import _hamilton_columns
import _hamilton_graph
import pandas as pd
import ray
from _checks import check, done, raises
from hamilton import base, driver
from hamilton.execution import executors
from hamilton.plugins import h_ray

INPUTS = {"raw_spend": pd.Series([10.0, 20.0, 30.0]), "raw_signups": pd.Series([1, 3, 5])}
COLUMNS = ["spend", "signups", "spend_per_signup", "spend_zero_mean"]
ray.init(num_cpus=2)

adapter = h_ray.RayGraphAdapter(result_builder=base.PandasDataFrameResult())
on_ray = driver.Builder().with_modules(_hamilton_columns).with_adapters(adapter).build()
alone = (
    driver.Builder()
    .with_modules(_hamilton_columns)
    .with_adapters(base.PandasDataFrameResult())
    .build()
)
check(
    "a table of four columns",
    lambda: on_ray.execute(COLUMNS, inputs=INPUTS).equals(alone.execute(COLUMNS, inputs=INPUTS)),
)
as_dict = h_ray.RayGraphAdapter(result_builder=base.DictResult())
values = driver.Builder().with_modules(_hamilton_columns).with_adapters(as_dict).build()
check(
    "values by name",
    lambda: values.execute(["spend_mean", "spend"], inputs=INPUTS)["spend_mean"] == 30.0,
)
check("in another process", lambda: values.execute(["where"])["where"] != os.getpid())
check(
    "an override is taken instead",
    lambda: (
        values.execute(["spend_mean"], inputs=INPUTS, overrides={"spend": pd.Series([1.0])})
        == {"spend_mean": 1.0}
    ),
)
check(
    "an error arrives", lambda: raises(KeyError, lambda: values.execute(["broken"], inputs=INPUTS))
)
check("the session is still there", ray.is_initialized())
ray.shutdown()

parallel = (
    driver.Builder()
    .enable_dynamic_execution(allow_experimental_mode=True)
    .with_modules(_hamilton_graph)
    .with_local_executor(executors.SynchronousLocalTaskExecutor())
    .with_remote_executor(h_ray.RayTaskExecutor(num_cpus=2))
    .build()
)
check(
    "tasks that a generator makes",
    lambda: parallel.execute(["total"], inputs={"count": 20}) == {"total": 2470},
)
check("their executor has ended its session", not ray.is_initialized())
done()
