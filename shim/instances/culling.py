"""Stops instances that nobody uses: no busy kernel, no open connection, nothing typed or run for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http.client import HTTPException
from typing import TYPE_CHECKING

import msgspec

from builder.paths import shown
from shim.instances.asked import OddError, fetch
from shim.instances.errors import InstanceError

if TYPE_CHECKING:
    from shim.instances.backend import Backend, Door
    from shim.instances.records import Instance

logger = logging.getLogger("shim.instances")

CHECK_SECONDS = 60.0
ANSWER_SECONDS = 10.0
"""The longest that an instance may take to say something, all of it: what runs there may want to keep us."""
LONGEST_ANSWER = 4 << 20


class Kernel(msgspec.Struct, frozen=True):
    """A kernel as Jupyter's REST API tells of it; unknown fields are left out."""

    last_activity: datetime
    execution_state: str = ""
    connections: int = 0


class ServerStatus(msgspec.Struct, frozen=True):
    """What a server says of itself: `last_activity` counts its kernels, terminals and what browsers asked it for."""

    last_activity: datetime
    connections: int = 0
    """Open WebSockets to kernels."""


class UnknownActivityError(Exception):
    """Raised when an instance does not say what goes on in it: that is no sign of idleness."""


def last_used(status: ServerStatus, kernels: Iterable[Kernel], now: datetime) -> datetime:
    """When something was last done: `now` while a kernel computes or a page is connected to one."""
    busy = any(kernel.execution_state in ("busy", "starting", "restarting") for kernel in kernels)
    connected = status.connections > 0 or any(kernel.connections > 0 for kernel in kernels)
    if busy or connected:
        return now
    return max(_in_utc(moment) for moment in (status.last_activity, *(one.last_activity for one in kernels)))


def ask(door: Door) -> datetime:
    """When an instance was last used. Raises UnknownActivityError."""
    try:
        status = msgspec.json.decode(_get(door, "status"), type=ServerStatus)
        kernels = msgspec.json.decode(_get(door, "kernels"), type=list[Kernel])
        return last_used(status, kernels, datetime.now(UTC))
    # An answer can be nested too deep, and a time can be none that there is.
    except (OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError, HTTPException) as error:
        raise UnknownActivityError(str(error) if isinstance(error, OddError) else type(error).__name__) from error


class Culler:
    """One thread that asks every running instance what goes on in it; started only where there is a time limit."""

    def __init__(self, backend: Backend, idle_minutes: int, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._minutes = idle_minutes
        self._clock = clock
        self._seen: dict[str, float] = {}
        """When each instance was first seen to run: until that is long ago it is not idle."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="instance culler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a question that is under way ends by its time limit."""
        self._stopping.set()
        self._thread.join(2 * ANSWER_SECONDS + 1)

    def look(self) -> None:
        """Ask all, and stop those that were idle for too long."""
        running = [one for one in self._backend.all() if self._backend.observe(one).status == "running"]
        self._seen = {one.id: self._seen.get(one.id, self._clock()) for one in running}
        for instance in running:
            if self._stopping.is_set():
                return
            self._consider(instance)

    def _consider(self, instance: Instance) -> None:
        try:
            used = ask(self._backend.inner_door(instance))
            moment = max(self._seen[instance.id], used.timestamp())
            if self._clock() - moment >= 60 * self._minutes:
                logger.info("%s was idle for %d minutes and is stopped.", shown(instance.place), self._minutes)
                self._backend.stop(instance, f"It was idle for {self._minutes} minutes")
        except UnknownActivityError as error:
            logger.warning("%s does not say what goes on in it (%s).", shown(instance.place), error)
        except InstanceError as error:
            logger.warning("%s cannot be asked what goes on in it: %s", shown(instance.place), error)

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            try:
                self.look()
            except InstanceError as error:
                logger.warning("Idle instances cannot be looked for: %s", error)
            except Exception:
                logger.exception("Something went wrong while idle instances were looked for.")


def _get(door: Door, what: str) -> bytes:
    # Without the query the question itself would count as use.
    status, body = fetch(
        f"{door.url}/api/{what}?no_track_activity=1",
        {"Authorization": f"token {door.token}"},
        seconds=ANSWER_SECONDS,
        longest=LONGEST_ANSWER,
    )
    if status != 200:
        raise OddError(f"it answers {status}")
    return body


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
