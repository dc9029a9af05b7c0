"""Clients and a recording gateway, connected by the relay behind the real web server."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gateways
import psutil
import pytest
import websocket
from gateways import SECONDS, V1, Client, Gateway, Handshake, Socket, recording
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from shim.answers import HttpError, send_error
from shim.kernels import connection as connection_module
from shim.kernels import exchange as exchange_module
from shim.kernels import handshake as handshake_module
from shim.kernels import rates as rates_module
from shim.kernels import relay as relay_module
from shim.kernels.filter import Down, Filter, Up
from shim.kernels.messages import MAX_VALUES, Message, serialise
from shim.kernels.opening import Opening, Upstream
from shim.kernels.relay import Relay, RelayError
from shim.kernels.side import MESSAGE_PACE, MESSAGE_SECONDS, Side
from shim.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from shim.kernels.filter import Payload
    from shim.upgrade import Upgrade

MEGABYTE = 1 << 20
IDLE_PING = 30.0
"""Seconds between two signs of life."""


class Passing:
    """A filter that lets all pass, and does as messages say that begin with a sign."""

    def __init__(self, v1: bool) -> None:
        self.v1 = v1
        self.threads: set[str] = set()

    def up(self, payload: Payload) -> Up:
        self.threads.add(threading.current_thread().name)
        if payload[:1] in ("?", b"?"):
            return Up(None, (payload, payload), "refused")
        if payload[:1] in ("!", b"!"):
            raise RuntimeError("on purpose")
        return Up(payload)

    def down(self, payload: Payload) -> Down:
        self.threads.add(threading.current_thread().name)
        if payload[:1] in ("-", b"-"):
            return Down(None)
        return Down(payload, payload[1:] if isinstance(payload, str) and payload.startswith("=") else "")


@dataclass
class Site:
    """A web server with a relay behind every address; the address names the kernel."""

    gateway: Gateway
    relay: Relay
    upstream: Callable[[str], Upstream]
    port: int = 0
    new_filter: Callable[[bool], Any] = Passing
    holds: Callable[[bool], bool] | None = None
    send_buffer: int = 0
    """What the system keeps for a client that does not read, instead of some megabytes."""
    events: list[str] = field(default_factory=list)
    filters: list[Any] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        upgrade: Upgrade | None = environ.get("nbfolio.upgrade")
        try:
            if upgrade is None:
                raise HttpError(400, "A WebSocket is what there is here.")
            opening = self.opening(environ["PATH_INFO"].strip("/"), upgrade)
            upgrade.accept(lambda connection: self.take(connection, opening))
        except HttpError as error:
            return send_error(environ, start_response, error, lambda: None)
        start_response("101 Switching Protocols", [("Content-Length", "0")])
        return []

    def take(self, connection: socket.socket, opening: Opening) -> None:
        if self.send_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        self.relay.open(connection, opening)

    def opening(self, kernel: str, upgrade: Upgrade) -> Opening:
        def filtered(v1: bool) -> Any:
            made = self.new_filter(v1)
            self.filters.append(made)
            return made

        return Opening(
            kernel=kernel,
            key=upgrade.key,
            protocols=upgrade.protocols,
            upstream=self.upstream(kernel),
            new_filter=filtered,
            opened=lambda: self.note("opened"),
            closed=lambda: self.note("closed"),
            state=lambda state: self.note(f"state {state}"),
            label=f"kernel {kernel}",
            holds=self.holds,
        )

    def note(self, event: str) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, event: str, count: int = 1) -> None:
        """Wait until something has happened so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.events.count(event) >= count, SECONDS), (event, self.events)

    @contextmanager
    def client(self, kernel: str = "k", *lines: str, protocol: str = V1) -> Iterator[Client]:
        """A client that has asked for a WebSocket."""
        with gateways.connected(self.port, f"/{kernel}", *lines, protocol=protocol) as client:
            yield client

    @contextmanager
    def pair(self, kernel: str = "k", protocol: str = V1) -> Iterator[tuple[Client, Socket]]:
        """A client and the gateway's end."""
        before = len(self.gateway.sockets)
        with self.client(kernel, protocol=protocol) as client:
            assert client.status == 101, client.answer
            yield client, self.gateway.socket(before)


@contextmanager
def running(gateway: Gateway, *, upstream: Callable[[str], Upstream] | None = None, **settings: Any) -> Iterator[Site]:
    """A server and a relay before a gateway."""
    relay = Relay(**{"most": 5000, "idle_ping": IDLE_PING, **settings})
    site = Site(gateway, relay, upstream or (lambda kernel: Upstream(gateway.channels(kernel))))
    server = Server(site, "127.0.0.1", 0)
    site.port = server.port
    thread = threading.Thread(target=server.run)
    thread.start()
    relay.start()
    try:
        yield site
    finally:
        server.stop()
        thread.join(SECONDS)
        relay.stop()
    assert relay.count() == 0
    assert site.events.count("opened") <= site.events.count("closed")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with recording() as gateway:
        yield gateway


@pytest.fixture
def site(gateway: Gateway) -> Iterator[Site]:
    with running(gateway) as site:
        yield site


def message_of(client: Client) -> str:
    """The sentence of an error answer."""
    fields = json.loads(client.rest())
    assert list(fields) == ["message", "status", "url", "error"]
    assert fields["status"] == client.status
    return str(fields["message"])


def frame(opcode: int, payload: bytes, *, first: int = 0x80) -> bytes:
    """A frame as clients send it; `first` has the bits beside the opcode."""
    size = len(payload)
    length = struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
    if size < 126:
        length = bytes([0x80 | size])
    mask, masked = b"\0\0\0\0", payload
    if size < 1000:
        mask, masked = b"abcd", bytes(byte ^ b"abcd"[i % 4] for i, byte in enumerate(payload))
    return bytes([first | opcode]) + length + mask + masked


def flood(client: Client, data: bytes, until: Callable[[], object]) -> int:
    """Send the same again and again; stops when nothing more is taken, and it is so. Gives back how much was sent."""
    sent = 0
    view = memoryview(data)
    deadline = time.monotonic() + SECONDS
    client.connection.setblocking(False)
    while True:
        try:
            sent += client.connection.send(view[sent % len(data) :])
        except BlockingIOError:
            if until():
                break
            time.sleep(0.01)
        assert time.monotonic() < deadline, "all is taken"
    client.connection.settimeout(SECONDS)
    return sent


# Handshakes


@pytest.mark.parametrize(
    ("offered", "chosen", "v1"),
    [(V1, V1, True), ("", None, False), ("other", None, False), (f"other, {V1}", V1, True), ("V1", None, False)],
)
def test_the_client_gets_the_framing_that_the_gateway_chose(
    site: Site, gateway: Gateway, offered: str, chosen: str | None, v1: bool
) -> None:
    with site.pair(protocol=offered) as (client, socket):
        assert client.header("Sec-WebSocket-Protocol") == chosen == (socket.protocol or None)
        assert site.filters[0].v1 is v1
        assert socket.request.headers.get("sec-websocket-protocol") == chosen


