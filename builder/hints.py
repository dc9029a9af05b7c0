"""What may have changed in the watched folder, collected until it is worth a rebuild."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Literal

How = Literal["writing", "written", "other"]
"""writing: a file that somebody still has open; written: a file that is whole now; other: gone, or a folder."""

BOUND = 1000
"""With more paths than this a look at everything is cheaper than a list."""


class Stopper:
    """Ends `watch` at once, from another thread or from a signal handler.

    A `threading.Event` would not do: its lock is not re-entrant, so a signal handler could wait for the thread it
    interrupted. `SimpleQueue.put` is made for that.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ask `watch` to return."""
        self._stopped = True
        self._bell.put(None)

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._stopped

    def wake(self) -> None:
        """End the current `wait`, or the next one."""
        if self._bell.empty():
            self._bell.put(None)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as `set` or `wake` is called."""
        try:
            self._bell.get(timeout=max(0.0, seconds))
            while True:
                self._bell.get_nowait()
        except queue.Empty:
            pass


class Hints:
    """Collects changed paths from any thread and says when they have settled."""

    def __init__(self, wake: Callable[[], None], settle: float, longest: float = 1.0, bound: int = BOUND) -> None:
        self._wake = wake
        self._settle = settle
        self._longest = longest
        self._bound = bound
        self._lock = threading.Lock()
        self._taken = -math.inf
        self._clear()

    def _clear(self) -> None:
        self._paths: set[str] = set()
        self._writing: set[str] = set()
        self._moving: set[str] = set()
        self._everything = False
        self._first: float | None = None
        self._last = 0.0

    def add(self, path: str, how: How) -> None:
        """Note that `path` (POSIX, relative to the root) may have appeared, changed or gone."""
        with self._lock:
            self._last = time.monotonic()
            if self._first is None:
                self._first = self._last
            self._writing.discard(path)
            self._moving.discard(path)
            if self._everything:
                return
            self._paths.add(path)
            if how == "writing":
                self._writing.add(path)
            elif how == "other":
                self._moving.add(path)
            if len(self._paths) > self._bound:
                self._everything = True
                for paths in (self._paths, self._writing, self._moving):
                    paths.clear()
        self._wake()

    def due(self) -> float | None:
        """The time (`time.monotonic`) from which a rebuild makes sense; None: nothing happened.

        A file that was closed or renamed into place is whole, so it hardly waits. What has gone may come back in a
        moment (editors rename the old file away first), and a file that is still open would be read half. When files
        come one after the other, each of them must not cause a rebuild of its own.
        """
        with self._lock:
            if self._first is None:
                return None
            latest = self._first + self._longest
            if self._writing:
                return latest
            in_a_row = self._first - self._taken < self._settle
            quiet = self._settle if self._everything or self._moving or in_a_row else self._settle / 10
            return min(self._last + quiet, latest)

    def take(self) -> frozenset[str] | None:
        """Hand over what was collected and begin anew; None: look at everything."""
        with self._lock:
            taken = None if self._everything else frozenset(self._paths)
            self._taken = time.monotonic()
            self._clear()
            return taken
