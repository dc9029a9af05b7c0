"""The routes for whoever runs the server: is it alive, is it ready, what did it do, what can it do."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request  # type: ignore[import-untyped]

from shim.answers import BEARER, HttpError, json_answer
from shim.metrics import CONTENT_TYPE
from shim.openapi import description
from shim.startup import is_loopback

if TYPE_CHECKING:
    from builder.config import Config
    from shim.background import BuildState
    from shim.client import Client
    from shim.metrics import Metrics
    from shim.tokens import Tokens


def add_operation_routes(
    app: Bottle,
    config: Config,
    build: BuildState,
    metrics: Metrics,
    tokens: Tokens,
    *,
    restricted: bool,
    instances: bool,
) -> None:
    """Add /healthz, /readyz, /metrics and /openapi.json.

    `restricted`: the last two are for this machine or a token. `instances`: there are notebook instances to describe.
    """
    check = _check_access(tokens) if restricted else lambda: None

    @cache
    def api() -> bytes:
        return json.dumps(description(config, instances=instances)).encode()

    @app.get(["/healthz", "/healthz/"])  # type: ignore[untyped-decorator]
    def healthz() -> HTTPResponse:
        return json_answer(200, {"status": "ok"})

    @app.get(["/readyz", "/readyz/"])  # type: ignore[untyped-decorator]
    def readyz() -> HTTPResponse:
        if not build.ready.is_set():
            raise building()
        return json_answer(200, {"status": "ready"})

    @app.get(["/metrics", "/metrics/"])  # type: ignore[untyped-decorator]
    def show_metrics() -> HTTPResponse:
        check()
        return HTTPResponse(metrics.text(), 200, [("Content-Type", CONTENT_TYPE)])

    @app.get(["/openapi.json", "/openapi.json/"])  # type: ignore[untyped-decorator]
    def openapi() -> HTTPResponse:
        check()
        return HTTPResponse(api(), 200, [("Content-Type", "application/json")])


def building() -> HttpError:
    """The answer while the first build goes on."""
    return HttpError(503, "The site is being built.", [("Retry-After", "2")])


def _check_access(tokens: Tokens) -> Callable[[], None]:
    def check() -> None:
        client: Client = request.environ["nbfolio.client"]
        if client.is_direct and is_loopback(client.address):
            return
        if tokens.grant(request.environ.get("HTTP_AUTHORIZATION")) is None:
            raise HttpError(401, "This is shown to this machine itself and to whoever has a token.", BEARER)

    return check
