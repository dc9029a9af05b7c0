"""Answers that are no files: errors for people and for programs, and redirects inside the site."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from bottle import HTTPResponse  # type: ignore[import-untyped]

from shim.headers import wants_html

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from shim.headers import Headers

PATH_SAFE = "/~!$&'()*+,;=:@"
"""Characters beside letters and digits that stand for themselves in the path of a URL."""
_QUERY_SAFE = PATH_SAFE + "?%[]"
UNFRAMED: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
]
"""What goes with redirects."""
CLOSED: Headers = [*UNFRAMED, ("Cache-Control", "no-store")]
"""What goes with every answer that is no file: nobody may frame or keep it."""


BEARER: Headers = [("WWW-Authenticate", 'Bearer realm="nbfolio"')]
COOKIE: Headers = [("WWW-Authenticate", 'Cookie realm="nbfolio"')]
"""Every 401 has to name a way to authenticate; there is no registered one for a login by form."""


class HttpError(Exception):
    """Raised where a request is refused; `message` is for whoever sent it, `more` stands beside it in JSON."""

    def __init__(
        self, status: int, message: str, headers: Headers | None = None, more: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)
        self.message = message
        self.headers = headers or []
        self.more = more or {}


def send_error(
    environ: WSGIEnvironment, start_response: StartResponse, error: HttpError, page: Callable[[], bytes | None]
) -> Iterable[bytes]:
    """Answer with an error: HTML when the client names it (`page` gives the site's own for 404), else JSON."""
    request_id = environ.get("nbfolio.request_id") or secrets.token_hex(8)
    if wants_html(environ.get("HTTP_ACCEPT", "")):
        kind, body = "text/html; charset=utf-8", (page() if error.status == 404 else None) or _html(error)
    else:
        kind, body = "application/json", _json(environ, error)
    headers = [*CLOSED, *error.headers, ("Vary", "Accept"), ("X-Request-Id", request_id)]
    start_response(_line(error.status), [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def json_answer(status: int, fields: object, headers: Headers | None = None) -> HTTPResponse:
    """The answer of a route with a JSON body."""
    body = json.dumps(fields).encode()
    return HTTPResponse(body, status, [("Content-Type", "application/json"), *(headers or [])])


def send_redirect(start_response: StartResponse, permanent: bool, location: str) -> Iterable[bytes]:
    """Answer with a redirect to a path-absolute URL; browsers ask again before they follow it a second time."""
    status = HTTPStatus.MOVED_PERMANENTLY if permanent else HTTPStatus.FOUND
    headers = [*UNFRAMED, ("Location", location), ("Cache-Control", "no-cache")]
    start_response(_line(status), [*headers, ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "0")])
    return []


def location(base_path: str, path: str, query: str) -> str:
    """A path-absolute URL from the site's prefix, a relative decoded path and the query as it was sent."""
    url = f"{base_path}/{quote(path, PATH_SAFE)}"
    return f"{url}?{quote(query.encode('latin-1'), _QUERY_SAFE)}" if query else url


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


def _json(environ: WSGIEnvironment, error: HttpError) -> bytes:
    # PATH_INFO is bytes in disguise; what is not UTF-8 in it is escaped like the rest.
    url = quote(environ.get("PATH_INFO", "").encode("latin-1"), PATH_SAFE)
    fields = {"message": error.message, "status": error.status.value, "url": url, "error": error.status.phrase}
    return json.dumps({**fields, **error.more}).encode()


def _html(error: HttpError) -> bytes:
    # Somebody who opens the site during its first build sees it as soon as it is there.
    retry = '<meta http-equiv="refresh" content="2">' if error.status == 503 else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{retry}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(error.status.phrase)}</title><style>:root{{color-scheme:light dark}}"
        "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}</style></head>"
        f"<body><h1>{escape(error.status.phrase)}</h1><p>{escape(error.message)}</p></body></html>\n"
    ).encode()
