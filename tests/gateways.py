"""A kernel gateway that does as a test says and keeps every byte it gets, and a client that can send odd ones.

`recording()` runs the gateway in a thread of its own: REST calls and WebSockets on one port. What a test looks at is
filled by that thread; `Gateway.wait` waits until it is as wanted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token

V1 = "v1.kernel.websocket.jupyter.org"
SECONDS = 30
"""The longest that anything is waited for."""

Payload = str | bytes


@dataclass(frozen=True)
class Request:
    """A request that came, also one for a WebSocket."""

    method: str
    path: str
    """Without the query."""
    query: dict[str, list[str]]
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes
    head: bytes
    """As it came."""

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Handshake:
    """How requests for WebSockets are answered."""

    status: int = 101
    hangs: bool = False
    """Says nothing at all."""
    resets: bool = False
    accept: str | None = None
    """Another Sec-WebSocket-Accept than the right one."""
    protocol: str | None = V1
    """Chosen when the client offered it; "=x" is chosen anyway."""
    headers: str = ""
    """More lines, each with its end."""
    then: bytes = b""
    """Sent in the same packet as the 101."""
    raw: bytes | None = None
    """Sent instead of an answer."""


class Socket:
    """A WebSocket that a client of the gateway opened. Sends from any thread."""

    def __init__(self, gateway: Gateway, request: Request, protocol: str, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.protocol = protocol
        self.kernel = request.path.split("/")[-2]
        self.received = bytearray()
        """Every byte after the handshake."""
        self.messages: list[Payload] = []
        self.pings = 0
        self.pongs = 0
        self.closed: int | None = None
        """Code of the close that came."""
        self.ended = False
        """Whether the connection is over."""
        self._gateway = gateway
        self._writer = writer
        self._frames = Frames(ConnectionType.SERVER)
        self._parts: list[Any] = []

    def send(self, *payloads: Payload) -> None:
        """Send messages."""
        for payload in payloads:
            self.send_event(TextMessage(payload) if isinstance(payload, str) else BytesMessage(payload))

    def send_event(self, event: Event) -> None:
        """Send a frame."""
        self._call(lambda: self._writer.write(self._frames.send(event)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._call(lambda: self._writer.write(data))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say that the WebSocket closes."""
        self.send_event(CloseConnection(code, reason))

    def end(self) -> None:
        """Close the connection without a word."""
        self._call(self._writer.close)

    def reset(self) -> None:
        """Reset the connection."""
        self._call(lambda: _reset(self._writer))

    def pause(self) -> None:
        """Read nothing any more."""
        self._call(lambda: self._transport.pause_reading())

    def resume(self) -> None:
        """Read again."""
        self._call(lambda: self._transport.resume_reading())

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    def _call(self, action: Callable[[], object]) -> None:
        self._gateway.call(action)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self.received += data
        if self._frames.state is ConnectionState.CLOSED:
            return
        self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._parts.append(event.data)
                if event.message_finished:
                    empty: Any = "" if isinstance(event.data, str) else b""
                    payload = empty.join(self._parts)
                    self._parts = []
                    self.messages.append(payload)
                    if self._gateway.on_message:
                        self._gateway.on_message(self, payload)
            elif isinstance(event, Ping):
                self.pings += 1
                if self._gateway.answers_pings and self._frames.state is ConnectionState.OPEN:
                    self._writer.write(self._frames.send(event.response()))
            elif isinstance(event, Pong):
                self.pongs += 1
            elif isinstance(event, CloseConnection):
                self.closed = event.code
                if self._frames.state is ConnectionState.REMOTE_CLOSING:
                    self._writer.write(self._frames.send(event.response()))
                self._writer.close()


