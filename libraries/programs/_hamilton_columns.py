"""A graph of sf_hamilton.py: columns of a table. A module, since workers import it."""

import os

import pandas as pd
from hamilton.function_modifiers import tag
from hamilton.function_modifiers.metadata import ray_remote_options


def spend(raw_spend: pd.Series) -> pd.Series:
    return raw_spend * 1.5


def signups(raw_signups: pd.Series) -> pd.Series:
    return raw_signups + 1


@ray_remote_options(num_cpus=0.5)
def spend_per_signup(spend: pd.Series, signups: pd.Series) -> pd.Series:
    return spend / signups


@tag(owner="nobody")
def spend_mean(spend: pd.Series) -> float:
    return float(spend.mean())


def spend_zero_mean(spend: pd.Series, spend_mean: float) -> pd.Series:
    return spend - spend_mean


def where() -> int:
    return os.getpid()


def broken(spend: pd.Series) -> int:
    raise KeyError("broken")
