"""Data frames of daft by its runner on Ray."""

import daft
import ray
from _checks import check, done
from daft import col

ray.init(num_cpus=2, object_store_memory=200 << 20)
daft.set_runner_ray()
rows = 2000
frame = daft.from_pydict(
    {"key": [i % 7 for i in range(rows)], "value": [float(i) for i in range(rows)]}
)


@daft.udf(return_dtype=daft.DataType.float64())
def halved(values):
    return [value / 2 for value in values.to_pylist()]


kept = frame.where(col("value") >= 1000).collect()
check("rows are chosen", kept.count_rows() == 1000)
sums = frame.groupby("key").agg(col("value").sum()).sort("key").to_pydict()
check(
    "groups are summed",
    sums["value"] == [float(sum(range(key, rows, 7))) for key in range(7)],
)
split = frame.into_partitions(4)
check(
    "in four partitions",
    sorted(split.select((col("value") * 2).alias("v")).to_pydict()["v"])
    == [2.0 * i for i in range(rows)],
)
check(
    "a function on each batch",
    sorted(split.select(halved(col("value")).alias("h")).to_pydict()["h"])
    == [i / 2 for i in range(rows)],
)
names = daft.from_pydict({"key": list(range(7)), "name": list("abcdefg")})
joined = split.join(names, on="key").groupby("name").agg(col("value").count()).sort("name")
check("a join", joined.to_pydict()["name"] == list("abcdefg"))
check(
    "sorted",
    split.sort("value", desc=True).limit(3).to_pydict()["value"] == [1999.0, 1998.0, 1997.0],
)
check(
    "distinct values", sorted(split.select("key").distinct().to_pydict()["key"]) == list(range(7))
)
done()
