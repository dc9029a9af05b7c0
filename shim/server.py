"""The web server: waitress on one socket, stopped from outside in an orderly way."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from builder.errors import NbfolioError
from shim.capacity import MOST_REQUESTS, capacity
from shim.channel import BodyLimit, Channel, one_megabyte

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

THREADS = 24
DRAIN = 3.0
"""Seconds that answers under way get at the end."""
LIMITS = {
    "connection_limit": MOST_REQUESTS,
    # Seconds without a byte in either direction, while no request is being answered; looked for that often.
    "channel_timeout": 60,
    "cleanup_interval": 10,
    "max_request_header_size": 32 << 10,
    # Larger bodies wait in temporary files without a name.
    "inbuf_overflow": 512 << 10,
    "recv_bytes": 64 << 10,
    # Parsers know what each request may send.
    "max_request_body_size": sys.maxsize,
}


class ListenError(NbfolioError):
    """Raised when the server cannot listen where it should."""


class Server:
    """Listens from the moment it is made; `run` answers until `stop` is called, from any thread or a signal handler.

    Headers that proxies set arrive as they were sent: the application knows whom to believe. Names with underscores,
    which would pass for others, do not arrive.
    """

    def __init__(self, app: WSGIApplication, host: str, port: int, body_limit: BodyLimit = one_megabyte) -> None:
        listener = _listen(host, port)
        self._map: dict[int, Any] = {}
        self._stopping = False
        self._next_look = 0.0
        # One line per request that waits is no news.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        try:
            self._server = create_server(
                app,
                map=self._map,
                sockets=[listener],
                threads=THREADS,
                ident=None,
                clear_untrusted_proxy_headers=False,
                log_socket_errors=False,
                **LIMITS | {"connection_limit": min(LIMITS["connection_limit"], capacity().requests)},
            )
        except BaseException:
            listener.close()
            raise
        self._server.channel_class = Channel
        self._server.body_limit = body_limit
        bound = listener.getsockname()
        self.port: int = bound[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def run(self) -> None:
        """Answer requests until `stop`; then finish what is under way, and close everything."""
        try:
            while not self._stopping:
                self._turn(1.0)
                self._close_late()
        finally:
            self._close()

    def stop(self) -> None:
        """Make `run` come to its end."""
        # No lock on the way: a signal handler may run in the middle of anything, this function too.
        self._stopping = True
        with suppress(OSError):
            self._server.pull_trigger()

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)

    def _close_late(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 1
        for channel in list(self._server.active_channels.values()):
            if channel.is_late(now):
                channel.handle_close()

    def _close(self) -> None:
        self._server.accepting = False
        end = time.monotonic() + DRAIN
        while time.monotonic() < end and any(map(_busy, list(self._server.active_channels.values()))):
            self._turn(0.05)
        self._server.task_dispatcher.shutdown(timeout=1)
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()
        self._server.close()


def _busy(channel: Any) -> bool:
    return bool(channel.requests or channel.total_outbufs_len or channel.upgrade)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # create_server would resolve the name too, but words all errors alike.
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise ListenError(f"Cannot listen on {host} port {port}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no host of that name."
    return {
        errno.EADDRINUSE: "another program does; --port takes another one, 0 any that is free.",
        errno.EADDRNOTAVAIL: "this machine does not have that address.",
        errno.EACCES: "it takes more rights; ports from 1024 on do not.",
    }.get(error.errno or 0, f"{os.strerror(error.errno or 0)}.")
