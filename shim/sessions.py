"""Logins that last: opaque ids for browsers, of which the server keeps the hashes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

from shim.state import State, StateError

MOST_PER_USER = 100
SEEN_SECONDS = 60
"""How old the note of the last visit may be before it is written again."""
LONGEST_ID = 64


class Session(NamedTuple):
    """A login that holds."""

    user: str
    fingerprint: str
    """That of the password it began with; the session is void once the user has another."""


class Sessions:
    """All sessions of a site; a session ends `idle` seconds after the last visit and `longest` seconds after it began.

    Ids are known to browsers alone: whoever reads the records cannot act as anybody.
    """

    def __init__(self, state: State, idle: float, longest: float, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._idle = idle
        self._longest = longest
        self._now = now

    def start(self, user: str, fingerprint: str) -> str:
        """Begin a session and give its id; of one user the oldest beyond 100 end, and all that have expired."""
        session_id, now = secrets.token_urlsafe(32), self._now()
        with self._state.transaction():
            self.purge()
            self._state.write(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (_key(session_id), user, fingerprint, now, now)
            )
            self._state.write(
                "DELETE FROM sessions WHERE id IN"
                " (SELECT id FROM sessions WHERE user = ? ORDER BY began DESC, id LIMIT -1 OFFSET ?)",
                (user, MOST_PER_USER),
            )
        return session_id

    def user_of(self, session_id: str, *, visit: bool = True) -> Session | None:
        """The session of an id, None when there is none or it has expired; asking may count as a visit."""
        if not 0 < len(session_id) <= LONGEST_ID:
            return None
        key, now = _key(session_id), self._now()
        rows = self._state.read("SELECT user, fingerprint, began, seen FROM sessions WHERE id = ?", (key,))
        if not rows:
            return None
        user, fingerprint, began, seen = rows[0]
        if now >= seen + self._idle or now >= began + self._longest:
            self.end(session_id)
            return None
        if visit and abs(now - seen) >= SEEN_SECONDS:
            # A full disk must not keep readers out.
            with suppress(StateError):
                self._state.write("UPDATE sessions SET seen = ? WHERE id = ?", (now, key))
        return Session(user, fingerprint)

    def end(self, session_id: str) -> None:
        """Revoke a session; one that is none is no error."""
        self._state.write("DELETE FROM sessions WHERE id = ?", (_key(session_id),))

    def purge(self) -> None:
        """Forget all sessions that have expired."""
        now = self._now()
        self._state.write("DELETE FROM sessions WHERE seen <= ? OR began <= ?", (now - self._idle, now - self._longest))


def _key(session_id: str) -> bytes:
    # Not a password hash: the id is random, so nobody can guess what was hashed.
    return sha256(session_id.encode(errors="surrogatepass")).digest()
