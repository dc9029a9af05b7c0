"""Who may have a kernel when not everybody can: the line in which callers wait, first come, first served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

RETRY_SECONDS = 3
"""How soon a caller who waits should ask again; one who does not ask for three times as long loses the place."""
LONGEST_LINE = 200
"""Callers who wait at a time; whoever comes later is told to, and is not remembered."""


@dataclass(frozen=True)
class Room:
    """How many more kernels there can be."""

    total: int
    of_address: Callable[[str], int]


@dataclass
class _Place:
    address: str
    until: float


class Line:
    """The callers who wait; not thread-safe, times are those of a monotonic clock in seconds."""

    def __init__(self, most_per_address: int) -> None:
        self._most_per_address = most_per_address
        self._places: dict[str, _Place] = {}

    def admit(self, key: str, address: str, room: Room, now: float) -> int:
        """0: the caller may have a kernel now; else the place in the line, 1 for the first, which is kept for a while.

        Callers ahead who wait for room of their own address alone hold up nobody else.
        """
        self._places = {other: place for other, place in self._places.items() if place.until > now}
        ahead = [place.address for other, place in self._ahead(key).items()]
        if self._fits(address, ahead, room):
            self._places.pop(key, None)
            return 0
        if key in self._places:
            self._places[key].until = now + 3 * RETRY_SECONDS
        elif self._may_wait(address, ahead):
            self._places[key] = _Place(address, now + 3 * RETRY_SECONDS)
        return len(ahead) + 1

    def waiting(self, now: float) -> int:
        """How many wait."""
        return sum(place.until > now for place in self._places.values())

    def _ahead(self, key: str) -> Mapping[str, _Place]:
        keys = list(self._places)
        count = keys.index(key) if key in self._places else len(keys)
        return {other: self._places[other] for other in keys[:count]}

    def _fits(self, address: str, ahead: list[str], room: Room) -> bool:
        """Whether there is room for the caller and for all ahead who could have it."""
        before = Counter(ahead)
        served = sum(min(count, max(room.of_address(other), 0)) for other, count in before.items() if other != address)
        own = before[address]
        return room.of_address(address) > own and room.total > served + own

    def _may_wait(self, address: str, ahead: list[str]) -> bool:
        return len(ahead) < LONGEST_LINE and ahead.count(address) < self._most_per_address
