"""The joblib backend: each batch of calls is a task.

joblib chooses how many calls a batch has from how long batches take (its AutoBatchingMixin), and how
many batches are under way. Large arrays among the arguments of many calls are put into the object
store once per `Parallel` call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mobula
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

if TYPE_CHECKING:
    from collections.abc import Callable

# Arguments at least as large are put once, not sent with each batch that has them.
_SHARED_BYTES_MIN = 100 * 1024


class _Shared:
    """An argument that lies in the object store."""

    def __init__(self, ref: Any) -> None:
        self.ref = ref


def _run(batch: Any) -> Any:
    """In the worker. batch: (function, args, kwargs) of each call, with _Shared arguments."""
    results = []
    for function, args, kwargs in batch:
        results.append(
            function(*map(_open, args), **{name: _open(value) for name, value in kwargs.items()})
        )
    return results


def _open(value: Any) -> Any:
    return mobula.get(value.ref) if isinstance(value, _Shared) else value


class MobulaBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """See `register_ray`. Keywords of `parallel_backend("ray", ray_remote_args={...})` are options of
    the tasks."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = dict(ray_remote_args or {})
        self._refs: dict[Any, None] = {}
        self._shared: dict[int, tuple[Any, _Shared]] = {}  # By id; the value keeps the id its own.

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Of -1: all CPUs; -2: all but one. More than there are CPUs is allowed: the rest waits."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not mobula.is_initialized():
            mobula.init()
        return max(1, int(mobula.cluster_resources().get("CPU", 1)) + 1 + n_jobs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **backend_kwargs: Any,
    ) -> int:
        if not mobula.is_initialized():
            mobula.init()
        self.parallel = parallel
        task = mobula.remote(_run)
        self._task = task.options(**self._options) if self._options else task
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Any:
        """func: a batch of joblib's, with (function, args, kwargs) in `items`."""
        batch = [
            (
                function,
                [self._share(value) for value in args],
                {name: self._share(value) for name, value in kwargs.items()},
            )
            for function, args, kwargs in func.items
        ]
        ref = self._task.remote(batch)
        self._refs[ref] = None
        future = ref.future()
        future.add_done_callback(lambda _: self._refs.pop(ref, None))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        try:
            return out.result()
        except mobula.exceptions.RayTaskError as error:
            # What the user's function raised, as with every other backend.
            raise (error.cause if isinstance(error.cause, BaseException) else error) from error

    def _share(self, value: Any) -> Any:
        if getattr(value, "nbytes", 0) < _SHARED_BYTES_MIN:
            return value
        known = self._shared.get(id(value))
        if known is None:
            known = self._shared[id(value)] = (value, _Shared(mobula.put(value)))
        return known[1]

    def stop_call(self) -> None:
        self._shared.clear()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        for ref in list(self._refs):
            mobula.cancel(ref)
        self._shared.clear()

    def get_nested_backend(self) -> tuple[Any, Any]:
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None
