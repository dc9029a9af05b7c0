"""Tokens of the API: what an Authorization header allows."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import scrypt, sha256

from builder.settings import Auth, Scope
from shim.answers import HttpError

MAX_HEADER = 8 << 10
"""Characters of an Authorization header that is looked at."""
OWNER = "admin"
"""On whose behalf `auth.api_token` acts, and everybody where no token is configured."""

_HEADER = re.compile(r"(?:token|bearer)[ \t]+([^ \t].*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Grant:
    """What a request may do, and on whose behalf."""

    name: str
    """What the token is called in logs."""
    owner: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it is good for something; `admin` is good for everything."""
        return scope in self.scopes or "admin" in self.scopes


ANYBODY = Grant("anybody", OWNER, frozenset({"admin"}))
"""What everybody may do where no token is configured."""


class Tokens:
    """The tokens of the settings; it keeps digests alone."""

    def __init__(self, auth: Auth) -> None:
        grants = [(token.value, _grant(token.name, token.owner, token.scopes)) for token in auth.token]
        if auth.api_token:
            grants.append((auth.api_token, _grant("api_token", OWNER, ("admin",))))
        self._grants = [(sha256(value.encode()).digest(), grant) for value, grant in grants if value]
        # Tokens that have no value leave the API closed, not open.
        self.open = not (auth.api_token or auth.token)
        """Whether no token is configured, so that everybody may do everything."""

    @cached_property
    def key(self) -> bytes:
        """For signatures that hold as long as the tokens are these: the same on every server that has them.

        Slow to make, so that whoever has a signature cannot try out many tokens.
        """
        return scrypt(b"".join(sorted(digest for digest, _ in self._grants)), salt=b"nbfolio", n=2**14, r=8, p=1)

    def grant(self, header: str | None) -> Grant | None:
        """What an Authorization header as WSGI has it allows: `token X` or `Bearer X`; None for no token of ours."""
        match = _HEADER.fullmatch(header.strip(" \t")) if header and len(header) <= MAX_HEADER else None
        if not match:
            return None
        try:
            # WSGI shows bytes as Latin-1; a token is sent as UTF-8, or really in Latin-1 like requests does it.
            sent = match[1].encode("latin-1"), match[1].encode()
        except UnicodeEncodeError:
            return None
        found = None
        # All comparisons are made, so the time says nothing of which token it was.
        for given in (sha256(value).digest() for value in sent):
            for digest, grant in self._grants:
                if hmac.compare_digest(digest, given):
                    found = grant
        return found


def require(tokens: Tokens, header: str | None, scope: Scope) -> Grant:
    """What an Authorization header allows. Raises HttpError: 401 without a token of ours, 403 without the scope."""
    if tokens.open:
        return ANYBODY
    grant = tokens.grant(header)
    if grant is None:
        challenge = ("WWW-Authenticate", 'Bearer realm="nbfolio"')
        raise HttpError(401, "Authentication required. Please provide a valid auth token.", [challenge])
    if not grant.may(scope):
        raise HttpError(403, f"The token may not do that; it takes one with the scope {scope}.")
    return grant


def _grant(name: str, owner: str, scopes: tuple[Scope, ...]) -> Grant:
    return Grant(name, owner or name, frozenset(scopes))
