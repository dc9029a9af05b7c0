"""A whole run-shim inside a test: the real builder, the real web server, and what every single answer has to keep to."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator
from zipfile import ZIP_DEFLATED, ZipFile

from making import markdown, notebook, write

from builder.config import load_config
from shim.app import create_app, parts_of, wants_state
from shim.background import BackgroundBuilder, Finished
from shim.metrics import Metrics
from shim.publishing import body_limit
from shim.server import Server
from shim.state import State
from shim.uploads import FRAMING

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from builder.config import Config
    from shim.kernels.live import Live

BOUNDARY = "a-boundary"
TELLTALES = ("Traceback", 'File "', ".py", "waitress", "Bottle", "bottle", "wsgi", "Errno", "Exception", sys.prefix)
"""What would tell a reader of an error how the server is made."""
BANNERS = frozenset({"server", "x-powered-by", "via"})


class Part(NamedTuple):
    """One part of a form; without `filename` it is a plain field."""

    name: str
    content: bytes
    filename: str | None = None


def form(*parts: Part) -> bytes:
    """The body of a multipart form; names go into it as they are."""
    body = b""
    for part in parts:
        filename = "" if part.filename is None else f'; filename="{part.filename}"'
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part.name}"{filename}\r\n\r\n'
        body += head.encode() + part.content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def page_of(text: str, **metadata: Any) -> bytes:
    """A notebook with one Markdown cell."""
    return json.dumps(notebook(markdown(text), **metadata)).encode()


def zipped(*entries: tuple[str, bytes | str]) -> bytes:
    """A ZIP with these entries, in this order."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def bundle(text: str, *entries: tuple[str, bytes | str]) -> bytes:
    """A ZIP bundle whose page shows `text`."""
    return zipped(("index.ipynb", page_of(text)), *entries)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        """The value of a header that was sent at most once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        assert (self["content-type"] or "").removesuffix("; charset=utf-8") == "application/json"
        return json.loads(self.body)

    @property
    def message(self) -> str:
        message: str = self.json()["message"]
        return message


def check(answer: Answer, method: str, *private: object) -> Answer:
    """What holds for every answer: well formed, readable errors, and nothing of the machine in them.

    `private` are paths that no answer may show.
    """
    for name, value in answer.headers:
        assert re.fullmatch(r"[A-Za-z0-9-]+", name)
        assert value.isprintable(), (name, value)
        assert name.lower() not in BANNERS, (name, value)
    shown = [*(value for _, value in answer.headers), answer.body.decode("utf-8", "replace")]
    for text in shown:
        for path in private:
            assert str(path) not in text, text
            assert quote(str(path)) not in text, text
    if method == "HEAD" or answer.status in (204, 304):
        assert answer.body == b""
    elif answer.status >= 400:
        assert not [word for word in TELLTALES if word in answer.text], answer.text
        assert answer["x-request-id"]
        if answer["content-type"] == "application/json":
            fields = answer.json()
            assert [name for name in fields if name != "queue"] == ["message", "status", "url", "error"]
            assert fields["status"] == answer.status
            assert fields["message"].isprintable(), fields
            assert fields["message"][-1] in ".!?", fields
            assert len(fields["message"]) < 600
    return answer


@dataclass(frozen=True)
class Shim:
    """A running server with its builder, as a client of the API sees it."""

    surroundings: Path
    """The folder around everything, for what must not be touched."""
    config: Config
    app: WSGIApplication
    server: Server
    token: str = ""
    transport: str = "http"
    """"http": over a socket; "wsgi": through wsgiref's validator."""
    host: str = "localhost"
    headers: Mapping[str, str] = field(default_factory=dict)
    live: Live | None = None
    """What has its kernels."""

    @property
    def source(self) -> Path:
        return self.config.source

    def __call__(
        self, target: str | bytes, method: str = "GET", body: bytes | None = None, **headers: str | None
    ) -> Answer:
        """One request; the target goes out as it is. Headers are written `if_none_match`; None leaves one out."""
        sent: dict[str, str] = {"Host": self.host, **self.headers}
        if self.token:
            sent["Authorization"] = f"token {self.token}"
        if body is not None:
            sent |= {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(len(body))}
        for name, value in headers.items():
            key = name.replace("_", "-").title()
            sent.pop(key, None)
            if value is not None:
                sent[key] = value
        raw = target.encode("latin-1") if isinstance(target, str) else target
        send = self._over_http if self.transport == "http" else self._over_wsgi
        return check(send(raw, method, body or b"", sent), method, self.surroundings)

    def _over_http(self, target: bytes, method: str, body: bytes, headers: dict[str, str]) -> Answer:
        lines = [f"{name}: {value}".encode("latin-1") for name, value in {**headers, "Connection": "close"}.items()]
        head = b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""])
        return parsed(exchange(self.server.port, head + body))

    def _over_wsgi(self, target: bytes, method: str, body: bytes, headers: dict[str, str]) -> Answer:
        path, _, query = target.partition(b"?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "SCRIPT_NAME": "",
            "QUERY_STRING": query.decode("latin-1"),
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": BytesIO(body),
        }
        setup_testing_defaults(environ)
        del environ["HTTP_HOST"]
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started.append((status, headers))
            return lambda data: None

        result = validator(self.app)(environ, start_response)
        try:
            data = b"".join(result)
        finally:
            result.close()  # type: ignore[attr-defined]
        ((status, sent),) = started
        return Answer(int(status[:3]), sent, data)

    # What clients of the API do

    def upload(self, name: str, content: bytes, filename: str = "", **headers: str | None) -> Answer:
        """Upload a file under a name, which is percent-encoded; the kind of the file is told by its content."""
        filename = filename or ("some.zip" if content.startswith(b"PK") else "some.ipynb")
        body = form(Part("file", content, filename))
        return self(f"/_api/notebooks/{quote(name)}", "POST", body, **headers)

    def delete(self, name: str, **headers: str | None) -> Answer:
        return self(f"/_api/notebooks/{quote(name)}", "DELETE", **headers)

    def clear_cache(self, name: str = "", **headers: str | None) -> Answer:
        """Have one page, or all of them, made anew from what is on the disk."""
        return self(f"/_api/cache/{quote(name)}".rstrip("/"), "DELETE", **headers)

    def page(self, name: str, tree: str = "dashboards") -> Answer:
        """The page of a dashboard."""
        return self(f"/{tree}/{quote(name)}/" if name else f"/{tree}/")

    def file(self, name: str, tree: str = "dashboards") -> Answer:
        """A file of a dashboard."""
        return self(f"/{tree}/{quote(name)}")

    def listed(self) -> dict[str, dict[str, Any]]:
        """What the API says of each dashboard, by its path."""
        answer = self("/_api/notebooks")
        assert answer.status == 200
        return {entry["path"]: entry for entry in answer.json()["notebooks"]}

    def tree(self) -> dict[str, bytes]:
        """Every file around and in the source folder, with its content; the site and its records are left out."""
        left_out = (self.config.output, self.config.state_dir)
        return {
            path.relative_to(self.surroundings).as_posix(): path.read_bytes() if path.is_file() else b"(folder)"
            for path in self.surroundings.rglob("*")
            if not any(path == one or one in path.parents for one in left_out)
        }

    def over(self, transport: str) -> Shim:
        """The same server, reached in another way."""
        return replace(self, transport=transport)

    def as_(self, token: str) -> Shim:
        """The same server, with another token; "" for none."""
        return replace(self, token=token)


