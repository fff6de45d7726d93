"""Actors of one class that are called together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mobula import actor
from mobula._core import ObjectRef, wait
from mobula._remote import remote


@dataclass
class ActorWrapper:
    """One of a group. `metadata`: nothing is told of it."""

    actor: Any
    metadata: Any = None


class ActorGroupMethod:
    """A method of all actors of a group."""

    def __init__(self, group: ActorGroup, name: str) -> None:
        self._group = group
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "ActorGroup methods cannot be called directly. Instead of running "
            f"'object.{self._name}()', try 'object.{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> list[ObjectRef[Any]]:
        """Calls it in each actor: a ref for each, in their order."""
        return [
            getattr(one.actor, self._name).remote(*args, **kwargs) for one in self._group.actors
        ]


class ActorGroup:
    """`num_actors` actors of the class, each with a share of resources of its own.

    group = ActorGroup(Counter, num_actors=4, init_args=(0,))
    ray.get(group.add.remote(1))      # a list of four values

    `group[0]` is the first; `for` goes over them. ValueError: no actors, or less than no resources.
    RuntimeError: `shutdown` was called, and `start` not since.
    """

    def __init__(
        self,
        actor_cls: type,
        num_actors: int = 1,
        num_cpus_per_actor: float = 1,
        num_gpus_per_actor: float = 0,
        resources_per_actor: dict[str, float] | None = None,
        init_args: tuple[Any, ...] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if num_actors <= 0:
            raise ValueError(
                "The provided `num_actors` must be greater than 0. "
                f"Received num_actors={num_actors} instead."
            )
        if num_cpus_per_actor < 0 or num_gpus_per_actor < 0:
            raise ValueError(
                "The number of CPUs and GPUs per actor must not be negative. Received "
                f"num_cpus_per_actor={num_cpus_per_actor} and num_gpus_per_actor={num_gpus_per_actor}."
            )
        self._class = remote(
            num_cpus=num_cpus_per_actor,
            num_gpus=num_gpus_per_actor,
            resources=resources_per_actor or {},
        )(actor_cls)
        self._args = init_args or ()
        self._kwargs = init_kwargs or {}
        self._number = num_actors
        self._actors: list[ActorWrapper] = []
        self.start()

    def start(self) -> None:
        """Makes the actors, after `shutdown`. RuntimeError: there are some."""
        if self._actors:
            raise RuntimeError("The actors have already been started. Call `shutdown` first.")
        self.add_actors(self._number)

    def shutdown(self, patience_s: float = 5) -> None:
        """Ends the actors: after their calls, those that take longer at once."""
        endings = [one.actor.__ray_terminate__.remote() for one in self._actors]
        slow = wait(endings, num_returns=len(endings), timeout=patience_s)[1] if endings else []
        for one, ending in zip(self._actors, endings, strict=True):
            if patience_s <= 0 or ending in slow:
                actor.kill(one.actor)
        self._actors = []

    def add_actors(self, num_actors: int) -> None:
        """Makes more."""
        made = [self._class.remote(*self._args, **self._kwargs) for _ in range(num_actors)]
        self._actors.extend(ActorWrapper(one) for one in made)

    def remove_actors(self, actor_indexes: list[int]) -> None:
        """Lets those at these places go; they end when nobody else has them."""
        gone = set(actor_indexes)
        self._actors = [one for index, one in enumerate(self._actors) if index not in gone]

    @property
    def actors(self) -> list[ActorWrapper]:
        """RuntimeError: they were shut down."""
        if not self._actors:
            raise RuntimeError("This ActorGroup has been shutdown. Please start it again.")
        return self._actors

    @property
    def actor_metadata(self) -> list[Any]:
        """Of each actor, in their order."""
        return [one.metadata for one in self.actors]

    def __getattr__(self, name: str) -> ActorGroupMethod:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ActorGroupMethod(self, name)

    def __getitem__(self, index: int) -> ActorWrapper:
        return self.actors[index]

    def __len__(self) -> int:
        return len(self._actors)


__all__ = ["ActorGroup", "ActorGroupMethod", "ActorWrapper"]
