"""What somebody sees who opens an instance that does not run yet, and whom the server does not know.

A browser cannot send a token by following a link, and no cookie may stand for one. So the page asks for the token once,
and goes on with a ticket in its address: signed, good for one instance, and for a few minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from builder.fingerprint import theme_of
from shim.instances.models import notebook_path

if TYPE_CHECKING:
    from builder.config import Config
    from shim.instances.backend import Door, Observed
    from shim.instances.records import Instance
    from shim.tokens import Tokens

TICKET_SECONDS = 600
REFRESH_SECONDS = 3
_SALT = "nbfolio.open"

State = Literal["who", "waiting", "stopped", "failed"]

_HEADINGS: dict[State, str] = {
    "who": "Open a notebook instance",
    "waiting": "Your notebook instance is starting",
    "stopped": "Your notebook instance is stopped",
    "failed": "Your notebook instance does not run",
}


class Tickets:
    """Makes and reads tickets; they outlive the server, and end when its tokens change."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @cached_property
    def _signer(self) -> Any:
        # Made when the first ticket is: the key takes a while, and many servers never need it.
        from itsdangerous import URLSafeTimedSerializer

        return URLSafeTimedSerializer(self._tokens.key, salt=_SALT)

    def issue(self, instance: Instance) -> str:
        """A ticket for an instance."""
        return str(self._signer.dumps(instance.id))

    def admits(self, ticket: str, instance: Instance) -> bool:
        """Whether a ticket is ours, new enough, and for that instance."""
        from itsdangerous import BadData

        try:
            admitted: object = self._signer.loads(ticket, max_age=TICKET_SECONDS)
        except BadData:
            return False
        return admitted == instance.id


@dataclass(frozen=True)
class View:
    """One page of this module."""

    state: State
    name: str
    """Of the instance, as it was asked for."""
    action: str
    """Where its form goes; "" for none."""
    reason: str = ""
    message: str = ""
    """What was wrong with what the form sent."""


def view_of(instance: Instance, observed: Observed, action: str) -> View:
    """The page for an instance that does not run."""
    name = instance.spec.name
    if observed.status in ("stopped", "failed", "terminating", "not_found"):
        stopped = observed.status == "stopped"
        return View("stopped" if stopped else "failed", name, action if stopped else "", observed.reason)
    return View("waiting", name, "", observed.reason)


def lab_url(door: Door) -> str:
    """JupyterLab of an instance, with the token that lets in whoever has the address."""
    return f"{door.url}/lab?token={quote(door.token, safe='')}"


def page_url(base_path: str, instance: Instance, ticket: str = "") -> str:
    """The address under which an instance is opened, path-absolute."""
    url = f"{base_path}{notebook_path(instance)}"
    return f"{url}?ticket={quote(ticket, safe='')}" if ticket else url


class Pages:
    """The pages in the theme of the site, loaded when they are first shown."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def render(self, view: View) -> bytes:
        """A page as HTML."""
        refresh = REFRESH_SECONDS if view.state == "waiting" else 0
        heading = _HEADINGS[view.state]
        text: str = self._template.render(site=self._config.site, view=view, heading=heading, refresh=refresh)
        return text.encode()

    @cached_property
    def _template(self) -> Any:
        return theme_of(self._config).template("instance.html.j2")
