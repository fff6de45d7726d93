"""The C++ part of Mobula as Python sees it. Private: use the names in `mobula` instead.

Everything here may be called from any thread. One connection ("session") at a time exists per
process; after `disconnect` a new one may be made. In a child made by `os.fork` every call raises
RuntimeError, and objects made before the fork do nothing when they are collected.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence, Sized
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar

T = TypeVar("T")

# ---- hooks -----------------------------------------------------------------------------------

class Hooks(Protocol):
    """What the extension asks of the Python package. Each `*_error` returns the exception that is
    raised; it does not raise it."""

    def auto_init(self) -> None:
        """Called on first use without a session. Must connect, or raise."""

    def require_session(self) -> None:
        """RaySystemError if there is none."""

    def future(self, ref: ObjectRef[Any]) -> Any:
        """What `ref.future()` returns."""

    def task_id(self, text: str) -> Any:
        """What `ref.task_id()` returns, from 48 digits."""

    def job_id(self, text: str) -> Any:
        """What `ref.job_id()` returns, from 8 digits."""

    def made_at(self, ref: ObjectRef[Any]) -> str:
        """What `ref.call_site()` returns."""

    def on_completed(self, ref: ObjectRef[Any], callback: Callable[[Any], None]) -> None:
        """Behind `ref._on_completed(callback)`."""

    def as_future(self, ref: ObjectRef[Any]) -> Any:
        """What `ref.as_future()` returns."""

    def await_ref(self, ref: ObjectRef[Any], loop: asyncio.AbstractEventLoop) -> Any:
        """The iterator behind `await ref` in the running loop, if the value is not there."""

    def become_actor(self) -> bool:
        """Makes the actor that this worker is. True: the extension executes its calls, one after the
        other; False: they were executed, or there is no actor."""

    def check_captured(self, name: str, resources: dict[str, float]) -> None:
        """ValueError: the placement group that captures what this process submits has no room for a
        task that asks for these."""

    def actor_method(self, description: Any, group: int) -> Callable[..., Any]:
        """What is called for a method of this actor."""

    def pending_calls_error(self, name: str, actor: ObjectRef[Any], limit: str) -> BaseException:
        """Too many calls of an actor are pending."""

    def task_error(self, failure: Any) -> BaseException:
        """`failure` is a `mobula._serialization.TaskFailure`."""

    def function_too_large(self, function: Any, name: str, megabytes: float) -> BaseException:
        """`function`, pickled, takes `megabytes` MiB."""

    def dependency_error(self, function_name: str, cause: BaseException) -> BaseException:
        """A task did not run because an argument is the error `cause`."""

    def call_site(self, how: str) -> str:
        """Which lines of the program make an object now; `how` it does. Only asked with
        `records_call_sites`."""

    def system_error(self, code: int, text: str) -> BaseException:
        """`code` is one of the SYSTEM_ERROR_* numbers below."""

    def timeout_error(self, text: str) -> BaseException:
        """`get` ran out of time."""

    def store_full_error(self, text: str) -> BaseException:
        """A value did not fit into the object store."""

    def disconnected_error(self, text: str) -> BaseException:
        """The node daemon is gone; `text` says what happened."""

def set_hooks(hooks: Hooks) -> None:
    """Must be called once, before anything else is used."""

SYSTEM_ERROR_WORKER_CRASHED: int
SYSTEM_ERROR_TASK_CANCELLED: int
SYSTEM_ERROR_OBJECT_LOST: int
SYSTEM_ERROR_OWNER_DIED: int
SYSTEM_ERROR_OUT_OF_MEMORY: int
SYSTEM_ERROR_OBJECT_STORE_FULL: int
SYSTEM_ERROR_NODE_DIED: int
SYSTEM_ERROR_RUNTIME_ENV_SETUP: int
SYSTEM_ERROR_TASK_UNSCHEDULABLE: int
SYSTEM_ERROR_ACTOR_DIED: int
SYSTEM_ERROR_ACTOR_UNAVAILABLE: int
SYSTEM_ERROR_ACTOR_UNSCHEDULABLE: int
SYSTEM_ERROR_TASK_TIMEOUT: int
SYSTEM_ERROR_REBUILD_FAILED: int
SYSTEM_ERROR_REBUILD_MAX_ATTEMPTS: int
SYSTEM_ERROR_REBUILD_LINEAGE_EVICTED: int
SYSTEM_ERROR_INTERNAL: int
SYSTEM_ERROR_TASK_PLACEMENT_GROUP_REMOVED: int
SYSTEM_ERROR_ACTOR_PLACEMENT_GROUP_REMOVED: int

# ---- session ---------------------------------------------------------------------------------

class ConnectOptions(TypedDict, total=False):
    is_driver: bool  # default True
    is_observer: bool  # default False: only asks, has no job
    token: str  # of a session that this process did not start
    python: str  # interpreter of a driver's workers
    working_directory: str
    sys_path: Sequence[str]
    environment: Mapping[str, str]
    log_to_driver: bool  # default True
    job_namespace: str
    runtime_environment: tuple[str, int, bool] | None  # of the job, that is to be prepared
    infeasible_is_error: bool  # default False: such tasks wait
    lineage_bytes_max: int  # of finished tasks that are kept to make lost results again
    records_call_sites: bool  # default False: which line made an object is not known

def connect(fd: int, options: ConnectOptions) -> None:
    """Takes over `fd`, this process's end of the daemon's socket, also when it fails. Waits for the
    daemon's welcome, at most 30 s. ConnectionError: the daemon refused or is gone. RuntimeError:
    connected already."""

def disconnect() -> bool:
    """Ends the job and the session: workers go, their last output arrives, at most about 10 s. False:
    the daemon goes on, for other drivers. Refs
    of the session are dead afterwards; arrays that lie in the store stay readable. Does nothing
    without a session and in a forked child."""

def is_connected() -> bool:
    """Is there a session in this process? False in a forked child."""

def session_number() -> int:
    """Counts the sessions of this process from 1; 0 while there is none."""

def disconnected_reason() -> str:
    """Why nothing works any more; empty while all is well or there is no session."""

class SessionInfo(TypedDict):
    node_id: str  # hex
    process_id: int
    job_id: int
    job_namespace: str
    session_directory: str

def session_info() -> SessionInfo: ...

class NodeRecord(TypedDict):
    node_id: str  # hex
    alive: bool
    hostname: str
    address: str
    pid: int
    session_directory: str
    resources: dict[str, float]
    metrics_port: int  # -1: none

class TraceRecord(TypedDict):
    """A task that has ended, or runs now."""

    name: str
    function: str
    resources: str  # "CPU=10000\n..."
    pid: int  # of the process in whose trace it stands
    process_id: int
    job: int
    caller: int  # the process id of who submitted it
    call: int
    task: int  # index of its id
    start_ns: int  # CLOCK_MONOTONIC
    end_ns: int  # 0: it runs
    children_from: int  # tasks that the process made meanwhile have indices from here,
    children: int  # so many of them
    group: int  # the placement group in which it ran, not of calls; 0: none
    attempt: int
    failed: bool
    is_call: bool  # of an actor
    by_owner: bool  # it never reached its end in a worker: start_ns is 0
    error_type: int  # SYSTEM_ERROR_* or ERROR_*
    error: str

class TaskRecord(TraceRecord):
    parent: tuple[int, int] | None  # (creator, index) of the task that made it, if that is known

ERROR_RAISED: int
ERROR_DEPENDENCY: int

class StateOptions(TypedDict, total=False):
    patience_ms: int  # default 1000: processes silent for longer are named, with an error
    tasks_max: int  # of each process, of those that live
    ended_max: int  # of all together
    name: str  # only tasks of this name, in upper or lower case
    task: int  # only the task with this index and this creator
    creator: int
    phases: int  # of those that live: bits by the order of LiveTask.phase; 0: all
    failed_only: bool  # of those that have ended
    finished_only: bool
    objects_max: int  # of each process, and of the daemon: the largest; default 0

class LiveFunction(TypedDict):
    name: str
    function: str
    waiting: int
    queued: int
    sent: int
    running: int
    blocked: int

class LiveShape(TypedDict):
    shape: int
    depth: int
    resources: dict[str, int]
    queued: int
    in_flight: int
    leases: int
    blocked_leases: int
    target: int
    group: int

class LiveTask(TypedDict):
    task: int
    name: str
    function: str
    shape: int
    phase: str  # waits_for_arguments, queued, sent, running, blocked
    attempt: int
    retries_left: int
    worker: int
    worker_pid: int
    parent: tuple[int, int] | None  # (creator, index)
    actor: tuple[int, int] | None  # of a call: which
    missing: int
    waits_for: list[tuple[int, int]]
    streaming: bool

class LiveObject(TypedDict):
    """An object that a process refers to."""

    object: tuple[int, int]  # creator and index of its id
    size: int  # 0: not known there
    place: str  # pending, unfetched, here, store, error
    name: tuple[int, int, int] | None  # in the store
    is_shared: bool
    refs: int
    pending_tasks: int
    containers: int
    is_viewed: bool
    call_site: str
    made_ns: int  # 0: not known
    is_task: bool  # a task of that process made it, or is to:
    phase: str  # of one that is pending
    attempt: int

class LiveProcess(TypedDict, total=False):
    """What a process says of the tasks that it has submitted; or only why it does not."""

    process: int
    pid: int
    error: str
    functions: list[LiveFunction]
    shapes: list[LiveShape]
    tasks: list[LiveTask]
    unfinished: int
    looked_at: int
    objects: list[LiveObject]
    object_count: int  # all there are
    object_bytes: int  # of values in the memory of the process
    private_bytes: int  # in the store, and known to nobody else
    records_call_sites: bool

class State(TypedDict):
    daemon: str  # JSON
    live: list[LiveProcess]
    ended: list[TaskRecord]  # the last ones first
    running: list[TaskRecord]
    totals: list[tuple[str, int, int]]  # name (see task_name), finished, failed
    ended_dropped: int

def cluster_resources() -> dict[str, float]: ...
def available_resources() -> dict[str, float]: ...
def nodes() -> list[NodeRecord]: ...
def timeline() -> list[TraceRecord]: ...
def state(options: StateOptions) -> State: ...

METRIC_COUNTER: int
METRIC_GAUGE: int
METRIC_HISTOGRAM: int

def metric_add(
    kind: int,
    name: str,
    description: str,
    tags: Sequence[tuple[str, str]],
    boundaries: Sequence[float],
) -> int:
    """A new series of this process's metrics; the number is for the session it was made in. No text
    may contain NUL. MemoryError: there is no room."""

def metric_increase(series: int, by: float) -> None: ...
def metric_set(series: int, value: float) -> None: ...
def metric_observe(series: int, value: float) -> None: ...
def next_log_lines() -> list[tuple[int, str, bool, str]] | None:
    """Blocks, without the GIL, until workers have printed something: (pid, task name, is stderr,
    text without newline). None: the session has ended. For a thread of its own."""

def debug_state() -> str:
    """Objects, tasks and channels known to this process, for tests. "" without a session."""

def _has_value(node: int, creator: int, index: int) -> bool:
    """Is there a value of the object with this id, here or on the node? For tests."""

def _location(ref: ObjectRef[Any], /) -> tuple[int, int, int, int, int] | None:
    """(segment, entry, generation, offset, size) of a value in the store, else None. For tests."""

# ---- objects ---------------------------------------------------------------------------------

class ObjectRef(Generic[T]):
    """Names a value that exists now or later. Made by `put` and by calling remote functions."""

    def hex(self) -> str:
        """56 hexadecimal digits."""
    def binary(self) -> bytes:
        """28 bytes."""
    def is_nil(self) -> bool: ...
    @staticmethod
    def size() -> int:
        """Bytes of an id."""
    def task_id(self) -> str:
        """Hexadecimal; the same for all returns of one task."""
    def job_id(self) -> str:
        """Hexadecimal, of the job that this process works for."""
    def call_site(self) -> str:
        """The lines that made it; "" unless MOBULA_RECORD_CALL_SITE is 1."""
    def future(self) -> concurrent.futures.Future[T]:
        """Settled with the value or the error."""
    def as_future(self) -> asyncio.Future[T]:
        """The same for the running event loop."""
    def __await__(self) -> Generator[Any, None, T]: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...

def put(value: T, *, _owner: Any = None, _tensor_transport: Any = None) -> ObjectRef[T]:
    """TypeError: `value` is an ObjectRef, or cannot be serialized."""

def put_error(error: BaseException, function_name: str) -> ObjectRef[Any]:
    """A ref that raises `error` when it is got, as that of a task does."""

def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """The value of a ref, or a list of values for a list of refs. Raises what the task raised;
    `timeout_error` when `timeout` seconds were not enough; ValueError for anything else than refs."""

def wait(
    object_refs: list[ObjectRef[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]:
    """(ready, not ready), each in the order given; at most `num_returns` in the first."""

# ---- tasks -----------------------------------------------------------------------------------

class FunctionSource:
    """A Python function that can be sent to workers. It is pickled on first use and defined once per
    session, however many Submitters share it."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        method: Any = None,
        group: int = 0,
        own_name: str = ...,
    ) -> None:
        """`name` is what people see: the qualified name. `own_name` is what lists of tasks also show.
        Of an actor's method, `method` is sent instead of the function, which only says what calls must
        look like; `group` is the number of its concurrency group."""
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def name(self) -> str: ...

