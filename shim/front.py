"""What holds for every request: who asks, whether that is allowed, who answers, and how errors are worded."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bottle import Bottle, HTTPError  # type: ignore[import-untyped]

from shim.answers import CLOSED, COOKIE, HttpError, location, send_error, send_redirect
from shim.client import Proxies
from shim.envelope import in_envelope, send_enveloped
from shim.headers import wants_html
from shim.logs import log_request
from shim.operations import building
from shim.origins import is_foreign, is_foreign_page, own_origins
from shim.pages import EXTENSIONS, FOREVER, Redirect, is_static, locate
from shim.startup import allowed_hosts, is_allowed
from shim.static import NotPublishedError, StaticFiles
from shim.targets import login_location

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from builder.config import Config
    from shim.background import BuildState
    from shim.headers import Headers
    from shim.identity import Logins
    from shim.metrics import Kind, Metrics

READERS = ("GET", "HEAD")
KINDS: dict[str, Kind] = {
    "": "page",
    "dashboards": "page",
    "dashboards-plain": "page",
    "media": "media",
    "assets": "assets",
    "_api": "api",
    "api": "kernels",
    "notebook": "instances",
    "login": "login",
    "logout": "login",
    "healthz": "operation",
    "readyz": "operation",
    "metrics": "operation",
    "openapi.json": "operation",
}
"""What the first segment of a path says about a request."""
SINGLE = frozenset({"login", "logout", "healthz", "readyz", "metrics", "openapi.json"})
"""Routes that stand alone; what lies below their names is short addresses of pages."""
OPEN_KINDS = frozenset({"assets", "api", "instances", "login", "operation"})
"""Open to people who are not logged in: the rest of the API asks for a token, and the rest shows no notebook."""
INSTANCE = re.compile("[^/]+/[^/]+/lab/?")
"""What follows /notebook in the address of an instance."""
OPEN_FILES = frozenset({"robots.txt", "favicon.ico"})


KERNELS = ("Nbfolio-Kernels", "available")
"""Tells a page that its live cells can have kernels here."""
NO_KERNELS = "This server has no kernels."
NOTHING_ELSE = "Kernels and sessions of pages are all there is below /api."


class Moved(Exception):  # noqa: N818
    """Raised where another path is the right one."""

    def __init__(self, redirect: Redirect) -> None:
        super().__init__(redirect)
        self.redirect = redirect


class LiveKernels(Protocol):
    """What is to be known here of kernels."""

    @property
    def available(self) -> bool:
        """Whether pages can have kernels."""
        ...

    def owner(self, environ: WSGIEnvironment) -> str:
        """On whose behalf a token acts that stands for a login; "" without one."""
        ...


class _Call(NamedTuple):
    environ: WSGIEnvironment
    start_response: StartResponse


class Front:
    """The WSGI application around the published files and the routes of the program."""

    def __init__(
        self,
        config: Config,
        files: StaticFiles,
        routes: Bottle,
        build: BuildState,
        logins: Logins | None,
        metrics: Metrics,
        live: LiveKernels | None = None,
        *,
        has_instances: bool = False,
    ) -> None:
        site, server = config.site, config.server
        self._files = files
        self._routes = routes
        self._build = build
        self._logins = logins
        self._metrics = metrics
        self._live = live
        self._has_instances = has_instances
        self._hosts = allowed_hosts(server)
        self._origins = own_origins(config)
        self._proxies = Proxies(server.trusted_proxies, config.auth.user_header)
        self._base_path = site.base_path
        self._prefix = "" if site.strips_prefix else site.base_path
        self._presentation = server.presentation_mode
        self._private = "private, " if logins else ""
        routes.catchall = False
        # Errors come back here; Bottle's own pages show what they should not.
        routes.default_error_handler = _refuse

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        outcome = _Outcome(start_response)
        self._metrics.started()
        try:
            return self._answer(_Call(environ, outcome), outcome)
        finally:
            seconds = time.perf_counter() - started
            kind = environ.get("nbfolio.kind", "other")
            self._metrics.request(kind, environ["REQUEST_METHOD"], outcome.status, seconds)
            log_request(environ, outcome.status, seconds, outcome.reason, outcome.cause)

    def _answer(self, call: _Call, outcome: _Outcome) -> Iterable[bytes]:
        try:
            return self._dispatch(call)
        except Moved as moved:
            url = location(self._base_path, moved.redirect.path, call.environ.get("QUERY_STRING", ""))
            return send_redirect(call.start_response, moved.redirect.permanent, url)
        except NotPublishedError:
            error = self._nothing(call.environ)
        except HttpError as refused:
            error = refused
        except Exception as exception:
            error = HttpError(500, "Something went wrong; the log says what.")
            outcome.cause = exception
        outcome.reason = error.message
        call.environ.setdefault("nbfolio.request_id", secrets.token_hex(8))
        if in_envelope(call.environ.get("PATH_INFO", "").removeprefix(self._prefix)):
            return send_enveloped(call.environ, call.start_response, error)
        return send_error(call.environ, call.start_response, error, lambda: self._files.read("404.html"))

    def _dispatch(self, call: _Call) -> Iterable[bytes]:
        environ = call.environ
        self._check_sender(environ)
        path = self._path(environ)
        first, _, rest = path.partition("/")
        kind = environ["nbfolio.kind"] = self._kind(path, first, rest)
        if self._logins and kind not in OPEN_KINDS and path not in OPEN_FILES:
            self._check_login(environ, self._logins)
        if is_static(path):
            return self._static(call, path)

        def closed(status: str, headers: Headers, exc_info: Any = None) -> Any:
            own = {name for name, _ in headers}
            usual = [header for header in CLOSED if header[0] not in own]
            return call.start_response(status, [*usual, ("X-Request-Id", request_id), *headers], exc_info)

        request_id = environ["nbfolio.request_id"] = secrets.token_hex(8)
        # Bottle leaves decoded text there, which is no WSGI string any more.
        as_sent = environ["PATH_INFO"]
        try:
            answer: Iterable[bytes] = self._routes(environ, closed)
        finally:
            environ["PATH_INFO"] = as_sent
        return answer

    def _kind(self, path: str, first: str, rest: str) -> Kind:
        """What a request is about, from its path and the two parts that its first slash makes of it."""
        if rest and first in SINGLE:
            return "other"
        if in_envelope(f"/{path}"):
            return "instances"
        kind = KINDS.get(first, "other")
        if kind == "instances" and not (self._has_instances and INSTANCE.fullmatch(rest)):
            # The short address of a dashboard that has this name, too.
            return "other"
        return kind

    def _nothing(self, environ: WSGIEnvironment) -> HttpError:
        if environ.get("nbfolio.kind") == "kernels":
            return HttpError(403, NOTHING_ELSE if self._live else NO_KERNELS)
        return HttpError(404, "There is nothing of that name.") if self._build.ready.is_set() else building()

    def _check_sender(self, environ: WSGIEnvironment) -> None:
        client = environ["nbfolio.client"] = self._proxies.client(environ)
        # The host that was really asked for, too: a page that a foreign name brought here could send the other header.
        if not is_allowed(client.host, self._hosts) or not is_allowed(environ.get("HTTP_HOST", ""), self._hosts):
            raise HttpError(400, "This server does not answer for that host; server.allowed_hosts says for which.")
        sender = (environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE"), client.host, self._origins)
        # A WebSocket begins with a GET, and can do more than read.
        upgrades = "HTTP_UPGRADE" in environ and is_foreign_page(*sender)
        if upgrades or is_foreign(environ["REQUEST_METHOD"], *sender):
            raise HttpError(
                403,
                "Pages of other sites may not change anything here. If this is the same site behind a proxy, "
                "server.trusted_proxies or server.public_link_pattern has to say so.",
            )
        if environ.get("HTTP_SERVICE_WORKER") == "script":
            raise HttpError(403, "Pages of this site may not install service workers.")

    def _path(self, environ: WSGIEnvironment) -> str:
        """The path below the site's prefix, relative and decoded; the prefix moves to SCRIPT_NAME."""
        raw = environ.get("PATH_INFO", "") or "/"
        if self._prefix:
            if raw == self._prefix:
                raise Moved(Redirect(""))
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

    def _check_login(self, environ: WSGIEnvironment, logins: Logins) -> None:
        client = environ["nbfolio.client"]
        if user := logins.user_of(environ, client):
            environ["nbfolio.user"], environ["nbfolio.owner"] = user, f"user:{user}"
            environ["nbfolio.holds"] = logins.holds(user, environ, client)
            return
        if environ["nbfolio.kind"] == "kernels" and self._live and (owner := self._live.owner(environ)):
            environ["nbfolio.user"] = environ["nbfolio.owner"] = owner
            return
        login = login_location(environ, self._base_path)
        if wants_html(environ.get("HTTP_ACCEPT", "")):
            raise HttpError(302, "Log in to read this site.", [("Location", login)])
        raise HttpError(401, "Log in to read this site.", COOKIE)

    def _static(self, call: _Call, path: str) -> Iterable[bytes]:
        if call.environ["REQUEST_METHOD"] not in READERS:
            raise HttpError(405, "Pages can only be read.", [("Allow", ", ".join(READERS))])
        found = locate(path, self._files, presentation=self._presentation)
        if found is None:
            raise NotPublishedError
        if isinstance(found, Redirect):
            raise Moved(found)
        lasts = path.partition("/")[0] in FOREVER and not path.startswith(f"{EXTENSIONS}/")
        # Everybody may keep assets; the rest is for those who may read pages.
        private = "" if path.startswith("assets/") else self._private
        cache_control = f"{private or 'public, '}max-age=31536000, immutable" if lasts else f"{private}no-cache"
        start_response = call.start_response
        if self._live and found.name.endswith(".html") and self._live.available:
            start_response = _with_kernels(start_response)
        return self._files.answer(call.environ, start_response, found.name, cache_control)


def _with_kernels(start_response: StartResponse) -> StartResponse:
    def tells(status: str, headers: Headers, exc_info: Any = None) -> Any:
        return start_response(status, [*headers, KERNELS], exc_info)

    return tells


class _Outcome:
    """What became of a request, for log and metrics; stands in for start_response."""

    def __init__(self, start_response: StartResponse) -> None:
        self._start_response = start_response
        self.status = 500
        self.reason = ""
        self.cause: BaseException | None = None

    def __call__(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        self.status = int(status[:3])
        return self._start_response(status, headers, exc_info)


def _refuse(error: HTTPError) -> None:
    """What Bottle refuses: no such route, or not with this method."""
    if error.status_code == 404:
        raise NotPublishedError
    allow = {method for method in error.get_header("Allow", "").split(",") if method}
    # Bottle answers HEAD wherever it answers GET, and does not say so.
    allowed = ", ".join(sorted(allow | {"HEAD"} if "GET" in allow else allow))
    raise HttpError(error.status_code, "The method is not allowed here.", [("Allow", allowed)] if allowed else [])