class Gateway:
    """The gateway; fields may be changed at any time."""

    def __init__(self) -> None:
        self.port = 0
        self.secure = False
        self.handshake = Handshake()
        self.answers_pings = True
        self.on_message: Callable[[Socket, Payload], None] | None = None
        """Called in the gateway's thread with each message."""
        self.token = ""
        """If not empty, the only one that is let in."""
        self.kernels: dict[str, str] = {}
        """Execution states by id; WebSockets are there for all ids."""
        self.kernelspecs: dict[str, Any] = {
            "python3": {"name": "python3", "spec": {"display_name": "Python 3", "language": "python"}, "resources": {}}
        }
        self.replies: dict[tuple[str, str], tuple[int, Any]] = {}
        """Other answers, as status and JSON or bytes, by method and path."""
        self.headers = ""
        """More lines of answers that are no WebSocket, each with its end."""
        self.answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]] | None = None
        """Writes what such answers are instead; the connection ends after it."""
        self.stray = b""
        """What came on connections that asked for a WebSocket and got none."""
        self.requests: list[Request] = []
        self.sockets: list[Socket] = []
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def channels(self, kernel: str = "k", session: str = "s") -> str:
        """The address of a kernel's WebSocket."""
        return f"ws{self.url.removeprefix('http')}/api/kernels/{kernel}/channels?session_id={session}"

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until it is so; looked at whenever something came."""
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS), "what the test waits for did not happen"

    def socket(self, number: int = -1) -> Socket:
        """A WebSocket that was opened; waits for it."""
        self.wait(lambda: len(self.sockets) > (number if number >= 0 else 0))
        return self.sockets[number]

    def changed(self) -> None:
        """Have those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def call(self, action: Callable[[], object]) -> None:
        """Do something in the gateway's thread, after what was asked for before."""
        assert self._loop
        self._loop.call_soon_threadsafe(action)

    # What the thread does

    async def run(self, started: threading.Event, stopping: asyncio.Event, tls: ssl.SSLContext | None) -> None:
        """Answer until it is told to stop."""
        self._loop = asyncio.get_running_loop()
        self.secure = tls is not None
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls, backlog=2000)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopping.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.changed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.requests.append(request)
        self.changed()
        if "sec-websocket-key" in request.headers:
            await self._websocket(request, reader, writer)
            return False
        if self.answer:
            await self.answer(reader, writer)
            return False
        status, content = self._respond(request)
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{self.headers}"
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
        writer.write(f"{head}{length}\r\n".encode() + body)
        await writer.drain()
        return True

    def _respond(self, request: Request) -> tuple[int, Any]:
        if reply := self.replies.get((request.method, request.path)):
            return reply
        if not self._lets_in(request):
            return 403, {"message": "Forbidden"}
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["api", "kernelspecs"]:
                return 200, {"default": next(iter(self.kernelspecs), ""), "kernelspecs": self.kernelspecs}
            case "GET", ["api", "kernels"]:
                return 200, [self._model(kernel) for kernel in self.kernels]
            case "POST", ["api", "kernels"]:
                kernel = f"00000000-0000-4000-8000-{len(self.requests):012}"
                self.kernels[kernel] = "starting"
                return 201, self._model(kernel)
            case "GET", ["api", "kernels", kernel] if kernel in self.kernels:
                return 200, self._model(kernel)
            case "DELETE", ["api", "kernels", kernel] if kernel in self.kernels:
                del self.kernels[kernel]
                return 204, None
            case "POST", ["api", "kernels", kernel, "interrupt"] if kernel in self.kernels:
                return 204, None
            case "POST", ["api", "kernels", kernel, "restart"] if kernel in self.kernels:
                return 200, self._model(kernel)
        return 404, {"message": "Not found"}

    def _lets_in(self, request: Request) -> bool:
        return not self.token or request.headers.get("authorization") == f"token {self.token}"

    def _model(self, kernel: str) -> dict[str, Any]:
        now = "2026-01-01T00:00:00.000000Z"
        name = next(iter(self.kernelspecs), "")
        state = self.kernels[kernel]
        return {"id": kernel, "name": name, "last_activity": now, "execution_state": state, "connections": 0}

    async def _websocket(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.handshake
        if script.hangs:
            await self._refuse(reader)
            return
        if script.resets:
            _reset(writer)
            return
        if script.status != 101 or script.raw is not None or not self._lets_in(request):
            status = 403 if script.status == 101 else script.status
            plain = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Length: 2\r\n\r\n{{}}"
            writer.write(script.raw if script.raw is not None else plain.encode())
            await writer.drain()
            await self._refuse(reader)
            return
        offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
        wanted = script.protocol or ""
        chosen = wanted[1:] if wanted.startswith("=") else wanted if wanted in offered else ""
        accept = script.accept or generate_accept_token(request.headers["sec-websocket-key"].encode()).decode()
        lines = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{script.headers}"
        protocol = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}{protocol}\r\n".encode() + script.then)
        opened = Socket(self, request, chosen, writer)
        self.sockets.append(opened)
        self.changed()
        try:
            while data := await reader.read(1 << 20):
                opened.feed(data)
                self.changed()
        finally:
            opened.ended = True

    async def _refuse(self, reader: asyncio.StreamReader) -> None:
        """Keep what still comes on a connection that gets no WebSocket."""
        while data := await reader.read(1 << 16):
            self.stray += data
            self.changed()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query, keep_blank_values=True), headers, body, head)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def recording(*, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Gateway]:
    """A gateway on a free port."""
    gateway = Gateway()
    gateway.port = port
    started = threading.Event()
    stopping = asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(gateway.run(started, stopping, tls)))
    thread.start()
    started.wait()
    try:
        yield gateway
    finally:
        gateway.call(stopping.set)
        thread.join()