class Submitter:
    """Calling it submits a task: one function with one set of options. Immutable but for `origin`.

    Returns an ObjectRef if num_returns is 1, a list of them if it is more, None if it is 0.
    TypeError: the arguments do not fit the function's signature, or one cannot be serialized."""

    def __init__(
        self,
        source: FunctionSource,
        resources: Mapping[str, float],
        num_returns: int = 1,
        max_retries: int = 3,
        streaming: bool = False,
        ahead_max: int = 0,
        actor: ObjectRef[Any] = ...,
        any_order: bool = False,
        concurrent: bool = False,
        pending_max: int = -1,
        priority: int | None = None,
        time_limit_ms: int = 0,
        environment: tuple[str, int, bool] | None = None,
        bundle: tuple[int, int, bool] | None = None,
        limit: tuple[int, int] = (0, 0),
    ) -> None:
        """`streaming`: the function yields, calling gives a Stream, num_returns is 1, and the task
        is at most `ahead_max` items ahead of who takes them (0: any number). `resources` has
        "CPU" and "GPU" like any other name; zeros may be left out. Amounts are
        rounded to 1/10,000. max_retries -1: without limit. Of a method, `actor` is its actor's handle
        object, and `resources` is empty. priority: None is that of the task that submits, 0 in a
        driver. time_limit_ms: 0 is none. `environment`: (spec, ms that setting it up may take or 0,
        False); None: that of this process. `bundle`: (placement group or 0, index or -1, whether
        children go there, too); None: as the task that submits it says. `limit`: (a group, how many
        of its tasks may be under way at a time); group 0: as many as fit the resources."""
    origin: tuple[Callable[..., Any], tuple[Any, ...]]
    """What it is pickled as, (callable, arguments). Set once, by who made it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class Stream:
    """The items of a generator task. An object that is dropped drops the items that come."""

    @property
    def completed(self) -> ObjectRef[Any]:
        """Ready when the task has ended: None, or its error."""

    def next(self, timeout: float | None) -> ObjectRef[Any] | None:
        """The next item; None at the end. A task that fails has its error as last item.
        GetTimeoutError."""

    def peek(self) -> ObjectRef[Any]:
        """A ref that is ready when `next` need not wait; its value means nothing."""

    def at_end(self) -> bool:
        """Does `next` give None now?"""

def cancel(
    ref: ObjectRef[Any], force: bool, recursive: bool, only_waiting: bool = False, /
) -> bool:
    """Cancels the task that makes the value of `ref`; `only_waiting`: if it has not started. True: it
    had not, and never will. Does nothing if it is ready. Never waits."""

# ---- futures ---------------------------------------------------------------------------------

def is_ready(ref: ObjectRef[Any]) -> bool:
    """Would `get` of it return, or raise, at once?"""

def can_cancel(ref: ObjectRef[Any], /) -> bool:
    """Could the task of this process that makes it be taken back: has no worker started it?"""

def await_ready(ref: ObjectRef[T], /) -> Generator[Any, None, T]:
    """What `await` takes for the value of a ref that is ready."""

def is_call_of(ref: ObjectRef[Any], actor: ObjectRef[Any], /) -> bool:
    """Is it ready, or made by a call of this actor that this process made?"""

def look_briefly(ref: ObjectRef[Any], /) -> bool:
    """Is it ready? Waits for at most 50 us if that has paid off lately."""

def notify(ref: ObjectRef[Any], token: int, queue: int = 0, /) -> None:
    """`token` (not 0) is told once, when `ref` is ready: by `next_notified`, or in a loop's queue."""

