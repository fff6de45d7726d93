"""What the state API raises."""

from __future__ import annotations


class RayStateApiException(Exception):
    """The state cannot be told: a wrong filter or limit, or part of it is missing."""


class DataSourceUnavailable(RayStateApiException):
    """Whom the node asks does not answer."""


class ServerUnavailable(RayStateApiException):
    """There is no session to ask."""
