"""Whom the server listens to: the hosts it answers for, and the settings with which it must not start."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from builder.config import Config
from builder.settings import Server
from shim.headers import host_and_port

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_ARGON2 = re.compile(r"\$argon2id\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")


def startup_problems(config: Config) -> list[str]:
    """Sentences about settings that would leave the server open by accident; it must not start with any."""
    auth, problems = config.auth, []
    if not is_loopback(config.server.host) and not (auth.api_token or auth.token):
        problems.append(
            f"server.host is {config.server.host}, which others can reach, and no token protects uploads: "
            "set auth.api_token or auth.api_token_file, or listen on 127.0.0.1."
        )
    problems += [
        f'auth.token "{token.name}" has no value and no value_file.' for token in auth.token if not token.value
    ]
    if auth.user:
        problems.append("auth.user names people, but this version has no login yet: every page would be public.")
    for user in auth.user:
        if not user.password_hash:
            problems.append(f'auth.user "{user.name}" has no password_hash; shim-admin hash-password makes one.')
        elif not _ARGON2.fullmatch(user.password_hash):
            problems.append(
                f'auth.user "{user.name}": password_hash is not an argon2id hash; shim-admin hash-password makes one.'
            )
    return problems


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
