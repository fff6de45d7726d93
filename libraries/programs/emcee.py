"""A sampler whose walkers are evaluated by a pool of processes: ray.util.multiprocessing.Pool."""

import emcee
import numpy as np
import ray
from _checks import check, done
from ray.util.multiprocessing import Pool

WALKERS, DIMENSIONS, STEPS = 24, 3, 60


def log_density(x, widths):
    return -0.5 * np.sum((x / widths) ** 2)


def with_blobs(x, widths):
    density = log_density(x, widths)
    return density, float(np.sum(x))


def chain(function, pool, **options):
    start = np.random.default_rng(1).normal(size=(WALKERS, DIMENSIONS))
    np.random.seed(7)
    sampler = emcee.EnsembleSampler(
        WALKERS, DIMENSIONS, function, args=[np.array([1.0, 2.0, 0.5])], pool=pool, **options
    )
    sampler.run_mcmc(start, STEPS)
    return sampler


ray.init(num_cpus=2)
with Pool(2) as pool:
    alone, parallel = chain(log_density, None), chain(log_density, pool)
    check("a chain has every step", parallel.get_chain().shape == (STEPS, WALKERS, DIMENSIONS))
    check("it is that of one process", np.array_equal(alone.get_chain(), parallel.get_chain()))
    check("so are the densities", np.array_equal(alone.get_log_prob(), parallel.get_log_prob()))
    blobs = chain(with_blobs, pool)
    sums = blobs.get_chain().sum(axis=2)
    check("blobs come with the walkers", np.allclose(blobs.get_blobs(), sums))
    moved = chain(log_density, pool, moves=emcee.moves.DEMove())
    check("other moves work", np.isfinite(moved.get_log_prob()).all())
done()
