"""The envelope of every answer below /api/v1, errors too: clients of Apache Submarine read nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shim.answers import CLOSED, HttpError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PREFIX = "/api/v1"
_NAMES = {413: "REQUEST_ENTITY_TOO_LARGE", 422: "UNPROCESSABLE_ENTITY"}
"""Names of statuses that differ from one Python to the next."""
# Escaped as the reference does: the text is then no HTML to whatever guesses media types.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "=<>&'\u2028\u2029"})
_TYPE = ("Content-Type", "application/json; charset=utf-8")


def envelope(status: int, message: str | None, result: Any) -> bytes:
    """The six keys in their order; `message` is null only beside a result that says all."""
    fields = {
        "status": _NAMES.get(status) or HTTPStatus(status).name,
        "code": status,
        "success": status < 400,
        "message": message,
        "result": result,
        "attributes": {},
    }
    # Of all these characters none has a meaning in JSON: they stand in texts alone.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES).encode(errors="replace")


def in_envelope(path: str) -> bool:
    """Whether the answer for a path below the site's prefix is an envelope."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def send_enveloped(environ: WSGIEnvironment, start_response: StartResponse, error: HttpError) -> Iterable[bytes]:
    """Answer with an error, whatever the client accepts."""
    request_id = environ.get("nbfolio.request_id") or secrets.token_hex(8)
    body = envelope(error.status, error.message, None)
    headers = [*CLOSED, *error.headers, ("X-Request-Id", request_id), _TYPE, ("Content-Length", str(len(body)))]
    start_response(f"{error.status.value} {error.status.phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
