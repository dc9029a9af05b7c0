"""Failed logins are counted per address and per user at an address, never per user alone.

So nobody can lock out the account of somebody else.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Network, ip_address

WINDOW = 600.0
"""Seconds; a window begins with its first failure."""
PER_USER = 10
PER_ADDRESS = 50
MOST_ENTRIES = 10_000
"""Bounds the memory; beyond it the oldest windows are forgotten."""

_Key = tuple[str, bytes]


@dataclass
class _Window:
    began: float
    failures: int = 0


class Throttle:
    """Counts failures in fixed windows; may be used from any thread."""

    def __init__(
        self,
        per_user: int = PER_USER,
        per_address: int = PER_ADDRESS,
        window: float = WINDOW,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = (per_user, per_address)
        self._window = window
        self._now = now
        self._lock = threading.Lock()
        self._windows: OrderedDict[_Key, _Window] = OrderedDict()
        """The oldest first: a window is put in when it begins."""

    def blocked(self, address: str, user: str) -> int | None:
        """Seconds until `address` may try again to log in as `user`; None: it may now."""
        with self._lock:
            self._forget_old()
            began = [
                window.began
                for key, limit in zip(_keys(address, user), self._limits, strict=True)
                if (window := self._windows.get(key)) and window.failures >= limit
            ]
            return max(1, math.ceil(max(began) + self._window - self._now())) if began else None

    def failed(self, address: str, user: str) -> None:
        """Count a failure, or an attempt that is about to be judged: many at the same time are no way round."""
        with self._lock:
            self._forget_old()
            for key in _keys(address, user):
                self._windows.setdefault(key, _Window(self._now())).failures += 1
            while len(self._windows) > MOST_ENTRIES:
                self._windows.popitem(last=False)

    def forgive(self, address: str, user: str) -> None:
        """Take back one count of `failed`: the attempt could not be judged."""
        with self._lock:
            for key in _keys(address, user):
                self._take_back(key)

    def succeeded(self, address: str, user: str) -> None:
        """Take back one count for the address, and forget all of this user there.

        The other failures of the address stay, or an account of one's own would be a way round the limit.
        """
        with self._lock:
            of_user, of_address = _keys(address, user)
            self._windows.pop(of_user, None)
            self._take_back(of_address)

    def _take_back(self, key: _Key) -> None:
        if window := self._windows.get(key):
            window.failures -= 1
            if window.failures <= 0:
                del self._windows[key]

    def _forget_old(self) -> None:
        ended = self._now() - self._window
        while self._windows and (oldest := next(iter(self._windows.items())))[1].began <= ended:
            del self._windows[oldest[0]]


def _keys(address: str, user: str) -> tuple[_Key, _Key]:
    """For the user at the address, and for the address; of fixed size, whatever name was sent."""
    network = _network(address)
    return (network, sha256(user.encode(errors="surrogatepass")).digest()), (network, b"")


def _network(address: str) -> str:
    """The address, for IPv6 its /64: one client has that many addresses."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return sha256(address.encode(errors="surrogatepass")).hexdigest()
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed), 64), strict=False))
