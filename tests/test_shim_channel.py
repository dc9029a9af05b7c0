"""Connections of the server: bounds in size and time, and refusals that the client can read, over real sockets."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim import channel as channel_module
from shim.answers import CLOSED, HttpError
from shim.channel import BodyLimit, one_megabyte
from shim.server import LIMITS, THREADS, Server

MEGABYTE = 1 << 20
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"


def echo(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """An application that says how much it got."""
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(str(size))))])
    return [str(size).encode()]


@contextmanager
def running(app: Any = echo, body_limit: BodyLimit = one_megabyte) -> Iterator[Server]:
    """A server on a free port, answering in a thread."""
    server = Server(app, "127.0.0.1", 0, body_limit)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with the limits it has when nobody says otherwise."""
    with running() as server:
        yield server


def connect(server: Server) -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection, be it by a reset."""
    received = b""
    try:
        while block := connection.recv(1 << 16):
            received += block
    except ConnectionResetError:
        pass
    return received


def exchange(server: Server, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a request that ends the connection."""
    with connect(server) as connection:
        connection.sendall(request)
        return parsed(until_closed(connection))


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def ok(server: Server) -> bool:
    """Whether the server answers."""
    return exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200


# Refusals


@pytest.mark.parametrize(
    ("request_bytes", "status", "url"),
    [
        (b"nonsense\r\n\r\n", 400, ""),
        (b"GET  / HTTP/1.1\r\n\r\n", 400, ""),
        (b"get / HTTP/1.1\r\n\r\n", 400, ""),
        (b"GET /a%20<b HTTP/1.1\r\nno colon\r\n\r\n", 400, ""),
        (b"GET / HTTP/1.1\r\nX: a\nInjected: b\r\n\r\n", 400, ""),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""),
        (POST + b"Content-Length: x\r\n\r\n", 400, "/x"),
        (POST + b"Content-Length: -1\r\n\r\n", 400, "/x"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "/x"),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "/x"),
        (POST + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n", 413, "/x"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "/x"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "/x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nnone\r\n", 400, "/x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400, "/x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, 400, "/x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 1000, 400, "/x"),
        (POST + b"Content-Length: 1048577\r\n\r\n", 413, "/x"),
        (b"POST /a%20%C3%BC?q=1 HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413, "/a%20%C3%BC"),
        (POST + b"X: ".ljust(33 << 10, b"x"), 431, "/"),
    ],
)
def test_what_no_application_sees_is_refused_in_its_words(
    server: Server, request_bytes: bytes, status: int, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered, headers, body = exchange(server, request_bytes)
    fields = json.loads(body)
    assert (answered, fields["status"], fields["url"]) == (status, status, url)
    assert list(fields) == ["message", "status", "url", "error"]
    assert fields["message"].endswith(".")
    assert headers["Content-Type"] == "application/json"
    assert headers["Connection"] == "close"
    assert int(headers["Content-Length"]) == len(body)
    assert dict(CLOSED).items() <= headers.items()
    assert not {"Server", "Via"} & set(headers)
    assert not any(word in body for word in (b"waitress", b"Traceback", b"max_body", b"Injected", b".py"))
    assert not [record for record in caplog.records if record.name.startswith("waitress") or record.exc_info]


def test_a_refused_head_request_gets_no_body(server: Server) -> None:
    status, headers, body = exchange(server, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n")
    assert (status, body) == (413, b"")
    assert headers["Content-Type"] == "application/json"


def test_an_application_that_fails_is_worded_too() -> None:
    def broken(environ: object, start_response: object) -> list[bytes]:
        raise RuntimeError("secret")

    logging.getLogger("waitress").addFilter(drop := lambda record: False)
    try:
        with running(broken) as server:
            status, _, body = exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        logging.getLogger("waitress").removeFilter(drop)
    assert (status, json.loads(body)["status"]) == (500, 500)
    assert b"secret" not in body


PIECES = [
    *(
        b"GET ",
        b"POST ",
        b"/",
        b"http://",
        b"[",
        b"//",
        b"?",
        b"#",
        b"%",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(
        b"Host: localhost",
        b"Content-Length: ",
        b"5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b": ",
        b"_",
    ),
    *(b"Connection: close", b"0\r\n\r\n", b"5\r\nabcde\r\n", b"9" * 4400, b"\t", b"\x00", b"\xff"),
]
HEADS = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=5)), max_size=20).map(b"".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(head=HEADS)
def test_whatever_comes_first_nothing_breaks(server: Server, caplog: pytest.LogCaptureFixture, head: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(head + b"\r\n\r\nnonsense\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)
    assert not [record for record in caplog.records if record.name.startswith("waitress") or record.exc_info]


# Sizes of bodies


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_up_to_the_limit_arrive_and_larger_ones_do_not(chunked: bool) -> None:
    def limit(method: str, path: str, headers: Mapping[str, str]) -> int:
        # The framing of the one chunk counts.
        return 3000 + (len(b"bb8\r\n\r\n0\r\n\r\n") if chunked else 0)

    with running(body_limit=limit) as server:
        for size, status in ((3000, 200), (3001, 413)):
            content = b"x" * size
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, content) if chunked else content
            kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
            assert exchange(server, POST + b"Connection: close\r\n" + kind + b"\r\n\r\n" + body)[0] == status


def test_the_limit_is_asked_once_the_head_is_known() -> None:
    asked: list[tuple[str, str, dict[str, str]]] = []

    def limit(method: str, path: str, headers: Mapping[str, str]) -> int:
        asked.append((method, path, dict(headers)))
        if headers.get("AUTHORIZATION") != "token t":
            raise HttpError(401, "Say who you are.", [("WWW-Authenticate", "Bearer")])
        return 2 * MEGABYTE

    with running(body_limit=limit) as server:
        url = f"{server.url}//_api/a%20b?c"
        assert requests.get(url, timeout=60).status_code == 200
        assert not asked
        refused = requests.post(url, data=bytes(5 * MEGABYTE), timeout=60)
        assert (refused.status_code, refused.json()["message"]) == (401, "Say who you are.")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        authorized = {"Authorization": "token t", "X_Token": "x"}
        assert requests.post(url, data=bytes(2 * MEGABYTE), headers=authorized, timeout=60).text == str(2 * MEGABYTE)
        refused = requests.post(url, data=bytes(5 * MEGABYTE), headers=authorized, timeout=60)
        assert refused.status_code == 413
        assert "2 MB" in refused.json()["message"]
        assert requests.post(url, data=iter([bytes(MEGABYTE)] * 5), headers=authorized, timeout=60).status_code == 413
    assert {(method, path) for method, path, _ in asked} == {("POST", "/_api/a b")}
    assert len(asked) == 4
    assert "X_TOKEN" not in asked[1][2]


def test_a_limit_that_fails_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    def limit(method: str, path: str, headers: Mapping[str, str]) -> int:
        raise RuntimeError

    with running(body_limit=limit) as server:
        with connect(server) as connection:
            connection.sendall(POST + b"Content-Length: 1\r\n\r\nx")
            assert until_closed(connection) == b""
        assert ok(server)


def temporary_files() -> list[str]:
    """Open files without a name."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return [link for link in links if link.endswith(" (deleted)") and "/memfd" not in link]


@pytest.mark.parametrize("end", ["whole", "broken", "refused"])
def test_large_bodies_wait_in_files_without_a_name_and_are_gone_after_it(end: str) -> None:
    before = temporary_files()
    during: list[int] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        during.append(len(temporary_files()) - len(before))
        return echo(environ, start_response)

    with running(app) as server:
        for size, files in ((500_000, 0), (MEGABYTE, 1)):
            with connect(server) as connection:
                chunked = end == "refused"
                kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
                connection.sendall(POST + kind + b"\r\nConnection: close\r\n\r\n")
                if end == "whole":
                    connection.sendall(bytes(size))
                    assert until_closed(connection).endswith(str(size).encode())
                    assert during.pop() == files
                elif end == "refused":
                    connection.sendall(b"%x\r\n%s\r\nno" % (size, bytes(size)))
                    connection.sendall(b" size\r\n")
                    assert parsed(until_closed(connection))[0] in (400, 413)
                else:
                    connection.sendall(bytes(size - 1))
                    deadline = time.monotonic() + 30
                    while files and len(temporary_files()) == len(before) and time.monotonic() < deadline:
                        assert ok(server)
                        during.clear()
            assert ok(server)
            during.clear()
    assert temporary_files() == before


# Waitress leaves it to Python to close a file to which it could not move what it had in memory.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("room", [4096, 600_000, 600_001, 900_000 - 1])
def test_a_disk_without_room_is_said(server: Server, caplog: pytest.LogCaptureFixture, room: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        refused = requests.post(server.url, data=bytes(900_000), timeout=60)
        assert ok(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (refused.status_code, refused.json()["message"]) == (507, "The server's disk is full.")
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["shim"]


# Clients that still send


def test_a_client_that_sends_far_too_much_reads_why_not(server: Server) -> None:
    for _ in range(20):
        answer = requests.post(f"{server.url}/x", data=bytes(5 * MEGABYTE), timeout=60)
        assert answer.status_code == 413
        assert "1 MB" in answer.json()["message"]
    answer = requests.post(f"{server.url}/x", data=iter([bytes(65536)] * 80), timeout=60)
    assert answer.status_code == 413


def test_a_client_that_sends_all_before_it_reads_is_not_reset(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % (20 * MEGABYTE))
        for _ in range(20):
            connection.sendall(bytes(MEGABYTE))
        answer = b""
        while block := connection.recv(1000):
            answer += block
        assert parsed(answer)[0] == 413


def test_nobody_is_asked_to_continue_with_what_is_refused(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        assert parsed(until_closed(connection))[0] == 413
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert parsed(until_closed(connection))[::2] == (200, b"3")


def test_who_expects_to_continue_without_a_body_is_answered(server: Server) -> None:
    assert exchange(server, POST + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")[::2] == (200, b"0")


def test_what_follows_a_refusal_is_no_request() -> None:
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    with running(app) as server, connect(server) as connection:
        hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(POST + b"Content-Length: 9999999\r\n\r\n" + hidden)
        assert parsed(until_closed(connection))[0] == 413
        connection.sendall(hidden * 100)
        assert ok(server)
    assert seen == ["/"]


def send_on(connection: socket.socket) -> int:
    """Send until the server has closed; gives back how many bytes it took."""
    sent = 0
    try:
        while True:
            sent += connection.send(bytes(1 << 16))
    except (BrokenPipeError, ConnectionResetError):
        return sent


def test_a_client_that_never_stops_sending_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "LINGER_BYTES", 10 * MEGABYTE)
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 999999999999\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"
        # Both sides' buffers come on top.
        assert 5 * MEGABYTE < send_on(connection) < 100 * MEGABYTE


def test_a_client_that_never_ends_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "LINGER_SECONDS", 0.0)
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 999999999999\r\n\r\n")
        assert parsed(until_closed(connection))[0] == 413
        while not closed(connection):
            assert ok(server)
            time.sleep(0.05)


def closed(connection: socket.socket) -> bool:
    """Whether the server does not even read what comes."""
    try:
        connection.send(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_clients_that_still_send_do_not_delay_the_end() -> None:
    with ExitStack() as stack:
        with running() as server:
            for _ in range(3):
                connection = stack.enter_context(connect(server))
                connection.sendall(POST + b"Content-Length: 999999999999\r\n\r\n")
                assert parsed(until_closed(connection))[0] == 413
                sending = threading.Thread(target=send_on, args=[connection])
                sending.start()
                stack.callback(sending.join)
            started = time.monotonic()
        # Far from the half minute that the server would listen on.
        assert time.monotonic() - started < 15


# Slow clients


def test_slow_senders_hold_no_worker(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(THREADS + 4)]
        for connection in slow:
            connection.sendall(POST + b"Content-Length: 1000\r\nConnection: close\r\n\r\nx")
        for _ in range(5):
            assert ok(server)
            for connection in slow:
                connection.sendall(b"x")
        for connection in slow:
            connection.sendall(b"x" * 994)
            assert parsed(until_closed(connection))[::2] == (200, b"1000")


@pytest.mark.parametrize(
    ("constant", "request_bytes"),
    [
        ("HEAD_SECONDS", b"GET / HTTP/1.1\r\nX: "),
        ("HEAD_SECONDS", b"\r"),
        ("BODY_SECONDS", POST + b"Content-Length: 1000\r\n\r\n"),
        ("BODY_SECONDS", POST + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"),
        ("BODY_SECONDS", POST + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"),
    ],
)
def test_who_sends_a_byte_now_and_then_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch, constant: str, request_bytes: bytes
) -> None:
    monkeypatch.setattr(channel_module, constant, 0.0)
    with connect(server) as connection:
        connection.sendall(request_bytes)
        while not closed(connection):
            time.sleep(0.05)
    assert ok(server)


def test_a_body_gets_more_time_the_more_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "BODY_SECONDS", 0.0)
    monkeypatch.setattr(channel_module, "BODY_PACE", 1)
    with running() as server, connect(server) as steady, connect(server) as stalled:
        steady.sendall(POST + b"Content-Length: 2000\r\nConnection: close\r\n\r\n" + bytes(1000))
        stalled.sendall(POST + b"Content-Length: 2000\r\n\r\n")
        assert until_closed(stalled) == b""
        steady.sendall(bytes(1000))
        assert parsed(until_closed(steady))[::2] == (200, b"2000")


def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "channel_timeout", 1)
    monkeypatch.setitem(LIMITS, "cleanup_interval", 1)
    with running() as server, connect(server) as fresh, connect(server) as used, connect(server) as half:
        used.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        half.sendall(POST + b"Content-Length: 2\r\n\r\nx")
        assert until_closed(fresh) == b""
        assert parsed(until_closed(used))[0] == 200
        assert until_closed(half) == b""


def test_an_application_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)
    look = channel_module.Channel.is_late

    def counted(self: channel_module.Channel, now: float) -> bool:
        looked.release()
        return look(self, now)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        while looked.acquire(blocking=False):
            pass
        assert looked.acquire(timeout=60)
        return echo(environ, start_response)

    for constant in ("HEAD_SECONDS", "BODY_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(channel_module, constant, 0.0)
    monkeypatch.setattr(channel_module.Channel, "is_late", counted)
    with running(app) as server, connect(server) as connection:
        # The next request has begun, but nothing of it is read before this one is answered.
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /next")
        assert parsed(until_closed(connection))[0] == 200


# Many connections


def test_more_connections_than_the_limit_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(LIMITS, "connection_limit", 10)
    with running() as server, ExitStack() as stack:
        first = [stack.enter_context(connect(server)) for _ in range(10)]
        for number, connection in enumerate(first[:6]):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200", number
        waiting = [stack.enter_context(connect(server)) for _ in range(30)]
        for connection in waiting:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for connection in first:
            connection.close()
        for connection in waiting:
            assert parsed(until_closed(connection))[0] == 200