def test_a_gateway_may_choose_the_default_framing(site: Site, gateway: Gateway) -> None:
    gateway.handshake = Handshake(protocol=None)
    with site.pair() as (client, _):
        assert client.header("Sec-WebSocket-Protocol") is None
        assert not site.filters[0].v1


def test_nothing_of_the_clients_request_reaches_the_gateway(gateway: Gateway) -> None:
    headers = (("Authorization", "token secret"),)
    with running(gateway, upstream=lambda kernel: Upstream(gateway.channels(kernel), headers)) as site:
        lines = (
            f"Origin: http://127.0.0.1:{site.port}",
            "Cookie: a=b",
            "Authorization: token mine",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "X-Forwarded-For: 10.0.0.1",
        )
        with site.client("k?token=mine", *lines) as client:
            assert client.status == 101
            assert client.header("Sec-WebSocket-Extensions") is None
            (request,) = gateway.requests
    assert (request.path, request.query) == ("/api/kernels/k/channels", {"session_id": ["s"]})
    assert set(request.headers) == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "authorization",
    }
    assert request.headers["host"] == f"127.0.0.1:{gateway.port}"
    assert request.headers["authorization"] == "token secret"
    assert b"mine" not in request.head


@pytest.mark.parametrize(
    ("script", "status", "sentence"),
    [
        (Handshake(404), 404, "The kernel is gone."),
        (Handshake(401), 502, "The kernel's server refused the connection."),
        (Handshake(403), 502, "The kernel's server refused the connection."),
        (Handshake(302), 502, "The kernel's server refused the connection."),
        (Handshake(200), 502, "The kernel's server refused the connection."),
        (Handshake(103), 502, "The kernel's server refused the connection."),
        (Handshake(accept="AAAA"), 502, "The kernel's server did not answer as it should."),
        (Handshake(protocol="=other"), 502, "The kernel's server did not answer as it should."),
        (Handshake(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"), 502, "The kernel's server did not"),
        (Handshake(headers="Connection: \xe9\r\n"), 502, "The kernel's server did not answer as it should."),
        (Handshake(raw=b"SSH-2.0-OpenSSH\r\n\r\n"), 502, "The kernel's server did not answer as it should."),
        (Handshake(raw=b"HTTP/1.1 101 X\r\n\r\n"), 502, "The kernel's server did not answer as it should."),
        (Handshake(raw=b"HTTP/1.1 101 X\r\nX: " + b"x" * 100_000), 502, "The kernel's server did not answer"),
        (Handshake(raw=b"\0" * 1000 + b"\r\n\r\n"), 502, "The kernel's server did not answer as it should."),
        (Handshake(resets=True), 502, "The kernel's server cannot be reached."),
    ],
)
def test_a_client_reads_why_the_gateway_gives_it_no_websocket(
    site: Site, gateway: Gateway, script: Handshake, status: int, sentence: str
) -> None:
    gateway.handshake = script
    with site.client() as client:
        assert client.status == status
        assert (client.header("Connection"), client.header("Cache-Control")) == ("close", "no-store")
        assert message_of(client).startswith(sentence)
    site.wait("closed")
    assert site.events == ["closed"]
    assert site.relay.count() == 0


def test_a_gateway_that_is_down_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with (
        running(Gateway(), upstream=lambda kernel: Upstream(f"ws://127.0.0.1:{port}/x")) as site,
        site.client() as client,
    ):
        assert client.status == 502
        assert message_of(client) == "The kernel's server cannot be reached."


def test_a_gateway_that_does_not_answer_is_said(site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_module, "SECONDS", 0.1)
    gateway.handshake = Handshake(hangs=True)
    with site.client() as client:
        assert client.status == 504
        assert message_of(client) == "The kernel did not answer."


@pytest.mark.parametrize("how", ["end", "half", "reset", "early"])
def test_a_client_that_does_not_wait_for_the_gateway_leaves_nothing(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 2 * SECONDS)
    gateway.handshake = Handshake(hangs=True)
    client = Client(socket.create_connection(("127.0.0.1", site.port), timeout=SECONDS))
    client.connection.sendall(gateways.request("/k"))
    gateway.wait(lambda: gateway.requests)
    if how == "reset":
        client.reset()
    elif how == "half":
        client.connection.shutdown(socket.SHUT_WR)
    elif how == "early":
        client.connection.sendall(frame(2, b"early"))
        # No byte of it is sent on, and nobody tells what has become of it.
        assert client.event() is None
    else:
        client.connection.close()
    site.wait("closed")
    client.connection.close()
    assert site.events == ["closed"]
    assert gateway.sockets == []


def test_what_comes_with_the_gateways_answer_is_not_lost(site: Site, gateway: Gateway) -> None:
    gateway.handshake = Handshake(then=b"\x81\x05first\x82\x06second\x01\x02th")
    with site.pair() as (client, socket):
        assert [client.receive(), client.receive()] == ["first", b"second"]
        socket.send_raw(b"\x80\x03ird")
        assert client.receive() == "third"


def test_a_gateway_that_answers_and_closes_at_once_is_gone(site: Site, gateway: Gateway) -> None:
    gateway.handshake = Handshake(then=b"\x81\x05first\x88\x02\x03\xe8")
    with site.client() as client:
        assert client.receive() == "first"
        assert client.wait_closed() == 1000
    site.wait("closed")


def test_there_is_room_for_so_many(gateway: Gateway) -> None:
    with running(gateway, most=2) as site, ExitStack() as stack:
        first, _ = stack.enter_context(site.pair())
        assert site.relay.has_room()
        stack.enter_context(site.pair("other"))
        assert not site.relay.has_room()
        assert (site.relay.count(), site.relay.count("other"), site.relay.count("none")) == (2, 1, 0)
        with site.client() as client:
            assert client.status == 503
            assert message_of(client).startswith("There are too many connections")
        site.wait("closed")
        first.connection.close()
        site.wait("closed", 2)
        assert site.relay.has_room()
        stack.enter_context(site.pair())


def test_a_filter_that_cannot_be_made_is_an_error(
    site: Site, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(v1: bool) -> Any:
        raise RuntimeError("on purpose")

    site.new_filter = fail
    with site.client() as client:
        assert client.status == 500
        client.rest()
    site.wait("closed")
    gateway.wait(lambda: gateway.sockets[0].ended)
    assert site.events == ["closed"]
    assert "on purpose" in caplog.text


# Messages


@pytest.mark.parametrize("payload", ["x", b"x", "", b"", "ä\U0001f600", b"\0\xff", "x" * 300_000, b"x" * MEGABYTE])
def test_messages_pass_in_both_directions(site: Site, gateway: Gateway, payload: Payload) -> None:
    with site.pair() as (client, socket):
        client.send(payload)
        gateway.wait(lambda: socket.messages == [payload])
        socket.send(payload)
        assert client.receive() == payload
    site.wait("state ")


def test_states_are_told(site: Site) -> None:
    with site.pair() as (client, socket):
        socket.send("=busy", "-", "=idle", "x")
        assert [client.receive() for _ in range(3)] == ["=busy", "=idle", "x"]
    site.wait("closed")
    assert site.events == ["opened", "state busy", "state idle", "closed"]


def test_refused_messages_are_answered_and_not_sent_on(site: Site, gateway: Gateway) -> None:
    with site.pair() as (client, socket):
        client.send("?1", "2", b"?3")
        assert [client.receive() for _ in range(4)] == ["?1", "?1", b"?3", b"?3"]
        gateway.wait(lambda: socket.messages == ["2"])
    assert b"?" not in bytes(socket.received[:2])


def test_a_message_may_come_one_byte_at_a_time(site: Site, gateway: Gateway) -> None:
    with site.pair() as (client, socket):
        for byte in frame(1, "häppchen".encode()):
            client.send_raw(bytes([byte]))
        gateway.wait(lambda: socket.messages == ["häppchen"])
        for byte in b"\x82\x7e\x00\xc8" + b"x" * 200:
            socket.send_raw(bytes([byte]))
        assert client.receive() == b"x" * 200


def test_a_message_may_come_in_fragments_with_others_between(site: Site, gateway: Gateway) -> None:
    with site.pair() as (client, socket):
        client.send_event(TextMessage("a\xe4", message_finished=False))
        client.send_event(Ping(b"between"))
        assert client.event() == Pong(bytearray(b"between"))
        for _ in range(200):
            client.send_event(TextMessage("", message_finished=False))
        client.send_raw(frame(0, b"\xc3", first=0))
        client.send_raw(frame(0, b"\xa4b"))
        gateway.wait(lambda: socket.messages == ["aääb"])
        socket.send_event(BytesMessage(b"1", message_finished=False))
        socket.send_event(Ping(b"between"))
        gateway.wait(lambda: socket.pongs == 1)
        # An answer of ours while one of the kernel's messages is on its way.
        client.send_raw(frame(1, b"?"))
        assert [client.receive(), client.receive()] == ["?", "?"]
        socket.send_event(BytesMessage(b"2", message_finished=False))
        socket.send_event(BytesMessage(b"3"))
        assert client.receive() == b"123"


def test_answers_come_whole_while_a_large_message_is_sent(site: Site) -> None:
    with site.pair() as (client, socket):
        large = b"x" * (10 * MEGABYTE)
        socket.send(large)
        client.send(*["?"] * 20)
        socket.send("end")
        got = []
        while got.count("end") + got.count("?") + got.count(large) < 42:
            got.append(client.receive())
        assert (got.count(large), got.count("?"), got.count("end")) == (1, 40, 1)
        assert got.index(large) < got.index("end")


def test_order_is_kept_whatever_the_size(site: Site, gateway: Gateway) -> None:
    sizes = [1, 400_000, 2, 3, 300_000, 900_000, 4, 262_144, 262_145, 5]
    with site.pair() as (client, socket):
        # Both directions at once, so that each waits for the other.
        sent = [chr(97 + number) * size for number, size in enumerate(sizes)]
        socket.send(*sent)
        client.send(*sent)
        assert [client.receive() for _ in sent] == sent
        gateway.wait(lambda: len(socket.messages) == len(sent))
        assert socket.messages == sent
        assert site.filters[0].threads == {"relay", "relay-up_1", "relay-down_1"}


def test_nobody_is_read_while_a_large_message_is(site: Site, gateway: Gateway) -> None:
    reading, go = threading.Event(), threading.Event()

    class Holding(Passing):
        def up(self, payload: Payload) -> Up:
            if len(payload) > MEGABYTE:
                reading.set()
                assert go.wait(SECONDS)
            return super().up(payload)

    site.new_filter = Holding
    with site.pair() as (client, socket), site.pair("other") as (other, other_socket):
        large = "x" * (2 * MEGABYTE)
        client.send(large, "after")
        assert reading.wait(SECONDS)
        wait_until(
            lambda: any(not one._client.is_reading and not one._gateway.is_reading for one in site.relay._connections)
        )
        socket.send("waits")
        # All others go on.
        other.send("x")
        gateway.wait(lambda: other_socket.messages == ["x"])
        assert socket.messages == []
        go.set()
        gateway.wait(lambda: socket.messages == [large, "after"])
        assert client.receive() == "waits"


def kernel_says(kind: str, content: str = "", *, channel: str = "iopub", v1: bool = True) -> Payload:
    """A large message of a kernel."""
    header = {"msg_id": "m", "msg_type": kind, "session": "s", "username": "", "date": "", "version": "5.3"}
    return serialise(Message(channel, header, {}, {}, {"text": content, "more": "x" * 300_000}), v1)


@pytest.mark.parametrize(
    ("message", "v1", "thread"),
    [
        (kernel_says("display_data"), True, "relay"),
        (kernel_says("execute_result", "traceback"), True, "relay"),
        (kernel_says("comm_msg"), True, "relay"),
        (kernel_says("comm_msg", "traceback"), True, "relay-down_1"),
        (kernel_says("comm_open", "\x7f\u0074raceback".encode("unicode_escape").decode()), True, "relay-down_1"),
        (kernel_says("error"), True, "relay-down_1"),
        (kernel_says("execute_input"), True, "relay-down_1"),
        (kernel_says("execute_reply", channel="shell"), True, "relay-down_1"),
        (kernel_says("input_request", channel="stdin"), True, "relay-down_1"),
        (kernel_says("display_data", channel="shell"), True, "relay-down_1"),
        (b"x" * 300_000, True, "relay-down_1"),
        (kernel_says("display_data", v1=False), False, "relay-down_1"),
    ],
)
def test_only_what_must_be_read_is_judged_by_another_thread(
    site: Site, message: Payload, v1: bool, thread: str
) -> None:
    with site.pair(protocol=V1 if v1 else "") as (client, socket):
        socket.send(message)
        assert client.receive() == message
        assert site.filters[0].threads == {thread}


class Holding(Passing):
    """Takes its time for some messages, until it is let go."""

    def __init__(self, v1: bool, go: threading.Event, held: bytes) -> None:
        super().__init__(v1)
        self.go = go
        self.held = held
        self.holds = threading.Event()

    def up(self, payload: Payload) -> Up:
        self.hold(payload)
        return super().up(payload)

    def down(self, payload: Payload) -> Down:
        self.hold(payload)
        return super().down(payload)

    def hold(self, payload: Payload) -> None:
        if self.held in (payload.encode() if isinstance(payload, str) else payload):
            self.holds.set()
            assert self.go.wait(2 * SECONDS)


def test_large_messages_of_readers_delay_none_of_kernels_nor_the_other_way_round(site: Site, gateway: Gateway) -> None:
    go = threading.Event()
    site.new_filter = partial(Holding, go=go, held=b"hold")
    hold, quick = "hold" * 100_000, "quick" * 100_000
    with site.pair(protocol="") as (first, first_socket), site.pair(protocol="") as (second, second_socket):
        first.send(hold)
        assert site.filters[0].holds.wait(SECONDS)
        second_socket.send(quick)
        assert second.receive() == quick
        go.set()
        gateway.wait(lambda: first_socket.messages == [hold])
        go.clear()
        first_socket.send(hold)
        site.filters[0].holds.clear()
        assert site.filters[0].holds.wait(SECONDS)
        second.send(quick)
        gateway.wait(lambda: second_socket.messages == [quick])
        go.set()
        assert first.receive() == hold


def test_outputs_pass_while_the_message_of_another_kernel_is_read_but_not_one_of_their_own(site: Site) -> None:
    go = threading.Event()
    site.new_filter = partial(Holding, go=go, held=b"hold")
    error, output = kernel_says("error", "hold"), kernel_says("display_data")
    with site.pair() as (first, first_socket), site.pair() as (second, second_socket):
        first_socket.send(error, output, "end")
        assert site.filters[0].holds.wait(SECONDS)
        second_socket.send(output)
        assert second.receive() == output
        assert site.filters[0].threads == set()
        go.set()
        assert [first.receive() for _ in range(3)] == [error, output, "end"]


def test_what_waits_to_be_judged_is_left_out_once_its_socket_closes(site: Site, gateway: Gateway) -> None:
    go = threading.Event()
    site.new_filter = partial(Holding, go=go, held=b"hold")
    with site.pair("a") as (first, first_socket), site.pair("b") as (second, second_socket):
        first.send("hold" * 100_000)
        assert site.filters[0].holds.wait(SECONDS)
        second.send("more" * 100_000)
        wait_until(lambda: sum(not one._client.is_reading for one in site.relay._connections) == 2)
        site.relay.close_kernel("b", 4404, "The kernel was deleted.")
        assert second.wait_closed() == 4404
        site.wait("closed")
        go.set()
        gateway.wait(lambda: first_socket.messages)
        first.send("then" * 100_000)
        gateway.wait(lambda: len(first_socket.messages) == 2)
        assert (site.filters[1].threads, second_socket.messages) == (set(), [])


@pytest.mark.parametrize("protocol", [V1, ""])
def test_a_message_of_countless_values_is_dropped_and_the_socket_stays_open(
    site: Site, gateway: Gateway, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    caplog.set_level(logging.INFO, "shim")
    site.new_filter = lambda v1: Filter([], v1=v1, tracebacks=False)
    header = {"msg_id": "m", "msg_type": "comm_msg", "session": "s", "username": "", "date": "", "version": "5.3"}
    content = {"comm_id": "c", "data": {"value": [{}] * MAX_VALUES}}
    ask = Message("shell", {**header, "msg_type": "kernel_info_request"}, {}, {}, {})
    with site.pair(protocol=protocol) as (client, socket):
        for message in (Message("shell", header, {}, {}, content), ask):
            client.send(serialise(message, protocol == V1))
        gateway.wait(lambda: socket.messages)
        assert len(socket.messages) == 1 and "kernel_info_request" in str(socket.messages)
    assert caplog.text.count("dropped a message: its JSON has too many values") == 1


def test_a_broken_filter_costs_only_its_connection(
    site: Site, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with site.pair() as (other, other_socket):
        for payload in ("!", "!" * 300_000):
            with site.pair() as (client, socket):
                client.send(payload)
                assert client.wait_closed() == 1011
                gateway.wait(lambda socket=socket: socket.ended)
                assert socket.messages == []
        other.send("x")
        gateway.wait(lambda: other_socket.messages == ["x"])
    assert caplog.text.count("on purpose") >= 2


def test_the_real_filter_stands_between(site: Site, gateway: Gateway) -> None:
    site.new_filter = lambda v1: Filter(["print('secret')", None], v1=v1, tracebacks=False)
    header = {"msg_id": "m1", "msg_type": "execute_request", "session": "s", "username": "", "date": "", "version": "5"}
    header["date"] = "2026-01-01T00:00:00.000000Z"
    ask = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "buffers": []}
    with site.pair(protocol="") as (client, socket):
        for code in ("0", "import os"):
            client.send(json.dumps({**ask, "content": {"code": code}}))
        replies = [json.loads(client.receive() or "") for _ in range(3)]
        assert {reply["parent_header"]["msg_id"] for reply in replies} == {"m1"}
        gateway.wait(lambda: socket.messages)
        (message,) = socket.messages
        assert json.loads(message)["content"]["code"] == "print('secret')"
        shown = {**ask, "channel": "iopub", "header": {**header, "msg_type": "execute_input"}}
        socket.send(json.dumps({**shown, "content": {"code": "print('secret')", "execution_count": 1}}))
        socket.send(
            json.dumps(
                {**shown, "header": {**header, "msg_type": "stream"}, "content": {"name": "stdout", "text": "x"}}
            )
        )
        while (received := client.receive()) and '"stream"' not in str(received):
            assert "secret" not in str(received)
        assert received and "import os" not in str(socket.messages)


# Protocol errors and limits


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (frame(1, b"x", first=0xC0), 1002),  # a reserved bit
        (frame(1, b"x", first=0x90), 1002),
        (frame(3, b"x"), 1002),  # no such opcode
        (frame(11, b"x"), 1002),
        (frame(0, b"x"), 1002),  # goes on with nothing
        (frame(1, b"x", first=0) + frame(2, b"x"), 1002),
        (frame(9, b"x" * 126), 1002),
        (frame(9, b"x", first=0), 1002),
        (b"\x81\xfe\x00\x01abcdx", 1002),  # length in more bytes than it takes
        (b"\x82\xff" + b"\xff" * 8 + b"abcd", 1002),
        (frame(1, b"\xff"), 1007),
        (frame(1, b"\xc3", first=0) + frame(0, b"x"), 1007),
        (frame(1, b"\xed\xa0\x80"), 1007),  # half of a surrogate pair
        (frame(8, b"x"), 1002),
        (frame(8, b"\x03\xed"), 1002),  # 1005 cannot be sent
        (frame(8, b"\x03\xe8\xff"), 1007),
    ],
)
def test_what_is_no_websocket_is_closed(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, data: bytes, code: int
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 2 * SECONDS)
    with site.pair() as (client, socket):
        client.send("good")
        client.send_raw(data + frame(1, b"more"))
        assert client.wait_closed() == code
        assert client.connection.recv(1) == b""
        gateway.wait(lambda: socket.ended)
        assert (socket.messages, socket.closed) == (["good"], 1001)
    site.wait("closed")


@pytest.mark.parametrize(
    "data", [b"\x81\x81abcdx", b"\xc1\x01x", b"\x81\x01\xff", b"\x83\x00", b"\x80\x00", b"HTTP/1.1 400 Bad\r\n"]
)
def test_a_gateway_that_talks_nonsense_is_gone(site: Site, gateway: Gateway, data: bytes) -> None:
    with site.pair() as (client, socket):
        socket.send("good")
        socket.send_raw(data)
        assert client.receive() == "good"
        assert client.wait_closed() == 1011
        gateway.wait(lambda: socket.ended)


@pytest.mark.parametrize("fragments", [False, True])
def test_too_large_a_message_is_refused_while_it_comes(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, fragments: bool
) -> None:
    monkeypatch.setattr(connection_module, "MOST_UP", MEGABYTE)
    with site.pair() as (client, socket):
        exact = b"x" * MEGABYTE
        client.send(exact)
        gateway.wait(lambda: socket.messages == [exact])
        if fragments:
            client.send_event(TextMessage("x", message_finished=False))
            client.send_raw(frame(0, exact))
        else:
            client.send_raw(b"\x82\xff" + struct.pack("!Q", 1 << 40) + b"abcd" + exact + b"x")
        # It goes on for longer than all buffers hold, and reads only then.
        for _ in range(20):
            client.send_raw(exact)
        assert client.wait_closed() == 1009
        gateway.wait(lambda: socket.ended)
        assert len(socket.messages) == 1


def test_too_large_an_output_is_not_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MOST_DOWN", MEGABYTE)
    with site.pair() as (client, socket):
        socket.send(b"x" * MEGABYTE)
        assert client.receive() == b"x" * MEGABYTE
        socket.send(b"x" * (MEGABYTE + 1))
        assert client.wait_closed() == 1009


@pytest.mark.parametrize("size", [1, MEGABYTE])
def test_half_a_message_is_not_kept_for_long(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    longest = MESSAGE_SECONDS + size * MESSAGE_PACE
    with site.pair() as (client, socket), site.pair("other") as (other, other_socket):
        whole = next(one for one in site.relay._connections if one.opening.kernel == "other")
        half = next(one for one in site.relay._connections if one.opening.kernel == "k")
        for one in (client, other):
            one.send_event(BytesMessage(b"x" * size, message_finished=False))
        wait_until(lambda: all(len(one._client._parts or b"") == size for one in (half, whole)))
        other.send_event(BytesMessage(b"y"))
        gateway.wait(lambda: len(other_socket.messages) == 1)
        # Those who send the rest in time, or send nothing, stay.
        answering = threading.Thread(target=client.wait_closed)
        answering.start()
        advance(site, monkeypatch, longest - 1, other)
        assert site.relay.count() == 2
        advance(site, monkeypatch, IDLE_PING, other)
        answering.join()
        assert client.closed == 1008
        gateway.wait(lambda: socket.ended)
        other.send("more")
        gateway.wait(lambda: len(other_socket.messages) == 2)
        assert socket.messages == []


def test_the_time_for_a_message_stands_still_while_nobody_reads(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    site.new_filter = partial(Holding, go=go, held=b"hold")
    with site.pair(protocol="") as (client, socket):
        client.send_event(BytesMessage(b"x", message_finished=False))
        end, _ = sides(site)
        wait_until(lambda: end._parts)
        socket.send("hold" * 100_000)
        wait_until(lambda: not end.is_reading)
        advance(site, monkeypatch, 2 * MESSAGE_SECONDS, client)
        go.set()
        assert client.receive() == "hold" * 100_000
        advance(site, monkeypatch, MESSAGE_SECONDS - 1, client)
        client.send_event(BytesMessage(b"y"))
        gateway.wait(lambda: socket.messages == [b"xy"])


def advance(site: Site, monkeypatch: pytest.MonkeyPatch, seconds: float, client: Client) -> None:
    """Let the relay's clock go on until it asks for signs of life, and wait for those; the client is one that stays."""
    loop = site.relay._loop
    assert loop
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
    now = loop.time()
    # It waits by the system's clock until something is to be done.
    loop.call_soon_threadsafe(lambda: None)
    event = client.event()
    assert isinstance(event, Ping)
    client.send_event(event.response())
    wait_until(
        lambda: all(
            side.heard >= now or not side.is_reading
            for one in list(site.relay._connections)
            for side in one._sides()
            if one._state is connection_module.State.OPEN
        )
    )


@pytest.mark.parametrize(
    "data", [frame(1, b"x"), frame(9, b""), frame(10, b""), frame(1, b"", first=0), frame(1, b"?")]
)
def test_a_flood_of_frames_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(rates_module, "FRAMES_PER_SECOND", 0)
    with site.pair() as (client, _):
        client.send_raw(data)
        following = frame(0, b"", first=0) if data[0] == 1 else data
        client.send_raw(following * 1100)
        assert client.wait_closed() == 1008


def test_as_many_frames_as_may_come_at_once_do(site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "FRAMES_PER_SECOND", 0)
    with site.pair() as (client, socket):
        client.send_raw(frame(1, b"x") * rates_module.FRAMES_AT_ONCE)
        gateway.wait(lambda: len(socket.messages) == rates_module.FRAMES_AT_ONCE)
        client.send("x")
        assert client.wait_closed() == 1008


def test_a_flood_of_bytes_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "BYTES_PER_SECOND", 0)
    monkeypatch.setattr(rates_module, "BYTES_AT_ONCE", 3 * MEGABYTE)
    with site.pair() as (client, _):
        for _ in range(10):
            client.send_raw(frame(2, bytes(MEGABYTE)))
        assert client.wait_closed() == 1008


def test_what_was_taken_comes_back_with_time() -> None:
    bucket = rates_module.Bucket(rate=2, most=10)
    assert bucket.take(10, now=100)
    assert not bucket.take(1, now=100.4)
    assert bucket.take(1, now=100.5)
    assert not bucket.take(11, now=1000)
    assert bucket.take(10, now=1000) and not bucket.take(0.1, now=1000)


# Those who do not read


def sides(site: Site) -> tuple[Any, Any]:
    """The two ends of the only connection."""
    (connection,) = site.relay._connections
    return connection._client, connection._gateway


def held(side: Any) -> int:
    """Bytes that wait for a peer that does not read."""
    return int(side.transport.get_write_buffer_size())


def test_a_client_that_does_not_read_makes_the_gateway_wait(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.pair() as (client, socket):
        block = b"x" * 100_000
        for _ in range(500):
            socket.send(block)
        end, upper = sides(site)
        wait_until(lambda: not upper.is_reading)
        assert end.is_full and held(end) < 4 * MEGABYTE
        wait_until(lambda: socket.waiting > 10 * MEGABYTE)
        for _ in range(500):
            assert client.receive() == block
        assert upper.is_reading
        socket.send("end")
        assert client.receive() == "end"


def test_a_client_that_never_reads_is_turned_out(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange_module, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(exchange_module, "SLOW_PACE", 1 << 40)
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.2)
    with site.pair() as (client, socket):
        for _ in range(500):
            socket.send(b"x" * 100_000)
        gateway.wait(lambda: socket.ended)
        site.wait("closed")
    with site.pair() as (client, socket):
        # What fits into the buffers of both systems was sent, and the close did not fit any more; with a moment's
        # patience it does.
        monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 30)
        for _ in range(500):
            socket.send(b"x" * 100_000)
        gateway.wait(lambda: socket.ended)
        assert client.wait_closed() == 1013


def test_a_slow_client_has_time_for_what_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "SLOW_SECONDS", 0)
    monkeypatch.setattr(exchange_module, "SLOW_PACE", 1 << 10)
    with site.pair() as (client, socket):
        large = b"x" * (10 * MEGABYTE)
        socket.send(large)
        wait_until(lambda: sides(site)[0].is_full)
        assert client.receive() == large
        socket.send("more")
        assert client.receive() == "more"


def test_refused_messages_of_a_client_that_does_not_read_take_no_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "FRAMES_AT_ONCE", 1e9)
    monkeypatch.setattr(rates_module, "BYTES_AT_ONCE", 1e9)
    site.send_buffer = 1 << 16
    with site.pair() as (client, _):
        end, _ = sides(site)
        flood(client, frame(1, b"?" * 1000) * 100, until=lambda: not end.is_reading)
        assert held(end) < 3 * MEGABYTE


def test_pings_of_a_client_that_does_not_read_take_no_memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "FRAMES_AT_ONCE", 1e9)
    monkeypatch.setattr(rates_module, "BYTES_AT_ONCE", 1e9)
    site.send_buffer = 1 << 16
    with site.pair() as (client, _):
        end, _ = sides(site)
        flood(client, frame(9, b"?" * 125) * 1000, until=lambda: not end.is_reading)
        assert held(end) < 3 * MEGABYTE


