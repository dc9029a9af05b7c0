"""What the errors of an API server mean for whoever asked; of what it says only the message is passed on."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from shim.instances.backend import LONGEST_REASON
from shim.instances.errors import (
    BackendError,
    InstanceError,
    InvalidError,
    NotYoursError,
    TakenError,
    UnavailableError,
)

logger = logging.getLogger("shim.instances")

LONGEST_PAUSE = 60.0
"""The longest that is waited because a server says so."""
_VERBS = {"POST": "create", "GET": "read", "PATCH": "change", "DELETE": "delete", "watch": "watch"}


class ExpiredError(UnavailableError):
    """Raised for a version that the server has forgotten; everything is to be listed anew."""


class ConflictError(UnavailableError):
    """Raised for an object that somebody else changed in the meantime; it is to be read again."""


def refusal(
    status: int, answer: Mapping[str, Any], method: str, plural: str, headers: Mapping[str, str]
) -> InstanceError:
    """The error for an answer that is no success."""
    message = message_of(answer)
    if status in (401, 403):
        return _forbidden(status, message, f"{_VERBS[method]} {plural}")
    if status == 409:
        conflict = answer.get("reason") == "Conflict" or method != "POST"
        return ConflictError(f"{plural} changed meanwhile; try again.") if conflict else TakenError(message)
    if status in (400, 422):
        return InvalidError(message)
    if status == 410:
        return ExpiredError("The cluster does not know this version any more.")
    if status == 429 or status >= 500:
        return BusyError(f"The cluster cannot do this now: {message}"[:LONGEST_REASON], retry_after(headers))
    if status == 404:
        return BackendError("The cluster has no such namespace, or not this kind of objects.")
    return nonsense()


class BusyError(UnavailableError):
    """Raised when the server answers that it cannot answer now."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds
        """How long it wants to be left alone."""


def message_of(answer: Mapping[str, Any]) -> str:
    """What a Status says, in one line; nothing else of it is for people."""
    said = answer.get("message")
    told = " ".join(said.split()) if isinstance(said, str) else ""
    return "".join(one for one in told if one.isprintable())[:LONGEST_REASON] or "The cluster does not say why."


def retry_after(headers: Mapping[str, str]) -> float:
    """How many seconds the server wants to be left alone, 0.0 when it does not say."""
    said = headers.get("Retry-After", "")
    return min(float(said), LONGEST_PAUSE) if re.fullmatch(r"[0-9]{1,9}", said, re.ASCII) else 0.0


def nonsense() -> BackendError:
    """The error for an answer that an API server does not give."""
    return BackendError("What answers there is no Kubernetes API server, or one of another time.")


def excuse(error: Exception) -> BackendError:
    """The error for credentials that cannot be used; what is wrong names files, so that it is for the log."""
    logger.warning("The credentials for the cluster cannot be used: %s", error)
    return BackendError("The credentials for the cluster cannot be used; the log of the server says why.")


def _forbidden(status: int, message: str, what: str) -> InstanceError:
    if status == 403 and "exceeded quota" in message:
        return NotYoursError(message)
    if status == 403 and re.search(r"admission webhook|violates PodSecurity|usage per ", message):
        return InvalidError(message)
    logger.warning("The service account is refused: %s", message)
    why = (
        "is not known to the cluster" if status == 401 else f"may not {what}; run-shim --print-role shows what it needs"
    )
    return BackendError(f"The service account {why}.")
