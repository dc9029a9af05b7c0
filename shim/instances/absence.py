"""What a server without notebook instances says to those who ask for some."""

from __future__ import annotations

from typing import NoReturn

from bottle import Bottle  # type: ignore[import-untyped]

from shim.answers import HttpError

NONE = "This server offers no notebook instances."


def add_no_instance_routes(app: Bottle, why: str) -> None:
    """Answer everything below /api/v1 with `why`, or with no more than that there are none."""
    message = f"{NONE} {why}".strip()

    @app.route("/api/v1<path:re:(/.*)?>", ["GET", "POST", "PATCH", "DELETE"])  # type: ignore[untyped-decorator]
    def none(path: str) -> NoReturn:
        raise HttpError(404, message)