def test_a_gateway_that_does_not_read_makes_the_client_wait(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "BYTES_AT_ONCE", 1e9)
    with site.pair() as (client, socket):
        socket.pause()
        end, upper = sides(site)
        block = frame(2, b"x" * 100_000)
        sent = flood(client, block, until=lambda: upper.is_full and not end.is_reading)
        before = held(upper)
        assert before < 3 * MEGABYTE
        # What the kernel says still comes, and it gets no more answers than it reads.
        for _ in range(100):
            socket.send_event(Ping(b"x" * 100))
        socket.send("still there")
        assert client.receive() == "still there"
        assert held(upper) == before
        socket.resume()
        client.send_raw(block[sent % len(block) :])
        gateway.wait(lambda: len(socket.messages) == sent // len(block) + 1)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Ends


@pytest.mark.parametrize(("code", "mirrored"), [(1000, 1000), (1001, 1001), (1011, 1011), (1012, 1012), (4404, 4404)])
def test_the_gateways_close_is_told_to_the_client(site: Site, gateway: Gateway, code: int, mirrored: int) -> None:
    with site.pair() as (client, socket):
        socket.send("last")
        socket.close(code, "reasons of the gateway")
        assert client.receive() == "last"
        event = client.event()
        assert isinstance(event, CloseConnection) and (event.code, event.reason) == (mirrored, "")
        client.send_event(event.response())
        assert client.event() is None
        gateway.wait(lambda: socket.ended)
        assert socket.closed == code
    site.wait("closed")


def test_a_close_without_a_code_is_a_normal_one(site: Site, gateway: Gateway) -> None:
    with site.pair() as (client, socket):
        socket.send_raw(b"\x88\x00")
        assert client.wait_closed() == 1000
    with site.pair() as (client, socket):
        client.send_raw(frame(8, b""))
        assert client.wait_closed() == 1005
        gateway.wait(lambda: socket.ended)
        assert socket.closed == 1000


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_clients_close_is_told_to_the_gateway(site: Site, gateway: Gateway, code: int) -> None:
    with site.pair() as (client, socket):
        client.send("last")
        client.send_event(CloseConnection(code, "x"))
        assert client.wait_closed() == code
        gateway.wait(lambda: socket.ended)
        assert (socket.messages, socket.closed) == (["last"], code)
    site.wait("closed")
    assert site.events == ["opened", "state ", "closed"]


def test_a_large_message_before_the_close_is_not_lost(site: Site, gateway: Gateway) -> None:
    large = "x" * (2 * MEGABYTE)
    with site.pair() as (client, socket):
        socket.send(large)
        socket.close(1000)
        assert client.receive() == large
        assert client.wait_closed() == 1000
    with site.pair() as (client, socket):
        client.send(large)
        client.send_event(CloseConnection(1000))
        gateway.wait(lambda: socket.ended)
        assert socket.messages == [large]
    with site.pair() as (client, socket):
        socket.send(large)
        socket.end()
        assert client.receive() == large
        assert client.wait_closed() == 1011


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_gateway_that_is_gone_is_told_to_the_client(site: Site, how: str) -> None:
    with site.pair() as (client, socket):
        socket.end() if how == "end" else socket.reset()
        assert client.wait_closed() == 1011
    site.wait("closed")


@pytest.mark.parametrize("how", ["end", "half", "reset"])
def test_a_client_that_is_gone_is_told_to_the_gateway(site: Site, gateway: Gateway, how: str) -> None:
    with site.pair() as (client, socket):
        client.send("last")
        gateway.wait(lambda: socket.messages)
        if how == "end":
            client.connection.close()
        elif how == "half":
            client.connection.shutdown(1)
            assert client.event() is None
        else:
            client.reset()
        gateway.wait(lambda: socket.ended)
        assert socket.closed == 1001
        site.wait("closed")


def test_a_client_that_sends_and_reads_nothing_more_is_not_waited_for(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.1)
    site.send_buffer = 1 << 16
    with site.pair() as (client, socket):
        # Less than would count as slow, and more than the systems hold.
        for _ in range(9):
            socket.send(b"x" * 100_000)
        wait_until(lambda: held(sides(site)[0]) > 100_000)
        client.connection.shutdown(1)
        site.wait("closed")
        gateway.wait(lambda: socket.ended)


def test_what_follows_a_close_is_not_sent_on(site: Site, gateway: Gateway) -> None:
    with site.pair() as (client, socket):
        client.send_raw(frame(8, b"\x03\xe8") + frame(1, b"more") + b"\x81\x01x")
        assert client.wait_closed() == 1000
        gateway.wait(lambda: socket.ended)
        assert socket.messages == []


def test_a_client_that_does_not_agree_to_the_end_is_not_waited_for(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.1)
    with site.pair() as (client, socket):
        socket.close()
        site.wait("closed")
        assert client.wait_closed() == 1000


def test_a_kernels_connections_can_be_closed(site: Site, gateway: Gateway) -> None:
    with site.pair("a") as (first, socket), site.pair("a") as (second, _), site.pair("b") as (other, other_socket):
        assert site.relay.count("a") == 2
        site.relay.close_kernel("a", 4404, "The kernel was deleted.")
        event = first.event()
        assert isinstance(event, CloseConnection) and (event.code, event.reason) == (4404, "The kernel was deleted.")
        first.send_event(event.response())
        assert second.wait_closed() == 4404
        gateway.wait(lambda: socket.ended)
        assert socket.closed == 1001
        site.wait("closed", 2)
        assert (site.relay.count("a"), site.relay.count()) == (0, 1)
        other.send("x")
        gateway.wait(lambda: other_socket.messages == ["x"])


def test_a_kernel_that_ends_while_its_gateway_is_asked_is_said(site: Site, gateway: Gateway) -> None:
    gateway.handshake = Handshake(hangs=True)
    for code, status in ((4404, 404), (1011, 503)):
        asked = len(gateway.requests)
        with socket.create_connection(("127.0.0.1", site.port), timeout=SECONDS) as connection:
            client = Client(connection)
            connection.sendall(gateways.request("/a"))
            gateway.wait(lambda asked=asked: len(gateway.requests) > asked)
            site.relay.close_kernel("a", code, "The kernel has ended.")
            assert client.read_answer().status == status
            assert message_of(client) == "The kernel has ended."
    site.wait("closed", 2)


def test_the_end_of_the_server_is_told_to_all() -> None:
    with recording() as gateway, ExitStack() as stack, running(gateway) as site:
        pairs = [stack.enter_context(site.pair()) for _ in range(3)]
        readers = [threading.Thread(target=client.wait_closed) for client, _ in pairs]
        for reader in readers:
            reader.start()
        started = time.monotonic()
        site.relay.stop(timeout=20)
        # All agreed, so there was nothing to wait for.
        assert time.monotonic() - started < 15
        for reader in readers:
            reader.join()
        assert [client.closed for client, _ in pairs] == [1012] * 3
        assert site.events.count("closed") == 3
        assert not site.relay.has_room()
        with site.client() as client:
            assert client.status == 503
            client.rest()
        site.wait("closed", 4)
        site.relay.close_kernel("k", 4404, "")


def test_the_end_does_not_wait_for_those_who_do_not_listen() -> None:
    with recording() as gateway, ExitStack() as stack, running(gateway) as site:
        silent, _ = stack.enter_context(site.pair())
        _, flooded = stack.enter_context(site.pair())
        for _ in range(200):
            flooded.send(b"x" * 100_000)
        gateway.handshake = Handshake(hangs=True)
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=SECONDS))
        connection.sendall(gateways.request("/k"))
        gateway.wait(lambda: len(gateway.requests) == 3)
        site.relay.stop(timeout=0.2)
        assert site.events.count("closed") == 3
        assert Client(connection).read_answer().status == 503
        assert silent.wait_closed() == 1012


