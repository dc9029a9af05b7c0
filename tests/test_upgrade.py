"""Connections that leave the web server for a WebSocket: who may, who may not, and that nothing of them is left."""

from __future__ import annotations

import json
import logging
import os
import queue
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from gateways import Client, request
from versions import until

from shim import channel as channel_module
from shim import server as server_module
from shim.answers import HttpError, send_error
from shim.server import LIMITS, Server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from shim.upgrade import Upgrade

SECONDS = 30


@dataclass
class Site:
    """An application that takes connections over at /socket, and keeps them."""

    detached: queue.Queue[socket.socket] = field(default_factory=queue.Queue)
    upgrades: list[Upgrade | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    late: Callable[[], None] = lambda: None
    """Runs after the application has accepted."""
    threads: list[threading.Thread] = field(default_factory=list)
    port: int = 0
    map: dict[int, Any] = field(default_factory=dict)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.paths.append(environ["PATH_INFO"])
        upgrade: Upgrade | None = environ.get("nbfolio.upgrade")
        self.upgrades.append(upgrade)
        try:
            if environ["PATH_INFO"] != "/socket" or upgrade is None:
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]
            upgrade.accept(self.take)
            self.late()
        except HttpError as error:
            return send_error(environ, start_response, error, lambda: None)
        start_response("101 Switching Protocols", [("Content-Length", "0")])
        return []

    def take(self, connection: socket.socket) -> None:
        self.threads.append(threading.current_thread())
        self.detached.put(connection)

    def hold(self) -> tuple[threading.Event, threading.Event]:
        """Have the application accept, say so, and wait until it may answer."""
        accepted, go = threading.Event(), threading.Event()

        def late() -> None:
            accepted.set()
            go.wait(SECONDS)

        self.late = late
        return accepted, go

    def taken(self) -> socket.socket:
        """The next connection that was taken over."""
        connection = self.detached.get(timeout=SECONDS)
        connection.settimeout(SECONDS)
        return connection


@contextmanager
def running(site: Any) -> Iterator[Server]:
    """A server in a thread."""
    server = Server(site, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, name="the server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server with that application."""
    site = Site()
    with running(site) as server:
        site.port, site.map = server.port, server._map
        yield site
    while not site.detached.empty():
        site.detached.get().close()


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.port), timeout=SECONDS)


def ask(site: Site, data: bytes) -> Client:
    """A client that has sent this and read the head of the answer."""
    return Client(connect(site)).shake_hands(data)


def ok(site: Site, connection: socket.socket | None = None) -> bool:
    """Whether the server answers plain requests."""
    with ExitStack() as stack:
        if connection is None:
            connection = stack.enter_context(connect(site))
        client = Client(connection).shake_hands(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.status == 200 and (client.body or client.connection.recv(2)) == b"ok"


def echo(site: Site, connection: socket.socket) -> None:
    """Show that both ends of a connection that was taken over belong together."""
    with site.taken() as taken:
        taken.sendall(b"to the client")
        assert connection.recv(100) == b"to the client"
        connection.sendall(b"from the client")
        assert taken.recv(100) == b"from the client"


# Requests


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Connection: keep-alive, Upgrade",),
        ("Connection: UPGRADE",),
        ("Connection: foo ,\tupgrade,close",),
        ("Upgrade: WebSocket",),
        ("Upgrade: h2c, websocket",),
        ("Sec-WebSocket-Protocol:",),
        ("Expect: 100-continue",),
        ("Content-Length: 0",),
        ("Sec-WebSocket-Extensions: permessage-deflate",),
    ],
)
def test_a_websocket_is_handed_over_with_nothing_written(site: Site, lines: tuple[str, ...]) -> None:
    with connect(site) as connection:
        connection.sendall(request("/socket", *lines))
        echo(site, connection)
    assert [thread.name for thread in site.threads] == ["the server"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection:",),
        ("Upgrade:",),
        ("Upgrade: h2c",),
        ("Connection: close",),
        ("Connection: up-grade",),
        ("Upgrade: websockets",),
    ],
)
def test_other_requests_are_answered_as_ever(site: Site, lines: tuple[str, ...]) -> None:
    with ask(site, request("/socket", *lines)).connection:
        assert site.upgrades == [None]


