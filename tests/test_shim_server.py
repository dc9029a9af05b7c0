"""The application behind the real server: odd requests over raw sockets, large files, start and end."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.config import load_config
from shim.app import create_app, parts_of
from shim.background import Finished
from shim.metrics import Metrics
from shim.server import ListenError, Server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

SECRET = b"root:x:0:0"
LONG_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".ljust(32 << 10, b"x")
BIG = os.urandom(1 << 20) * 16
"""More than socket buffers hold."""


@contextmanager
def running(app: WSGIApplication, host: str = "127.0.0.1") -> Iterator[Server]:
    """A server on a free port, answering in a thread."""
    server = Server(app, host, 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


def application(root: Path) -> WSGIApplication:
    """The application for the site in `root`."""
    config = load_config(root, None, {}, {})
    return create_app(parts_of(config, Finished(config), Metrics()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small site."""
    root = tmp_path_factory.mktemp("server")
    page = root / "_site" / "dashboards" / "a"
    page.mkdir(parents=True)
    (page / "index.html").write_bytes(b"<h1>A page</h1>" * 100)
    (root / "_site" / "media").mkdir()
    (root / "_site" / "media" / "big.mp4").write_bytes(BIG)
    (root / "_site" / ".nbfolio-output").write_bytes(SECRET)
    (root / "secret.txt").write_bytes(SECRET)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """A server of that site."""
    with running(application(root)) as server:
        yield server


