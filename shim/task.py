"""How an answer goes to its connection: waitress's task, with a quick way for answers of known length."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from waitress.task import WSGITask  # type: ignore[import-untyped]
from waitress.utilities import build_http_date  # type: ignore[import-untyped]

from shim.upgrade import Upgrade, asks_for_websocket

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from shim.headers import Headers

_NOT_OURS = frozenset({"Date", "Server", "Connection", "Transfer-Encoding"})
"""Headers that waitress looks at; whoever sets one takes the long way."""


class Task(WSGITask):  # type: ignore[misc]
    """Answers one request: the head and the first part of the body leave together, and the connection stays open.

    Waitress closes it after answers without a body, because it takes a missing Content-Length for unknown length.
    """

    wrote_header: bool
    _upgrade: Upgrade | None = None

    def get_environment(self) -> WSGIEnvironment:
        """The WSGI environment, with `nbfolio.upgrade` in it when the client asks for a WebSocket."""
        environ: WSGIEnvironment = super().get_environment()
        if asks_for_websocket(self.request):
            environ["nbfolio.upgrade"] = self._upgrade = Upgrade(self.request)
        return environ

    def finish(self) -> None:
        """End the answer, or have the connection taken over when it goes on as a WebSocket."""
        if not self._is_upgraded():
            super().finish()
            return
        self.close_on_finish = False
        self.channel.upgrade = self._upgrade.on_socket if self._upgrade else None

    def set_close_on_finish(self) -> None:
        """Close the connection after this answer, unless a client of today needs no close to see its end."""
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or self.version != "1.1" or asked:
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """The head of the answer; for HTTP/1.1 with a known length there is nothing to find out about it."""
        headers: Headers = self.response_headers
        known = self.content_length is not None or not self.has_body
        if not known or self.version != "1.1" or "CONNECTION" in self.request.headers:
            return bytes(super().build_response_header())
        names = {name for name, _ in headers}
        if not names.isdisjoint(_NOT_OURS) or self.has_body is not ("Content-Length" in names):
            return bytes(super().build_response_header())
        lines = [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join((f"HTTP/1.1 {self.status}", *lines, _date(int(self.start_time)), "", ""))
        return head.encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send a part of the body; the first one goes in one piece with the head."""
        if self._is_upgraded():
            return
        if self.wrote_header or not data or not self.complete or self.content_length is None or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        if self.chunked_response or len(data) > self.content_length:
            self.channel.write_soon(head)
            super().write(data)
            return
        self.content_bytes_written += len(data)
        self.channel.write_soon(head + data)

    def _is_upgraded(self) -> bool:
        # An application may still fail after it has accepted; then the answer is an error like any other.
        return bool(self._upgrade and self._upgrade.on_socket and self.status.startswith("101"))


@lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    return f"Date: {build_http_date(seconds)}"