def test_sub_protocols_are_told(site: Site) -> None:
    offer = "Sec-WebSocket-Protocol: a, b ,,c d, " + ",".join(f"x{number}" for number in range(100))
    with connect(site) as connection:
        connection.sendall(request("/socket", offer, key="AAAAAAAAAAAAAAAAAAAAAA=="))
        site.taken().close()
    (upgrade,) = site.upgrades
    assert upgrade and upgrade.key == "AAAAAAAAAAAAAAAAAAAAAA==" and upgrade.problem is None
    assert upgrade.protocols[:3] == ("a", "b", "x0") and len(upgrade.protocols) < 40


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        (("GET", "POST"), 400, "WebSockets begin with GET over HTTP/1.1."),
        (("HTTP/1.1", "HTTP/1.0"), 400, "WebSockets begin with GET over HTTP/1.1."),
        (("GET", "HEAD"), 400, None),
        (("Version: 13", "Version: 8"), 426, "WebSockets of version 13 are spoken here."),
        (("Version: 13", "Version: 13, 8"), 426, "WebSockets of version 13 are spoken here."),
        (("Sec-WebSocket-Version: 13\r\n", ""), 426, "WebSockets of version 13 are spoken here."),
        (("Key: ", "Key: x"), 400, "Sec-WebSocket-Key has to be 16 bytes in base64."),
        (("Key: ", "Nothing: "), 400, "Sec-WebSocket-Key has to be 16 bytes in base64."),
        (("Upgrade: w", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUpgrade: w"), 400, "Sec-WebSocket-Key has to"),
        (("==\r\n", "= \r\n"), 400, "Sec-WebSocket-Key has to be 16 bytes in base64."),
        (("==\r\n", "\xe9=\r\n"), 400, "Sec-WebSocket-Key has to be 16 bytes in base64."),
    ],
)
def test_what_is_no_right_handshake_is_refused(
    site: Site, change: tuple[str, str], status: int, sentence: str | None
) -> None:
    data = request("/socket").decode().replace(*change).encode("latin-1")
    client = ask(site, data)
    with client.connection:
        assert client.status == status
        assert (client.header("Sec-WebSocket-Version") == "13") is (status == 426)
        if sentence:
            assert json.loads(client.body or client.connection.recv(1000))["message"].startswith(sentence)
    assert site.detached.empty()
    assert ok(site)


