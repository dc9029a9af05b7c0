"""A client and a kernel, connected: how that begins and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from wsproto import ConnectionType
from wsproto.connection import Connection as Frames

from shim.answers import HttpError
from shim.kernels.codes import Code
from shim.kernels.exchange import Exchange, Means
from shim.kernels.handshake import Accepted, accepted, connect, offer, refused
from shim.kernels.messages import PROTOCOL
from shim.kernels.rates import Allowance
from shim.kernels.side import Side

if TYPE_CHECKING:
    from shim.kernels.loop import Threads
    from shim.kernels.messages import Payload
    from shim.kernels.opening import Opening

MOST_UP = 8 << 20
"""Bytes of a client's message, such as a file for an upload widget."""
MOST_DOWN = 64 << 20
"""Bytes of a kernel's message; 10 MB of output are usual, and each byte is held up to five times for a moment."""
CLOSE_SECONDS = 5.0
"""For both ends to take notice that all is over."""
SILENT_BEATS = 3
"""Beats of the relay for which an end may be silent; it is asked for a sign of life at each."""

logger = logging.getLogger("shim.kernels")


class State(Enum):
    """How far a connection has come."""

    OPENING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Surroundings(NamedTuple):
    """What a connection needs of the relay."""

    up: Threads
    """Judge big messages of clients."""
    down: Threads
    """Judge big messages of kernels."""
    remark: Callable[[str, str], None]
    """Told of refused messages: by which connection, and why."""
    finished: Callable[[Connection], None]
    """Called once, when all is over."""


