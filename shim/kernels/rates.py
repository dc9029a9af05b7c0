"""How much of something may happen in a while."""

from __future__ import annotations

FRAMES_PER_SECOND = 200
FRAMES_AT_ONCE = 1000
"""Frames of a client: more than pointer events of a plot and less than what would keep others waiting."""
BYTES_PER_SECOND = 8 << 20
BYTES_AT_ONCE = 64 << 20


class Bucket:
    """Holds what may be taken: `most` at a time, and `rate` more each second."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._most = most
        self._left = most
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """Whether so much is left; then it is gone. `now` is in seconds and never goes back."""
        if self._at is not None:
            self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Allowance:
    """How much one client may send."""

    __slots__ = ("_bytes", "_frames")

    def __init__(self) -> None:
        self._bytes = Bucket(BYTES_PER_SECOND, BYTES_AT_ONCE)
        self._frames = Bucket(FRAMES_PER_SECOND, FRAMES_AT_ONCE)

    def data(self, size: int, now: float) -> bool:
        """Whether so many bytes may come."""
        return self._bytes.take(size, now)

    def frame(self, now: float) -> bool:
        """Whether another frame may come."""
        return self._frames.take(1, now)
