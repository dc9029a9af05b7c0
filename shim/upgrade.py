"""Requests that ask to go on as a WebSocket: whether they may, and whoever takes their connection over."""

from __future__ import annotations

import base64
import binascii
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from shim.answers import HttpError

if TYPE_CHECKING:
    from shim.channel import Parser

VERSION = "13"
"""The version of the WebSocket protocol that is spoken here: RFC 6455."""
MAX_PROTOCOLS = 32
"""Sub-protocols of an offer that are looked at."""
EARLY = "Nothing may be sent behind the request for a WebSocket before it is answered."

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")

OnSocket = Callable[[socket.socket], None]
"""Takes over a connection that is non-blocking and has nothing written to it yet."""


def asks_for_websocket(request: Parser) -> bool:
    """Whether a request whose head was read asks for a WebSocket, be it in the right way or not."""
    headers = request.headers
    return "upgrade" in _tokens(headers.get("CONNECTION", "")) and "websocket" in _tokens(headers.get("UPGRADE", ""))


class Upgrade:
    """What a WSGI application finds in `environ["nbfolio.upgrade"]` when the client asks for a WebSocket.

    It calls `accept` and answers with status 101 and no body. The client is not told so yet: whoever takes the
    connection over writes the answer, or another one.
    """

    def __init__(self, request: Parser) -> None:
        headers = request.headers
        self.key: str = headers.get("SEC_WEBSOCKET_KEY", "")
        self.protocols = tuple(_offered(headers.get("SEC_WEBSOCKET_PROTOCOL", "")))
        self.problem = _problem(request, self.key)
        """Why there cannot be a WebSocket; None when there can."""
        self.on_socket: OnSocket | None = None

    def accept(self, on_socket: OnSocket) -> None:
        """Have the connection handed to `on_socket` once the application has answered 101. Raises `problem`.

        It runs on the thread that serves all connections and must not block. It is never called when the answer is
        another one or the client has gone meanwhile, so nothing may be reserved for it beforehand.
        """
        if self.problem:
            raise self.problem
        self.on_socket = on_socket


def _problem(request: Parser, key: str) -> HttpError | None:
    if request.command != "GET" or request.version != "1.1":
        return HttpError(400, "WebSockets begin with GET over HTTP/1.1.")
    if request.chunked or request.content_length:
        return HttpError(400, "A request for a WebSocket has no body.")
    if request.headers.get("SEC_WEBSOCKET_VERSION") != VERSION:
        return HttpError(426, f"WebSockets of version {VERSION} are spoken here.", [("Sec-WebSocket-Version", VERSION)])
    if not _is_key(key):
        return HttpError(400, "Sec-WebSocket-Key has to be 16 bytes in base64.")
    return None


def _is_key(key: str) -> bool:
    """Whether it can be a key; one that was sent twice has a comma in it."""
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _offered(header: str) -> list[str]:
    names = [name.strip(" \t") for name in header.split(",", MAX_PROTOCOLS)[:MAX_PROTOCOLS]]
    return [name for name in names if _TOKEN.fullmatch(name)]


def _tokens(header: str) -> list[str]:
    return [token.strip(" \t").lower() for token in header.split(",")]
