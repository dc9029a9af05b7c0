"""Whom the server listens to: the hosts it answers for, and the settings with which it must not start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from builder.config import Config
from builder.settings import Auth, Server
from builder.values import short
from shim.headers import host_and_port

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_ARGON2 = re.compile(r"\$argon2id\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")


def startup_problems(config: Config) -> list[str]:
    """Sentences about settings that would leave the server open by accident; it must not start with any."""
    return [*_open_api(config.server, config.auth), *_tokens(config.auth), *_users(config.server, config.auth)]


def _open_api(server: Server, auth: Auth) -> Iterator[str]:
    if auth.api_token or auth.token:
        return
    remedy = "no token protects uploads: set auth.api_token or auth.api_token_file"
    if not is_loopback(server.host):
        yield f"server.host is {server.host}, which others can reach, and {remedy}, or listen on 127.0.0.1."
    elif server.trusted_proxies:
        yield f"server.trusted_proxies names proxies, through which others reach this server, and {remedy}."


def _tokens(auth: Auth) -> Iterator[str]:
    values = [auth.api_token, *(token.value for token in auth.token)]
    places = ["auth.api_token", *(f'auth.token "{short(token.name)}"' for token in auth.token)]
    for index, (place, value) in enumerate(zip(places, values, strict=True)):
        if value != value.strip():
            yield f"{place} has blanks around it, which no header can carry."
        elif value and (first := values.index(value)) < index:
            yield f"{place} has the same value as {places[first]}; every token needs its own."
    for place, token in zip(places[1:], auth.token, strict=True):
        if not token.value:
            yield f"{place} has no value and no value_file."
        if not token.scopes:
            yield f"{place} has no scopes, so it could do nothing: publish, cache, instances, admin."


def _users(server: Server, auth: Auth) -> Iterator[str]:
    if auth.user_header and not server.trusted_proxies:
        yield (
            f"auth.user_header is {auth.user_header}, and server.trusted_proxies names no proxy that may send it: "
            "nobody could log in."
        )
    if auth.user_header and any(ip_network(text).prefixlen == 0 for text in server.trusted_proxies):
        yield f"server.trusted_proxies trusts every address, so anybody could log in by sending {auth.user_header}."
    for user in auth.user:
        place = f'auth.user "{short(user.name)}"'
        if not user.password_hash:
            yield f"{place} has no password_hash; shim-admin hash-password makes one."
        elif not _ARGON2.fullmatch(user.password_hash):
            yield f"{place}: password_hash is not an argon2id hash; shim-admin hash-password makes one."


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a bind address; names other than localhost are taken for public."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(server: Server) -> frozenset[str]:
    """The hosts the server answers for, each as `name` (any port) or `name:port`."""
    if server.allowed_hosts:
        return frozenset(server.allowed_hosts)
    bind = f"[{server.host}]" if ":" in server.host else server.host
    public = urlsplit(re.sub(r"\{[A-Za-z]*\}", "", server.public_link_pattern.replace("{protocol}", "http"))).netloc
    return frozenset({bind, *LOCAL_HOSTS, public.lower().rstrip(":")} - {""})


def is_allowed(header: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header names a host the server answers for."""
    host = host_and_port(header)
    return host is not None and (host[0] in allowed or f"{host[0]}:{host[1]}" in allowed)
