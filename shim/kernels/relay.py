"""Carries WebSockets between clients and kernels: one thread with one event loop for all of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import NbfolioError
from shim.answers import HttpError
from shim.kernels.codes import Code
from shim.kernels.connection import Connection, Surroundings
from shim.kernels.handshake import refused
from shim.kernels.loop import Loop, Threads
from shim.kernels.rates import Bucket

if TYPE_CHECKING:
    from shim.kernels.opening import Opening

REMARKS_PER_SECOND = 1
REMARKS_AT_ONCE = 20
"""Lines about refused messages."""
ABORT_SECONDS = 1.0
"""For connections to be gone that nobody waits for any more."""
START_SECONDS = 10.0
SPARE_SECONDS = 2.0
"""For the thread to end, beside the time that connections have."""

logger = logging.getLogger("shim.kernels")


class RelayError(NbfolioError):
    """Raised when the relay cannot start."""


class Relay:
    """Takes connections over from `start` to `stop`."""

    def __init__(self, *, most: int, idle_ping: float = 30.0) -> None:
        """`most` connections at a time; signs of life are asked for, and logins checked, every `idle_ping` seconds."""
        self._most = most
        self._idle_ping = idle_ping
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[Connection] = set()
        self._remarks = Bucket(REMARKS_PER_SECOND, REMARKS_AT_ONCE)
        self._unsaid = 0

    def start(self) -> None:
        """Start the thread. Raises RelayError."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=[ready], name="relay", daemon=True)
        self._thread.start()
        ready.wait(START_SECONDS)
        if self._loop is None:
            raise RelayError("WebSockets of kernels cannot be served: their thread did not start; the log says more.")

    def stop(self, timeout: float = 3.0) -> None:
        """Tell all clients to come back later, wait for them for at most `timeout` seconds, and end the thread."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stopping.set_result, timeout)
                self._loop = None
        if self._thread is not None:
            self._thread.join(timeout + ABORT_SECONDS + SPARE_SECONDS)
            if self._thread.is_alive():
                logger.warning("WebSockets of kernels could not be closed in time.")

    def open(self, connection: socket.socket, opening: Opening) -> None:
        """Take over a connection whose client asked for a WebSocket and was not answered yet; from any thread."""
        with self._lock:
            if self._loop is not None:
                fits = self._counts.total() < self._most
                if fits:
                    self._counts[opening.kernel] += 1
                self._loop.call_soon_threadsafe(self._begin if fits else _turn_away, connection, opening)
                return
        _turn_away(connection, opening)

    def close_kernel(self, kernel: str, code: int, reason: str) -> None:
        """Close all connections of a kernel; from any thread."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._close, kernel, code, reason)

    def count(self, kernel: str | None = None) -> int:
        """How many connections there are, of all kernels or one."""
        with self._lock:
            return self._counts.total() if kernel is None else self._counts[kernel]

    def has_room(self) -> bool:
        """Whether another connection would be taken."""
        with self._lock:
            return self._loop is not None and self._counts.total() < self._most

    # The rest runs on the relay's thread.

    def _main(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(self._run(ready))
        except Exception:
            logger.exception("WebSockets of kernels cannot be served any more")
        finally:
            ready.set()

    async def _run(self, ready: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        self._stopping: asyncio.Future[float] = loop.create_future()
        self._gone = asyncio.Event()
        # What readers send must not delay what kernels say, nor the other way round.
        up, down = Threads(1, "relay-up"), Threads(1, "relay-down")
        self._surroundings = Surroundings(up, down, self._remark, self._finished)
        try:
            with self._lock:
                self._loop = loop
            ready.set()
            checking = loop.create_task(self._check_logins())
            await self._relay()
            checking.cancel()
        finally:
            with self._lock:
                self._loop = None
            up.end()
            down.end()

    async def _relay(self) -> None:
        while not self._stopping.done():
            await asyncio.wait([self._stopping], timeout=self._idle_ping)
            self._each(lambda connection: connection.beat(self._idle_ping))
        self._each(lambda connection: connection.end(Code.RESTART, "the server restarts"))
        await self._wait(self._stopping.result())
        self._each(Connection.abort)
        await self._wait(ABORT_SECONDS)
        self._each(Connection.finish)

    async def _check_logins(self) -> None:
        """Close the connections of clients who are not logged in any more, for as long as there is a relay."""
        while True:
            await asyncio.sleep(self._idle_ping)
            # The records may be in use elsewhere for seconds.
            aside = Threads(1, "relay-logins")
            try:
                for connection in list(self._connections):
                    await self._check_login(connection, aside)
            finally:
                aside.end()

    async def _check_login(self, connection: Connection, aside: Threads) -> None:
        holds, has_spoken = connection.opening.holds, connection.has_spoken
        if holds is None:
            return
        connection.has_spoken = False
        try:
            if not await aside.run(partial(holds, has_spoken)):
                connection.end(Code.LOGGED_OUT, "You are logged out.")
        except Exception:
            logger.exception("%s: the login could not be checked", connection.opening.label)
            # The client comes back, and is let in or not.
            connection.abort()

    def _each(self, step: Callable[[Connection], None]) -> None:
        """Do something with all connections; one that fails takes no other with it."""
        for connection in list(self._connections):
            try:
                step(connection)
            except Exception:
                logger.exception("%s: something went wrong", connection.opening.label)
                connection.abort()

    async def _wait(self, seconds: float) -> None:
        """Wait until no connection is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._connections:
                    self._gone.clear()
                    await self._gone.wait()

    def _begin(self, connection: socket.socket, opening: Opening) -> None:
        self._connections.add(Connection(opening, connection, self._surroundings))

    def _finished(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._gone.set()
        kernel = connection.opening.kernel
        with self._lock:
            self._counts[kernel] -= 1
            if not self._counts[kernel]:
                del self._counts[kernel]

    def _close(self, kernel: str, code: int, reason: str) -> None:
        def end(connection: Connection) -> None:
            if connection.opening.kernel == kernel:
                connection.end(code, reason)

        self._each(end)

    def _remark(self, label: str, note: str) -> None:
        if not self._remarks.take(1, time.monotonic()):
            self._unsaid += 1
            return
        unsaid = f" (and {self._unsaid} more that were not noted)" if self._unsaid else ""
        logger.info("%s: %s%s", label, note, unsaid)
        self._unsaid = 0


def _turn_away(connection: socket.socket, opening: Opening) -> None:
    """Refuse a connection for which there is no room, or no relay any more."""
    error = HttpError(503, "There are too many connections, or the server is about to end; try again later.")
    with suppress(OSError):
        connection.send(refused(error, f"/api/kernels/{opening.kernel}/channels"))
    connection.close()
    try:
        opening.closed()
    except Exception:
        logger.exception("%s: could not be noted", opening.label)
