"""Ray's name for the module of RemoteFunction."""

from mobula._remote import RemoteFunction

# What `num_returns` says of a task that yields.
STREAMING_GENERATOR_RETURN = -2

__all__ = ["STREAMING_GENERATOR_RETURN", "RemoteFunction"]
