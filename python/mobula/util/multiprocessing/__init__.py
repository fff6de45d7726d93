"""`multiprocessing.Pool` with actors as its processes: change the import and a program runs on."""

from __future__ import annotations

from multiprocessing import JoinableQueue, TimeoutError

from mobula.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
