"""Requests that pages of other sites make a browser send: told by its Origin and Sec-Fetch-Site headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shim.headers import host_and_port

if TYPE_CHECKING:
    from collections.abc import Set

    from builder.config import Config

READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing, so that any page may make a browser send them."""

_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)
_DEFAULT_PORT = {"http": "80", "https": "443"}


def is_foreign(
    method: str, origin: str | None, sec_fetch_site: str | None, host: str, own_origins: Set[str] = frozenset()
) -> bool:
    """Whether a request that changes something was made by a page of another site; see `is_foreign_page`."""
    return method not in READING and is_foreign_page(origin, sec_fetch_site, host, own_origins)


def is_foreign_page(
    origin: str | None, sec_fetch_site: str | None, host: str, own_origins: Set[str] = frozenset()
) -> bool:
    """Whether a page of another site is behind a request; to be asked of WebSockets, too, whose method is GET.

    The headers are None when they were not sent; without both it is no browser. `host` is what the client asked for.
    An origin is ours when it is that host or one of `own_origins`; `null`, lists and what cannot be read are not.
    """
    if sec_fetch_site is not None and sec_fetch_site not in ("same-origin", "none"):
        return True
    if origin is None:
        return False
    match = _ORIGIN.fullmatch(origin)
    if not match:
        return True
    scheme = match[1].lower()
    named = _place(match[2], scheme)
    return named is None or (named != _place(host, scheme) and f"{scheme}://{named}" not in own_origins)


def own_origins(config: Config) -> frozenset[str]:
    """The origins that the settings name as the site's: of `site.url`, and of a public link that names its host.

    A public link with {protocol} in it stands for both.
    """
    pattern = config.server.public_link_pattern.replace("{baseUrl}", "/")
    addresses = [config.site.url, *(pattern.replace("{protocol}", scheme) for scheme in _DEFAULT_PORT)]
    return frozenset(filter(None, map(_origin, addresses)))


def _origin(address: str) -> str | None:
    match = _ORIGIN.fullmatch("/".join(address.split("/", 3)[:3]))
    place = _place(match[2], match[1].lower()) if match else None
    return f"{match[1].lower()}://{place}" if match and place else None


def _place(host: str, scheme: str) -> str | None:
    """A host and its port in the one form that origins have, without the port that the scheme implies."""
    parts = host_and_port(host)
    if parts is None:
        return None
    name, port = parts
    return name if port in ("", _DEFAULT_PORT[scheme]) else f"{name}:{port}"
