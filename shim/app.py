"""The WSGI application: published files first, then the few routes of the program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from bottle import Bottle, HTTPError  # type: ignore[import-untyped]

from builder.config import Config
from shim.answers import CLOSED, HttpError, location, send_error, send_redirect
from shim.pages import FOREVER, Redirect, is_static, legacy, locate
from shim.startup import allowed_hosts, is_allowed
from shim.static import NotPublishedError, StaticFiles

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from shim.static import Headers

READERS = ("GET", "HEAD")


class BuildState(Protocol):
    """What the application wants to know of the builder."""

    @property
    def ready(self) -> Event:
        """Set once the first build is done."""


@dataclass(frozen=True)
class Parts:
    """What the application is made of."""

    config: Config
    files: StaticFiles
    build: BuildState


def published_files(config: Config) -> StaticFiles:
    """The handler for the output folder, with the headers that go with every page."""
    ancestors = " ".join(config.server.frame_ancestors) or "'none'"
    return StaticFiles(
        config.output,
        [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "strict-origin-when-cross-origin"),
            ("Content-Security-Policy", f"frame-ancestors {ancestors}"),
        ],
    )


def create_app(parts: Parts) -> WSGIApplication:
    """The application; it holds no state but its parts'."""
    return _Front(parts, _routes(parts))


def _routes(parts: Parts) -> Bottle:
    # Errors go to the front, which answers for all; Bottle's own pages and redirects show what they should not.
    app = Bottle()
    app.catchall = False
    app.default_error_handler = _refuse

    @app.get(["/healthz", "/healthz/"])  # type: ignore[untyped-decorator]
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(["/readyz", "/readyz/"])  # type: ignore[untyped-decorator]
    def readyz() -> dict[str, str]:
        if not parts.build.ready.is_set():
            raise _building()
        return {"status": "ready"}

    @app.get("/<path:path>")  # type: ignore[untyped-decorator]
    def page(path: str) -> NoReturn:
        if redirect := legacy(path, parts.files):
            raise _Moved(redirect)
        raise NotPublishedError

    return app


def _refuse(error: HTTPError) -> NoReturn:
    """What Bottle refuses: no such route, or not with this method."""
    if error.status_code == 404:
        raise NotPublishedError
    allow = {method for method in error.get_header("Allow", "").split(",") if method}
    # Bottle answers HEAD wherever it answers GET, and does not say so.
    allowed = ", ".join(sorted(allow | {"HEAD"} if "GET" in allow else allow))
    raise HttpError(error.status_code, "The method is not allowed here.", [("Allow", allowed)] if allowed else [])


def _building() -> HttpError:
    return HttpError(503, "The site is being built.", [("Retry-After", "2")])


class _Moved(Exception):  # noqa: N818
    """Raised where another path is the right one."""

    def __init__(self, redirect: Redirect) -> None:
        super().__init__(redirect)
        self.redirect = redirect


class _Front:
    """Checks what must hold for every request, finds who answers, and words all errors."""

    def __init__(self, parts: Parts, routes: Bottle) -> None:
        site = parts.config.site
        self._parts = parts
        self._routes = routes
        self._hosts = allowed_hosts(parts.config.server)
        self._base_path = site.base_path
        self._prefix = "" if site.strips_prefix else site.base_path
        self._private = "private, " if parts.config.auth.user else ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._dispatch(environ, start_response)
        except _Moved as moved:
            url = location(self._base_path, moved.redirect.path, environ.get("QUERY_STRING", ""))
            return send_redirect(start_response, moved.redirect.permanent, url)
        except NotPublishedError:
            ready = self._parts.build.ready.is_set()
            error = HttpError(404, "There is nothing of that name.") if ready else _building()
        except HttpError as refused:
            error = refused
        except Exception as exception:
            error = HttpError(500, "Something went wrong; the log says what.")
            error.__cause__ = exception
        return send_error(environ, start_response, error, lambda: self._parts.files.read("404.html"))

    def _dispatch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not is_allowed(environ.get("HTTP_HOST", ""), self._hosts):
            raise HttpError(400, "This server does not answer for that host; server.allowed_hosts says for which.")
        if environ.get("HTTP_SERVICE_WORKER") == "script":
            raise HttpError(403, "Pages of this site may not install service workers.")
        path = self._path(environ)
        if is_static(path):
            return self._static(environ, start_response, path)

        def closed(status: str, headers: Headers, exc_info: Any = None) -> Any:
            return start_response(status, [*CLOSED, *headers], exc_info)

        answer: Iterable[bytes] = self._routes(environ, closed)
        return answer

    def _path(self, environ: WSGIEnvironment) -> str:
        """The path below the site's prefix, relative and decoded; the prefix moves to SCRIPT_NAME."""
        raw = environ.get("PATH_INFO", "") or "/"
        if self._prefix:
            if raw == self._prefix:
                raise _Moved(Redirect(""))
            if not raw.startswith(f"{self._prefix}/"):
                raise NotPublishedError
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._prefix
            raw = environ["PATH_INFO"] = raw.removeprefix(self._prefix)
        if not raw.startswith("/"):
            raise HttpError(400, "The request asks for no path.")
        try:
            return raw[1:].encode("latin-1").decode()
        except UnicodeError:
            raise NotPublishedError from None

    def _static(self, environ: WSGIEnvironment, start_response: StartResponse, path: str) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in READERS:
            raise HttpError(405, "Pages can only be read.", [("Allow", ", ".join(READERS))])
        found = locate(path, self._parts.files)
        if isinstance(found, Redirect):
            raise _Moved(found)
        lasts = path.partition("/")[0] in FOREVER
        # Everybody may keep assets; the rest is for those who may read pages.
        private = "" if path.startswith("assets/") else self._private
        cache_control = f"{private or 'public, '}max-age=31536000, immutable" if lasts else f"{private}no-cache"
        return self._parts.files.answer(environ, start_response, found.name, cache_control)
