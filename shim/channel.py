"""Connections of the web server: bounds for heads and bodies in size and time, and refusals that clients can read."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from shim.answers import HttpError, send_error
from shim.envelope import PREFIX, in_envelope, send_enveloped
from shim.task import Task
from shim.upgrade import EARLY, OnSocket, asks_for_websocket
from shim.uploads import DISK_FULL, megabytes

if TYPE_CHECKING:
    from shim.headers import Headers

logger = logging.getLogger("shim")

BodyLimit = Callable[[str, str, Mapping[str, str]], int]
"""The most bytes that the body of a request may have, from its method, path and headers.

The path is as in PATH_INFO; headers are named as in a WSGI environment, without `HTTP_`. May raise HttpError, which
is then the answer. Runs between all other connections, so it must be quick and wait for nothing.
"""

BODY = 1 << 20
"""Bytes of a body where nobody allows more."""
HEAD_SECONDS = 15.0
"""Seconds from the first byte of a request to the end of its head."""
BODY_SECONDS = 60.0
"""Seconds that a body gets whatever its size; a large one has to come at `BODY_PACE` on average."""
BODY_PACE = 1024
LINGER_SECONDS = 30.0
"""Seconds for which what a client still sends is read and thrown away once it was refused; at most `LINGER_BYTES`."""
LINGER_BYTES = 256 << 20
_CHUNK_LINE = 4096
_SENTENCES = {
    413: "The request is too large.",
    431: "The head of the request is too large.",
    500: "Something went wrong; the log says what.",
    501: "The only Transfer-Encoding that is understood here is chunked.",
}


def one_megabyte(method: str, path: str, headers: Mapping[str, str]) -> int:
    """The same limit for all requests."""
    return BODY


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """One request as it arrives; what must not go on is complete at once, with an error."""

    path = ""
    command = ""

    def __init__(self, adjustments: Any, body_limit: BodyLimit) -> None:
        super().__init__(adjustments)
        self._body_limit = body_limit
        self._limit = 0
        self._started = time.monotonic()

    def received(self, data: bytes) -> int:
        """Take what has come; gives back how much of it belongs to this request."""
        try:
            consumed: int = super().received(data)
        except OSError as error:
            # Large bodies wait in temporary files.
            reason = "The server's disk is full." if error.errno in DISK_FULL else "The request could not be stored."
            logger.error("the body of a request could not be stored: %s", error)
            self.error = HttpError(507, reason)
        if self.error is None:
            self._check_size()
        if self.error:
            self.completed = True
            # What follows belongs to the refused body; it must not be taken for another request.
            consumed = len(data)
        elif self.completed and consumed < len(data) and asks_for_websocket(self):
            # They could be frames, or a request that somebody in between took for frames.
            self.error = HttpError(400, EARLY)
            consumed = len(data)
        elif self.completed and consumed < len(data):
            # Workers must not wait for a client to read one answer before they give it the next: one request at a
            # time, and whoever sent more sends the rest again on another connection.
            if data[consumed:].strip():
                self.headers["CONNECTION"] = "close"
            consumed = len(data)
        if self.completed:
            # Waitress would say "continue" to what it refuses, and then wait for it.
            self.expect_continue = False
        return consumed

    def parse_header(self, head: bytes) -> None:
        """Read the head, and ask how large the body may be."""
        try:
            super().parse_header(head)
        except ValueError:
            # Some odd targets and lengths get that far.
            raise ParsingError("not valid HTTP") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("two lengths")
        if not self.chunked and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("chunks in a version without")
        if self.chunked or self.content_length:
            path = f"/{self.path.lstrip('/')}" if self.path.startswith("/") else self.path
            try:
                self._limit = self._body_limit(self.command, path, self.headers)
            except HttpError as error:
                self.error = error

    def close(self) -> None:
        """Forget the body."""
        # The file of one that could not be stored fails once more when it is closed; it is closed all the same.
        with suppress(OSError):
            super().close()

    def is_late(self, now: float) -> bool:
        """Whether the request takes longer to arrive than it may."""
        if not self.headers_finished:
            return now - self._started > HEAD_SECONDS
        allowed: float = BODY_SECONDS + self.body_bytes_received / BODY_PACE
        return now - self._started > allowed

    def _check_size(self) -> None:
        # Chunked bodies are counted with their framing: that is what costs to read.
        if max(self.content_length, self.body_bytes_received) > self._limit:
            self.error = HttpError(
                413, f"The body of the request is larger than {megabytes(self._limit)}, the most that is taken here."
            )
        elif self.chunked and max(len(self.body_rcv.control_line), len(self.body_rcv.trailer)) > _CHUNK_LINE:
            self.error = HttpError(400, "The chunks of the request are not valid.")


class Refusal(ErrorTask):  # type: ignore[misc]
    """Answers a request that does not reach the application, in the words of the application."""

    def execute(self) -> None:
        """Write the answer, after which the connection ends."""
        request = self.request
        self.channel.refused = True
        environ = {"REQUEST_METHOD": request.command, "PATH_INFO": request.path}
        error = request.error
        if not isinstance(error, HttpError):
            error = HttpError(error.code, _SENTENCES.get(error.code, "The request is not valid HTTP."))
        logger.debug("refused with %s: %s", error.status.value, error.message)
        # The site's prefix is not known here; whatever has those two segments may be an answer of that API.
        if in_envelope(request.path[request.path.find(PREFIX) :]):
            body = send_enveloped(environ, self._start, error)
        else:
            body = send_error(environ, self._start, error, lambda: None)
        self.set_close_on_finish()
        self.write(b"".join(body))

    def _start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        self.status = status
        self.response_headers.extend(headers)
        write: Callable[[bytes], object] = self.write
        return write


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection; after a refusal it listens on for a while.

    Closing while a client still sends would reset the connection, and the client would lose the answer.
    """

    task_class = Task
    error_task_class = Refusal
    refused = False
    socket: Any
    upgrade: OnSocket | None = None
    """Who takes the connection over, between the answer of the application and that."""
    _lingers_until: float | None = None
    _discarded = 0

    def parser_class(self, adjustments: Any) -> Parser:
        """A parser for the next request."""
        return Parser(adjustments, self.server.body_limit)

    def readable(self) -> bool:
        """Whether to read; what comes after a request for a WebSocket is for whoever takes it over."""
        return self.upgrade is None and bool(super().readable())

    def service(self) -> None:
        """Answer a request, on a worker's thread; a connection that goes on as a WebSocket leaves the server."""
        super().service()
        if self.upgrade is not None:
            # All connections are looked after by one thread, which may be walking through them right now.
            self.server.trigger.pull_trigger(self._detach)

    def is_late(self, now: float) -> bool:
        """Whether the client takes longer than it may, be it to send a request or to end after a refusal."""
        if self._lingers_until is not None:
            return now > self._lingers_until
        if self.requests or self.total_outbufs_len or self.request is None:
            return False
        late: bool = self.request.is_late(now)
        return late

    def received(self, data: bytes) -> bool:
        """Take what has come, or throw it away after a refusal."""
        if self._lingers_until is None:
            return bool(super().received(data))
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self.handle_close()
        return True

    def handle_write(self) -> None:
        """Send what waits; the end of a refusal is the end of what is sent, not of the connection."""
        if not (self.refused and self.close_when_flushed):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close or not self.connected:
            self.handle_close()
        elif not self.total_outbufs_len:
            self._linger()

    def handle_close(self) -> None:
        """Close the connection, and forget what has come of a request."""
        super().handle_close()
        if self.request is not None:
            self.request.close()

    def cancel(self) -> None:
        """Forget requests that no worker took."""
        requests: Iterable[Parser] = self.requests
        super().cancel()
        for request in requests:
            request.close()

    def _detach(self) -> None:
        on_socket, self.upgrade = self.upgrade, None
        connection = self.socket
        if on_socket is None or connection is None or not self.connected or self.will_close:
            self.handle_close()
            return
        # What is left of the channel is closed, and forgotten by the server.
        self.socket = None
        self.handle_close()
        try:
            on_socket(connection)
        except Exception:
            logger.exception("A WebSocket could not be taken over.")
            connection.close()

    def _linger(self) -> None:
        self.close_when_flushed = False
        self._lingers_until = time.monotonic() + LINGER_SECONDS
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()
