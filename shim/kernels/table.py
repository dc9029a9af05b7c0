"""The kernels that run, and who may have another: what is known in memory, behind one lock and without waiting."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shim.kernels.caps import Line, Room

if TYPE_CHECKING:
    from builder.settings import Kernels as Settings
    from shim.kernels.callers import Caller
    from shim.kernels.filter import Questions, Recording
    from shim.kernels.program import Program
    from shim.kernels.records import Record

MOST_STARTS = 8
"""Kernels that start at a time: each start holds a worker of the web server."""
MOST_SOCKETS = 16
"""WebSockets of one kernel at a time."""
LEAST_UNCONNECTED = 30.0
"""Seconds that a kernel is kept at least for its first WebSocket: the page may still be loading its scripts."""
RESTARTING = ("restarting", "autorestarting")
"""What a gateway says of a kernel that crashed and is started again."""


@dataclass(frozen=True)
class Kernel:
    """A kernel as it is at one moment."""

    record: Record
    state: str
    """Its execution_state."""
    sockets: int
    last_activity: float
    """Seconds since 1970."""


@dataclass
class _Entry:
    record: Record
    state: str
    recording: Recording
    ready: bool
    """Whether a warm kernel has run its cells."""
    last_activity: float
    sockets: int = 0
    active: float = 0.0
    """When something was last heard, on the monotonic clock."""
    ends_alone: float | None = None
    """When it ends if no WebSocket is opened until then, on the monotonic clock; None while there is one."""
    restarting: bool = False
    questions: dict[str, Questions] = field(default_factory=dict)
    """By what clients call themselves."""

    def seen(self) -> Kernel:
        return Kernel(self.record, self.state, self.sockets, self.last_activity)


class Table:
    """All kernels of this server by our ids. Every method may be called from any thread and returns at once."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._starting: Counter[str] = Counter()
        self._line = Line(settings.max_per_address)

    # Who may have one

    def admit(self, caller: Caller) -> int:
        """0: a kernel is promised to the caller, and `add` or `release` must follow; else the place in the line."""
        with self._lock:
            visitors = [entry.record.address for entry in self._entries.values() if not entry.record.warm]
            used = Counter(visitors) + self._starting
            free = min(self._settings.max_total - used.total(), MOST_STARTS - self._starting.total())
            room = Room(free, lambda address: self._settings.max_per_address - used[address])
            place = self._line.admit(caller.key, caller.address, room, self._clock())
            if not place:
                self._starting[caller.address] += 1
            return place

    def wait(self, caller: Caller) -> int:
        """The place in the line for a caller who was let in, and then there was no kernel to be had."""
        with self._lock:
            return self._line.admit(caller.key, caller.address, Room(0, lambda address: 0), self._clock())

    def release(self, address: str) -> None:
        """Take back what was promised."""
        with self._lock:
            self._starting -= Counter([address])

    def surplus(self) -> Kernel | None:
        """A warm kernel in whose place a reader's is to start; None while there is room for both. It is taken out."""
        with self._lock:
            if len(self._entries) + self._starting.total() <= self._settings.max_total:
                return None
            return self._take_out_warm("", "")

    def take_out_warm(self, kernel_id: str = "", *, at: str = "") -> Kernel | None:
        """Forget a warm kernel, that of an id or at a gateway if one is named; None when there is none."""
        with self._lock:
            return self._take_out_warm(kernel_id, at)

    def waiting(self) -> int:
        """How many callers wait for a kernel."""
        with self._lock:
            return self._line.waiting(self._clock())

    # What runs

    def add(self, record: Record, *, promised: bool) -> None:
        """A kernel runs; `promised`: to the caller whom `admit` let in."""
        with self._lock:
            now = self._clock()
            self._entries[record.id] = _Entry(
                record, "starting", {}, not record.warm, self._wall(), 0, now, self._alone_until(now, LEAST_UNCONNECTED)
            )
            if promised:
                self._starting -= Counter([record.address])

    def add_warm(self, record: Record) -> bool:
        """A warm kernel runs; False: there is no room for it any more, and it must end."""
        has_room = self.has_room_for_warm()
        if has_room:
            self.add(record, promised=False)
        return has_room

    def has_room_for_warm(self) -> bool:
        """Whether a warm kernel could run beside all others."""
        with self._lock:
            return len(self._entries) + self._starting.total() < self._settings.max_total

    def rehearsed(self, kernel_id: str, recording: Recording) -> bool:
        """A warm kernel has run its cells and can be given away; False when it was ended meanwhile."""
        with self._lock:
            if entry := self._entries.get(kernel_id):
                entry.recording, entry.ready, entry.state = recording, True, "idle"
            return entry is not None

    def take(self, program: Program, wanted: Callable[[Record], Record]) -> Kernel | None:
        """Give a warm kernel of this very program to the reader in whose name `wanted` writes the record."""
        with self._lock:
            for entry in self._entries.values():
                if entry.record.warm and entry.ready and entry.record.program == program:
                    now = self._clock()
                    entry.record = wanted(replace(entry.record, warm=False))
                    entry.active, entry.last_activity = now, self._wall()
                    entry.ends_alone = self._alone_until(now, LEAST_UNCONNECTED)
                    self._starting -= Counter([entry.record.address])
                    return entry.seen()
        return None

    def readers(self) -> int:
        """How many kernels run for readers."""
        return sum(not kernel.record.warm for kernel in self.kernels())

    def warm(self) -> int:
        """How many kernels are ready and wait for one."""
        with self._lock:
            return sum(entry.record.warm and entry.ready for entry in self._entries.values())

    def get(self, kernel_id: str) -> Kernel | None:
        """The kernel of an id."""
        with self._lock:
            entry = self._entries.get(kernel_id)
            return entry.seen() if entry else None

    def kernels(self) -> list[Kernel]:
        """All kernels, those of no reader too, in the order of their starts."""
        with self._lock:
            return [entry.seen() for entry in self._entries.values()]

    def remove(self, kernel_id: str) -> Kernel | None:
        """Forget a kernel; None when somebody else did."""
        with self._lock:
            entry = self._entries.pop(kernel_id, None)
            return entry.seen() if entry else None

    def relabel(self, record: Record) -> None:
        """Put another record in the place of that of the same id."""
        with self._lock:
            if entry := self._entries.get(record.id):
                entry.record = record

    def load(self) -> Counter[str]:
        """How many kernels each gateway runs."""
        with self._lock:
            return Counter(entry.record.gateway for entry in self._entries.values())

    # What happens to one

    def recording(self, kernel_id: str) -> Recording:
        """What a kernel said ahead of its reader; whoever plays a part of it takes that out."""
        with self._lock:
            entry = self._entries.get(kernel_id)
            return entry.recording if entry else {}

    def questions(self, kernel_id: str, session: str) -> Questions:
        """What a kernel asked a client that has lost its WebSocket since; nothing for one without a name."""
        with self._lock:
            entry = self._entries.get(kernel_id)
            if entry is None or not session:
                return {}
            if len(entry.questions) >= MOST_SOCKETS:
                entry.questions.clear()
            return entry.questions.setdefault(session, {})

    def restarted(self, kernel_id: str) -> None:
        """A kernel began anew, so what it said before holds no more."""
        with self._lock:
            if entry := self._entries.get(kernel_id):
                entry.recording.clear()
                entry.active = self._clock()

    def begin_restart(self, kernel_id: str) -> bool:
        """A kernel is about to begin anew, and in use until `end_restart`; False while it does so already."""
        with self._lock:
            entry = self._entries.get(kernel_id)
            if entry is None or entry.restarting:
                return entry is None
            entry.restarting, entry.ends_alone = True, None
        self.restarted(kernel_id)
        return True

    def end_restart(self, kernel_id: str) -> None:
        """A kernel began anew, or could not; its page has as long to come back as after a start."""
        with self._lock:
            if entry := self._entries.get(kernel_id):
                entry.restarting = False
                if not entry.sockets:
                    entry.ends_alone = self._alone_until(self._clock(), LEAST_UNCONNECTED)

    def attach(self, kernel_id: str) -> bool:
        """A WebSocket is about to be relayed; False when its kernel is gone."""
        with self._lock:
            entry = self._entries.get(kernel_id)
            if entry:
                entry.sockets += 1
                entry.ends_alone = None
                entry.active = self._clock()
            return entry is not None

    def detach(self, kernel_id: str) -> None:
        """A WebSocket was closed; after the last one the kernel waits for a while."""
        with self._lock:
            if entry := self._entries.get(kernel_id):
                entry.sockets -= 1
                if not entry.sockets and not entry.restarting:
                    entry.ends_alone = self._alone_until(self._clock(), 0)

    def heard(self, kernel_id: str, state: str) -> None:
        """A message passed; `state` is the execution_state it told of, or ""."""
        with self._lock:
            if entry := self._entries.get(kernel_id):
                if state in RESTARTING:
                    # It crashed, so what it said before holds no more.
                    entry.recording.clear()
                entry.state = state or entry.state
                entry.active, entry.last_activity = self._clock(), self._wall()

    # What is due

    def due(self) -> Iterator[tuple[str, str]]:
        """Ids of the kernels whose time is over, and why."""
        with self._lock:
            now, wall = self._clock(), self._wall()
            entries = list(self._entries.values())
        for entry in entries:
            if entry.record.warm:
                continue
            if entry.ends_alone is not None and now >= entry.ends_alone:
                yield entry.record.id, "Nobody came back to the kernel."
            elif entry.state != "busy" and now >= entry.active + 60 * self._settings.idle_minutes:
                yield entry.record.id, "The kernel was not used for long."
            elif wall >= entry.record.started + 3600 * self._settings.max_hours:
                yield entry.record.id, "The kernel reached its longest life."

    def seconds_left(self) -> float:
        """Seconds until the next kernel ends if nobody connects to it; infinite if none would."""
        with self._lock:
            now = self._clock()
            ends = (e.ends_alone for e in self._entries.values() if not e.record.warm and e.ends_alone is not None)
            return max(0.0, min(ends, default=float("inf")) - now)

    def _take_out_warm(self, kernel_id: str, at: str) -> Kernel | None:
        for key, entry in self._entries.items():
            if entry.record.warm and kernel_id in ("", key) and at in ("", entry.record.gateway):
                return self._entries.pop(key).seen()
        return None

    def _alone_until(self, now: float, least: float) -> float:
        return now + max(float(self._settings.retention), least)