def exchange(port: int, request: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(request)
        received = bytearray()
        while block := connection.recv(1 << 20):
            received += block
    return bytes(received)


def parsed(answer: bytes) -> Answer:
    """An answer as it came over the wire; there must be one and no more."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3}) [ -~]*", first)
    assert match, answer[:200]
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    length = next((value for name, value in headers if name == "Content-Length"), None)
    if length is not None and body:
        assert int(length) == len(body)
    return Answer(int(match[1]), headers, body)


@contextmanager
def running(surroundings: Path, *, source: str = "notebooks", build: bool = True, **overrides: Any) -> Iterator[Shim]:
    """run-shim for a source folder, ready, with its renderer at work; overrides are written `site__base_url`."""
    folder = surroundings / source
    # One notebook to render, so that the renderer is started here and not inside the first test that needs it.
    write(folder, "first.ipynb", page_of("# First"))
    # Only tests of kernels have some: their server takes a while to start. The same goes for instances.
    settings = {"build__jobs": 1, "kernels__enabled": False, "instances__backend": "off", **overrides}
    config = load_config(folder, None, {}, {name.replace("__", "."): value for name, value in settings.items()})
    metrics = Metrics()
    said: list[str] = []
    builder = BackgroundBuilder(config, lambda report: None, said.append) if build else Finished(config)
    with ExitStack() as stack:
        state = stack.enter_context(closing(State(config.state_dir))) if wants_state(config) else None
        parts = parts_of(config, builder, metrics, state)
        limit = body_limit(parts.tokens, (config.server.max_upload_mb << 20) + FRAMING)
        app = create_app(parts)
        server = Server(app, "127.0.0.1", 0, limit)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            with ExitStack() as parts_at_work:
                if isinstance(builder, BackgroundBuilder):
                    parts.library.tidy()
                    parts_at_work.enter_context(builder)
                    assert builder.ready.wait(120), said
                if not isinstance(parts.offer, str):
                    parts_at_work.enter_context(parts.offer)
                if parts.live:
                    parts_at_work.enter_context(parts.live)
                yield Shim(surroundings, config, app, server, config.auth.api_token, live=parts.live)
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive()


def until(condition: Any) -> None:
    """Wait for what the watched folder brings about by itself."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
