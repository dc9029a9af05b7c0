"""The route under which an instance is opened in a browser: on to JupyterLab, or a page that says how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from bottle import Bottle, HTTPResponse, request  # type: ignore[import-untyped]

from shim.answers import BEARER, HttpError
from shim.bodies import FORM, form_fields, media_type_of, read_body
from shim.headers import wants_html
from shim.instances.asking import RETRY, Asking, answered, log_as
from shim.instances.errors import UnknownError
from shim.instances.instances import Actor
from shim.instances.opening_pages import Pages, Tickets, View, lab_url, page_url, view_of

if TYPE_CHECKING:
    from builder.config import Config
    from shim.headers import Headers
    from shim.instances.backend import Observed
    from shim.instances.instances import Instances
    from shim.instances.records import Instance
    from shim.tokens import Tokens

LONGEST_FORM = 16 << 10
NOT_FOUND = "There is no notebook instance of that name."
UNNAMED = "That is no token of this server, or one that may not open this instance."
UNSENT: Headers = [("Referrer-Policy", "no-referrer")]
"""Where an address has a token in it."""
UNSHARED: Headers = [("Referrer-Policy", "same-origin")]
"""Of pages whose address has a ticket in it: with less than this, browsers would not say whose form they send."""


def add_opening_routes(app: Bottle, config: Config, instances: Instances, tokens: Tokens) -> None:
    """Add /notebook/<namespace>/<instance>/lab."""
    opening = _Opening(config, instances, tokens)
    where = ["/notebook/<namespace>/<instance>/lab", "/notebook/<namespace>/<instance>/lab/"]

    @app.get(where)  # type: ignore[untyped-decorator]
    def enter(namespace: str, instance: str) -> HTTPResponse:
        with answered():
            return opening.enter(namespace, instance)

    @app.post(where)  # type: ignore[untyped-decorator]
    def act(namespace: str, instance: str) -> HTTPResponse:
        with answered():
            return opening.act(namespace, instance)


class _Opening:
    def __init__(self, config: Config, instances: Instances, tokens: Tokens) -> None:
        self._instances = instances
        self._tokens = tokens
        self._asking = Asking(tokens)
        self._tickets = Tickets(tokens)
        self._pages = Pages(config)
        self._base_path = config.site.base_path

    def enter(self, namespace: str, name: str) -> HTTPResponse:
        """On to the instance when it runs, else a page that says how it is."""
        ticket = request.query.getunicode("ticket") or ""
        instance = self._ticketed(namespace, name, ticket)
        if instance is None:
            ticket = ""
            if self._is_stranger():
                return self._who(namespace, name, "")
            instance = self._named(self._asking.actor(), namespace, name)
        observed = self._instances.observe(instance)
        if observed.status == "running":
            door = self._instances.door(instance)
            return HTTPResponse(status=302, headers=[("Location", lab_url(door)), *UNSENT])
        if not _is_browser():
            raise _not_now(observed)
        return self._page(view_of(instance, observed, page_url(self._base_path, instance, ticket)))

    def act(self, namespace: str, name: str) -> HTTPResponse:
        """Take the token of a form, or start a stopped instance; then show how it is."""
        ticket = request.query.getunicode("ticket") or ""
        instance = self._ticketed(namespace, name, ticket)
        if instance is None:
            ticket = ""
            if self._tokens.open or "HTTP_AUTHORIZATION" in request.environ or not _is_form():
                instance = self._named(self._asking.actor(), namespace, name)
        fields = _form()
        if instance is None:
            instance = self._by_token(namespace, name, fields.get("token", ""))
            if instance is None:
                return self._who(namespace, name, UNNAMED)
        if not (ticket or self._tokens.open):
            ticket = self._tickets.issue(instance)
        if "start" in fields:
            self._instances.start(Actor(instance.spec.owner, admin=False), instance.id)
        location = page_url(self._base_path, instance, ticket)
        return HTTPResponse(status=303, headers=[("Location", location), *UNSENT])

    def _ticketed(self, namespace: str, name: str, ticket: str) -> Instance | None:
        """The instance of a ticket."""
        if not ticket:
            return None
        try:
            instance = self._instances.named(Actor("", admin=True), namespace, name)
        except UnknownError:
            return None
        if not self._tickets.admits(ticket, instance):
            return None
        log_as(instance.spec.owner)
        return instance

    def _by_token(self, namespace: str, name: str, token: str) -> Instance | None:
        """The instance, if the token of a form may open it."""
        # WSGI would show the header so.
        grant = self._tokens.grant(f"token {token}".encode().decode("latin-1"))
        if grant is None or not grant.may("instances"):
            return None
        log_as(grant.name)
        try:
            return self._instances.named(Actor(grant.owner, admin="admin" in grant.scopes), namespace, name)
        except UnknownError:
            return None

    def _named(self, actor: Actor, namespace: str, name: str) -> Instance:
        try:
            return self._instances.named(actor, namespace, name)
        except UnknownError:
            raise HttpError(404, NOT_FOUND) from None

    def _is_stranger(self) -> bool:
        """Whether a browser asks that shows no token at all."""
        return not self._tokens.open and "HTTP_AUTHORIZATION" not in request.environ and _is_browser()

    def _who(self, namespace: str, name: str, message: str) -> HTTPResponse:
        action = f"{self._base_path}/notebook/{quote(namespace, safe='')}/{quote(name, safe='')}/lab"
        return self._page(View("who", name, action, message=message), 401, BEARER)

    def _page(self, view: View, status: int = 200, headers: Headers | None = None) -> HTTPResponse:
        kind = ("Content-Type", "text/html; charset=utf-8")
        return HTTPResponse(self._pages.render(view), status, [kind, *UNSHARED, *(headers or [])])


def _not_now(observed: Observed) -> HttpError:
    """What a program is told of an instance that does not run."""
    soon = observed.status in ("creating", "waiting", "pulling")
    reason = observed.reason.rstrip(".") or observed.status
    return HttpError(503 if soon else 409, f"{reason}.", RETRY if soon else [])


def _is_browser() -> bool:
    return wants_html(request.environ.get("HTTP_ACCEPT", ""))


def _is_form() -> bool:
    return media_type_of(request.environ) == FORM


def _form() -> dict[str, str]:
    """The fields of the form. Raises HttpError: 400, 413, 415."""
    if not _is_form():
        raise HttpError(415, "This takes the form of the page (application/x-www-form-urlencoded).")
    return form_fields(read_body(request.environ, LONGEST_FORM))