def next_notified(session_number: int, timeout_s: float | None, /) -> list[int] | None:
    """Waits for tokens, for `timeout_s` seconds at most; None when the session has ended and all were
    told. For one thread."""

def poke_notified(session_number: int, /) -> None:
    """Token 0 is told."""

def open_loop_queue(event: int) -> int:
    """A queue of tokens for an event loop. `event`, an eventfd, is written to when there are some."""

def close_loop_queue(session_number: int, queue: int) -> None: ...
def take_loop_tokens(session_number: int, queue: int) -> list[int]: ...

# ---- workers ---------------------------------------------------------------------------------

def run_worker(
    on_lease: Callable[[list[int], float], None], put_right: Callable[[bool], None]
) -> None:
    """Executes tasks until the daemon ends this worker. `on_lease(gpu ids, cpus)` is called before
    the first task of each lease, `put_right(is an actor)` after a task that has left something
    behind; it has `stdout`, `stderr`, `stdin` and `signals`. Returns when there is nothing left to do;
    raises SystemExit if a task did."""

def note_output(pipe: int, unfinished: bool, /) -> None:
    """Something was written on stdout (0) or stderr (1), and does, or does not, end with a newline."""

def note_leftover() -> None:
    """A look is due after the task that runs: somebody has taken hold of a standard stream."""

