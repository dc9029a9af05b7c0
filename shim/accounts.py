"""Names and passwords of those who may log in, as the settings have them."""

from __future__ import annotations

import logging
import re
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b, sha256
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from builder.errors import NbfolioError
from builder.settings import User

logger = logging.getLogger("shim.login")

LONGEST_PASSWORD = 1024
"""Bytes, as `shim-admin hash-password` has it."""
AT_ONCE = 2
"""Hashes that are computed at the same time: each takes 64 MB."""
PATIENCE = 5.0
"""Seconds an attempt waits for its turn."""


class BusyError(NbfolioError):
    """Raised when a password cannot be checked now; it says nothing about the password."""


class Accounts:
    """The people of [[auth.user]]; an attempt takes the same work whether its name is known or not."""

    def __init__(self, users: Iterable[User], at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._secret = secrets.token_bytes(32)
        self._hashes = {self._digest(user.name): user.password_hash for user in users}
        self._decoy = _decoy(list(self._hashes.values()))
        self._hasher = PasswordHasher()
        self._turns = BoundedSemaphore(at_once)
        self._waiting = BoundedSemaphore(3 * at_once)
        self._patience = patience

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of that user. Raises BusyError."""
        data = password.encode(errors="surrogatepass")
        if not 0 < len(data) <= LONGEST_PASSWORD:
            return False
        known = self._hashes.get(self._digest(name))
        if not self._waiting.acquire(blocking=False):
            raise BusyError("Too many people are logging in. Try again in a moment.")
        try:
            return self._verified(known, data)
        finally:
            self._waiting.release()

    def _verified(self, known: str | None, data: bytes) -> bool:
        if not self._turns.acquire(timeout=self._patience):
            raise BusyError("Too many people are logging in. Try again in a moment.")
        try:
            # `and` comes last: the work for a name that nobody has is done all the same.
            return self._hasher.verify(known or self._decoy, data) and known is not None
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError) as error:
            logger.error("A password could not be checked: %s.", error)
            raise BusyError("Passwords cannot be checked now. Try again in a moment.") from error
        finally:
            self._turns.release()

    def fingerprint(self, name: str) -> str | None:
        """Changes whenever the password of a user does; None when there is no such user."""
        known = self._hashes.get(self._digest(name))
        return sha256(known.encode()).hexdigest() if known is not None else None

    def _digest(self, name: str) -> bytes:
        # With a secret of this process, so that the time of a look-up says nothing about names that are similar.
        return blake2b(name.encode(errors="surrogatepass"), key=self._secret).digest()


def _decoy(hashes: list[str]) -> str:
    """A hash of no password, as expensive as most others are."""
    costs = Counter(match[0] for text in hashes if (match := re.match(r"\$argon2id\$v=[0-9]+\$[^$]+\$", text)))
    cost = costs.most_common(1)[0][0] if costs else "$argon2id$v=19$m=65536,t=3,p=4$"
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"{cost}{salt}${digest}"
