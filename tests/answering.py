"""A small HTTP server that answers as a test says and keeps what it was asked; and one that behaves as the API does."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import unquote

from multipart import parse_form_data


class Request(NamedTuple):
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    def file(self) -> tuple[str, bytes]:
        """Name and content of the one file in a multipart body."""
        environ = {
            "REQUEST_METHOD": self.method,
            "CONTENT_TYPE": self.headers["content-type"],
            "CONTENT_LENGTH": str(len(self.body)),
            "wsgi.input": io.BytesIO(self.body),
        }
        forms, files = parse_form_data(environ, strict=True)
        assert not list(forms) and list(files) == ["file"]
        part = files["file"]
        content = part.file.read()
        for each in files.values():
            each.close()
        return part.filename, content


class Reply(NamedTuple):
    """What goes back."""

    status: int
    headers: dict[str, str] = {}  # noqa: RUF012
    body: bytes = b""


@dataclass
class Server:
    """A running server."""

    address: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def answering(
    respond: Callable[[Request], Reply], *, tls: ssl.SSLContext | None = None, keep: bool = True
) -> Iterator[Server]:
    """A server on a free port that answers with what `respond` gives; without `keep` it forgets bodies."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            with suppress(ConnectionError, ssl.SSLError):  # a client that went away is its own business
                if tls:
                    self.connection.do_handshake()
                super().handle_one_request()

        def answer(self) -> None:
            left, body = int(self.headers.get("Content-Length", 0)), b""
            while left and (block := self.rfile.read(min(left, 1 << 16))):
                left -= len(block)
                body += block if keep else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            server.requests.append(request)
            reply = respond(request)
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = False
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}")
    thread = Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def error(status: int, message: str, **headers: str) -> Reply:
    """An error as an nbfolio server words it."""
    body = {"message": message, "status": status, "url": "/", "error": "Error"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "application/json", **named}, json.dumps(body).encode())


@dataclass
class Api:
    """Uploads, deletions, cache and list below `prefix`, for one token."""

    token: str = "s3cret"
    prefix: str = ""
    dashboards: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """File name and content by path."""

    def __call__(self, request: Request) -> Reply:
        """What the API answers."""
        if request.headers.get("authorization") != f"token {self.token}":
            return error(401, "Authentication required. Please provide a valid auth token.")
        kind, _, path = request.path.removeprefix(f"{self.prefix}/_api/").partition("/")
        path = unquote(path)
        match request.method, kind:
            case "POST", "notebooks":
                return self._upload(request, path)
            case "DELETE", "notebooks":
                return Reply(204) if self.dashboards.pop(path, None) else error(404, f"There is no dashboard {path}.")
            case "DELETE", "cache":
                return Reply(200, {"Content-Type": "text/plain"}, b"OK")
            case "GET", "notebooks" if not path:
                return Reply(
                    200, {}, json.dumps({"notebooks": [self._line(name) for name in self.dashboards]}).encode()
                )
        return error(404, "There is no such page.")

    def _upload(self, request: Request, path: str) -> Reply:
        if path in self.dashboards and request.headers.get("if-none-match") == "*":
            return error(412, f"{path} exists.")
        self.dashboards[path] = request.file()
        quoted = request.path.rpartition("/_api/notebooks/")[2]
        link = f"http://{request.headers['host']}{self.prefix}/dashboards/{quoted}"
        body = {"message": "Notebook successfully uploaded", "status": 201, "url": f"/notebooks/{quoted}", "link": link}
        return Reply(201, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _line(self, path: str) -> dict[str, str]:
        kind = "zip" if self.dashboards[path][0].endswith(".zip") else "notebook"
        return {"path": path, "title": f"About {path}", "kind": kind, "link": f"/dashboards/{path}", "message": ""}
