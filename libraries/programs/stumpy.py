"""stumpy: matrix profiles computed on a Ray cluster, `stumpy.stumped(ray, ...)`, as without one."""

import numpy as np
import ray
import stumpy
from _checks import check, done

random = np.random.default_rng(0)
series = random.standard_normal(2000)
other = random.standard_normal(1500)
several = random.standard_normal((3, 800))
M = 50


def same(here, there):
    here, there = (np.asarray(one).astype(np.float64) for one in (here, there))
    return np.allclose(here, there, equal_nan=True)


ray.init(num_cpus=2)
check("stumped, a self-join", lambda: same(stumpy.stumped(ray, series, M), stumpy.stump(series, M)))
check(
    "stumped, two series",
    lambda: same(
        stumpy.stumped(ray, series, M, other, ignore_trivial=False),
        stumpy.stump(series, M, other, ignore_trivial=False),
    ),
)
check(
    "aamped, without normalizing",
    lambda: same(stumpy.aamped(ray, series, M), stumpy.aamp(series, M)),
)
check(
    "the three nearest neighbours",
    lambda: same(stumpy.stumped(ray, series, M, k=3), stumpy.stump(series, M, k=3)),
)


def several_dimensions(on_ray, alone):
    distances, indices = on_ray(ray, several, M)
    wanted, wanted_indices = alone(several, M)
    return same(distances, wanted) and same(indices, wanted_indices)


check("mstumped", lambda: several_dimensions(stumpy.mstumped, stumpy.mstump))
check("maamped", lambda: several_dimensions(stumpy.maamped, stumpy.maamp))
check(
    "mpdisted",
    lambda: same(
        stumpy.mpdisted(ray, series[:600], other[:600], M),
        stumpy.mpdist(series[:600], other[:600], M),
    ),
)


def windows():
    on_ray = stumpy.stimped(ray, series[:500], min_m=10, max_m=40, step=10)
    alone = stumpy.stimp(series[:500], min_m=10, max_m=40, step=10)
    for _ in range(3):
        on_ray.update()
        alone.update()
    return same(on_ray.PAN_, alone.PAN_)


check("stimped, a profile for each window", windows)
ray.shutdown()
done()
