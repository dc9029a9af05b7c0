"""The one thread that looks after all instances of this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("shim.instances")

PAUSE_SECONDS, HURRIED_SECONDS = 1.0, 0.1
"""Between two looks; hurried while an instance starts or ends."""


class Watch:
    """Looks again and again, at once when there is news; `start` and `stop` are called once each."""

    def __init__(self, look: Callable[[], bool]) -> None:
        """`look` tells whether there is something to do soon."""
        self._look = look
        self._hurried = False
        self._troubles: set[str] = set()
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="instances", daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether the end has come."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End; wait up to `seconds` for a look that is under way."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def hurry(self) -> None:
        """Let it look at once."""
        self._news.set()

    def guarded(self, work: Callable[[], None]) -> None:
        """Do something that must not stop everything else; one and the same trouble is told once."""
        try:
            work()
        except Exception as error:
            if repr(error) not in self._troubles:
                self._troubles.add(repr(error))
                logger.exception("Something went wrong while notebook instances were looked after.")

    def _run(self) -> None:
        while not self.stopping:
            self.guarded(self._once)
            self._news.wait(HURRIED_SECONDS if self._hurried else PAUSE_SECONDS)
            self._news.clear()

    def _once(self) -> None:
        self._hurried = self._look()
