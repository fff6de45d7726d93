"""The way in of dask.distributed: its client, which is nearly an executor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from bench.settings import Settings
from bench.subjects import Subject, ways


def of_executor(settings: Settings) -> Iterator[dict[str, Any]]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=settings.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):

        def map_of(function: Callable[..., Any], values: Any) -> Any:
            return client.gather(client.map(function, values, pure=False))

        submit = functools.partial(client.submit, pure=False)
        yield from ways.steps(ways.executor(submit, map_of), settings)


SUBJECTS: dict[str, Subject] = {"ways-executor": of_executor}
