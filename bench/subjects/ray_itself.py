"""The real Ray, doing the same. Runs in `.venv-ray`, where there is no Mobula."""

from __future__ import annotations

import os

import ray

from bench.subjects import beside, ways

os.environ["BENCH_PACKAGE"] = "ray"
SUBJECTS = {
    **beside.subjects(ray, lambda settings: settings.queued_in_ray),
    **ways.subjects(ray),
}
