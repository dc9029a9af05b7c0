"""One end of a relayed connection: a transport and the WebSocket frames on it, made into whole messages."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol

from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from shim.kernels.codes import Code

if TYPE_CHECKING:
    from shim.kernels.messages import Payload
    from shim.kernels.rates import Allowance

HIGH_WATER = 1 << 20
"""Bytes that may wait to be sent before the other end is asked to wait."""
MESSAGE_SECONDS = 60.0
"""For which a message may be on its way, once a part of it came; each byte that came gives it `MESSAGE_PACE` more."""
MESSAGE_PACE = 1 / (64 << 10)
"""Seconds: a large file over a slow line arrives."""

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Listener(Protocol):
    """Hears what happens at an end."""

    def received(self, side: Side, payload: Payload) -> None:
        """A whole message came."""

    def closed(self, side: Side, code: int) -> None:
        """The peer said that it closes, or agreed to."""

    def failed(self, side: Side, code: int, reason: str) -> None:
        """What comes cannot or must not be read on."""

    def lost(self, side: Side) -> None:
        """The peer sends nothing more, or the connection is gone; may be called twice."""

    def crowded(self, side: Side) -> None:
        """`is_full` has changed."""


class Side(asyncio.Protocol):
    """The protocol of one transport; begins to read frames once it is given them."""

    __slots__ = (
        "_allowance",
        "_began",
        "_deaf",
        "_frames",
        "_is_text",
        "_listener",
        "_loop",
        "_most",
        "_outgoing",
        "_parts",
        "_socket",
        "heard",
        "is_full",
        "is_lost",
        "is_reading",
        "transport",
    )

    def __init__(self, listener: Listener, most: int, allowance: Allowance | None = None) -> None:
        """`most` is the size of its longest message in bytes; without an allowance it may send as it likes."""
        self._listener = listener
        self._most = most
        self._allowance = allowance
        self._frames: Frames | None = None
        self._parts: bytearray | None = None
        self._began = 0.0
        self._is_text = False
        self._outgoing: list[bytes] = []
        self._deaf = False
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self.transport: asyncio.Transport | None = None
        self.heard = self._loop.time()
        """When something came last, or could have, by the loop's clock."""
        self.is_reading = True
        self.is_full = False
        self.is_lost = False

    def begin(self, frames: Frames) -> None:
        """Read frames from now on, and those that came already."""
        self._frames = frames
        self.heard = self._loop.time()
        self._read(frames)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a transport; also to be called for one that had another protocol before."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._socket = transport.get_extra_info("socket")
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        self.heard = self._loop.time()
        if _QUICK_ACK is not None and self._socket is not None and self._allowance is None:
            # A gateway with Nagle's algorithm waits for this before it sends the rest of an answer.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        if self._deaf:
            return
        if self._frames is None:
            # Nothing may come before the handshake is done.
            self._hang_up()
        elif self._allowance and not self._allowance.data(len(data), self.heard):
            self._fail(Code.POLICY, "too much at once")
        else:
            self._frames.receive_data(data)
            self._read(self._frames)

    def eof_received(self) -> bool:
        """The peer sends nothing more, so the transport closes itself."""
        self._hang_up()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.is_lost = True
        self._hang_up()

    def pause_writing(self) -> None:
        """More waits to be sent than should."""
        self.is_full = True
        self._listener.crowded(self)

    def resume_writing(self) -> None:
        """There is room again."""
        self.is_full = False
        self._listener.crowded(self)

    # What the connection calls

    def read(self, wanted: bool) -> None:
        """Read on, or let the peer wait."""
        if self.transport is None or wanted is self.is_reading:
            return
        self.is_reading = wanted
        if wanted:
            # What it would have sent meanwhile is not missed.
            self.heard = self._began = self._loop.time()
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def send(self, payload: Payload) -> None:
        """Send a message; nothing once a close was said."""
        if self._frames is not None and self._frames.state is ConnectionState.OPEN:
            self.write(
                self._frames.send(
                    TextMessage(data=payload) if isinstance(payload, str) else BytesMessage(data=bytes(payload))
                )
            )

    @property
    def is_late(self) -> bool:
        """Whether a part of a message came, and for too long not the rest, which could have."""
        if self._parts is None or not self.is_reading:
            return False
        return self._loop.time() - self._began > MESSAGE_SECONDS + len(self._parts) * MESSAGE_PACE

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._frames is not None and self._frames.state is ConnectionState.OPEN and not self.is_full:
            self.write(self._frames.send(Ping()))

    def say_close(self, code: int, reason: str) -> None:
        """Say that this WebSocket is closed; when the peer cannot be understood it is not waited for."""
        if self._frames is None or self._frames.state is not ConnectionState.OPEN:
            return
        self.write(self._frames.send(CloseConnection(code=code, reason=reason or None)))
        self._flush()
        transport = self.transport
        if self._deaf and transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def write(self, data: bytes) -> None:
        """Send bytes, with all others of the same turn of the loop: many small frames cost as much as one."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(data)

    def close(self) -> None:
        """Close the transport when all is sent."""
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the transport at once."""
        if self.transport is not None:
            self.transport.abort()

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self.transport is not None and not self.transport.is_closing():
            # Not `writelines`: some releases of Python 3.12 and 3.13 never say there that too much waits.
            self.transport.write(b"".join(outgoing))

    # Frames

    def _read(self, frames: Frames) -> None:
        for event in frames.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._part(event)
            elif isinstance(event, Ping):
                self._count()
                if not self._deaf and not self.is_full and frames.state is ConnectionState.OPEN:
                    self.write(frames.send(event.response()))
            elif isinstance(event, Pong):
                self._count()
            elif isinstance(event, CloseConnection):
                self._close(frames, event)
            if self._deaf:
                return

    def _count(self) -> None:
        if self._allowance and not self._allowance.frame(self.heard):
            self._fail(Code.POLICY, "too many messages at once")

    def _part(self, event: TextMessage | BytesMessage) -> None:
        """Take a part of a message, as large as it happened to arrive; there may be any number of empty ones."""
        if event.frame_finished:
            self._count()
        if self._deaf or (self._frames is not None and self._frames.state is not ConnectionState.OPEN):
            return
        whole = self._parts is None and event.message_finished
        if whole and len(event.data) <= self._most:
            self._listener.received(self, event.data if isinstance(event.data, str) else bytes(event.data))
            return
        if self._parts is None:
            self._parts, self._is_text = bytearray(), isinstance(event.data, str)
            self._began = self.heard
        self._parts += event.data.encode() if isinstance(event.data, str) else event.data
        if len(self._parts) > self._most:
            self._fail(Code.TOO_LARGE, f"messages may have {self._most >> 20} MB")
        elif event.message_finished:
            data, self._parts = bytes(self._parts), None
            self._listener.received(self, data.decode() if self._is_text else data)

    def _close(self, frames: Frames, event: CloseConnection) -> None:
        if frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            # That is how wsproto tells of what it cannot read.
            self._fail(event.code, "not valid as WebSocket")
            return
        if frames.state is ConnectionState.REMOTE_CLOSING:
            self.write(frames.send(event.response()))
        self._stop()
        self._listener.closed(self, event.code)

    def _fail(self, code: int, reason: str) -> None:
        if not self._deaf:
            self._stop()
            self._listener.failed(self, code, reason)

    def _hang_up(self) -> None:
        self._stop()
        self._listener.lost(self)

    def _stop(self) -> None:
        """Throw away what still comes, so that the peer can send it and then read why."""
        self._deaf = True
        self._parts = None
