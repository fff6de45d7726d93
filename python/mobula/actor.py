"""Actors: what `@remote` makes of a class, and the handles by which its methods are called.

An actor is named by its *handle object*, an object like any other whose value describes the class. As
long as somebody has a ref of it, the actor lives: handles hold one, methods hold one, and what is
pickled of a handle is one.
"""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, Union

import cloudpickle  # type: ignore[import-untyped]
from mobula import (
    _actor_names,
    _actor_options,
    _core,
    _environments,
    _limits,
    _options,
    _placement,
    _remote,
    _signatures,
    _worker_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mobula.dag import ClassMethodNode, ClassNode

# Constants that programs look up here: the default of actors with coroutines, and what `num_returns`
# says of a method that yields.
DEFAULT_MAX_CONCURRENCY_ASYNC = 1000
STREAMING_GENERATOR_RETURN = -2

_STREAMING = _options.STREAMING
_ANY = inspect.signature(lambda *args, **kwargs: None)
_SPECIAL_METHODS = {
    "__ray_ready__": "",
    "__ray_call__": "fn, /, *args, **kwargs",
    "__ray_terminate__": "",
}


class ActorClassInheritanceException(TypeError):
    """A class cannot be derived from one that is remote."""


# ---- what is known of a class ----------------------------------------------------------------


class _Method:
    """One method, as callers see it."""

    __slots__ = (
        "ahead_max",
        "group",
        "name",
        "num_returns",
        "parameters",
        "retries",
        "retry",
        "yields",
    )

    def __init__(
        self,
        name: str,
        parameters: str,
        num_returns: Any,
        group: str | None,
        retries: int | None,
        retry: Any,
        ahead_max: int,
        yields: bool,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.num_returns = num_returns
        self.group = group
        self.retries = retries
        self.retry = retry
        self.ahead_max = ahead_max
        self.yields = yields


class _Info:
    """What a handle knows of its actor's class and options. Shared by the handles of one class."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.class_name: str = state["class_name"]
        self.methods = {name: _Method(name, *rest) for name, rest in state["methods"].items()}
        for name, parameters in _SPECIAL_METHODS.items():
            self.methods[name] = _Method(name, parameters, 1, None, None, False, 0, False)
        self.groups: list[str] = state["groups"]
        self.max_task_retries: int = state["max_task_retries"]
        self.max_pending_calls: int = state["max_pending_calls"]
        self.any_order: bool = state["any_order"]
        self.concurrent: bool = state["concurrent"]

    def group_number(self, name: str | None) -> int:
        if name is None or name == _actor_options.DEFAULT_GROUP:
            return 0
        try:
            return self.groups.index(name) + 1
        except ValueError:
            raise ValueError(
                f"Actor class {self.class_name} has no concurrency group {name!r}; "
                f"it has {_limits.listed_values(self.groups)}"
            ) from None


@functools.lru_cache(maxsize=1024)
def _info(state: bytes) -> _Info:
    return _Info(pickle.loads(state))


def _unwrapped(value: Any) -> tuple[Any, bool]:
    """(the function behind a class attribute, does it take self or cls first), or (None, False)."""
    if isinstance(value, staticmethod):
        return value.__func__, False
    if isinstance(value, classmethod):
        return value.__func__, True
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.ismethoddescriptor(value):
        return value, True
    if isinstance(value, (functools.partialmethod,)):
        return value, True
    return None, False


def _methods_of(cls: type) -> dict[str, tuple[Any, ...]]:
    methods: dict[str, tuple[Any, ...]] = {}
    for name in dir(cls):
        if name in ("__init__", "__new__", "__init_subclass__", "__class_getitem__"):
            continue
        value = inspect.getattr_static(cls, name)
        if name.startswith("__") and not inspect.isfunction(value):
            continue
        function, skip_first = _unwrapped(value)
        if function is None:
            continue
        given: dict[str, Any] = getattr(function, "__mobula_method__", {})
        num_returns = given.get("num_returns")
        yields = _is_generator(function)
        if num_returns is None:
            num_returns = "streaming" if yields else 1
        ahead = given.get("_generator_backpressure_num_objects") or 0
        methods[name] = (
            _signatures.parameters(function, skip_first),
            num_returns,
            given.get("concurrency_group"),
            given.get("max_task_retries"),
            given.get("retry_exceptions", False),
            max(0, ahead),
            yields,
        )
    return methods


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def is_async_class(cls: type) -> bool:
    """Has it a method that is `async def`? Then it is executed by an event loop."""
    for name in dir(cls):
        function, _ = _unwrapped(inspect.getattr_static(cls, name))
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return True
    return False


def method(*args: Any, **options: Any) -> Callable[[Any], Any]:
    """Annotates a method of an actor class: `@method(num_returns=2)`.

    num_returns, concurrency_group, max_task_retries, retry_exceptions. Without it a method returns one
    value, or, if it yields, a stream of them.
    """
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]  # type: ignore[no-any-return]  # Without parentheses it says nothing.
    if args:
        raise AssertionError(
            "The @ray.method decorator must be applied using no arguments with parentheses, or some "
            "of the arguments "
            f"{list(_actor_options.METHOD_OPTIONS)}, e.g. '@ray.method(num_returns=2)'."
        )
    _actor_options.check_method(options)

    def annotate(function: Any) -> Any:
        function.__mobula_method__ = dict(options)
        return function

    return annotate


# ---- classes -----------------------------------------------------------------------------------

_known_classes: weakref.WeakValueDictionary[bytes, ActorClass] = weakref.WeakValueDictionary()
# The classes behind them, by their id().
_plain_classes: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()


class _Creation:
    """What all creations with the same options share."""

    __slots__ = ("class_name", "is_async", "options", "settings", "state")

    def __init__(self, cls: type, options: Mapping[str, Any]) -> None:
        _actor_options.check_creation(options)
        self.is_async = is_async_class(cls)
        self.options = _actor_options.ActorOptions(options, self.is_async)
        self.class_name = cls.__name__
        _limits.check_name("The name of the class", cls.__name__)
        groups = self.options.groups
        methods = _methods_of(cls)
        for method_name in methods:
            _limits.check_name("The name of a method", method_name)
        _check_groups(cls, methods, groups)
        self.settings = {
            "is_async": self.is_async,
            "max_concurrency": self.options.max_concurrency,
            "groups": groups,
            "cpus_for_life": self.options.cpus_for_life,
        }
        self.state = cloudpickle.dumps(
            {
                "class_name": self.class_name,
                "methods": methods,
                "groups": list(groups),
                "max_task_retries": self.options.max_task_retries,
                "max_pending_calls": self.options.max_pending_calls,
                "any_order": self.options.any_order,
                "concurrent": self.is_async or self.options.max_concurrency > 1 or bool(groups),
            }
        )


def _check_groups(cls: type, methods: Mapping[str, Any], groups: Mapping[str, int]) -> None:
    """ValueError: a method belongs to a group that is not declared."""
    known = (None, _actor_options.DEFAULT_GROUP, *groups)
    for name, description in methods.items():
        group = _Method(name, *description).group
        if group not in known:
            raise ValueError(
                f"Method {cls.__name__}.{name} belongs to the concurrency group {group!r}, which "
                f"concurrency_groups does not have; it has {list(groups)}"
            )


class ActorClass:
    """A class whose instances are actors: `A.remote(...)` makes one, in a process of its own, and
    returns its `ActorHandle`."""

    def __new__(cls, plain: type, *args: Any) -> ActorClass:
        # Programs read the name of the plain class out of the name of this one's type.
        kind = type(f"ActorClass({plain.__name__})", (cls,), {"__module__": cls.__module__})
        return object.__new__(kind)

    def __init__(self, cls: type, options: dict[str, Any], identity: bytes | None = None) -> None:
        self._identity = identity or os.urandom(16)
        self._class = cls
        self._options = options
        self._creation: _Creation | None = None
        self._signatures: list[inspect.Signature] | None = None
        # The class itself as an object of the session with that number.
        self._exported: tuple[int, Any] = (0, None)
        # For those who want the plain class, under the names that there are elsewhere.
        self.__ray_actor_class__ = cls
        self.__ray_metadata__ = types.SimpleNamespace(
            modified_class=cls, class_name=cls.__name__, actor_options=options
        )
        for name in ("__module__", "__doc__", "__qualname__", "__name__"):
            setattr(self, name, getattr(cls, name, None))
        _known_classes[self._identity] = self
        _plain_classes[id(cls)] = cls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Its own functions mean the class by its name, also where they are called without an actor.
        if _actor_names.is_own_code(self._class, sys._getframe(1).f_code):
            return self._class(*args, **kwargs)
        name = self._class.__name__
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._class)

    def __subclasscheck__(self, cls: type) -> bool:
        return issubclass(cls, self._class)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        base = self._class.__name__

        class Refusing:  # Python tells it what the derived class is called.
            def __init_subclass__(cls) -> None:
                raise ActorClassInheritanceException(
                    f"Attempted to define subclass '{cls.__name__}' of actor class '{base}'. "
                    "Inheriting from actor classes is not currently supported. Derive from the plain "
                    "class, and make the derived one remote."
                )

        return (Refusing,)

    def __getattr__(self, name: str) -> Any:
        """What the plain class has: constants, static and class methods."""
        if name.startswith("__") or "_class" not in self.__dict__:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return getattr(self._class, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._class)})

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Makes an actor. Returns at once; with a name, when it is clear that the name is free."""
        if self._creation is None:
            self._creation = _Creation(self._class, self._options)
        return self._create(self._creation, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """An actor in a graph (see `mobula.dag`), which is made when the graph is executed."""
        from mobula.dag import ClassNode

        return ClassNode(self, self._class, args, kwargs, self._options)

    def options(self, **actor_options: Any) -> ActorClassWithOptions:
        """The same class with other options, for one or more creations."""
        _actor_options.check(actor_options, in_options=True)
        return ActorClassWithOptions(self, actor_options)

    def _remote(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **actor_options: Any
    ) -> ActorHandle:
        return self.options(**actor_options).remote(*(args or ()), **(kwargs or {}))

    def _create(
        self, creation: _Creation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ActorHandle:
        from mobula import _session, runtime_context

        if self._signatures is None:
            self._signatures = _signatures.of_constructor(self._class)
        for signature in self._signatures:
            signature.bind(*args, **kwargs)
        if not _core.is_connected():
            _session.auto_init()
        options = creation.options
        context = runtime_context.get_runtime_context()
        namespace = options.namespace or context.namespace
        resources = dict(options.resources)
        impossible = ""
        bundle = None
        if options.placement is not None:
            kept = {**resources, "CPU": options.cpus_for_life}
            bundle = options.placement.bundle(creation.class_name, resources, kept)
            resources.update(options.placement.missing(context.get_node_labels()))
            impossible = options.placement.impossible(context.get_node_id())
            if impossible:
                resources[impossible] = 1.0  # No node has it, and the error says so.
        if bundle is None:
            kept = {**options.resources, "CPU": options.cpus_for_life}
            _placement.check_captured(creation.class_name, options.resources, kept)
        exported = self._export()
        try:
            spec = _core.put((exported, args, kwargs, creation.settings))
        except TypeError as error:
            raise self._unserializable(args, kwargs, error) from error.__cause__
        handle = _core.put(creation.state)
        try:
            actor = _core.create_actor(
                handle,
                spec,
                creation.class_name,
                options.name,
                namespace,
                resources,
                options.cpus_for_life,
                options.max_restarts,
                options.detached,
                options.get_if_exists,
                _environments.of_task(options.runtime_env) if options.runtime_env else None,
                bool(impossible),
                bundle,
            )
        except KeyError as error:
            from mobula import exceptions

            raise exceptions.ActorAlreadyExistsError(
                f"The name {options.name} (namespace={options.namespace}) is already taken. Please "
                "use a different name or get the existing actor using "
                f"ray.get_actor('{options.name}', namespace='{options.namespace}')"
            ) from error
        state = creation.state if actor == handle else _core.get(actor)
        return ActorHandle(actor, state)

    def _unserializable(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], error: TypeError
    ) -> BaseException:
        """Which argument of the constructor it is that cannot be serialized."""
        from mobula import _culprits, _serialization

        assert self._signatures is not None
        where = f"{self._class.__name__}.__init__"
        signature = [*self._signatures, _ANY][0]
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if not _culprits.pickles(value):
                cause = error.__cause__ or error
                return _serialization.serialization_error("argument", value, name, where, cause)
        return error

    def _export(self) -> Any:
        number = _core.session_number()
        if self._exported[0] != number:
            _worker_path.tell_changes()
            try:
                exported = _core.put(_Plain(self._class))
            except TypeError as error:
                why = str(error).partition(": ")[2] or str(error)
                raise TypeError(
                    f"Could not serialize the actor class {self.__module__}.{self.__qualname__}: {why}"
                ) from error
            self._exported = (number, exported)
        return self._exported[1]

    def __repr__(self) -> str:
        return f"<ActorClass({self._class.__name__}) of {self._class.__module__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_class, (self._identity, self._class, self._options)


class _Plain:
    """Holds a class on its way to an actor, and pickles it as a class, not as an ActorClass."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def reduce_plain(cls: type) -> tuple[Any, ...] | None:
    """How a class is pickled whose name in its module is that of an ActorClass: by this name. None: by
    other means."""
    if _plain_classes.get(id(cls)) is not cls or not _actor_names.is_found_by_name(cls, ActorClass):
        return None
    return _actor_names.load, (cls.__module__, cls.__qualname__)


def bind_own_name(cls: type) -> None:
    """In the process of an actor: see `mobula._actor_names`."""
    _actor_names.bind(cls, ActorClass)


def _load_class(identity: bytes, cls: type, options: dict[str, Any]) -> ActorClass:
    known = _known_classes.get(identity)
    return known if known is not None else ActorClass(cls, options, identity)


class ActorClassWithOptions:
    """What `ActorClass.options` returns."""

    def __init__(self, base: ActorClass, options: dict[str, Any]) -> None:
        self._base = base
        self._options = options
        self._creation: _Creation | None = None

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        if self._creation is None:
            merged = {**self._base._options, **self._options}
            self._creation = _Creation(self._base._class, merged)
        return self._base._create(self._creation, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        from mobula.dag import ClassNode

        return ClassNode(self, self._base._class, args, kwargs, self._options)

    def options(self, **more: Any) -> ActorClassWithOptions:
        return self._base.options(**{**self._options, **more})

    def _remote(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **more: Any
    ) -> ActorHandle:
        return self.options(**more).remote(*(args or ()), **(kwargs or {}))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._base(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_class_with_options, (self._base, self._options)


def _load_class_with_options(base: ActorClass, options: dict[str, Any]) -> ActorClassWithOptions:
    return base.options(**options)


def make_class(cls: type, options: dict[str, Any]) -> ActorClass:
    """What `@remote` does with a class. TypeError: it is abstract."""
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise TypeError(
            f"Can't instantiate abstract class {cls.__name__} with abstract methods {missing}"
        )
    _actor_options.check(options, in_options=False)
    return ActorClass(cls, options)


# ---- handles -----------------------------------------------------------------------------------


class ActorHandle:
    """Names an actor. `handle.method.remote(...)` calls a method and returns an ObjectRef.

    It can be passed to tasks and other actors, and kept anywhere. When no handle of an actor and no
    pending call is left, the actor's process ends.
    """

    def __init__(self, ref: Any, state: bytes) -> None:
        # Methods are kept beside these as they are used. They hold `ref`, not the handle.
        self._mobula_ref = ref
        self._mobula_state = state
        self._mobula_info = _info(state)

    def __getattr__(self, name: str) -> Any:
        info = self.__dict__.get("_mobula_info")
        if info is None or name not in info.methods:
            raise AttributeError(f"'ActorHandle' object has no attribute '{name}'")
        found = ActorMethod(self._mobula_ref, info, info.methods[name])
        self.__dict__[name] = found
        return found

    def __dir__(self) -> list[str]:  # Methods only, as in Ray: libraries wrap all that they find.
        return sorted(self._mobula_info.methods)

    @property
    def _actor_id(self) -> Any:
        from mobula._ids import ActorID

        return ActorID(_core.actor_id(self._mobula_ref))

    @property
    def _ray_actor_id(self) -> Any:
        return self._actor_id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorHandle):
            return NotImplemented
        return bool(self._mobula_ref == other._mobula_ref)

    def __hash__(self) -> int:
        return hash(self._mobula_ref)

    def __repr__(self) -> str:
        return f"Actor({self._mobula_info.class_name}, {_core.actor_id(self._mobula_ref)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not _core.is_serializing():
            # By a pickler that is not ours. Where the bytes go nobody knows: so the actor is kept as
            # long as this session lasts.
            number = _core.session_number()
            if number not in _pickled:
                _pickled.clear()
            _pickled.setdefault(number, set()).add(self)
            return _load_handle, (_core.actor_id(self._mobula_ref),)
        return ActorHandle, (self._mobula_ref, self._mobula_state)


class OwnHandle(ActorHandle):
    """A handle that an actor has of itself. It does not keep the actor: else one that remembers it
    would never end. What is pickled of it is a handle like any other."""

    def __init__(self, state: bytes) -> None:
        self._mobula_state = state
        self._mobula_info = _info(state)

    @property
    def _mobula_ref(self) -> Any:
        return _core.actor_ref(False)

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        del self.__dict__[name]  # It holds a ref.
        return found


# By the number of the session.
_pickled: dict[int, set[ActorHandle]] = {}


def _load_handle(actor_id: str) -> ActorHandle:
    """ActorHandleNotFoundError: there is no such actor any more."""
    from mobula import _session

    if not _core.is_connected():
        _session.auto_init()
    ref = _core.find_actor("", actor_id)
    if ref is None:
        from mobula import exceptions

        raise exceptions.ActorHandleNotFoundError(
            f"There is no actor {actor_id} in this session: nobody has kept a handle of it"
        )
    return ActorHandle(ref, _core.get(ref))


class ActorMethod:
    """A method of one actor. `remote` calls it."""

    __slots__ = ("__weakref__", "_info", "_method", "_options", "_ref", "remote")

    def __init__(
        self, ref: Any, info: _Info, method: _Method, options: dict[str, Any] | None = None
    ) -> None:
        self._ref = ref
        self._info = info
        self._method = method
        self._options = options or {}
        self.remote = _submitter(ref, info, method, self._options)
        self.remote.origin = _remote_of, (_Origin(ref, method.name, self._options),)

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """A call in a graph (see `mobula.dag`), which runs when the graph is executed."""
        from mobula.dag import ClassMethodNode

        return ClassMethodNode(self, self._method.name, args, kwargs, self._options)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options: num_returns, name, concurrency_group,
        max_task_retries, retry_exceptions, _generator_backpressure_num_objects.

        TypeError: no such option. ValueError: "streaming" for a method that does not yield."""
        _actor_options.check_call(options)
        return ActorMethod(self._ref, self._info, self._method, {**self._options, **options})

    def _remote(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        submit = self.options(**options).remote if options else self.remote
        return submit(*(args or ()), **(kwargs or {}))

    @property
    def _method_name(self) -> str:
        return self._method.name

    @property
    def _num_returns(self) -> Any:
        given = self._options.get("num_returns")
        return self._method.num_returns if given is None else given

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._method.name
        raise TypeError(
            "Actor methods cannot be called directly. Instead of running "
            f"'object.{name}()', try 'object.{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"<ActorMethod {self._info.class_name}.{self._method.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _Origin(self._ref, self._method.name, self._options).__reduce__()


class _Origin:
    """Of a method and what calls it: pickled as what makes it again. It knows no ActorMethod, so that
    none keeps itself, and with it the actor."""

    __slots__ = ("_name", "_options", "_ref")

    def __init__(self, ref: Any, name: str, options: dict[str, Any]) -> None:
        self._ref = ref
        self._name = name
        self._options = options

    def __reduce__(self) -> tuple[Any, ...]:
        handle = ActorHandle(self._ref, _core.get(self._ref))
        return _load_method, (handle, self._name, self._options)


def _remote_of(method: ActorMethod) -> Any:
    return method.remote


def _load_method(handle: ActorHandle, name: str, options: dict[str, Any]) -> ActorMethod:
    info = handle._mobula_info
    return ActorMethod(handle._mobula_ref, info, info.methods[name], options)


def _submitter(ref: Any, info: _Info, method: _Method, options: Mapping[str, Any]) -> Any:
    num_returns = options.get("num_returns")
    num_returns = method.num_returns if num_returns is None else num_returns
    if isinstance(num_returns, int):
        _limits.check_returns(num_returns)
    retries = options.get("max_task_retries")
    if retries is None:
        retries = info.max_task_retries if method.retries is None else method.retries
    retry = options.get("retry_exceptions")
    retry = method.retry if retry is None else retry
    group = info.group_number(options.get("concurrency_group") or method.group)
    ahead = options.get("_generator_backpressure_num_objects")
    ahead = method.ahead_max if ahead is None else max(0, ahead)
    name = options.get("name") or f"{info.class_name}.{method.name}"
    is_dynamic = num_returns == "dynamic"
    streams = num_returns == "streaming"
    if (streams or is_dynamic) and not method.yields:
        raise ValueError(
            f"num_returns='{num_returns}' can only be used with generator functions (functions that "
            f"use 'yield'). {info.class_name}.{method.name} is not a generator function."
        )
    if not streams and not is_dynamic and not isinstance(num_returns, int):
        raise TypeError(f"num_returns is a number, 'dynamic' or 'streaming', not {num_returns!r}")
    source = _source(
        name,
        method.name,
        method.parameters,
        group,
        (retries, tuple(retry) if isinstance(retry, (list, tuple)) else retry) if retry else None,
        is_dynamic,
    )
    submit = _core.Submitter(
        source,
        {},
        1 if streams or is_dynamic else int(num_returns),
        retries,
        streams,
        ahead,
        ref,
        info.any_order,
        info.concurrent,
        info.max_pending_calls,
    )
    return _remote.GeneratorSubmitter(submit) if streams else submit


@functools.lru_cache(maxsize=4096)
def _source(
    name: str, method: str, parameters: str, group: int, retry: Any, is_dynamic: bool
) -> _core.FunctionSource:
    """What is sent for a method: its name, or, if it is not to be called plainly, a description."""
    plain = retry is None and not is_dynamic
    description = method if plain else (method, retry, is_dynamic)
    return _core.FunctionSource(_signatures.stub(parameters, name), name, description, group)


# ---- functions ---------------------------------------------------------------------------------


def exit_actor() -> NoReturn:
    """Ends the actor that calls it, after the calls before this one. It does not come back. TypeError:
    the caller is no actor."""
    from mobula import _actor_worker

    _actor_worker.exit_actor()


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The handle of a named actor. ValueError: there is none."""
    from mobula import _session, runtime_context

    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    _limits.check_name("The name of an actor", name)
    _limits.check_name("The namespace", namespace or "")
    if not _core.is_connected():
        _session.auto_init()
    if namespace is None:
        namespace = runtime_context.get_runtime_context().namespace
    ref = _core.find_actor(name, namespace)
    if ref is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could because 1. You are trying to "
            "look up a named actor you didn't create. 2. The named actor died. 3. You did not use a "
            "namespace matching the namespace of the actor."
        )
    return ActorHandle(ref, _core.get(ref))


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """Kills the actor's process at once. With `no_restart=False` the actor comes back if its
    `max_restarts` allows. Returns at once. ValueError: not a handle."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            "ray.kill() only supported for actors. For tasks, try ray.cancel(). "
            f"Got: {type(actor)}."
        )
    _core.kill_actor(actor._mobula_ref, no_restart)


_T = TypeVar("_T")
# For annotations: what `Class.remote()` returns, with the methods of the class.
ActorProxy = Union[ActorHandle, type[_T]]  # noqa: UP007 -- It takes a parameter: ActorProxy[Class].
