"""Who reads: the session of a login, or the name that a trusted proxy gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shim.accounts import Accounts
from shim.cookies import Cookies
from shim.sessions import Sessions
from shim.throttle import Throttle

if TYPE_CHECKING:
    from builder.config import Config
    from shim.client import Client
    from shim.state import State

HOUR = 3600


class Provider(Protocol):
    """One way to know who sends a request."""

    def user_of(self, environ: Mapping[str, Any], client: Client, *, visit: bool = True) -> str | None:
        """The name of the user, None when this provider knows none; asking may count as a visit of the user."""
        ...


class ProxyHeader:
    """The user whom a trusted proxy names; `Proxies` decides whom to trust."""

    def user_of(self, environ: Mapping[str, Any], client: Client, *, visit: bool = True) -> str | None:
        """The name that the proxy gave."""
        return client.user or None


@dataclass(frozen=True)
class SessionCookie:
    """The user whose session id the browser sends."""

    sessions: Sessions
    accounts: Accounts
    cookies: Cookies

    def user_of(self, environ: Mapping[str, Any], client: Client, *, visit: bool = True) -> str | None:
        """The user of the first session that holds; one of an earlier password, or of nobody any more, is ended."""
        for session_id in self.cookies.session_ids(environ, client):
            if session := self.sessions.user_of(session_id, visit=visit):
                if session.fingerprint == self.accounts.fingerprint(session.user):
                    return session.user
                self.sessions.end(session_id)
        return None


def wants_logins(config: Config) -> bool:
    """Whether the settings ask readers to log in; if not, everybody may read."""
    return bool(config.auth.user or config.auth.user_header)


@dataclass(frozen=True)
class Logins:
    """Everything about logins of one site; `open` makes it."""

    accounts: Accounts
    sessions: Sessions
    throttle: Throttle
    cookies: Cookies
    providers: tuple[Provider, ...]
    """Asked in this order."""

    @classmethod
    def open(cls, config: Config, state: State) -> Logins:
        """The logins that the settings ask for; see `wants_logins`."""
        auth = config.auth
        longest = auth.session_max_hours * HOUR
        accounts = Accounts(auth.user)
        sessions = Sessions(state, auth.session_idle_hours * HOUR, longest)
        cookies = Cookies(config.site.base_path, longest)
        by_proxy: tuple[Provider, ...] = (ProxyHeader(),) if auth.user_header else ()
        by_session: tuple[Provider, ...] = (SessionCookie(sessions, accounts, cookies),) if auth.user else ()
        return cls(accounts, sessions, Throttle(), cookies, by_proxy + by_session)

    def user_of(self, environ: Mapping[str, Any], client: Client, *, visit: bool = True) -> str | None:
        """Who sent a request, None for a stranger; asking may count as a visit of the user."""
        return next((user for one in self.providers if (user := one.user_of(environ, client, visit=visit))), None)

    def holds(self, user: str, environ: Mapping[str, Any], client: Client) -> Callable[[bool], bool]:
        """What tells later whether a request would still be the user's, and is told whether that counts as a visit."""
        # The rest of the request need not be kept for that.
        cookie = {"HTTP_COOKIE": environ.get("HTTP_COOKIE", "")}
        return lambda visit: self.user_of(cookie, client, visit=visit) == user