def test_the_end_of_a_kernel_right_after_a_client_came_leaves_nothing(site: Site, gateway: Gateway) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    upgrade: Any = SimpleNamespace(key=gateways.new_key(), protocols=())
    opening = site.opening("k", upgrade)
    loop = site.relay._loop
    assert loop

    def both() -> None:
        site.relay.open(ours, opening)
        site.relay.close_kernel("k", 4404, "The kernel has ended.")

    with theirs:
        # In one turn of the loop, so that nothing of the connection has begun.
        loop.call_soon_threadsafe(both)
        theirs.settimeout(SECONDS)
        assert theirs.recv(100) == b""
    site.wait("closed")
    assert gateway.requests == [] and ours.fileno() == -1


def test_the_end_is_told_even_while_a_message_is_read(gateway: Gateway) -> None:
    go = threading.Event()

    class Holding(Passing):
        def up(self, payload: Payload) -> Up:
            assert go.wait(2 * SECONDS)
            return super().up(payload)

    with running(gateway) as site:
        site.new_filter = Holding
        with site.pair() as (client, _):
            client.send("x" * MEGABYTE)
            wait_until(lambda: site.filters and not sides(site)[0].is_reading)
            stopping = threading.Thread(target=site.relay.stop, args=[0.1])
            stopping.start()
            site.wait("closed")
            stopping.join(SECONDS)
            assert not stopping.is_alive()
            go.set()


