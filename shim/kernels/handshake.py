"""How a WebSocket begins: with a gateway, which is asked first, and with the client, who hears what came of it."""

from __future__ import annotations

import asyncio
import errno
import logging
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError, generate_accept_token

from shim.answers import HttpError, send_error
from shim.kernels.messages import PROTOCOL

if TYPE_CHECKING:
    from wsproto.connection import Connection as Frames

    from shim.headers import Headers
    from shim.kernels.opening import Upstream

SECONDS = 60.0
"""For a gateway to answer; some do so only when the kernel does."""
SHUTDOWN_SECONDS = 5.0
"""For a gateway to agree to the end of TLS."""
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger("shim.kernels")


class Accepted(NamedTuple):
    """A WebSocket of a gateway. Its transport does not read; frames that came already are in `frames`."""

    transport: asyncio.Transport
    frames: Frames
    protocol: str | None
    """The sub-protocol that the gateway chose."""


def offer(protocols: tuple[str, ...]) -> tuple[str, ...]:
    """Of the sub-protocols that a client knows those that a gateway is asked for."""
    return (PROTOCOL,) if PROTOCOL in protocols else ()


async def connect(upstream: Upstream, protocols: tuple[str, ...], label: str) -> Accepted:
    """Open a WebSocket of a gateway. Raises HttpError, which is the answer for the client; `label` is for the log."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _connect(upstream, protocols)
    except _RejectedError as rejected:
        logger.info("%s: the gateway answered %d", label, rejected.status)
        if rejected.status == 404:
            raise HttpError(404, "The kernel is gone.") from None
        raise HttpError(502, "The kernel's server refused the connection.") from None
    except TimeoutError:
        logger.warning("%s: the gateway did not answer", label)
        raise HttpError(504, "The kernel did not answer.") from None
    except OSError as error:
        logger.warning("%s: the gateway cannot be reached: %s", label, error)
        if error.errno in _NO_FILES:
            raise HttpError(503, "There are too many connections; try again later.") from None
        raise HttpError(502, "The kernel's server cannot be reached.") from None
    except (ProtocolError, ValueError) as error:
        logger.warning("%s: the gateway does not answer as it should: %s", label, error)
        raise HttpError(502, "The kernel's server did not answer as it should.") from None


def accepted(key: str, protocol: str | None) -> bytes:
    """What tells a client that its WebSocket is open."""
    chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {generate_accept_token(key.encode()).decode()}\r\n{chosen}\r\n"
    ).encode()


def refused(error: HttpError, path: str) -> bytes:
    """What tells a client that it gets no WebSocket at `path`; the connection has to end after it."""
    lines: list[str] = []

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:
        lines.append(f"HTTP/1.1 {status}")
        lines.extend(f"{name}: {value}" for name, value in headers)

    body = send_error({"REQUEST_METHOD": "GET", "PATH_INFO": path}, start_response, error, lambda: None)
    lines += [f"Date: {formatdate(usegmt=True)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + b"".join(body)


class _RejectedError(Exception):
    """Raised when the gateway answers with something else than a WebSocket."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def _connect(upstream: Upstream, protocols: tuple[str, ...]) -> Accepted:
    url = urlsplit(upstream.url)
    secure = url.scheme == "wss"
    request = Request(
        host=url.netloc,
        target=f"{url.path}?{url.query}" if url.query else url.path,
        subprotocols=list(protocols),
        extra_headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in upstream.headers],
    )
    transport, handshake = await asyncio.get_running_loop().create_connection(
        lambda: _Handshake(request),
        url.hostname or "",
        url.port or (443 if secure else 80),
        ssl=(upstream.tls or True) if secure else None,
        ssl_shutdown_timeout=SHUTDOWN_SECONDS if secure else None,
    )
    try:
        return Accepted(transport, *await handshake.outcome)
    except BaseException:
        transport.abort()
        raise


class _Handshake(asyncio.Protocol):
    """Asks a gateway for a WebSocket."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        self._transport: asyncio.Transport | None = None
        self.outcome: asyncio.Future[tuple[Frames, str | None]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        try:
            transport.write(self._handshake.send(self._request))
        except (ProtocolError, ValueError) as error:
            self._fail(error)

    def data_received(self, data: bytes) -> None:
        if self.outcome.done():
            return
        try:
            # Of a head that does not end it keeps no more than 16 KB.
            self._handshake.receive_data(data)
            event = next(self._handshake.events(), None)
        except (ProtocolError, ValueError) as error:
            self._fail(error)
            return
        frames = self._handshake.connection
        if isinstance(event, AcceptConnection) and frames is not None and self._transport is not None:
            # What comes now is for whoever gets the transport.
            self._transport.pause_reading()
            self.outcome.set_result((frames, event.subprotocol))
        elif isinstance(event, RejectConnection):
            self._fail(_RejectedError(event.status_code))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc if isinstance(exc, OSError) else ConnectionError("it closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
