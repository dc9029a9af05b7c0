"""Running the cells of a page ahead of its reader, as a client of the kernel, and keeping what they say."""

from __future__ import annotations

import socket
import time
import uuid
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from builder.errors import NbfolioError
from shim.kernels.disclosure import recorded
from shim.kernels.messages import PROTOCOL, Message, MessageError, parse, serialise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.kernels.filter import Recording
    from shim.kernels.relay import Upstream

SECONDS = 60.0
"""How long all cells of a page may take together."""
LARGEST = 20 << 20
"""Bytes of what one cell says; more is not kept, and the cell runs again for the reader."""
ABNF_TEXT, ABNF_BINARY, ABNF_CLOSE = 1, 2, 8
"""What frames of a WebSocket are (RFC 6455)."""


class RehearsalError(NbfolioError):
    """Raised when a kernel cannot be used for readers: it took too long, or the connection was lost."""


class Rehearsal:
    """One run of all code cells of a page in a kernel, over a WebSocket of its own."""

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

        recording: Recording = {}
        try:
            with closing(self._socket):
                self._connect()
                for index, source in enumerate(self._cells):
                    if source is None:
                        continue
                    messages, fine = self._run(source)
                    if not fine:
                        break
                    if messages is not None:
                        recording[index] = recorded(messages, tracebacks=self._tracebacks)
        except (WebSocketException, MessageError, OSError) as error:
            raise RehearsalError(f"Its cells could not be run ahead: {error or type(error).__name__}.") from error
        return recording

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

    def _run(self, source: str) -> tuple[list[Message] | None, bool]:
        """Run a cell: what it said (None: too much to keep), and whether it was fine."""
        request = self._request(source)
        self._socket.send(serialise(request, self._v1), opcode=ABNF_BINARY if self._v1 else ABNF_TEXT)
        said: list[Message] = []
        size, reply, idle = 0, "", False
        while not (reply and idle):
            payload = self._receive()
            message = parse(payload, self._v1, trusted=True)
            if message.parent_header.get("msg_id") != request.header["msg_id"]:
                continue
            size += len(payload)
            if size <= LARGEST:
                said.append(message)
            else:
                said.clear()
            kind = message.header["msg_type"]
            if message.channel == "shell" and kind == "execute_reply":
                reply = str(message.content.get("status", "error"))
            elif message.channel == "iopub" and kind == "status":
                idle = message.content.get("execution_state") == "idle"
        return (said if size <= LARGEST else None), reply == "ok"

    def _receive(self) -> str | bytes:
        while True:
            self._socket.settimeout(self._left())
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
