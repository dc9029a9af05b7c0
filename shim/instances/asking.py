"""What the routes of instances read out of a request: on whose behalf it is, and what it asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bottle import request  # type: ignore[import-untyped]

from shim.answers import HttpError
from shim.bodies import read_body
from shim.instances.documents import LONGEST, UnsupportedTypeError, read_document
from shim.instances.errors import (
    BackendError,
    InvalidError,
    NotYoursError,
    TakenError,
    UnavailableError,
    UnknownError,
)
from shim.instances.instances import Actor
from shim.state import StateError
from shim.tokens import require

if TYPE_CHECKING:
    from shim.headers import Headers
    from shim.tokens import Tokens

logger = logging.getLogger("shim.instances")

RETRY: Headers = [("Retry-After", "5")]

UNKEPT = "The records of the server cannot be read or kept; its log says why."

_STATUS: dict[type[Exception], int] = {
    UnsupportedTypeError: 415,
    InvalidError: 400,
    NotYoursError: 403,
    UnknownError: 404,
    TakenError: 409,
    BackendError: 502,
    UnavailableError: 503,
}
"""The answer to what is refused; its sentence is for whoever asked. The first that fits counts."""


class Asking:
    """The request that a thread is at."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def actor(self) -> Actor:
        """On whose behalf the request is. Raises HttpError: 401, 403."""
        grant = require(self._tokens, request.environ.get("HTTP_AUTHORIZATION"), "instances")
        log_as(grant.name)
        if self._tokens.open:
            return Actor("", admin=True)
        return Actor(grant.owner, admin="admin" in grant.scopes)

    def administrator(self) -> None:
        """Refuse who may not change what all instances can run. Raises HttpError: 401, 403."""
        log_as(require(self._tokens, request.environ.get("HTTP_AUTHORIZATION"), "admin").name)

    def document(self) -> dict[str, Any]:
        """The document that was sent. Raises HttpError 413, InvalidError."""
        # waitress gives the length of chunked bodies, too.
        body = read_body(request.environ, LONGEST)
        return read_document(body, request.environ.get("CONTENT_TYPE", ""))

    def query(self, name: str) -> str:
        """A value of the query, "" when it is not there."""
        value = request.query.getunicode(name)
        return value if isinstance(value, str) else ""


def log_as(name: str) -> None:
    """Let the log say who sends the request."""
    request.environ["nbfolio.user"] = name


@contextmanager
def answered() -> Iterator[None]:
    """Answer with what the refusals of instances mean."""
    try:
        yield
    except tuple(_STATUS) as error:
        status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
        # What a cluster says of itself is no sentence of ours.
        message = str(error) if str(error).endswith((".", "?", "!")) else f"{error}."
        raise HttpError(status, message, RETRY if status == 503 else []) from error
    except StateError as error:
        # It names a file of this machine.
        logger.error("%s", error)
        raise HttpError(507, UNKEPT) from error
