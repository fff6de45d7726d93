"""What a task sees of the lease it runs under: its GPUs, and how many threads libraries should use."""

from __future__ import annotations

import os

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Lease:
    """Makes the process look as the lease that its tasks run under says."""

    def __init__(self) -> None:
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        # Libraries fall back to OMP_NUM_THREADS, and their own variable wins over it: whoever sets
        # only that one means all of them.
        if "OMP_NUM_THREADS" in os.environ:
            self._thread_variables: tuple[str, ...] = ()
        else:
            self._thread_variables = tuple(v for v in _THREAD_VARIABLES if v not in os.environ)
        self._threads = 0

    def start(self, gpus: list[int], cpus: float) -> None:
        """Called before the first task of each lease."""
        ids = [self._gpu_id(index) for index in gpus]
        _gpu_ids[:] = ids
        names = [str(id) for id in ids]
        if names:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        elif self._visible is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._visible
        threads = max(1, int(cpus))
        if threads != self._threads:
            self._threads = threads
            for variable in self._thread_variables:
                os.environ[variable] = str(threads)

    def _gpu_id(self, index: int) -> int | str:
        """The driver may itself see only some of the machine's GPUs: then their names count, as
        texts, and else numbers. So it is in Ray."""
        if self._visible:
            names = [name.strip() for name in self._visible.split(",")]
            if index < len(names):
                return names[index]
        return index


_gpu_ids: list[int | str] = []


def get_gpu_ids() -> list[int | str]:
    """The GPUs of the task that runs here; empty in a driver and for a task that asked for none."""
    return list(_gpu_ids)
