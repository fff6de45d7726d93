"""Ray's name for the module of RemoteFunction."""

from mobula._remote import RemoteFunction

__all__ = ["RemoteFunction"]
