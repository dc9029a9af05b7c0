"""Who asks: the address, scheme and host of a client, also of one behind a proxy that the settings name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal

from shim.headers import host_and_port

MAX_HOPS = 64
"""Entries of X-Forwarded-For that are looked at."""
MAX_USER = 256
"""Characters of a name that a proxy may give."""

_HOP = re.compile(r"([0-9.]{7,15})(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9A-Fa-f:.]{2,45})")
_MARKS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP")
_MARKS_OF_A_PROXY = (*_MARKS, "HTTP_FORWARDED", "HTTP_VIA")

Scheme = Literal["http", "https"]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Client:
    """Whoever sent a request, as far as it can be known."""

    address: str
    """IP address in its shortest form."""
    scheme: Scheme
    host: str
    """The host that was asked for, with its port if it was named; as it was sent, so nothing says it is readable."""
    user: str
    """Who is logged in according to a trusted proxy; "" when none says so."""
    is_direct: bool
    """Whether nothing hints at a proxy in between, trusted or not: only then is a loopback address this machine."""


class Proxies:
    """The proxies whose forwarding headers are believed.

    waitress leaves out headers with an underscore in their name, so `X_Forwarded_For` cannot stand for the real one.
    """

    def __init__(self, trusted: Sequence[str], user_header: str) -> None:
        """`trusted` has addresses and networks; `user_header` is the header that names the user, "" for none."""
        self._networks = tuple(_plain_network(ip_network(text)) for text in trusted)
        self._user_variable = f"HTTP_{user_header.upper().replace('-', '_')}" if user_header else ""

    def client(self, environ: Mapping[str, Any]) -> Client:
        """Who sent the request of a WSGI environment."""
        peer = environ.get("REMOTE_ADDR", "")
        address = _address(peer.partition("%")[0])
        own: Scheme = "https" if environ.get("wsgi.url_scheme") == "https" else "http"
        host = environ.get("HTTP_HOST", "")
        if address is None or not self._trusts(address):
            direct = not any(mark in environ for mark in _MARKS_OF_A_PROXY)
            return Client(str(address or peer), own, host, "", direct)
        return Client(
            str(self._first_stranger(address, environ.get("HTTP_X_FORWARDED_FOR", ""))),
            _scheme(environ.get("HTTP_X_FORWARDED_PROTO", "")) or own,
            _host(environ.get("HTTP_X_FORWARDED_HOST", "")) or host,
            _user(environ.get(self._user_variable, "")),
            is_direct=False,
        )

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _first_stranger(self, peer: Address, forwarded_for: str) -> Address:
        """The address nearest to us that is no listed proxy; what stands left of it is hearsay."""
        address = peer
        for hop in reversed(forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            match = _HOP.fullmatch(hop.strip())
            named = _address(match[1] or match[2] or match[3]) if match else None
            if named is None:
                break
            address = named
            if not self._trusts(address):
                break
        return address


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """An address, one of IPv4 also where it is written as IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _plain_network(network: Network) -> Network:
    """A network of IPv4 addresses as such, also where it is written as IPv6."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def _last(header: str) -> str:
    return header.rpartition(",")[2].strip()


def _scheme(header: str) -> Scheme | None:
    value = _last(header).lower()
    return "https" if value == "https" else "http" if value == "http" else None


def _host(header: str) -> str:
    value = _last(header)
    return value if host_and_port(value) else ""


def _user(header: str) -> str:
    """The name in a header, "" for what can be none.

    A header that was sent twice arrives as one with a comma in it, and only one of the two is the proxy's.
    """
    try:
        name = header.encode("latin-1").decode().strip()
    except UnicodeError:
        return ""
    return name if len(name) <= MAX_USER and "," not in name and name.isprintable() else ""