def test_the_end_does_not_wait_for_a_thread_that_is_stuck(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(relay_module, "SPARE_SECONDS", 0.1)
    stuck, go = threading.Event(), threading.Event()

    def told(event: str) -> None:
        if event == "opened":
            stuck.set()
            assert go.wait(2 * SECONDS)

    with running(gateway) as site:
        note = site.note
        site.note = lambda event: (told(event), note(event))[1]  # type: ignore[method-assign]
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=SECONDS))
            connection.sendall(gateways.request("/k"))
            assert stuck.wait(SECONDS)
            stopping = threading.Thread(target=site.relay.stop, args=[0.1])
            stopping.start()
            stopping.join(SECONDS)
            assert not stopping.is_alive()
            assert "could not be closed in time" in caplog.text
            go.set()
            site.wait("closed")


def test_neither_the_end_nor_that_of_the_program_waits_for_names() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


HANGING = """
import socket, threading, time
from shim.kernels.opening import Opening, Upstream
from shim.kernels.relay import Relay

asked = threading.Event()

def hang(*_):
    asked.set()
    time.sleep(1000)

def nothing(*_):
    pass

socket.getaddrinfo = hang
relay = Relay(most=10)
relay.start()
ends = [socket.socketpair() for _ in range(5)]
for ours, _ in ends:
    ours.setblocking(False)
    upstream = Upstream("ws://gateway.invalid/x")
    relay.open(ours, Opening("k", "", (), upstream, nothing, nothing, nothing, nothing))
assert asked.wait(30)
relay.stop(0.1)
assert relay.count() == 0
print("ended")
"""


