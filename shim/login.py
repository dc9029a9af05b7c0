"""The routes of logging in and out, for browsers with or without JavaScript and for scripts."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse, request  # type: ignore[import-untyped]

from builder.fingerprint import theme_of
from shim.accounts import BusyError
from shim.answers import COOKIE, HttpError, json_answer
from shim.bodies import FORM, form_fields, media_type_of, read_body
from shim.headers import wants_html
from shim.targets import asked_target, return_target

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from builder.config import Config
    from shim.client import Client
    from shim.headers import Headers
    from shim.identity import Logins

logger = logging.getLogger("shim.login")

LONGEST_BODY = 16 << 10
WRONG = "The user name or the password is wrong."


def add_login_routes(app: Bottle, logins: Logins, config: Config, tried: Callable[[bool], None]) -> None:
    """Add /login and /logout to an application in which `environ["nbfolio.client"]` says who asks.

    `tried` is told of every try to log in, and whether it was the right password.
    """
    pages = _Pages(config)
    _add_login(app, logins, pages, config.site.base_path, tried)
    _add_logout(app, logins, pages, f"{config.site.base_path}/")


def _add_login(app: Bottle, logins: Logins, pages: _Pages, base_path: str, tried: Callable[[bool], None]) -> None:
    @app.get(["/login", "/login/"])  # type: ignore[untyped-decorator]
    def form() -> HTTPResponse:
        target = asked_target(request.environ.get("QUERY_STRING", ""), base_path)
        if logins.user_of(request.environ, _client()):
            return _redirect(target)
        _refuse_without_accounts(logins)
        return pages.form(target)

    @app.post(["/login", "/login/"])  # type: ignore[untyped-decorator]
    def log_in() -> HTTPResponse:
        _refuse_without_accounts(logins)
        attempt = _attempt(request.environ)
        target = return_target(attempt.target, base_path)
        try:
            session_id = admit(logins, _client().address, attempt.name, attempt.password)
        except HttpError as refused:
            tried(False)
            if attempt.is_form:
                return pages.form(target, attempt.name, refused)
            raise
        tried(True)
        _end_sessions(logins)
        cookies = logins.cookies.begin(_client(), session_id, attempt.name)
        return _redirect(target, cookies) if attempt.is_form else json_answer(200, {"user": attempt.name}, cookies)


def _add_logout(app: Bottle, logins: Logins, pages: _Pages, root: str) -> None:
    @app.get(["/logout", "/logout/"])  # type: ignore[untyped-decorator]
    def ask() -> HTTPResponse:
        user = logins.user_of(request.environ, _client())
        return pages.leave(user) if user else _redirect(root)

    @app.post(["/logout", "/logout/"])  # type: ignore[untyped-decorator]
    def log_out() -> HTTPResponse:
        _end_sessions(logins)
        # The back button must not show what the browser has kept.
        cookies = [*logins.cookies.end(_client()), ("Clear-Site-Data", '"cache"')]
        if wants_html(request.environ.get("HTTP_ACCEPT", "")):
            return _redirect(root, cookies)
        return HTTPResponse(status=204, headers=cookies)


def _end_sessions(logins: Logins) -> None:
    """End the sessions that the browser sent: the id of a login is always a new one."""
    for session_id in logins.cookies.session_ids(request.environ, _client()):
        logins.sessions.end(session_id)


def admit(logins: Logins, address: str, name: str, password: str) -> str:
    """The id of a new session. Raises HttpError: 401, 429 after too many failures, 503 when it cannot be said now."""
    if not name or not password:
        raise HttpError(401, WRONG, COOKIE)
    if seconds := logins.throttle.blocked(address, name):
        minutes = math.ceil(seconds / 60)
        wait = "a minute" if minutes == 1 else f"{minutes} minutes"
        raise HttpError(429, f"There were too many failed attempts. Try again in {wait}.", _retry_after(seconds))
    # Counted before the password is checked: attempts at the same time must not all be let in.
    logins.throttle.failed(address, name)
    try:
        right = logins.accounts.check(name, password)
    except BusyError as busy:
        logins.throttle.forgive(address, name)
        raise HttpError(503, str(busy), _retry_after(5)) from busy
    fingerprint = logins.accounts.fingerprint(name)
    if not right or fingerprint is None:
        # A name that nobody has may be a password in the wrong field.
        logger.info("A login from %s as %s failed.", address, "nobody known" if fingerprint is None else repr(name))
        raise HttpError(401, WRONG, COOKIE)
    logins.throttle.succeeded(address, name)
    logger.info("%r logged in from %s.", name, address)
    return logins.sessions.start(name, fingerprint)


class _Pages:
    """The pages of this module in the theme of the site, loaded when they are first shown."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def form(self, target: str, name: str = "", refused: HttpError | None = None) -> HTTPResponse:
        shown = name if name.isprintable() else ""
        body = self._render(task="login", name=shown, target=target, message=refused.message if refused else "")
        return _html(body, refused.status if refused else 200, refused.headers if refused else [])

    def leave(self, user: str) -> HTTPResponse:
        return _html(self._render(task="logout", name=user, target="", message=""), 200, [])

    def _render(self, task: str, **context: str) -> bytes:
        site = self._config.site
        text: str = self._template.render(site=site, task=task, action=f"{site.base_path}/{task}", **context)
        return text.encode()

    @cached_property
    def _template(self) -> Any:
        return theme_of(self._config).template("login.html.j2")


@dataclass(frozen=True)
class _Attempt:
    name: str
    password: str
    target: str
    is_form: bool


def _attempt(environ: WSGIEnvironment) -> _Attempt:
    kind = media_type_of(environ)
    if kind == "application/json":
        return _from_json(_body(environ))
    if kind == FORM:
        return _from_form(_body(environ))
    raise HttpError(415, "A login is sent as a form (application/x-www-form-urlencoded) or as application/json.")


def _body(environ: WSGIEnvironment) -> bytes:
    return read_body(environ, LONGEST_BODY, f"A login is no longer than {LONGEST_BODY} bytes.")


def _from_form(data: bytes) -> _Attempt:
    fields = form_fields(data)
    return _Attempt(fields.get("username", ""), fields.get("password", ""), fields.get("next", ""), is_form=True)


def _from_json(data: bytes) -> _Attempt:
    try:
        # `.decode()`: json itself would take UTF-16 and UTF-32, too.
        fields = json.loads(data.decode())
    except (ValueError, RecursionError):
        fields = None
    match fields:
        case {"username": str(name), "password": str(password)}:
            return _Attempt(name, password, "", is_form=False)
    raise HttpError(400, 'A login is a JSON object like {"username": "ada", "password": "..."}.')


def _client() -> Client:
    client: Client = request.environ["nbfolio.client"]
    return client


def _refuse_without_accounts(logins: Logins) -> None:
    if not logins.accounts:
        raise HttpError(403, "The proxy in front of this site logs people in; open the site at its public address.")


def _retry_after(seconds: int) -> Headers:
    return [("Retry-After", str(seconds))]


def _redirect(target: str, headers: Headers | None = None) -> HTTPResponse:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return HTTPResponse(status=302, headers=[("Location", target), kind, *(headers or [])])


def _html(body: bytes, status: int, headers: Headers) -> HTTPResponse:
    return HTTPResponse(body, int(status), [("Content-Type", "text/html; charset=utf-8"), *headers])
