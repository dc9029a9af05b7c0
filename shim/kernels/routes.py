"""The routes below `/api`: those of Jupyter Server that have to do with kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request  # type: ignore[import-untyped]

from builder import __version__
from builder.errors import NotebookError, UnsafePathError
from shim.answers import HttpError, json_answer
from shim.kernels.bodies import Json, read_object, text_of
from shim.kernels.callers import Caller, caller_of, field_of, session_id
from shim.kernels.caps import RETRY_SECONDS
from shim.kernels.channels import Handshake
from shim.kernels.errors import (
    BusyError,
    NotLiveError,
    NotReadyError,
    SocketsError,
    StalePageError,
    UnknownKernelError,
    UnknownPageError,
)
from shim.kernels.gateway import GatewayError
from shim.kernels.kernels import Wanted
from shim.kernels.models import kernel_model, me_model, session_model, specs_model, status_model
from shim.kernels.parameters import ParameterError
from shim.kernels.paths import page_paths
from shim.kernels.records import Label, new_id

if TYPE_CHECKING:
    from shim.kernels.live import Live
    from shim.tokens import Tokens
    from shim.upgrade import Upgrade

PLAIN = "This address is for WebSockets; kernels are started with POST /api/kernels."
NO_PATH = "Say which notebook: in the header X-Jupyter-Notebook-Path, or as path in the body."

_STATUS: dict[type[Exception], int] = {
    UnsafePathError: 400,
    ParameterError: 400,
    NotLiveError: 403,
    UnknownPageError: 404,
    UnknownKernelError: 404,
    StalePageError: 409,
    NotebookError: 409,
    GatewayError: 502,
    BusyError: 503,
    NotReadyError: 503,
    SocketsError: 503,
}
"""The answer to what is refused; its sentence is for whoever asked."""


NAMES = ("path", "name", "type")
"""What a client may change of a session."""


def add_kernel_routes(app: Bottle, base_path: str, live: Live, tokens: Tokens) -> None:
    """Add the routes of kernels and sessions to an application whose front says who asks."""
    api = _Api(base_path, tokens)
    _add_facts(app, live, api)
    _add_kernels(app, live, api)
    _add_use(app, live, api)
    _add_sessions(app, live, api)


def _both(path: str) -> list[str]:
    return [path, f"{path}/"]


def _add_facts(app: Bottle, live: Live, api: _Api) -> None:
    @app.get(_both("/api"))  # type: ignore[untyped-decorator]
    def version() -> HTTPResponse:
        return json_answer(200, {"version": __version__})

    @app.get(_both("/api/me"))  # type: ignore[untyped-decorator]
    def me() -> HTTPResponse:
        return json_answer(200, me_model(api.caller()))

    @app.get(_both("/api/status"))  # type: ignore[untyped-decorator]
    def status() -> HTTPResponse:
        return json_answer(200, status_model(live.kernels.kernels(api.caller()), live.started))

    @app.get(_both("/api/kernelspecs"))  # type: ignore[untyped-decorator]
    def specs() -> HTTPResponse:
        return json_answer(200, specs_model(live.gateways.default, live.gateways.specs()))


def _add_kernels(app: Bottle, live: Live, api: _Api) -> None:
    @app.get(_both("/api/kernels"))  # type: ignore[untyped-decorator]
    def kernels() -> HTTPResponse:
        return json_answer(200, [kernel_model(kernel) for kernel in live.kernels.kernels(api.caller())])

    @app.post(_both("/api/kernels"))  # type: ignore[untyped-decorator]
    def start() -> HTTPResponse:
        with _answered():
            kernel = live.kernels.start(api.caller(), api.wanted(read_object(request.environ)))
        return json_answer(201, kernel_model(kernel), [("Location", api.location(f"kernels/{kernel.record.id}"))])

    @app.get(_both("/api/kernels/<kernel>"))  # type: ignore[untyped-decorator]
    def show(kernel: str) -> HTTPResponse:
        with _answered():
            return json_answer(200, kernel_model(live.kernels.kernel(api.caller(), kernel)))

    @app.delete(_both("/api/kernels/<kernel>"))  # type: ignore[untyped-decorator]
    def delete(kernel: str) -> HTTPResponse:
        with _answered():
            live.kernels.delete(api.caller(), kernel)
        return HTTPResponse(status=204)


def _add_use(app: Bottle, live: Live, api: _Api) -> None:
    @app.post(_both("/api/kernels/<kernel>/interrupt"))  # type: ignore[untyped-decorator]
    def interrupt(kernel: str) -> HTTPResponse:
        with _answered():
            live.kernels.interrupt(api.caller(), kernel)
        return HTTPResponse(status=204)

    @app.post(_both("/api/kernels/<kernel>/restart"))  # type: ignore[untyped-decorator]
    def restart(kernel: str) -> HTTPResponse:
        with _answered():
            return json_answer(200, kernel_model(live.kernels.restart(api.caller(), kernel)))

    @app.get(_both("/api/kernels/<kernel>/channels"))  # type: ignore[untyped-decorator]
    def channels(kernel: str) -> HTTPResponse:
        caller = api.caller()
        upgrade: Upgrade | None = request.environ.get("nbfolio.upgrade")
        if upgrade is None:
            raise HttpError(426, PLAIN)
        holds = request.environ.get("nbfolio.holds")
        handshake = Handshake(upgrade.key, upgrade.protocols, api.socket_session(), holds)
        with _answered():
            upgrade.accept(live.kernels.opening(caller, kernel, handshake))
        return HTTPResponse(status=101)


def _add_sessions(app: Bottle, live: Live, api: _Api) -> None:
    @app.get(_both("/api/sessions"))  # type: ignore[untyped-decorator]
    def sessions() -> HTTPResponse:
        found = live.kernels.kernels(api.caller())
        return json_answer(200, [session_model(kernel) for kernel in found if kernel.record.label])

    @app.post(_both("/api/sessions"))  # type: ignore[untyped-decorator]
    def start() -> HTTPResponse:
        with _answered():
            wanted = api.wanted(read_object(request.environ), labelled=True)
            kernel = live.kernels.start(api.caller(), wanted)
        model = session_model(kernel)
        return json_answer(201, model, [("Location", api.location(f"sessions/{model['id']}"))])

    @app.get(_both("/api/sessions/<session>"))  # type: ignore[untyped-decorator]
    def show(session: str) -> HTTPResponse:
        with _answered():
            return json_answer(200, session_model(live.kernels.session(api.caller(), session)))

    @app.route(_both("/api/sessions/<session>"), "PATCH")  # type: ignore[untyped-decorator]
    def rename(session: str) -> HTTPResponse:
        fields = read_object(request.environ)
        names = {name: text for name in NAMES if (text := text_of(fields, name))}
        with _answered():
            return json_answer(200, session_model(live.kernels.rename(api.caller(), session, **names)))

    @app.delete(_both("/api/sessions/<session>"))  # type: ignore[untyped-decorator]
    def delete(session: str) -> HTTPResponse:
        with _answered():
            kernel = live.kernels.session(api.caller(), session)
            live.kernels.delete(api.caller(), kernel.record.id)
        return HTTPResponse(status=204)


class _Api:
    """What the routes read out of a request."""

    def __init__(self, base_path: str, tokens: Tokens) -> None:
        self._base_path = base_path
        self._tokens = tokens

    def caller(self) -> Caller:
        return caller_of(request.environ, self._tokens)

    def location(self, path: str) -> str:
        return f"{self._base_path}/api/{path}"

    def socket_session(self) -> str:
        """What a WebSocket calls itself: the query alone says it, for headers name the visit of the page."""
        return session_id(field_of(request.environ, "session_id"))

    def wanted(self, fields: Json, *, labelled: bool = False) -> Wanted:
        """What the body and headers of a start ask for. Raises HttpError 400, UnsafePathError."""
        path = self._path(fields)
        label = Label(new_id(), path, text_of(fields, "name"), text_of(fields, "type") or "notebook")
        return Wanted(
            page_paths(path, self._base_path),
            text_of(fields, "query").removeprefix("?"),
            request.environ.get("HTTP_X_NBFOLIO_PAGE_VERSION", ""),
            label if labelled else None,
        )

    def _path(self, fields: Json) -> str:
        header = request.environ.get("HTTP_X_JUPYTER_NOTEBOOK_PATH", "")
        try:
            path = header.encode("latin-1").decode()
        except UnicodeError:
            raise HttpError(400, "The header X-Jupyter-Notebook-Path is not valid UTF-8.") from None
        notebook = fields.get("notebook")
        path = path or text_of(fields, "path") or (text_of(notebook, "path") if isinstance(notebook, dict) else "")
        if not path:
            raise HttpError(400, NO_PATH)
        return path


@contextmanager
def _answered() -> Iterator[None]:
    """Answer with what the refusals of kernels mean."""
    try:
        yield
    except tuple(_STATUS) as error:
        status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
        raise _refusal(status, error) from error


def _refusal(status: int, error: Exception) -> HttpError:
    headers = [("Retry-After", str(RETRY_SECONDS))] if status == 503 else []
    more = {"queue": error.place} if isinstance(error, BusyError) else {}
    return HttpError(status, str(error), headers, more)