def restore_descriptor(descriptor: int, /) -> bool:
    """0, 1 or 2 leads to where it led when this worker began. False: it cannot be done."""

def name_output(name: str, /) -> None:
    """What is written on stdout and stderr from now on is of the actor `name`."""

def interrupt_with(signal: int) -> None:
    """The main thread is sent `signal` when the task it executes is cancelled or runs too long."""

def retire() -> None:
    """This worker ends after the task that it executes; what waits for it goes elsewhere."""

def take_interrupt() -> Literal["cancel", "timeout"] | None:
    """In the handler of that signal: why the task that runs now is to end, once; None if it is not
    meant. Its own tasks have been cancelled then, if that was asked for."""

class CurrentTask(TypedDict):
    function_name: str
    task_id: str  # hex, equals ObjectRef.task_id() of its returns
    attempt: int  # 0 for the first
    depth: int  # 1 for a task of the driver
    gpu_ids: list[int]
    cpus: float
    resources: dict[str, float]  # all of the lease's
    function: Callable[..., Any] | None  # what runs

def fork_for_daemon() -> int:
    """For the zygote: like os.fork(), but the child's parent is the next subreaper, the daemon."""

def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends."""

def set_process_title(title: str, name: str) -> None:
    """`ps` shows this process as $MOBULA_PROCTITLE_PREFIX (by default "mobula::") and `title`, which
    in a worker the titles of its tasks replace; `top` shows the first 15 characters of `name`."""

def current_task() -> CurrentTask | None:
    """The task that this thread executes; None in a driver and in other threads."""

# ---- actors ----------------------------------------------------------------------------------

def create_actor(
    handle: ObjectRef[Any],
    spec: ObjectRef[Any],
    class_name: str,
    name: str,
    namespace: str,
    resources: Mapping[str, float],
    cpus_for_life: float,
    max_restarts: int,
    detached: bool,
    get_if_exists: bool,
    environment: tuple[str, int, bool] | None,
    fails_if_infeasible: bool,
    bundle: tuple[int, int, bool] | None,
    /,
) -> ObjectRef[Any]:
    """Makes the actor that `handle` names. With a name it waits until it is clear whose that is, and
    gives the handle object of the actor that has it. KeyError: the name is taken."""

def find_actor(name: str, namespace: str, /) -> ObjectRef[Any] | None:
    """The handle object of a named actor."""

def list_actors(namespace: str, /) -> list[tuple[str, str]]:
    """(name, namespace) of named actors; "": of all namespaces."""

# ---- the node's table of keys and values

def key_value(op: int, space: bytes, key: bytes, value: bytes) -> tuple[bool, int, bytes]:
    """What the daemon answers: is, or was, there such a key; how many were removed; the value, or the
    keys, each after its length (4 bytes, little endian). op: put, put_new, get, exists, remove,
    remove_all, list. ValueError, ObjectStoreFullError: refused."""

# ---- placement groups

def create_group(
    bundles: list[dict[str, float]],
    name: tuple[str, str],
    strategy: int,
    detached: bool,
    infeasible: bool,
) -> int:
    """The number of a new group of this name ("": none) and namespace; it may wait for its resources.
    strategy: 0 is PACK, then SPREAD, STRICT_PACK, STRICT_SPREAD. LookupError("refused", why): the name
    is taken, or no such group."""

def remove_group(group: int) -> None: ...
def wait_for_group(group: int, seconds: float) -> bool:
    """False: it has not got its resources within that time. LookupError: there is none."""

def groups() -> str:
    """All placement groups of the node, as JSON."""

def current_bundle() -> tuple[int, int, bool] | None:
    """Group, index and whether children go there, too: of the task or actor of this process."""

# ---- actors, again

def kill_actor(actor: ObjectRef[Any], no_restart: bool, /) -> None: ...
def actor_id(actor: ObjectRef[Any], /) -> str:
    """32 hexadecimal digits."""

class ActorIdentity(TypedDict):
    actor_id: str
    restarts: int
    class_name: str
    name: str
    namespace: str

def actor_identity() -> ActorIdentity:
    """Of this process, which is an actor (None in others)."""

def actor_ref(spec: bool, /) -> ObjectRef[Any]:
    """What this actor is made from, or its own handle object."""

def actor_made(groups: int, repr: str, /) -> None:
    """This actor was made; it has so many concurrency groups."""

def actor_failed(text: str, error: bytes, /) -> None:
    """It could not be made. `error`: what its constructor raised, in ASCII letters, or b""; callers'
    `system_error` hook gets it."""

def actor_exiting(reason: str, /) -> None:
    """It is about to end and not to come back."""

def run_calls(group: int, /) -> None:
    """Executes calls of a concurrency group until the end; several threads may. SystemExit."""

class ActorCall(Coroutine[Any, Any, None]):
    """A call that an event loop executes: the coroutine of its task."""

    waits: bool
    """`yield_item` may wait for the consumer."""
    def send(self, value: Any, /) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None: ...
    def __await__(self) -> Generator[Any, Any]: ...
    def fail(self, error: BaseException, /) -> None:
        """The error becomes the result. SystemExit: the actor ends."""
    def yield_item(self, item: Any, /) -> bool:
        """False: nobody wants more."""
    def note_cancelled(self) -> None:
        """Its result does not count any more."""

class LoopCalls:
    """The calls of one concurrency group of an actor, on an event loop. Subclasses have the methods
    `refill()` (there is room for calls again), `on_error(call, error)` (its coroutine has raised: call
    its `fail`) and `send_items(call, items)` (a coroutine that does), and a class `cancelled_error`."""

    tasks: dict[ActorCall, asyncio.Task[None] | None]
    is_full: bool
    """After `take`: there are as many as may run at a time."""
    is_over: bool
    """After `take`: no calls will come any more."""
    def __init__(self, group: int, limit: int, loop: asyncio.AbstractEventLoop, /) -> None: ...
    def take(
        self,
        create_task: Callable[[ActorCall], asyncio.Task[None]],
        ready: Sized | None,
        /,
    ) -> int:
        """Makes tasks of the calls that have come and are not answered at once. How many they were.
        `ready`: what the loop has to run now; None if it does not tell."""
    def find(self, channel: int, tag: int, /) -> ActorCall | None:
        """The call that runs with this key."""

def wait_for_call(group: int, /) -> bool:
    """Waits until there may be one; False: there will be none."""

def next_cancelled_call() -> tuple[int, int] | None:
    """Waits for a call to be cancelled that a thread or event loop executes: its key. None: the end."""

def is_cancelled() -> bool:
    """Was the actor's call that runs here cancelled?"""

# ---- serialization ---------------------------------------------------------------------------

def is_serializing() -> bool:
    """Is a value being serialized on this thread, so that refs in it can be pickled?"""

def dumps(value: Any) -> bytes:
    """Pickles within the value that is being serialized around this call (for __reduce__ and the
    like), so that refs inside are recorded there. RuntimeError outside of one."""

def private_buffer(buffer: Any) -> Any:
    """The bytes of a value's buffer in memory that may be written, without a copy of those in the
    store: the writer alone sees what is written."""

def load_ref(index: int) -> ObjectRef[Any]:
    """What a pickled ref calls when it is loaded; RuntimeError outside of a value being loaded."""

def _encode_for_test(value: Any) -> tuple[bytes, list[ObjectRef[Any]]]:
    """The wire value (header, refs, payload) of any size and the refs in it."""

def _decode_for_test(encoded: bytes, refs: Sequence[ObjectRef[Any]]) -> Any:
    """ValueError: `encoded` is not a well-formed wire value."""

def _new_ref_for_test(index: int) -> ObjectRef[Any]:
    """A ref that belongs to no session."""
