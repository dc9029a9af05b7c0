"""The application, put together from its parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from bottle import Bottle  # type: ignore[import-untyped]

from builder.config import Config
from shim.background import Publisher
from shim.front import Front, Moved
from shim.identity import Logins, wants_logins
from shim.library import Library
from shim.metrics import Metrics
from shim.operations import add_operation_routes
from shim.pages import legacy
from shim.publishing import add_publishing_routes
from shim.static import NotPublishedError, StaticFiles
from shim.tokens import Tokens

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from shim.instances.offer import Offer
    from shim.kernels.live import Live
    from shim.state import State


@dataclass(frozen=True)
class Parts:
    """What the application is made of."""

    config: Config
    files: StaticFiles
    build: Publisher
    library: Library
    tokens: Tokens
    logins: Logins | None
    """None: everybody may read."""
    metrics: Metrics
    live: Live | None
    """None: pages have no kernels."""
    offer: Offer | str
    """The notebook instances, or why there are none; "" where they are switched off."""


def parts_of(config: Config, build: Publisher, metrics: Metrics, state: State | None = None) -> Parts:
    """The parts that the settings ask for; `state` is needed where people log in, and where pages have kernels."""
    logins = None
    if wants_logins(config):
        if state is None:
            raise ValueError("logins need a place to be kept in")
        logins = Logins.open(config, state)
    library, tokens = Library(config, build), Tokens(config.auth)
    live = None
    if config.kernels.enabled and state is not None:
        # Imported here: sites without kernels do without their libraries.
        from shim.kernels.live import Live

        live = Live.make(config, build, state, metrics, tokens)
    offer: Offer | str = ""
    if config.instances.backend != "off" and state is not None:
        from shim.instances.offer import make_offer

        offer = make_offer(config, state, logging.getLogger("shim").info)
        if not isinstance(offer, str):
            metrics.count_instances(offer.instances.numbers)
    return Parts(config, published_files(config), build, library, tokens, logins, metrics, live, offer)


def wants_state(config: Config) -> bool:
    """Whether the settings ask for something that must survive a restart."""
    return config.kernels.enabled or wants_logins(config) or config.instances.backend != "off"


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
    return Front(
        parts.config,
        parts.files,
        routes(parts),
        parts.build,
        parts.logins,
        parts.metrics,
        parts.live,
        has_instances=not isinstance(parts.offer, str),
    )


def routes(parts: Parts) -> Bottle:
    """All routes of the program; the published files are served before them."""
    app = Bottle()
    add_operation_routes(
        app,
        parts.config,
        parts.build,
        parts.metrics,
        parts.tokens,
        restricted=parts.logins is not None,
        instances=not isinstance(parts.offer, str),
    )
    add_publishing_routes(app, parts.config, parts.library, parts.tokens, parts.metrics)
    if parts.live:
        from shim.kernels.routes import add_kernel_routes

        add_kernel_routes(app, parts.config.site.base_path, parts.live, parts.tokens)
    _add_instances(app, parts)
    if parts.logins:
        # Imported here: its pages need the theme.
        from shim.login import add_login_routes

        add_login_routes(app, parts.logins, parts.config, parts.metrics.login)

    @app.get(r"/<path:re:(?!_?api(/|$))[\s\S]+>")  # type: ignore[untyped-decorator]
    def page(path: str) -> NoReturn:
        if redirect := legacy(path, parts.files, presentation=parts.config.server.presentation_mode):
            raise Moved(redirect)
        raise NotPublishedError

    return app


def _add_instances(app: Bottle, parts: Parts) -> None:
    # Imported here: sites without instances do without their libraries.
    if isinstance(parts.offer, str):
        from shim.instances.absence import add_no_instance_routes

        add_no_instance_routes(app, parts.offer)
    else:
        from shim.instances.routes import add_instance_routes

        add_instance_routes(app, parts.config, parts.offer.instances, parts.tokens)