def test_a_relay_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(relay_module, "Loop", fail)
    relay = Relay(most=10)
    with pytest.raises(RelayError):
        relay.start()
    assert "Too many open files" in caplog.text
    relay.stop()


def test_a_start_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    go, loop = threading.Event(), relay_module.Loop

    def slow() -> Any:
        assert go.wait(2 * SECONDS)
        return loop()

    monkeypatch.setattr(relay_module, "Loop", slow)
    monkeypatch.setattr(relay_module, "START_SECONDS", 0.01)
    relay = Relay(most=10)
    with pytest.raises(RelayError):
        relay.start()
    go.set()
    wait_until(relay.has_room)
    relay.stop()


def test_stopping_twice_or_before_the_start_is_nothing() -> None:
    relay = Relay(most=10)
    relay.stop()
    relay.close_kernel("k", 1000, "")
    assert (relay.count(), relay.has_room()) == (0, False)
    relay.start()
    assert relay.has_room()
    relay.stop()
    relay.stop()


def test_callbacks_that_fail_cost_nothing(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with running(gateway) as site:
        note = site.note

        def fail(event: str) -> None:
            note(event)
            raise RuntimeError("on purpose")

        site.note = fail  # type: ignore[method-assign]
        with site.pair() as (client, socket):
            client.send("x")
            socket.send("=idle")
            assert client.receive() == "=idle"
        site.wait("closed")
        assert sorted(site.events) == ["closed", "opened", "state ", "state idle"]
    assert caplog.text.count("on purpose") >= 4


def test_a_client_that_many_use_is_understood(site: Site, gateway: Gateway) -> None:
    gateway.on_message = lambda socket, payload: socket.send(payload)
    client = websocket.create_connection(f"ws://127.0.0.1:{site.port}/k", timeout=SECONDS, subprotocols=[V1])
    assert client.getsubprotocol() == V1
    client.ping("x")
    assert client.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"x")
    client.send("text")
    client.send_binary(b"x" * MEGABYTE)
    assert [client.recv(), client.recv()] == ["text", b"x" * MEGABYTE]
    gateway.sockets[0].close(1012)
    assert client.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xf4")
    client.shutdown()
    site.wait("closed")


