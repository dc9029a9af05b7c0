"""Who asks for a kernel: a login, a token, or nobody in particular."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from shim.answers import HttpError

if TYPE_CHECKING:
    from shim.tokens import Tokens

MAX_FIELDS = 20
"""Fields of a query that are looked at."""

_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request about kernels."""

    owner: str
    """`user:NAME` or `token:NAME`; "" where nobody has to say."""
    session: str
    """What the client calls the visit of its page; "" when it does not say."""
    address: str

    @property
    def key(self) -> str:
        """What tells waiting callers apart."""
        return "\n".join((self.owner, self.session or self.address))


def caller_of(environ: Mapping[str, Any], tokens: Tokens) -> Caller:
    """Who sent a request that the front let pass. Raises HttpError 400 for a session id that is none."""
    return Caller(
        environ.get("nbfolio.owner") or owner_by_token(environ, tokens),
        session_id(environ.get("HTTP_X_JUPYTER_SESSION_ID") or field_of(environ, "session_id")),
        environ["nbfolio.client"].address,
    )


def owner_by_token(environ: Mapping[str, Any], tokens: Tokens) -> str:
    """On whose behalf a token acts that may use live pages; "" without one of ours.

    Programs cannot set the header of a WebSocket everywhere, so there the query may have it.
    """
    grant = tokens.grant(environ.get("HTTP_AUTHORIZATION"))
    if grant is None and "HTTP_UPGRADE" in environ and (sent := field_of(environ, "token")):
        grant = tokens.grant(f"token {sent}")
    return f"token:{grant.owner}" if grant and grant.may("publish") else ""


def session_id(text: str) -> str:
    """A session id of a client as it is, "" for none. Raises HttpError 400."""
    if text and not _SESSION.fullmatch(text):
        raise HttpError(400, "A session id has 1 to 64 letters, digits and hyphens.")
    return text


def field_of(environ: Mapping[str, Any], name: str) -> str:
    """A field of the query, "" when it is not there."""
    try:
        fields = parse_qsl(environ.get("QUERY_STRING", ""), max_num_fields=MAX_FIELDS, encoding="latin-1")
    except ValueError:
        raise HttpError(400, f"The query has more than {MAX_FIELDS} fields.") from None
    value: str = dict(fields).get(name, "")
    return value