def test_a_handshake_has_no_body(site: Site) -> None:
    for data in (
        request("/socket", "Content-Length: 3") + b"abc",
        request("/socket", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ):
        client = ask(site, data)
        with client.connection:
            assert client.status == 400
    assert site.detached.empty()


# Bytes before the answer


@pytest.mark.parametrize(
    "early",
    [
        b"\x81\x80AAAA",
        b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n",
        b"x" * 100_000,
    ],
)
def test_what_comes_with_the_handshake_refuses_it_before_the_application_is_asked(site: Site, early: bytes) -> None:
    client = ask(site, request("/socket") + early)
    with client.connection:
        assert client.status == 400 and client.header("Connection") == "close"
        assert json.loads(client.rest())["message"].startswith("Nothing may be sent behind the request")
    assert site.paths == [] and site.detached.empty()


def test_a_request_before_the_handshake_in_the_same_packet_ends_the_connection(site: Site) -> None:
    client = ask(site, b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + request("/socket"))
    with client.connection:
        assert client.status == 200 and client.header("Connection") == "close"
        assert client.rest() == b"ok"
    assert site.paths == ["/first"] and site.detached.empty()


def test_a_connection_that_was_kept_alive_can_go_on_as_a_websocket(site: Site) -> None:
    with connect(site) as connection:
        assert ok(site, connection)
        assert ok(site, connection)
        connection.sendall(request("/socket"))
        echo(site, connection)


def test_a_refused_handshake_leaves_a_connection_for_other_requests(site: Site) -> None:
    client = ask(site, request("/socket", "Sec-WebSocket-Version: 12"))
    with client.connection as connection:
        body = client.body
        while len(body) < int(client.header("Content-Length") or 0):
            body += connection.recv(1000)
        assert ok(site, connection)
        connection.sendall(request("/socket"))
        echo(site, connection)


def test_bytes_between_the_handshake_and_its_answer_are_for_whoever_takes_over(site: Site) -> None:
    accepted, sent = site.hold()
    with connect(site) as connection:
        connection.sendall(request("/socket"))
        assert accepted.wait(SECONDS)
        connection.sendall(b"early")
        sent.set()
        with site.taken() as taken:
            assert taken.recv(100) == b"early"
    assert site.paths == ["/socket"]


# What goes wrong after the application has accepted


def test_an_application_that_fails_after_it_has_accepted_answers_500(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("on purpose")

    site.late = fail
    client = ask(site, request("/socket"))
    with client.connection:
        assert client.status == 500
        client.rest()
    assert site.detached.empty()
    site.late = lambda: None
    assert ok(site)
    assert "on purpose" in caplog.text
    caplog.clear()


def test_an_application_that_refuses_after_it_has_accepted_is_heard(site: Site) -> None:
    def refuse() -> None:
        raise HttpError(503, "Not now.")

    site.late = refuse
    client = ask(site, request("/socket"))
    with client.connection as connection:
        assert client.status == 503
        assert json.loads(client.body or connection.recv(1000))["message"] == "Not now."
    assert site.detached.empty()


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_meanwhile_leaves_nothing(site: Site, reset: bool) -> None:
    accepted, gone = site.hold()
    client = Client(connect(site))
    client.connection.sendall(request("/socket"))
    assert accepted.wait(SECONDS)
    if reset:
        client.reset()
    else:
        client.connection.close()
    gone.set()
    # Whoever takes it over sees that.
    with site.taken() as taken:
        try:
            assert taken.recv(100) == b""
        except ConnectionResetError:
            assert reset
    assert ok(site)


def test_a_taker_that_fails_costs_only_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()

    def fail(connection: socket.socket) -> None:
        raise RuntimeError("on purpose")

    site.take = fail  # type: ignore[method-assign]
    with running(site) as server:
        site.port = server.port
        with connect(site) as connection:
            connection.sendall(request("/socket"))
            assert connection.recv(100) == b""
        assert ok(site)
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["shim"]


# The server without the connection


def test_nothing_in_the_server_looks_after_what_has_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(channel_module.Channel, "is_late", lambda self, now: bool(looked.put(self.addr[1])))
    before = set(site.map)
    with connect(site) as connection:
        connection.sendall(request("/socket"))
        with site.taken() as taken:
            assert set(site.map) == before
            while not looked.empty():
                looked.get()
            with connect(site) as other:
                assert ok(site, other)
                while (seen := looked.get(timeout=SECONDS)) != other.getsockname()[1]:
                    assert seen != connection.getsockname()[1]
            taken.sendall(b"still there")
            assert connection.recv(100) == b"still there"


def test_a_websocket_lives_longer_than_an_idle_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "channel_timeout", 1)
    monkeypatch.setitem(LIMITS, "cleanup_interval", 1)
    site = Site()
    with running(site) as server:
        site.port = server.port
        with connect(site) as idle, connect(site) as connection:
            connection.sendall(request("/socket"))
            with site.taken() as taken:
                assert idle.recv(1) == b""
                taken.sendall(b"still there")
                assert connection.recv(100) == b"still there"


def test_websockets_are_not_counted_as_connections_and_hold_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "connection_limit", 12)
    monkeypatch.setattr(server_module, "THREADS", 1)
    site = Site()
    with running(site) as server, ExitStack() as stack:
        site.port = server.port
        for _ in range(40):
            stack.enter_context(connect(site)).sendall(request("/socket"))
            stack.enter_context(site.taken())
        assert ok(site)


def test_file_numbers_beyond_a_thousand_are_served(site: Site) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1400:
        pytest.skip("not enough open files are allowed")
    with ExitStack() as stack:
        null = stack.enter_context(open(os.devnull))
        for _ in range(1100):
            stack.callback(os.close, os.dup(null.fileno()))
        connection = stack.enter_context(connect(site))
        connection.sendall(request("/socket"))
        taken = stack.enter_context(site.taken())
        assert taken.fileno() > 1024
        assert ok(site)


def test_clients_that_come_and_go_leave_no_files_and_no_channels(site: Site) -> None:
    def churn() -> None:
        for number in range(30):
            client = Client(connect(site))
            client.connection.sendall(request("/socket"))
            if number % 3 == 0:
                client.reset()
            elif number % 3 == 1:
                client.connection.close()
            else:
                with client.connection:
                    client.connection.sendall(b"x")

    def drain() -> None:
        while connection := site.detached.get(timeout=SECONDS):
            connection.close()

    assert ok(site)
    before, files = set(site.map), psutil.Process().num_fds()
    drainer = threading.Thread(target=drain)
    drainer.start()
    churners = [threading.Thread(target=churn) for _ in range(4)]
    for thread in churners:
        thread.start()
    for thread in churners:
        thread.join()
    while set(site.map) != before:
        assert ok(site)
    site.detached.put(None)  # type: ignore[arg-type]
    drainer.join()
    until(lambda: psutil.Process().num_fds() <= files, "open files are left")


def test_a_handshake_under_way_is_finished_when_the_server_stops() -> None:
    site = Site()
    accepted, stopped = site.hold()
    with running(site) as server:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        connection.sendall(request("/socket"))
        assert accepted.wait(SECONDS)
        server.stop()
        stopped.set()
    with connection:
        echo(site, connection)
