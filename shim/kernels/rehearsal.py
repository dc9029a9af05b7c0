"""Running the cells of a page ahead of its reader, as a client of the kernel, and keeping what they say."""

from __future__ import annotations

import socket
import ssl
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from builder.errors import NbfolioError
from shim.kernels.disclosure import recorded
from shim.kernels.messages import PROTOCOL, Message, MessageError, Payload, parse, serialise
from shim.kernels.table import RESTARTING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.kernels.filter import Recording
    from shim.kernels.opening import Upstream

SECONDS = 60.0
"""How long all cells of a page may take together."""
MOST_KEPT = 16 << 20
"""Bytes of what is kept for one kernel; cells that say more than is left of it run again for the reader."""
MOST_UNREAD = 1000
"""Messages that a kernel may send between two looks after its cells have run."""
PING_SECONDS = 1.0
ABNF_TEXT, ABNF_BINARY, ABNF_CLOSE = 1, 2, 8
"""What frames of a WebSocket are (RFC 6455)."""


class RehearsalError(NbfolioError):
    """Raised when a kernel cannot be used for readers: it took too long, or the connection was lost."""


class Rehearsal:
    """One run of all code cells of a page in a kernel, over a WebSocket of its own that stays open until `close`."""

    def __init__(self, upstream: Upstream, cells: Sequence[str | None], *, tracebacks: bool) -> None:
        # Imported here: only sites with warm kernels need it.
        from websocket import WebSocket

        self._upstream = upstream
        self._cells = cells
        self._tracebacks = tracebacks
        self._end = time.monotonic() + SECONDS
        self._session = uuid.uuid4().hex
        self._aborted = False
        self._v1 = False
        self._socket = WebSocket(skip_utf8_validation=True, sslopt={"context": upstream.tls} if upstream.tls else {})

    def run(self) -> Recording:
        """Run the cells in order until one fails; what each said, by its index. Raises RehearsalError.

        A cell that failed is not in the recording, nor are those after it: they run once the reader asks for them.
        """
        from websocket import WebSocketException

        try:
            self._connect()
            return self._recording()
        except (WebSocketException, MessageError, OSError, UnicodeError) as error:
            raise RehearsalError(f"Its cells could not be run ahead: {error or type(error).__name__}.") from error

    def is_current(self) -> bool:
        """Whether the kernel is still the one that ran the cells; to be asked every few seconds, and never waits long.

        False also when that cannot be known: the connection was lost, or the kernel says more than is read.
        """
        from websocket import WebSocketException

        try:
            # Gateways, and proxies before them, close connections on which nothing moves.
            self._socket.settimeout(PING_SECONDS)
            self._socket.ping()
            self._socket.settimeout(0)
            for _ in range(MOST_UNREAD):
                if _begins_anew(parse(self._message(), self._v1, trusted=True)):
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            # Nothing else came.
            return True
        except (WebSocketException, MessageError, OSError, UnicodeError):
            pass
        return False

    def close(self) -> None:
        """Close the connection without waiting for the gateway."""
        self._socket.shutdown()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Make `run` end soon; from another thread. Gateways do not say when a kernel has ended."""
        self._aborted = True
        if connection := self._socket.sock:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        self._socket.connect(  # type: ignore[no-untyped-call]
            self._upstream.url,
            timeout=self._left(),
            header=[f"{name}: {value}" for name, value in self._upstream.headers],
            subprotocols=[PROTOCOL],
            suppress_origin=True,
            http_no_proxy=["*"],
        )
        self._v1 = self._socket.getsubprotocol() == PROTOCOL

    def _recording(self) -> Recording:
        recording: Recording = {}
        room = MOST_KEPT
        for index, source in enumerate(self._cells):
            if source is None:
                continue
            messages, size, fine = self._run(source, room)
            if not fine:
                break
            if messages is not None:
                room -= size
                recording[index] = recorded(messages, tracebacks=self._tracebacks)
        return recording

    def _run(self, source: str, room: int) -> tuple[list[Message] | None, int, bool]:
        """Run a cell: what it said (None: more than `room`), how many bytes that was, and whether it was fine."""
        request = self._request(source)
        self._socket.send(serialise(request, self._v1), opcode=ABNF_BINARY if self._v1 else ABNF_TEXT)
        said: list[Message] = []
        size, reply, idle = 0, "", False
        while not (reply and idle):
            self._socket.settimeout(self._left())
            payload = self._message()
            message = parse(payload, self._v1, trusted=True)
            if message.parent_header.get("msg_id") != request.header["msg_id"]:
                continue
            size += len(payload)
            if size <= room:
                said.append(message)
            else:
                said.clear()
            kind = message.header["msg_type"]
            if message.channel == "shell" and kind == "execute_reply":
                reply = str(message.content.get("status", "error"))
            elif message.channel == "iopub" and kind == "status":
                idle = message.content.get("execution_state") == "idle"
        return (said if size <= room else None), size, reply == "ok"

    def _message(self) -> Payload:
        while True:
            opcode, payload = self._socket.recv_data()
            if opcode == ABNF_CLOSE:
                raise OSError("the gateway closed the connection")
            if opcode in (ABNF_TEXT, ABNF_BINARY):
                return payload.decode() if opcode == ABNF_TEXT else bytes(payload)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("they take too long")
        if self._aborted:
            raise OSError("the kernel was ended")
        return left

    def _request(self, source: str) -> Message:
        header: dict[str, Any] = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "session": self._session,
            "username": "",
            "version": "5.3",
            "date": datetime.now(UTC).isoformat(),
        }
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        return Message("shell", header, {}, {}, content, ())


def _begins_anew(message: Message) -> bool:
    return message.kind == "status" and message.content.get("execution_state") in (*RESTARTING, "dead")
