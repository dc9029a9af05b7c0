"""The two cookies of a login, as pure functions of how the site is reached.

One carries the session id and is for the server alone; the other one tells the page runtime whom it may offer to log
out, and has no power.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from shim.client import Client
    from shim.headers import Headers

USER = "nbfolio_user"
_MOST = 100
"""Cookies of a request that are looked at; browsers keep some 180 for a whole domain."""
_MOST_IDS = 4


class Cookies:
    """Cookies of a site below one prefix, `base_path`; a login lasts at most `longest` seconds."""

    def __init__(self, base_path: str, longest: int) -> None:
        self._path = base_path or "/"
        self._longest = longest

    def session_name(self, client: Client) -> str:
        """What the session cookie is called: under TLS browsers themselves keep others from setting it."""
        if client.scheme != "https":
            return "nbfolio"
        return "__Host-nbfolio" if self._path == "/" else "__Secure-nbfolio"

    def session_ids(self, environ: Mapping[str, Any], client: Client) -> list[str]:
        """The session ids that a request carries, the most specific first; honest browsers send one."""
        name = self.session_name(client)
        pairs = (item.strip().partition("=") for item in environ.get("HTTP_COOKIE", "").split(";", _MOST)[:_MOST])
        return [value for key, _, value in pairs if key == name and value][:_MOST_IDS]

    def begin(self, client: Client, session_id: str, user: str) -> Headers:
        """The headers that log a browser in."""
        return self._headers(client, session_id, quote(user, safe=""), self._longest)

    def end(self, client: Client) -> Headers:
        """The headers that make a browser forget the login."""
        return self._headers(client, "", "", 0)

    def _headers(self, client: Client, session_id: str, user: str, age: int) -> Headers:
        common = f"Max-Age={age}; Path={self._path}; SameSite=Lax"
        if client.scheme == "https":
            common += "; Secure"
        return [
            ("Set-Cookie", f"{self.session_name(client)}={session_id}; {common}; HttpOnly"),
            ("Set-Cookie", f"{USER}={user}; {common}"),
        ]
