"""swifter: apply of pandas, of which groups run on Ray."""

import numpy as np
import pandas as pd
import ray
import swifter
from _checks import check, done

random = np.random.default_rng(0)
frame = pd.DataFrame(
    {
        "group": random.integers(0, 6, 3000),
        "letter": random.choice(list("abc"), 3000),
        "x": random.standard_normal(3000),
        "y": random.standard_normal(3000),
    }
)


def spread(part):
    return part["x"].max() - part["y"].min()


def described(part):
    return pd.Series({"mean": part["x"].mean(), "size": float(len(part))})


def centred(part):
    return part.assign(x=part["x"] - part["x"].mean())


swifter.set_defaults(npartitions=2, progress_bar=False)
ray.init(num_cpus=2)
columns = frame[["group", "x", "y"]]
for name, function in (("a number", spread), ("a row", described)):

    def same(function=function):
        ours = columns.swifter.groupby("group").apply(function)
        theirs = columns.groupby("group").apply(function)
        return np.allclose(ours.sort_index().to_numpy(), theirs.sort_index().to_numpy())

    check(f"groups that give {name}", same)


def two_keys():
    ours = frame.swifter.groupby(["group", "letter"]).apply(spread)
    theirs = frame.groupby(["group", "letter"]).apply(spread)
    return np.allclose(ours.sort_index().to_numpy(), theirs.sort_index().to_numpy())


def frames():
    ours = columns.swifter.groupby("group").apply(centred)
    return abs(float(ours["x"].sum())) < 1e-6 and len(ours) == len(columns)


check("groups of two keys", two_keys)
check("groups that give frames", frames)
applied = frame["x"].swifter.apply(lambda value: value * 2)
check("apply of a column", np.allclose(applied, frame["x"] * 2))
rows = frame.swifter.apply(lambda row: row["x"] + row["y"], axis=1)
check("apply of rows", np.allclose(rows, frame["x"] + frame["y"]))
ray.shutdown()
done()