# Signs of life


def test_both_ends_are_asked_for_signs_of_life(gateway: Gateway) -> None:
    with running(gateway, idle_ping=0.3) as site, site.pair() as (client, socket):
        for _ in range(5):
            event = client.event()
            assert isinstance(event, Ping)
            client.send_event(event.response())
        gateway.wait(lambda: socket.pings > 4)
        assert site.relay.count() == 1


def test_one_connection_that_fails_does_not_end_the_signs_of_life_of_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ping = Side.ping
    broken: list[Any] = []

    def fail(side: Side) -> None:
        if side in broken:
            raise RuntimeError("on purpose")
        ping(side)

    monkeypatch.setattr(Side, "ping", fail)
    with running(gateway, idle_ping=0.2) as site, site.pair("a") as (client, _), site.pair("b") as (_, socket):
        broken += [one._client for one in site.relay._connections if one.opening.kernel == "b"]
        gateway.wait(lambda: socket.ended)
        site.wait("closed")
        for _ in range(3):
            event = client.event()
            assert isinstance(event, Ping)
            client.send_event(event.response())
    assert caplog.text.count("RuntimeError: on purpose") == 1


def test_a_client_without_a_sign_of_life_is_given_up(gateway: Gateway) -> None:
    with running(gateway, idle_ping=0.05) as site, site.pair() as (_, socket):
        gateway.wait(lambda: socket.ended)
        assert socket.closed == 1001
        site.wait("closed")


