"""The joblib backend: each batch of calls is a task.

joblib chooses how many calls a batch has from how long batches take (its AutoBatchingMixin), and how
many batches are under way. What it does with a batch that is done is its *callback*. Where it makes a
list, the thread that called it calls them, in `retrieval_context`; else that of the futures. Large
arrays among the arguments of many calls are put into the object store once per `Parallel` call.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import mobula
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase, SequentialBackend
from mobula import _calls, _core, _futures
from mobula._flight import Flight

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    # A batch costs so little that short ones will do; long ones leave workers idle at the end.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = dict(ray_remote_args or {})
        self._functions: Any = None
        # Of what is under way: what is called with (ref, is it one call).
        self._callbacks: dict[Any, tuple[Any, bool]] = {}
        self._shared: dict[int, tuple[Any, _Shared]] = {}  # By id; the value keeps the id its own.
        self._flight = Flight()
        self._is_settling = False

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
        if self._functions is None:
            self._functions = _calls.Functions(self._options, None, exits_end_workers=True)
            self._run = self._functions.make(_run).remote
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Any = None) -> Any:
        """func: a batch of joblib's, with (function, args, kwargs) in `items`."""
        ref, is_one = self._send(func.items)
        if callback is None:
            return ref
        self._callbacks[ref] = (callback, is_one)
        parallel = callback.parallel  # Generators of others may be under way.
        if parallel.return_generator or parallel.timeout is not None:
            _futures.notifier_of_session().settle_at_once(ref, lambda *_: self._call_back(ref))
            return ref
        self._flight.parts.append(ref)
        # Where all is sent at once, what is done meanwhile tells how long batches may be.
        if parallel._original_iterator is None and not self._is_settling:
            self._settle(waits=False)
        return ref

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        self._settle(waits=True)
        yield

    def retrieve_result_callback(self, out: Any) -> Any:
        ref, is_one = out
        try:
            value = _core.get(ref)
        except mobula.exceptions.RayTaskError as error:
            # What the user's function raised, as with every other backend.
            raise (error.cause if isinstance(error.cause, BaseException) else error) from error
        return [value] if is_one else value

    def stop_call(self) -> None:
        """A call is over. Of those that go on, if they give generators, nothing is forgotten."""
        for ref, (callback, _) in list(self._callbacks.items()):
            if callback.parallel._aborting:
                self._callbacks.pop(ref, None)
        if not self._callbacks:
            self._shared.clear()
        # What the thread of a call settles: it makes a list, so it is the one that is over.
        self._flight = Flight()
        self._is_settling = False

    def abort_everything(self, ensure_ready: bool = True) -> None:
        for ref, (callback, _) in list(self._callbacks.items()):
            if callback.parallel._aborting:
                mobula.cancel(ref)
        self.stop_call()

    def get_nested_backend(self) -> tuple[Any, Any]:
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def _send(self, calls: list[tuple[Any, Any, Any]]) -> tuple[Any, bool]:
        """The ref of a batch, and whether it is that of the only call."""
        first = calls[0][0]
        same = True
        for function, args, kwargs in calls:
            same = same and function is first
            for value in (*args, *kwargs.values()) if kwargs else args:
                if getattr(value, "nbytes", 0) >= _SHARED_BYTES_MIN:
                    return self._send_shared(calls), False
        if len(calls) == 1:
            return self._functions.submit(first, args, kwargs), True
        if same and (submit := self._functions.batch_submitter(first)) is not None:
            return submit([(args, kwargs) for _, args, kwargs in calls]), False
        return self._run(calls), False

    def _send_shared(self, calls: list[tuple[Any, Any, Any]]) -> Any:
        return self._run(
            [
                (
                    function,
                    [self._share(value) for value in args],
                    {name: self._share(value) for name, value in kwargs.items()},
                )
                for function, args, kwargs in calls
            ]
        )

    def _share(self, value: Any) -> Any:
        if getattr(value, "nbytes", 0) < _SHARED_BYTES_MIN:
            return value
        known = self._shared.get(id(value))
        if known is None:
            known = self._shared[id(value)] = (value, _Shared(mobula.put(value)))
        return known[1]

    def _settle(self, waits: bool) -> None:
        """Calls back for what is done; or, if it waits, until nothing is under way."""
        self._is_settling = True
        try:
            flight = self._flight
            while flight and (waits or flight.has_first()) and not self.parallel._aborting:
                self._call_back(flight.first_done(None))
        finally:
            self._is_settling = False

    def _call_back(self, ref: Any) -> None:
        callback, is_one = self._callbacks.pop(ref, (None, False))
        if callback is not None:  # Else all was given up.
            callback((ref, is_one))
