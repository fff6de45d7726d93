"""joblib, and with it scikit-learn, on Mobula: `register_ray()`.

import joblib
from mobula.util.joblib import register_ray

register_ray()
with joblib.parallel_backend("ray"):
    search.fit(x, y)
"""

from __future__ import annotations


def register_ray() -> None:
    """Makes `joblib.parallel_backend("ray")` run on Mobula. ImportError: joblib is not installed."""
    try:
        import joblib
    except ImportError as error:
        raise ImportError("register_ray() needs the package joblib: pip install joblib") from error
    from mobula.util.joblib.backend import MobulaBackend

    joblib.register_parallel_backend("ray", MobulaBackend)
    joblib.register_parallel_backend("mobula", MobulaBackend)


__all__ = ["register_ray"]
