"""The routes of `/_api`, those of the dashboards server: upload, delete and list dashboards, clear their cache."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bottle import Bottle, HTTPResponse, request  # type: ignore[import-untyped]

from builder.errors import OutputError, UnsafePathError
from shim.answers import PATH_SAFE, HttpError, json_answer
from shim.background import NotBuildingError
from shim.channel import BODY
from shim.library import ExistsError, Library, MissingError, UnusableError
from shim.links import public_link
from shim.names import dashboard_name, page_path
from shim.replacing import StoreError
from shim.server import THREADS
from shim.shelf import ConflictError, NoDashboardError
from shim.tokens import Tokens, require
from shim.uploads import receive

if TYPE_CHECKING:
    from builder.config import Config
    from builder.settings import Scope
    from shim.channel import BodyLimit
    from shim.metrics import Metrics

logger = logging.getLogger("shim")

READERS = 8
"""Workers that are always left to readers."""
AT_WORK = 8
"""Changes that are worked on at a time."""
UPLOADED = "Notebook successfully uploaded"

PATH = r"<path:re:[\s\S]+>"
"""Everything, also what is no name and gets an answer that says so; Bottle's own does not match line ends."""
PROXIED = "Without tokens only this machine itself may publish, and this came through a proxy: set auth.api_token."

_STATUS: dict[type[Exception], int] = {
    UnsafePathError: 400,
    NoDashboardError: 400,
    MissingError: 404,
    ConflictError: 409,
    ExistsError: 412,
    UnusableError: 422,
    NotBuildingError: 503,
    StoreError: 507,
}
"""The answer to what the library refuses; its sentence is for whoever asked."""


def add_publishing_routes(app: Bottle, config: Config, library: Library, tokens: Tokens, metrics: Metrics) -> None:
    """Add the routes below `/_api` to an application in which `environ["nbfolio.client"]` says who asks."""
    limit = config.server.max_upload_mb << 20
    room = _Room()

    def authorise(scope: Scope) -> None:
        if tokens.open and not request.environ["nbfolio.client"].is_direct:
            raise HttpError(403, PROXIED)
        request.environ["nbfolio.user"] = require(tokens, request.environ.get("HTTP_AUTHORIZATION"), scope).name

    @app.post(f"/_api/notebooks/{PATH}")  # type: ignore[untyped-decorator]
    def upload(path: str) -> HTTPResponse:
        authorise("publish")
        replace = request.environ.get("HTTP_IF_NONE_MATCH", "").strip() != "*"
        with _answered(), room(), library.change() as change:
            name = dashboard_name(path)
            received = receive(request.environ, change.upload, limit)
            is_shown = library.publish(name, received.kind, change, replace=replace)
        metrics.published("upload")
        message = UPLOADED if is_shown else f"{UPLOADED}; it is a draft and not shown"
        fields = {"message": message, "status": 201, "url": f"/notebooks/{quote(path, PATH_SAFE)}"}
        link = _link(config, page_path(name, is_notebook=received.kind == "notebook")) if is_shown else None
        return json_answer(201, fields if link is None else fields | {"link": link})

    @app.delete(f"/_api/notebooks/{PATH}")  # type: ignore[untyped-decorator]
    def delete(path: str) -> HTTPResponse:
        authorise("publish")
        with _answered(), room():
            library.delete(dashboard_name(path))
        metrics.published("delete")
        return HTTPResponse(status=204)

    @app.get(["/_api/notebooks", "/_api/notebooks/"])  # type: ignore[untyped-decorator]
    def listing() -> HTTPResponse:
        authorise("publish")
        with _answered(), room():
            dashboards = library.summaries()
        return json_answer(200, {"notebooks": [_described(config, dashboard) for dashboard in dashboards]})

    @app.delete(["/_api/cache", "/_api/cache/", f"/_api/cache/{PATH}"])  # type: ignore[untyped-decorator]
    def clear_cache(path: str = "") -> HTTPResponse:
        authorise("cache")
        with _answered(), room():
            library.rebuild(dashboard_name(path) if path else None)
        metrics.published("clear_cache")
        return HTTPResponse(b"OK", 200, [("Content-Type", "text/plain; charset=utf-8")])


def body_limit(tokens: Tokens, largest: int) -> BodyLimit:
    """How large the bodies of requests may be: only who may upload may send much."""

    def limit(method: str, path: str, headers: Mapping[str, str]) -> int:
        if method != "POST" or "/_api/notebooks/" not in path:
            return BODY
        require(tokens, headers.get("AUTHORIZATION"), "publish")
        return largest

    return limit


@contextmanager
def _answered() -> Iterator[None]:
    """Turn what the library refuses into the answer that says so."""
    try:
        yield
    except tuple(_STATUS) as error:
        status = _STATUS[type(error)]
        raise HttpError(status, str(error), [("Retry-After", "5")] if status == 503 else []) from error
    except OutputError as error:
        logger.error("The site cannot be written: %s", error)
        raise HttpError(
            507, "The site cannot be written, so nothing was changed; the server's log says why."
        ) from error


class _Room:
    """Keeps workers free for readers: a bounded number of changes is taken on, and fewer are worked on at a time."""

    def __init__(self) -> None:
        self._taken = threading.BoundedSemaphore(THREADS - READERS)
        self._at_work = threading.BoundedSemaphore(AT_WORK)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Room for one change. Raises HttpError 503 when there is none."""
        if not self._taken.acquire(blocking=False):
            raise HttpError(503, "Too many changes at a time; try again in a moment.", [("Retry-After", "5")])
        try:
            with self._at_work:
                yield
        finally:
            self._taken.release()


def _link(config: Config, page: str) -> str | None:
    client = request.environ["nbfolio.client"]
    return public_link(config.server.public_link_pattern, client, config.site.base_path, f"dashboards/{page}")


def _described(config: Config, dashboard: Any) -> dict[str, object]:
    return {
        "path": dashboard.path,
        "title": dashboard.title,
        "kind": dashboard.kind,
        "published": dashboard.published,
        "message": dashboard.message,
        "link": _link(config, dashboard.path) if dashboard.published else None,
    }
