"""One instance and its server: what it shall do, what it does, and the next step from the one to the other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from shim.instances.backend import CREATING, LONGEST_REASON, RUNNING, UNANSWERED, Observed
from shim.instances.local.limits import Limits
from shim.instances.local.process import Server, free_port
from shim.kernels.processes import marked

if TYPE_CHECKING:
    from shim.instances.local.folders import Facts, Folder
    from shim.instances.records import Instance

GRACE_SECONDS = 5.0
"""How long a server may take to end properly."""
KILL_SECONDS = 5.0
STOP_SECONDS = 6.0
"""How long all servers together may take to end properly when the one that watches over them ends."""
LAST_SECONDS = 3.0
"""How long they may take to end after that, by force."""
PAUSE_SECONDS = 0.02
ADOPT_SECONDS = 15.0
"""How long a server that was found running may take to answer; then another one is started."""
HEALTHY_SECONDS = 60.0
"""A server that ran for so long has not failed at once."""
FIRST_PAUSE = 1.0
"""Seconds before a server that ended starts again; they double from one failure to the next."""
MOST_FAILURES = 3
"""Servers that fail at once, one after the other, until none is started any more."""

Phase = Literal["idle", "starting", "running", "ending"]
"""Idle: nothing runs, though something may be due to start. Ending: there may be processes left."""


class Supervised:
    """An instance under supervision.

    `instance`, `observed` and `facts` may be read at any time; all methods are called by whoever holds `turn`, and wait
    for nothing but `end`.
    """

    def __init__(self, instance: Instance, folder: Folder, facts: Facts, memory: int, start_seconds: float) -> None:
        self.turn = threading.Lock()
        self.instance = instance
        self.folder = folder
        self.facts = facts
        self.observed = Observed("creating", CREATING)
        self.over = False
        """Whether it was deleted."""
        self._limits = Limits(memory, facts.cores)
        self._start_seconds = start_seconds
        self._phase: Phase = "idle"
        self._server: Server | None = None
        self._failures = 0
        self._answered = False
        """Whether a server has answered since it was asked to run."""
        self._begun = self._since = self._kill_at = 0.0
        self._due: float | None = None
        """When a server shall be started, once nothing runs; None: not at all."""

    @property
    def hurried(self) -> bool:
        """Whether there is something to do soon."""
        return self._phase in ("starting", "ending") or self._due is not None

    def take_over(self) -> None:
        """Begin with what a server before this one left: go on with its process, or end what is left and start anew."""
        if self.instance.stopped is None:
            self.run()
            self._server = Server.adopt(self.folder, self.facts)
        else:
            self.observed = Observed("stopped", self.instance.stopped)
        if self._server:
            self._phase, self._due, self._since = "starting", None, time.monotonic()
        else:
            self._phase = "ending"

    def run(self) -> None:
        """Let a server run; one that does goes on, and one that failed for good is tried again."""
        if self._phase in ("starting", "running") or self._due is not None:
            return
        self._failures, self._answered = 0, False
        self._begun = self._due = time.monotonic()
        self.observed = Observed("creating", UNANSWERED)

    def halt(self, observed: Observed) -> None:
        """Let no server run; it is `observed` from now on."""
        self.observed = observed
        self._due = None
        if self._phase in ("starting", "running"):
            self._end_server()

    def step(self, taken: Callable[[], Collection[int]]) -> None:
        """Do what can be done now; `taken` tells the ports of other instances."""
        now = time.monotonic()
        if self._phase == "ending":
            self._step_ending(now)
        elif self._phase == "idle":
            if self._due is not None and now >= self._due:
                self._launch(taken())
        elif self._server and self._server.ended:
            self._failed(self._server.ending())
        elif self._phase == "starting":
            self._step_starting(now)
        elif self._server:
            self._server.trim_log()

    def terminate(self) -> None:
        """Ask the server to end, without any other change: it shall run again later."""
        if self._server:
            self._server.terminate()

    def has_ended(self) -> bool:
        """Whether its server has ended; others of its processes may be left."""
        return self._server is None or self._server.ended

    def end(self, seconds: float = KILL_SECONDS) -> bool:
        """Kill its processes, and wait up to `seconds` for their end; whether none is left."""
        deadline = time.monotonic() + seconds
        while True:
            self.kill()
            # Both: a process that ends loses its environment first.
            if self.has_ended() and not marked(self.facts.mark):
                self._server, self._phase = None, "idle"
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_SECONDS)

    def kill(self) -> None:
        """Kill its processes, those that can be seen now."""
        if self._server:
            self._server.kill()
        for pid in marked(self.facts.mark):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _launch(self, taken: Collection[int]) -> None:
        self._due = None
        try:
            facts = replace(self.facts, port=free_port(self.facts.port, taken))
            env_vars = self.instance.spec.env_vars or {}
            self._server, self.facts = Server.launch(self.folder, facts, env_vars, self._limits)
        except OSError as error:
            self._failed(f"The notebook server cannot be started: {error.strerror or error}")
            return
        self._phase, self._since = "starting", time.monotonic()
        self.observed = Observed("creating", UNANSWERED)

    def _step_starting(self, now: float) -> None:
        assert self._server
        if self._server.answers():
            self._phase, self._answered = "running", True
            self.observed = Observed("running", RUNNING)
        elif self._server.adopted and now - self._since > ADOPT_SECONDS:
            self._due = now
            self._end_server()
        elif now - self._begun > self._start_seconds:
            minutes = f"{self._start_seconds / 60:g}"
            self.halt(Observed("failed", f"Timed out: the notebook server did not answer within {minutes} minutes"))

    def _step_ending(self, now: float) -> None:
        if not self.has_ended():
            if now >= self._kill_at:
                self.kill()
        elif marked(self.facts.mark):
            self.kill()
        else:
            self._server, self._phase = None, "idle"

    def _end_server(self) -> None:
        if self._server:
            self._server.terminate()
        self._phase, self._kill_at = "ending", time.monotonic() + GRACE_SECONDS

    def _failed(self, reason: str) -> None:
        """The server ended by itself, or could not be started."""
        now = time.monotonic()
        if self._phase == "running":
            self._begun = now
            self._failures = 0 if now - self._since > HEALTHY_SECONDS else self._failures
        self._failures += 1
        self._phase = "ending"
        final = self._failures >= MOST_FAILURES
        status: Literal["failed", "creating"] = "failed" if final or self._answered else "creating"
        if not final:
            self._due = now + FIRST_PAUSE * 2 ** (self._failures - 1)
            reason = f"{reason}; it starts again"
        self.observed = Observed(status, reason[:LONGEST_REASON])


def end_all(supervised: Collection[Supervised]) -> None:
    """End all servers at once, properly if that takes no longer than STOP_SECONDS; nothing else is changed."""
    for one in supervised:
        one.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not all(one.has_ended() for one in supervised):
        time.sleep(PAUSE_SECONDS)
    for one in supervised:
        one.kill()
    deadline = time.monotonic() + LAST_SECONDS
    for one in supervised:
        one.end(deadline - time.monotonic())
