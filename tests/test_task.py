"""Answers on the wire: the quick way sends what waitress would have sent, in fewer pieces."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from waitress.task import WSGITask  # type: ignore[import-untyped]

from shim.channel import Channel
from shim.server import Server
from shim.task import Task

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Body = Callable[["WSGIEnvironment"], Iterable[bytes]]
LENGTH = ("Content-Length", "5")
ANSWERS: dict[str, tuple[str, list[tuple[str, str]], Body]] = {
    "whole": ("200 OK", [LENGTH, ("ETag", '"a"'), ("Vary", "Accept"), ("Vary", "Cookie")], lambda _: [b"hello"]),
    "in parts": ("200 OK", [LENGTH], lambda _: [b"", b"he", b"", b"llo"]),
    "generated": ("200 OK", [LENGTH], lambda _: iter((b"he", b"llo"))),
    "too long": ("200 OK", [LENGTH], lambda _: [b"hello and more"]),
    "too short": ("200 OK", [LENGTH], lambda _: [b"hell"]),
    "without length": ("200 OK", [("X-A", "b")], lambda _: [b"hello"]),
    "of unknown length": ("200 OK", [], lambda _: iter((b"he", b"llo"))),
    "empty": ("200 OK", [("Content-Length", "0")], lambda _: [b""]),
    "nothing": ("204 No Content", [], lambda _: []),
    "unchanged": ("304 Not Modified", [("ETag", '"a"')], lambda _: []),
    "unchanged with length": ("304 Not Modified", [LENGTH], lambda _: []),
    "a file": ("200 OK", [LENGTH], lambda environ: environ["wsgi.file_wrapper"](BytesIO(b"hello"))),
    "dated": ("200 OK", [LENGTH, ("Date", "today"), ("Server", "other")], lambda _: [b"hello"]),
    "Latin": ("200 OK", [LENGTH, ("X-Name", "\xe9")], lambda _: [b"hello"]),
    "closed by name": ("404 Not Found", [("content-length", "5")], lambda _: [b"hello"]),
}
REQUESTS = {
    "1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "1.1 and the end": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.0 and more": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}


class Plain(WSGITask):  # type: ignore[misc]
    """Waitress's own task, with what is meant to differ."""

    def set_close_on_finish(self) -> None:
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or self.version != "1.1" or asked:
            super().set_close_on_finish()


@contextmanager
def running(app: WSGIApplication) -> Iterator[Server]:
    """A server in a thread."""
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)


def exchange(server: Server, request: bytes) -> tuple[str, list[str], bytes]:
    """First line, headers without the hour, and all that follows, of two requests on one connection."""
    last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request + last)
        received = bytearray()
        while block := connection.recv(1 << 20):
            received += block
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    rest = b"\r\n".join(part for part in rest.split(b"\r\n") if not part.startswith(b"Date: "))
    return line, sorted(header for header in headers if not header.endswith("GMT")), rest.lower()


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.filterwarnings("ignore")
def test_answers_are_those_of_waitress(name: str, request_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, headers, body = ANSWERS[name]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/last":
            start_response("200 OK", [("Content-Length", "3")])
            return [b"end"]
        start_response(status, list(headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body(environ)

    got = []
    for task in (Plain, Task):
        monkeypatch.setattr(Channel, "task_class", task)
        with running(app) as server:
            got.append(exchange(server, REQUESTS[request_name]))
    plain, quick = got
    assert (quick[0], sorted(map(str.lower, quick[1])), quick[2]) == (
        plain[0],
        sorted(map(str.lower, plain[1])),
        plain[2],
    )


def test_head_and_body_leave_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    write_soon = Channel.write_soon

    def keep(self: Channel, data: Any) -> int:
        pieces.append(bytes(data))
        return int(write_soon(self, data))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [LENGTH])
        return [b"hello"]

    monkeypatch.setattr(Channel, "task_class", Task)
    monkeypatch.setattr(Channel, "write_soon", keep)
    with running(app) as server:
        exchange(server, REQUESTS["1.1"])
    assert len(pieces) == 1
    assert all(piece.startswith(b"HTTP/1.1 200 OK\r\n") and piece.endswith(b"\r\n\r\nhello") for piece in pieces)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb"])
def test_a_header_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [LENGTH, ("X-Name", value)])
        return [b"hello"]

    monkeypatch.setattr(Channel, "task_class", Task)
    with running(app) as server:
        line, headers, _ = exchange(server, REQUESTS["1.1 and the end"])
    assert line.startswith("HTTP/1.1 500 ")
    assert not any("evil" in header.lower() for header in headers)
