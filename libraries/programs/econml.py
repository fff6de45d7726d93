"""EconML: folds of cross-fitting on Ray (`use_ray=True`); the same effects as without."""

import numpy as np
import ray
from _checks import check, done
from econml.dml import CausalForestDML, LinearDML, SparseLinearDML
from econml.dr import LinearDRLearner
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

random = np.random.default_rng(0)
SIZE = 600
X = random.standard_normal((SIZE, 3))
W = random.standard_normal((SIZE, 2))
T = X[:, 0] + random.standard_normal(SIZE)
Z = T + random.standard_normal(SIZE)
B = (X[:, 1] + random.standard_normal(SIZE) > 0).astype(int)
Y = (1 + X[:, 0]) * T + 2 * B + W[:, 0] + random.standard_normal(SIZE)


def linear(**more):
    return LinearDML(
        model_y=LinearRegression(), model_t=LinearRegression(), random_state=0, cv=3, **more
    ).fit(Y, T, X=X, W=W)


def of_forests(**more):
    forest = RandomForestRegressor(10, random_state=0)
    return LinearDML(model_y=forest, model_t=forest, random_state=0, cv=3, **more).fit(Y, T, X=X)


def sparse(**more):
    model = SparseLinearDML(
        model_y=LinearRegression(), model_t=LinearRegression(), random_state=0, cv=2, **more
    )
    return model.fit(Y, T, X=X, W=W)


def causal_forest(**more):
    model = CausalForestDML(
        model_y=LinearRegression(),
        model_t=LinearRegression(),
        n_estimators=8,
        random_state=0,
        **more,
    )
    return model.fit(Y, T, X=X)


def doubly_robust(**more):
    model = LinearDRLearner(
        model_propensity=LogisticRegression(),
        model_regression=LinearRegression(),
        random_state=0,
        **more,
    )
    return model.fit(Y, B, X=X)


def options(**more):
    if more:
        more["ray_remote_func_options"] = {"num_cpus": 0.5, "max_retries": 2}
    return linear(**more)


ray.init(num_cpus=2)
for work in (linear, of_forests, sparse, causal_forest, doubly_robust, options):

    def same(work=work):
        return np.allclose(work(use_ray=True).effect(X), work().effect(X))

    check(work.__name__.replace("_", " "), same)
ray.shutdown()
done()
