"""Why something cannot be done with an instance; every sentence is for whoever asked."""

from __future__ import annotations

from builder.errors import NbfolioError


class InstanceError(NbfolioError):
    """Raised where something cannot be done with an instance; the kinds say whose matter it is."""


class InvalidError(InstanceError):
    """Raised for what was asked wrongly: a field, a name, resources."""


class NotYoursError(InstanceError):
    """Raised for what others may do and the caller may not: on behalf of somebody else, over a limit or a quota."""


class UnknownError(InstanceError):
    """Raised for an instance or environment that is not there, or not the caller's."""


class TakenError(InstanceError):
    """Raised for a name that is in use, and for an environment that is."""


class UnavailableError(InstanceError):
    """Raised when what runs instances does not answer, or is not ready; a later try may succeed."""


class BackendError(InstanceError):
    """Raised when what runs instances refuses the server itself or answers nonsense; no later try helps."""
