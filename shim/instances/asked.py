"""Questions to the servers of instances, which run what their owners want and may try to keep whoever asks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit


class OddError(ValueError):
    """Raised for an answer that is none."""


def fetch(url: str, headers: Mapping[str, str], *, seconds: float, longest: int) -> tuple[int, bytes]:
    """Status and body of what a GET gives within some seconds; redirects are not followed, proxies not used.

    The body is read as it came: nothing that claims to be compressed was asked for, and it could be of any size. Raises
    OddError for one that is longer than `longest`, OSError, ValueError and http.client.HTTPException.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.connect()
        with _ended_after(seconds, connection.sock):
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request("GET", path or "/", headers={"Accept-Encoding": "identity", **headers})
            # It holds the connection open, too.
            with closing(connection.getresponse()) as response:
                body = response.read(longest + 1)
    finally:
        connection.close()
    if len(body) > longest:
        raise OddError("its answer is too long")
    return response.status, body


@contextmanager
def _ended_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Time limits of sockets hold for each piece of an answer, so that one that comes in bytes would take for ever."""

    def end() -> None:
        over.set()
        # Not the method of TLS, which is not for two threads at a time.
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    over = threading.Event()
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    if over.is_set():
        raise TimeoutError
