"""What says whether this process is a client of Ray: it is none."""

from __future__ import annotations

from typing import Any, NoReturn


class RayAPIStub:
    """`ray.util.client.ray`: the connection to another machine, which there is not."""

    def is_connected(self) -> bool:
        """Is this process a client?"""
        return False

    def is_default(self) -> bool:
        """Is this the connection with which the process began?"""
        return True

    def connect(self, *args: Any, **kwargs: Any) -> NoReturn:
        """ConnectionError: sessions of other machines cannot be joined yet."""
        raise ConnectionError(
            "Sessions of other machines cannot be joined yet; "
            "init() starts or joins one of this machine."
        )

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing to end."""


ray = RayAPIStub()


def num_connected_contexts() -> int:
    """How many connections to other machines there are."""
    return 0


__all__ = ["RayAPIStub", "num_connected_contexts", "ray"]
