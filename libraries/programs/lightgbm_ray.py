"""lightgbm_ray: training and prediction by actors that share the rows, as its readme has it."""

from __future__ import annotations

from functools import partial

import numpy as np
import ray
from _checks import check, done, raises
from lightgbm_ray import RayDMatrix, RayParams, RayShardingMode, predict, train
from sklearn.datasets import make_classification

ACTORS = 2
PARAMETERS = {"objective": "binary", "metric": ["binary_logloss", "binary_error"], "verbosity": -1}
RESOURCES = RayParams(num_actors=ACTORS, cpus_per_actor=2)  # It does not take less than two.


def shards() -> None:
    values = np.arange(40).reshape(20, 2)
    matrix = RayDMatrix(values, np.arange(20), sharding=RayShardingMode.INTERLEAVED)
    matrix.load_data(ACTORS)
    parts = [matrix.get_data(rank, ACTORS)["data"].to_numpy() for rank in range(ACTORS)]
    check("each actor has every second row", bool((parts[1] == values[1::2]).all()))
    check("no row is lost", sum(len(part) for part in parts) == len(values))


def training(inputs: np.ndarray, labels: np.ndarray) -> None:
    rows = RayDMatrix(inputs[:1500], labels[:1500])
    rest = RayDMatrix(inputs[1500:], labels[1500:])
    errors: dict[str, dict[str, list[float]]] = {}
    more: dict[str, object] = {}
    model = train(
        PARAMETERS,
        rows,
        num_boost_round=15,
        evals=[(rest, "rest")],
        evals_result=errors,
        additional_results=more,
        ray_params=RESOURCES,
        verbose_eval=False,
    )
    losses = errors["rest"]["binary_logloss"]
    check("each round is told of", len(losses) == 15)
    check("losses fall", losses[-1] < 0.7 * losses[0])
    check("all rows are used", more["total_n"] == 1500)
    check("the model is right mostly", errors["rest"]["binary_error"][-1] < 0.15)
    there = predict(model, rest, ray_params=RESOURCES)
    here = model.predict(inputs[1500:])
    check("actors predict what the model does", bool(np.allclose(there, here)))
    few = RayParams(num_actors=ACTORS, cpus_per_actor=1)
    refused = partial(train, PARAMETERS, rows, ray_params=few)
    check("one CPU for an actor is too few", lambda: raises(ValueError, refused))


def main() -> None:
    ray.init(num_cpus=2 * ACTORS, object_store_memory=100_000_000)
    inputs, labels = make_classification(2000, 8, n_informative=5, class_sep=1.5, random_state=1)
    shards()
    training(inputs, labels)
    done()


if __name__ == "__main__":
    main()
