"""scikit-learn's estimators on the joblib backend of `ray.util.joblib`; the same figures as without."""

import joblib
import numpy as np
import ray
from _checks import check, done
from ray.util.joblib import register_ray
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:600], y[:600]
few, few_y = load_breast_cancer(return_X_y=True)
few, few_y = few[:200], few_y[:200]


def forest():
    return RandomForestClassifier(60, random_state=0, n_jobs=2).fit(X, y).predict_proba(X)


def grid():
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}, cv=3, n_jobs=2)
    return search.fit(X, y).cv_results_["mean_test_score"]


def randomized():
    space = {"max_depth": [2, 4, 8, None], "min_samples_leaf": [1, 2, 4]}
    tree = DecisionTreeClassifier(random_state=0)
    search = RandomizedSearchCV(tree, space, n_iter=6, cv=3, random_state=0, n_jobs=2)
    return search.fit(X, y).cv_results_["mean_test_score"]


def scores():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    return cross_val_score(pipeline, few, few_y, cv=5, n_jobs=2)


def predictions():
    return cross_val_predict(KMeans(3, n_init=2, random_state=0), few, few_y, cv=4, n_jobs=2)


def bagging():
    return BaggingClassifier(n_estimators=12, random_state=0, n_jobs=2).fit(X, y).predict(X)


def voting():
    members = [("tree", DecisionTreeClassifier(random_state=0)), ("svm", SVC())]
    return VotingClassifier(members, n_jobs=2).fit(X, y).predict(X)


def one_against_the_rest():
    return OneVsRestClassifier(SVC(), n_jobs=2).fit(X, y).decision_function(X)


def curve():
    return learning_curve(SVC(), X, y, cv=3, train_sizes=[0.5, 1.0], n_jobs=2)[2]


def importance():
    tree = DecisionTreeClassifier(random_state=0).fit(few, few_y)
    return permutation_importance(
        tree, few, few_y, n_repeats=4, random_state=0, n_jobs=2
    ).importances_mean


def elimination():
    tree = DecisionTreeClassifier(random_state=0)
    return RFECV(tree, step=10, cv=3, n_jobs=2).fit(few, few_y).ranking_


def distances():
    return pairwise_distances(X, metric="cosine", n_jobs=2)


ray.init(num_cpus=2)
register_ray()
for work in (
    *(forest, grid, randomized, scores, predictions, bagging, voting),
    *(one_against_the_rest, curve, importance, elimination, distances),
):
    wanted = work()

    def same(work=work, wanted=wanted):
        with joblib.parallel_backend("ray"):
            return np.allclose(work(), wanted)

    check(work.__name__.replace("_", " "), same)
ray.shutdown()
done()
