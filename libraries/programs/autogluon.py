"""AutoGluon: folds of bagged models fitted in parallel by Ray tasks, several models at a time."""

from __future__ import annotations

import tempfile

import numpy as np
import pandas as pd
import ray
from _checks import check, done
from autogluon.tabular import TabularPredictor

FOLDS = 3


def rows(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.normal(size=(count, 4)), columns=list("abcd"))
    frame["where"] = random.choice(["north", "south"], count)
    warm = frame["a"] + frame["b"] ** 2 + np.where(frame["where"] == "south", 1.0, -1.0)
    frame["class"] = np.where(warm > 1.0, "warm", "cold")
    return frame


def fitted(strategy: str, **options) -> TabularPredictor:
    """A bagged model of LightGBM, whose folds are fitted as `strategy` says."""
    predictor = TabularPredictor(label="class", path=tempfile.mkdtemp(), verbosity=1)
    model = {"num_boost_round": 30, "ag_args_fit": {"num_cpus": 1, "num_gpus": 0}}
    hyperparameters = options.pop("hyperparameters", {"GBM": model})
    return predictor.fit(
        rows(600, seed=1),
        hyperparameters=hyperparameters,
        num_bag_folds=FOLDS,
        num_stack_levels=0,
        num_cpus=2,
        num_gpus=0,
        fit_weighted_ensemble=False,
        ag_args_ensemble={"fold_fitting_strategy": strategy},
        **options,
    )


def main() -> None:
    ray.init(num_cpus=2, object_store_memory=100_000_000)
    test = rows(300, seed=2)
    here, there = fitted("sequential_local"), fitted("parallel_local")
    name = there.model_names()[0]
    info = there.info()["model_info"][name]
    check("all folds are fitted", len(info["children_info"]) == FOLDS)
    check("the folds are those of this process", info["bagged_info"]["num_child_models"] == FOLDS)
    same = np.allclose(here.predict_proba(test), there.predict_proba(test))
    check("what is predicted is what models of this process predict", same)
    check("it is right mostly", there.evaluate(test)["accuracy"] > 0.85)
    board = there.leaderboard(silent=True)
    check("the score of what was held out is known", float(board["score_val"].iloc[0]) > 0.8)

    models = [
        {"num_boost_round": 20, "extra_trees": extra, "ag_args": {"name_suffix": suffix}}
        for extra, suffix in ((False, "Plain"), (True, "Extra"))
    ]
    several = fitted("parallel_local", fit_strategy="parallel", hyperparameters={"GBM": models})
    names = several.model_names()
    check("models are fitted side by side", len(names) == 2)
    check("each of them predicts", all(len(several.predict(test, model=n)) == 300 for n in names))
    done()


if __name__ == "__main__":
    main()