# Clients


@dataclass
class Client:
    """A client of a WebSocket that may send whatever it likes."""

    connection: socket.socket
    answer: bytes = b""
    """To the handshake: all up to the end of its head."""
    closed: int | None = None
    """Code of the close that came."""
    frames: Frames = field(default_factory=lambda: Frames(ConnectionType.CLIENT))
    _events: list[Event] = field(default_factory=list)
    _parts: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Of the answer to the handshake."""
        return int(self.answer.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """Of the answer to the handshake."""
        for line in self.answer.decode("latin-1").split("\r\n"):
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    def shake_hands(self, request: bytes) -> Client:
        """Send a request and read the head of the answer."""
        self.connection.sendall(request)
        return self.read_answer()

    def read_answer(self) -> Client:
        """Read the head of the answer to a handshake."""
        while b"\r\n\r\n" not in self.answer and (data := self.connection.recv(65536)):
            self.answer += data
        head, end, rest = self.answer.partition(b"\r\n\r\n")
        self.answer = head + end
        if self.answer and self.status == 101:
            self.frames.receive_data(rest)
        else:
            self.body = rest
        return self

    def rest(self) -> bytes:
        """The body of an answer that is no WebSocket."""
        data = self.body
        with suppress(ConnectionResetError):
            while block := self.connection.recv(65536):
                data += block
        return data

    def send(self, *payloads: Payload) -> None:
        """Send messages."""
        for payload in payloads:
            self.send_event(TextMessage(payload) if isinstance(payload, str) else BytesMessage(payload))

    def send_event(self, event: Event) -> None:
        """Send a frame."""
        self.connection.sendall(self.frames.send(event))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def event(self) -> Event | None:
        """The next frame that came; None at the end."""
        while True:
            for event in self.frames.events():
                if isinstance(event, CloseConnection):
                    self.closed = event.code
                return event
            if self.frames.state is ConnectionState.CLOSED:
                return None
            try:
                data = self.connection.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.frames.receive_data(data)

    def receive(self) -> Payload | None:
        """The next message; None when a close or the end came. Pings are answered."""
        parts: list[Any] = []
        while event := self.event():
            if isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data)
                if event.message_finished:
                    empty: Any = "" if isinstance(event.data, str) else b""
                    return empty.join(parts)  # type: ignore[no-any-return]
            elif isinstance(event, Ping):
                self.send_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.frames.state is ConnectionState.REMOTE_CLOSING:
                    with suppress(OSError):
                        self.send_event(event.response())
                return None
        return None

    def wait_closed(self) -> int | None:
        """Read until the end; gives back the code of the close, None without one."""
        while self.receive() is not None:
            pass
        return self.closed

    def reset(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def new_key() -> str:
    """A key for a handshake."""
    return base64.b64encode(os.urandom(16)).decode()


def request(target: str = "/", *lines: str, key: str | None = None, protocol: str = V1) -> bytes:
    """A request for a WebSocket; lines replace those of the same name, and `Name:` leaves one out."""
    headers = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key or new_key(),
        "Sec-WebSocket-Protocol": protocol,
    }
    for line in lines:
        name, _, value = line.partition(":")
        headers[name] = value.strip()
    shown = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([f"GET {target} HTTP/1.1", *shown, "", ""]).encode()


@contextmanager
def connected(port: int, target: str = "/", *lines: str, protocol: str = V1) -> Iterator[Client]:
    """A client that has asked a server on this machine for a WebSocket and read the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        yield Client(connection).shake_hands(request(target, *lines, protocol=protocol))


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a gateway on this machine, and for clients that trust it and no other."""
    files = folder / "certificate.pem", folder / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*command, "-days", "2", *subject, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*files)
    return server, ssl.create_default_context(cafile=str(files[0]))