def exchange(server: Server, request: bytes) -> bytes:
    """What comes back until the server closes; the request should make it do so."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        received = bytearray()
        while block := connection.recv(1 << 20):
            received += block
    return bytes(received)


def ask(server: Server, target: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """The answer to one request as it comes over the wire."""
    head = [method + b" " + target + b" HTTP/" + version, b"Host: localhost", b"Connection: close", *headers]
    return exchange(server, b"\r\n".join(head) + b"\r\n\r\n")


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


def test_a_page_comes_over_the_wire_plain_and_compressed(server: Server) -> None:
    head, _, body = ask(server, b"/dashboards/a/").partition(b"\r\n\r\n")
    assert (status(head), body) == (200, b"<h1>A page</h1>" * 100)
    assert b"\r\nServer:" not in head
    head, _, body = ask(server, b"/dashboards/a/", b"Accept-Encoding: gzip").partition(b"\r\n\r\n")
    assert b"\r\nContent-Encoding: gzip" in head
    assert gzip.decompress(body) == b"<h1>A page</h1>" * 100


@pytest.mark.parametrize(
    "target",
    [
        b"/../secret.txt",
        b"/dashboards/../../secret.txt",
        b"/dashboards/%2e%2e/%2e%2e/secret.txt",
        b"/dashboards/..%2f..%2fsecret.txt",
        b"/dashboards/..%5c..%5csecret.txt",
        b"/dashboards/..\\..\\secret.txt",
        b"/dashboards/%252e%252e/%252e%252e/secret.txt",
        b"/dashboards/a/%00",
        b"//../secret.txt",
        b"///etc/passwd",
        b"/dashboards//etc/passwd",
        b"/dashboards/%2fetc%2fpasswd",
        b"http://localhost/dashboards/../../secret.txt",
        b"/.nbfolio-output",
        b"/%2enbfolio-output",
        b"/dashboards/\xff\xfe/",
        b"/dashboards/%",
        b"/dashboards/%zz/",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_no_request_line_leads_out_of_the_published_folder(
    root: Path, server: Server, target: bytes, method: bytes
) -> None:
    answer = ask(server, target, method=method)
    assert status(answer) in (400, 404)
    assert SECRET not in answer
    assert b"root:" not in answer
    assert str(root).encode() not in answer
    assert b"\r\nLocation:" not in answer


def test_redirects_stay_on_the_site_whatever_was_asked(server: Server) -> None:
    for target in (b"/dashboards/a", b"//dashboards/a", b"http://evil.example/dashboards/a", b"/a", b"//a"):
        answer = ask(server, target)
        assert status(answer) in (301, 302)
        assert b"\r\nLocation: /dashboards/a/\r\n" in answer
        assert b"evil" not in answer


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET /dashboards/a/ HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n", 413),
        (LONG_HEAD, 431),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_odd_requests_get_a_plain_refusal(server: Server, request_bytes: bytes, expected: int) -> None:
    answer = exchange(server, request_bytes)
    assert status(answer) == expected
    assert b"Traceback" not in answer
    assert b"evil" not in answer


def test_headers_of_proxies_arrive_as_sent_and_names_with_underscores_never() -> None:
    def app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [])
        return [" ".join(f"{name}={environ[name]}" for name in sorted(environ) if "FORWARDED" in name).encode()]

    with running(app) as server:
        answer = ask(server, b"/", b"X-Forwarded-For: 10.0.0.1", b"X_Forwarded_For: 10.0.0.2", b"X_Forwarded-User: ada")
        assert answer.partition(b"\r\n\r\n")[2] == b"HTTP_X_FORWARDED_FOR=10.0.0.1"
        answer = ask(server, b"/", b"X-Forwarded_Proto: https", b"Forwarded: for=a")
        assert answer.partition(b"\r\n\r\n")[2] == b"HTTP_FORWARDED=for=a"


def test_one_connection_carries_many_requests(server: Server) -> None:
    connection = HTTPConnection("localhost", server.port, timeout=30)
    try:
        connection.connect()
        first = connection.sock
        for path, expected in (("/dashboards/a/", 200), ("/nothing", 404), ("/a", 302), ("/media/big.mp4", 304)):
            headers = {"If-None-Match": "*"} if expected == 304 else {}
            for method in ("GET", "HEAD"):
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == expected
        assert connection.sock is first
    finally:
        connection.close()


def test_large_files_come_whole_and_in_parts(server: Server) -> None:
    head, _, body = ask(server, b"/media/big.mp4").partition(b"\r\n\r\n")
    assert (status(head), body == BIG) == (200, True)
    head, _, body = ask(server, b"/media/big.mp4", b"Range: bytes=1000000-12000000").partition(b"\r\n\r\n")
    assert (status(head), body == BIG[1_000_000:12_000_001]) == (206, True)
    head, _, body = ask(server, b"/media/big.mp4", method=b"HEAD").partition(b"\r\n\r\n")
    assert (f"\r\nContent-Length: {len(BIG)}\r\n".encode() in head, body) == (True, b"")


def test_slow_readers_of_large_files_do_not_keep_others_waiting(server: Server) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(12)]
    try:
        for connection in slow:
            connection.sendall(b"GET /media/big.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(9) == b"HTTP/1.1 "
        assert status(ask(server, b"/dashboards/a/")) == 200
    finally:
        for connection in slow:
            connection.close()


def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_connection(tmp_path: Path) -> None:
    media = tmp_path / "_site" / "media"
    media.mkdir(parents=True)
    (media / "big.mp4").write_bytes(BIG)
    with (
        running(application(tmp_path)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /media/big.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = len(connection.recv(1000))
        os.truncate(media / "big.mp4", 1000)
        try:
            while block := connection.recv(1 << 20):
                received += len(block)
        except ConnectionResetError:
            pass
        assert received < len(BIG)


# Start and end


def test_the_server_listens_before_it_runs(root: Path) -> None:
    server = Server(application(root), "127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30):
            pass
        assert server.url == f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        server.run()


def test_ipv6_addresses_are_written_in_brackets(root: Path) -> None:
    try:
        server = Server(application(root), "::1", 0)
    except ListenError:
        pytest.skip("no IPv6 on this machine")
    server.stop()
    server.run()
    assert server.url == f"http://[::1]:{server.port}"


def test_answers_under_way_are_finished_at_the_end() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        entered.set()
        leave.wait(30)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    with running(slow) as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.wait(30)
        server.stop()
        leave.set()
        received = b""
        while block := connection.recv(1000):
            received += block
        assert received.endswith(b"\r\n\r\ndone")


def test_idle_connections_do_not_delay_the_end(root: Path) -> None:
    with running(application(root)) as server:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        assert status(ask(server, b"/dashboards/a/")) == 200
        started = time.monotonic()
    idle.close()
    assert time.monotonic() - started < 2.5


def test_stopping_twice_is_harmless(root: Path) -> None:
    with running(application(root)) as server:
        server.stop()
        server.stop()
    server.stop()


def test_a_port_that_is_taken_is_said_in_one_sentence(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^Cannot listen on 127\.0\.0\.1 port {port}: another program does; "):
            Server(application(root), "127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("203.0.113.7", "this machine does not have that address."),
        ("no-such-host.invalid", "there is no host of that name."),
    ],
)
def test_an_address_that_is_none_is_said_in_one_sentence(root: Path, host: str, said: str) -> None:
    with pytest.raises(ListenError) as error:
        Server(application(root), host, 0)
    assert str(error.value) == f"Cannot listen on {host} port 0: {said}"
