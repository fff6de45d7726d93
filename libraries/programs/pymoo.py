"""pymoo: what a population costs is computed on Ray; the same fronts as without."""

import os

import numpy as np
import ray
from _checks import check, done
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize
from pymoo.parallelization.ray import RayParallelization


class Sphere(ElementwiseProblem):
    def __init__(self, **more):
        super().__init__(n_var=5, n_obj=1, xl=-1.0, xu=1.0, **more)

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = float(np.sum((x - 0.25) ** 2))
        out["pid"] = os.getpid()


class TwoAims(ElementwiseProblem):
    def __init__(self, **more):
        super().__init__(n_var=2, n_obj=2, n_ieq_constr=1, xl=-2.0, xu=2.0, **more)

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = [float(np.sum(x**2)), float(np.sum((x - 1) ** 2))]
        out["G"] = [float(0.1 - x[0])]


class Broken(ElementwiseProblem):
    def __init__(self, **more):
        super().__init__(n_var=2, n_obj=1, xl=0.0, xu=1.0, **more)

    def _evaluate(self, x, out, *args, **kwargs):
        raise ZeroDivisionError("broken")


def best(problem, algorithm, generations):
    return minimize(problem, algorithm, ("n_gen", generations), seed=1)


ray.init(num_cpus=2)
runner = RayParallelization()
small = RayParallelization(job_resources={"num_cpus": 0.5})
alone, on_ray = (
    best(Sphere(), GA(pop_size=20), 6),
    best(Sphere(elementwise_runner=runner), GA(pop_size=20), 6),
)
check("a genetic algorithm finds the same", np.allclose(alone.X, on_ray.X))
check("in other processes", {int(one) for one in on_ray.pop.get("pid")} - {os.getpid()} != set())
front = best(TwoAims(elementwise_runner=small), NSGA2(pop_size=24), 6)
wanted = best(TwoAims(), NSGA2(pop_size=24), 6)
check(
    "two aims have the same front", np.allclose(np.sort(front.F, axis=0), np.sort(wanted.F, axis=0))
)
check("constraints hold", bool(np.all(front.G <= 0)))
evolved = best(Sphere(elementwise_runner=small), DE(pop_size=16), 5)
check("differential evolution", np.allclose(evolved.F, best(Sphere(), DE(pop_size=16), 5).F))


def fails():
    try:
        best(Broken(elementwise_runner=runner), GA(pop_size=4), 1)
    except ZeroDivisionError as error:
        return "broken" in str(error)


check("an error of the problem arrives", fails)
ray.shutdown()
done()
