"""Modin: tables of pandas in parts on Ray; the same as pandas."""

import modin.config
import numpy as np
import pandas
import ray
from _checks import check, done

modin.config.Engine.put("ray")
modin.config.CpuCount.put(2)
modin.config.NPartitions.put(2)
ray.init(num_cpus=2)

import modin.pandas as pd  # noqa: E402
from modin.distributed.dataframe.pandas import from_partitions, unwrap_partitions  # noqa: E402

random = np.random.default_rng(0)
COLUMNS = {
    "key": random.integers(0, 20, 5000),
    "letter": random.choice(list("abcde"), 5000),
    "x": random.standard_normal(5000),
    "y": random.standard_normal(5000),
}
theirs = pandas.DataFrame(COLUMNS)
ours = pd.DataFrame(COLUMNS)
right = {"key": list(range(0, 20, 2)), "name": [f"n{n}" for n in range(10)]}
theirs.to_csv("table.csv", index=False)
theirs.to_parquet("table.parquet")


def same(name, function):
    def is_same():
        here, there = function(ours, pd), function(theirs, pandas)
        here = here._to_pandas() if hasattr(here, "_to_pandas") else here
        if isinstance(there, pandas.DataFrame):
            pandas.testing.assert_frame_equal(here, there)
        elif isinstance(there, pandas.Series):
            pandas.testing.assert_series_equal(here, there)
        else:
            return np.allclose(here, there)
        return True

    check(name, is_same)


same("there and back", lambda frame, _: frame)
same("a column times two", lambda frame, _: frame["x"] * 2)
same("sums", lambda frame, _: frame[["x", "y"]].sum())
same("describe", lambda frame, _: frame[["x", "y"]].describe())
same("a filter", lambda frame, _: frame[frame["x"] > 0.5])
same("sort_values", lambda frame, _: frame.sort_values(["x"]))
same("groupby and sum", lambda frame, _: frame.groupby("key")[["x", "y"]].sum())
same(
    "groupby and several",
    lambda frame, _: frame.groupby("letter")["x"].agg(["min", "max", "count"]),
)
same("merge", lambda frame, lib: frame.merge(lib.DataFrame(right), on="key"))
same("concat", lambda frame, lib: lib.concat([frame, frame], ignore_index=True))
same(
    "apply of rows",
    lambda frame, _: frame[["x", "y"]].apply(lambda row: row["x"] - row["y"], axis=1),
)
same("map", lambda frame, _: frame[["x", "y"]].map(lambda value: round(value, 2)))
same("value_counts", lambda frame, _: frame["letter"].value_counts())
same("pivot_table", lambda frame, _: frame.pivot_table("x", "key", "letter", "mean"))
same("rolling", lambda frame, _: frame[["x"]].rolling(5).mean())
same("quantiles", lambda frame, _: frame[["x", "y"]].quantile([0.1, 0.9]))
same("fillna", lambda frame, _: frame[["x"]].where(frame[["x"]] > 0).fillna(0.0))
same("texts", lambda frame, _: frame["letter"].str.upper())
same("read_csv", lambda _, lib: lib.read_csv("table.csv"))
same("read_parquet", lambda _, lib: lib.read_parquet("table.parquet"))
same("loc and iloc", lambda frame, _: frame.iloc[10:20].loc[12:15, ["x", "key"]])
same("drop_duplicates", lambda frame, _: frame[["key", "letter"]].drop_duplicates())


def parts():
    refs = unwrap_partitions(ours, axis=0)
    whole = pandas.concat(ray.get(list(refs)))
    return whole.equals(theirs) and from_partitions(refs, axis=0)._to_pandas().equals(theirs)


check("the parts are refs", parts)


def written():
    ours.to_csv("ours.csv", index=False)
    ours.to_parquet("ours.parquet")
    read = pandas.read_csv("ours.csv")
    return np.allclose(read["x"], theirs["x"]) and pandas.read_parquet("ours.parquet").equals(
        theirs
    )


check("to_csv and to_parquet", written)
ray.shutdown()
done()