def test_a_gateway_without_a_sign_of_life_is_given_up(gateway: Gateway) -> None:
    gateway.answers_pings = False
    with running(gateway, idle_ping=0.05) as site, site.pair() as (client, _):
        assert client.wait_closed() == 1011


def test_an_end_that_may_not_send_is_not_thought_dead(gateway: Gateway) -> None:
    with running(gateway, idle_ping=0.5) as site, site.pair() as (client, socket):
        block = b"x" * 100_000
        for _ in range(300):
            socket.send(block)
        wait_until(lambda: not sides(site)[1].is_reading)
        # Longer than silence may last.
        time.sleep(2.5)
        for _ in range(300):
            assert client.receive() == block
        socket.send("end")
        assert client.receive() == "end"


# Logins that end


def test_a_login_that_takes_long_to_check_holds_nothing_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SILENT_BEATS", 1_000)
    go = threading.Event()
    with running(gateway, idle_ping=0.05) as site:
        site.holds = lambda has_spoken: go.wait(2 * SECONDS)
        with site.pair() as (client, socket):
            for _ in range(5):
                event = client.event()
                assert isinstance(event, Ping)
                client.send_event(event.response())
            client.send("x")
            gateway.wait(lambda: socket.messages == ["x"])
            site.relay.stop(timeout=0.1)
            assert site.relay.count() == 0
        go.set()


# Many, and for long


def test_clients_that_come_and_go_leave_no_files(site: Site, gateway: Gateway) -> None:
    def churn(seed: int) -> None:
        for number in range(12):
            with site.client() as client:
                way = (seed + number) % 4
                if way == 0:
                    client.reset()
                elif way == 1:
                    client.send("?", "x")
                    client.receive()
                    client.send_event(CloseConnection(1000))
                    client.wait_closed()
                elif way == 2:
                    client.send_raw(b"\x81\x01x")

    with site.pair():
        pass
    site.wait("closed", 1)
    gateway.wait(lambda: gateway.sockets[0].ended)
    gc.collect()
    files = psutil.Process().num_fds()
    threads = [threading.Thread(target=churn, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.wait("closed", 97)
    gateway.wait(lambda: all(socket.ended for socket in gateway.sockets))
    wait_until(lambda: psutil.Process().num_fds() <= files)
    assert site.relay._connections == set()


def test_many_connections_take_no_more_threads(site: Site, gateway: Gateway) -> None:
    with ExitStack() as stack:
        stack.enter_context(site.pair())
        before = threading.active_count()
        pairs = [stack.enter_context(site.pair()) for _ in range(100)]
        assert threading.active_count() == before
        for number, (client, _) in enumerate(pairs):
            client.send(str(number))
        for number, (_, socket) in enumerate(pairs):
            gateway.wait(lambda number=number, socket=socket: socket.messages == [str(number)])


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_connections_without_files_for_their_gateway_are_told_so(
    site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: Any, **keywords: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(handshake_module, "_connect", full)
    with site.client() as client:
        assert client.status == 503
        client.rest()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the gateway, and for those who believe it."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH")
    return gateways.certificates(tmp_path_factory.mktemp("tls"))


def test_a_gateway_may_speak_tls(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trusting = certificates
    large = "x" * (3 * MEGABYTE)
    with (
        recording(tls=server) as gateway,
        running(gateway, upstream=lambda kernel: Upstream(gateway.channels(kernel), (), trusting)) as site,
    ):
        with site.pair() as (client, socket):
            client.send("x", large)
            gateway.wait(lambda: socket.messages == ["x", large])
            socket.send("y", large)
            assert [client.receive(), client.receive()] == ["y", large]
            socket.close(1012)
            assert client.wait_closed() == 1012
        site.wait("closed")
        with site.pair() as (client, socket):
            client.connection.close()
            gateway.wait(lambda: socket.ended)
        site.wait("closed", 2)
        with site.pair() as (client, socket):
            socket.reset()
            assert client.wait_closed() == 1011


def test_a_gateway_that_nobody_vouches_for_gets_no_token(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    strict = ssl.create_default_context()
    headers = (("Authorization", "token secret"),)
    with (
        recording(tls=certificates[0]) as gateway,
        running(gateway, upstream=lambda kernel: Upstream(gateway.channels(kernel), headers, strict)) as site,
        site.client() as client,
    ):
        assert client.status == 502
        client.rest()
        assert gateway.requests == []


# What the log says


def test_the_log_tells_of_connections_and_refusals_and_no_secrets(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "shim")
    monkeypatch.setattr(relay_module, "REMARKS_PER_SECOND", 0)
    headers = (("Authorization", "token secret1"),)
    upstream = Upstream(gateway.channels("k", session="secret2"), headers)
    with running(gateway, upstream=lambda kernel: upstream) as site:
        with site.pair() as (client, _):
            client.send(*["?"] * 100)
            for _ in range(200):
                client.receive()
        site.wait("closed")
        gateway.handshake = Handshake(401)
        with site.client() as client:
            client.rest()
        site.wait("closed", 2)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "shim.kernels"]
    assert lines[0] == ("DEBUG", "kernel k: WebSocket opened")
    assert lines.count(("INFO", "kernel k: refused")) == relay_module.REMARKS_AT_ONCE
    assert ("DEBUG", "kernel k: WebSocket closed") in lines
    assert lines.count(("INFO", "kernel k: the gateway answered 401")) == 1
    assert "secret" not in caplog.text