class Connection:
    """One client's WebSocket and the one of the gateway behind it; used by the relay's thread only."""

    __slots__ = (
        "_alarm",
        "_client",
        "_exchange",
        "_gateway",
        "_loop",
        "_state",
        "_surroundings",
        "_task",
        "has_spoken",
        "opening",
    )

    def __init__(self, opening: Opening, connection: socket.socket, surroundings: Surroundings) -> None:
        """Begin to connect."""
        self.opening = opening
        self.has_spoken = False
        """Whether the client sent a message since this was last set to False; signs of life are none."""
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        self._state = State.OPENING
        self._client = Side(self, MOST_UP, Allowance())
        self._gateway: Side | None = None
        self._exchange: Exchange | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = self._loop.create_task(self._open(connection))
        self._task.add_done_callback(partial(self._opened, connection))

    def end(self, code: int, reason: str) -> None:
        """Close both sides; the client is told why."""
        if self._state is State.OPENING:
            self._refuse(HttpError(404 if code == Code.GONE else 503, f"{reason.rstrip('.')}."))
            if self._task:
                self._task.cancel()
        elif self._state is State.OPEN:
            self._client.say_close(code, reason)
            self._wind_up(Code.GOING_AWAY)

    def abort(self) -> None:
        """Close both sides without a word."""
        if self._task:
            self._task.cancel()
        for side in self._sides():
            side.abort()

    def beat(self, seconds: float) -> None:
        """Ask for signs of life, and give up when there was none; to be called every `seconds`."""
        if self._state is not State.OPEN:
            return
        if self._client.is_late:
            self.end(Code.POLICY, "a message took too long")
            return
        for side in self._sides():
            if side.is_reading and self._loop.time() - side.heard > SILENT_BEATS * seconds:
                self.end(*(_LOST if side is self._gateway else (Code.GOING_AWAY, "no sign of life")))
                if side is self._client:
                    side.abort()
                return
            side.ping()

    def finish(self) -> None:
        """Say that all is over, if that was not said yet."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        if self._alarm:
            self._alarm.cancel()
        logger.debug("%s: WebSocket closed", self.opening.label)
        self._surroundings.finished(self)
        self._tell(self.opening.closed)

    # What the two sides say

    def received(self, side: Side, payload: Payload) -> None:
        """Pass a message on."""
        if side is self._client:
            self.has_spoken = True
        if self._exchange:
            self._exchange.received(side, payload)

    def closed(self, side: Side, code: int) -> None:
        """One side closes, so the other does."""
        self._do(partial(self._mirror, side, code))

    def failed(self, side: Side, code: int, reason: str) -> None:
        """What a side sends cannot be read."""
        if side is self._gateway:
            code, reason = (code, "the output is too large") if code == Code.TOO_LARGE else _LOST
        self._do(partial(self.end, code, reason))

    def lost(self, side: Side) -> None:
        """One side is gone."""
        self._do(partial(self._without, side))

    def crowded(self, side: Side) -> None:
        """A side takes less than the other one sends, or has caught up."""
        if self._exchange:
            self._exchange.crowded(side)

    def _do(self, step: Callable[[], None]) -> None:
        if self._exchange:
            self._exchange.do(step)
        else:
            step()

    # Opening

    async def _open(self, connection: socket.socket) -> None:
        opening = self.opening
        await self._loop.connect_accepted_socket(lambda: self._client, connection)
        try:
            gateway = await connect(opening.upstream, offer(opening.protocols), opening.label)
        except HttpError as error:
            self._refuse(error)
            return
        side = self._gateway = Side(self, MOST_DOWN)
        gateway.transport.set_protocol(side)
        side.connection_made(gateway.transport)
        side.is_reading = False
        v1 = gateway.protocol == PROTOCOL
        try:
            judge = opening.new_filter(v1)
        except Exception:
            logger.exception("%s: there is no filter", opening.label)
            self._refuse(HttpError(500, "Something went wrong; the log says what."))
            return
        means = Means(
            v1,
            self._surroundings.up,
            self._surroundings.down,
            partial(self._tell, opening.state),
            partial(self._surroundings.remark, opening.label),
            self.end,
        )
        self._exchange = Exchange(self._client, side, judge, means)
        self._begin(gateway, side)

    def _begin(self, gateway: Accepted, side: Side) -> None:
        self._state = State.OPEN
        logger.debug("%s: WebSocket opened", self.opening.label)
        self._client.write(accepted(self.opening.key, gateway.protocol))
        self._client.begin(Frames(ConnectionType.SERVER))
        self._tell(self.opening.opened)
        side.begin(gateway.frames)
        if self._exchange:
            self._exchange.regulate()

    def _opened(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s: a WebSocket could not be opened", self.opening.label, exc_info=error)
            self.abort()
        if self._client.transport is None:
            connection.close()
            self._client.is_lost = True
        self._check_finished()

    def _refuse(self, error: HttpError) -> None:
        if self._state is State.OPENING:
            logger.debug("%s: WebSocket refused with %d", self.opening.label, error.status)
            self._client.write(refused(error, f"/api/kernels/{self.opening.kernel}/channels"))
            self._wind_up(Code.GOING_AWAY)
            self._client.close()

    # Closing

    def _mirror(self, side: Side, code: int) -> None:
        if self._state is State.OPEN:
            # What cannot stand in a close is an error already.
            mirrored = Code.NORMAL if code == Code.NO_STATUS else code
            if side is self._gateway:
                self._client.say_close(mirrored, "")
            self._wind_up(mirrored)
        side.close()

    def _without(self, side: Side) -> None:
        if self._state is State.OPENING:
            self._wind_up(Code.GOING_AWAY)
            if self._task:
                self._task.cancel()
        elif self._state is State.OPEN:
            if side is self._gateway:
                self.end(*_LOST)
            else:
                self._wind_up(Code.GOING_AWAY)
        side.close()
        self._check_finished()

    def _wind_up(self, code: int) -> None:
        """Nothing is relayed any more; the gateway is told so."""
        self._state = State.CLOSING
        if self._gateway:
            self._gateway.say_close(code, "")
            self._gateway.close()
        if self._exchange:
            self._exchange.stop()
        self._alarm = self._loop.call_later(CLOSE_SECONDS, self.abort)

    def _check_finished(self) -> None:
        if self._task is None and all(side.is_lost for side in self._sides()):
            self.finish()

    def _sides(self) -> list[Side]:
        return [self._client, self._gateway] if self._gateway else [self._client]

    def _tell(self, callback: Callable[..., None], *args: str) -> None:
        try:
            callback(*args)
        except Exception:
            logger.exception("%s: could not be noted", self.opening.label)


_LOST = (Code.LOST, "the kernel's server is gone")
