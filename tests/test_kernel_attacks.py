"""Attacks on live kernels from all sides, and everything that their gateway got meanwhile.

Each test does what once worked against some server of this kind. Whatever the gateway records, in any test, must be of
the few forms that `_is_ours` and `_is_harmless` know: so an attack need not only be answered with the right status.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import gateways
import pytest
from argon2 import PasswordHasher
from dashboards import BOUNDARY, Answer, Part, Shim, exchange, form, parsed, running, until
from gateways import V1, Client, Gateway, Handshake, Payload, Request, Socket, recording, request
from making import code, markdown, notebook, write
from wsproto.events import Ping

from shim.kernels import connection as connection_module
from shim.kernels import gateway as gateway_module
from shim.kernels import handshake as handshake_module
from shim.kernels import keeper, rest, table
from shim.logs import JsonLines

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("lovelace")
TOKEN = "token-of-the-gateway"
AUTHOR = "token-of-the-author"
SOURCE = "source_of_the_author"
"""Stands in every cell, and in what a kernel says of cells: no client may ever read it."""
CELLS = {"x": f"print('x')  # {SOURCE}", "other": f"print('other')  # {SOURCE}", "new": f"print('new')  # {SOURCE}"}
EVIL = "__import__('os').system('evil')"
"""Stands in everything that attackers send: no gateway may ever read it."""
START = b'{"env": {}, "name": "python3"}'

_NUMBERS = count()


# What a gateway may get


def _is_ours(one: Request) -> bool:
    """Whether a request is one of those that are made for kernels of pages, with nothing of a client in it."""
    forms = {
        "GET": (r"/api/kernelspecs|/api/kernels(/[0-9-]{36})?", b""),
        "DELETE": (r"/api/kernels/[0-9-]{36}", b""),
        "POST": (r"/api/kernels/[0-9-]{36}/(interrupt|restart)", b"{}"),
    }
    names = {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization"}
    if one.headers.get("authorization") != f"token {TOKEN}" or b"evil" in one.head:
        return False
    if "upgrade" in one.headers:
        names = {"host", "connection", "upgrade", "authorization"}
        names |= {f"sec-websocket-{name}" for name in ("key", "version", "protocol")}
        session = one.query.pop("session_id", [""])
        if len(session) != 1 or not re.fullmatch("[0-9a-f]{32}", session[0]) or one.query:
            return False
        one.query["session_id"] = session
        sub_protocol = one.headers.get("sec-websocket-protocol", V1)
        found = re.fullmatch(r"/api/kernels/[0-9-]{36}/channels", one.path)
        return bool(found) and sub_protocol == V1 and set(one.headers) <= names and not one.body
    if one.method != "GET":
        names |= {"content-type", "content-length"}
    if one.query or not set(one.headers) <= names:
        return False
    if one.method == "POST" and one.path == "/api/kernels":
        return one.body == START
    path, body = forms.get(one.method, ("", b""))
    return re.fullmatch(path, one.path) is not None and one.body == body


def _is_harmless(message: Message) -> bool:
    """Whether a message runs a cell as it stands in a notebook, or is one of those that run nothing."""
    content = message.content
    if message.metadata or (message.buffers and not message.kind.startswith("comm_")):
        return False
    match message.channel, message.kind:
        case "shell", "execute_request":
            fixed = {"silent": False, "store_history": False, "user_expressions": {}, "stop_on_error": True}
            asked = {"code": content.get("code"), "allow_stdin": content.get("allow_stdin")}
            known = content.get("code") in CELLS.values() and isinstance(content.get("allow_stdin"), bool)
            return known and content == {**fixed, **asked} and not message.parent
        case ("shell" | "control", "kernel_info_request") | ("control", "interrupt_request"):
            return not content and not message.parent
        case "stdin", "input_reply":
            return content == {"value": "Ada"} and message.parent["msg_id"] == "question"
        case "shell", "comm_msg":
            return set(content) == {"comm_id", "data"} and not message.parent
    return False


@dataclass(frozen=True)
class Message:
    """A message as somebody on the wire reads it who does not use our parser."""

    channel: str
    header: Mapping[str, Any]
    parent: Mapping[str, Any]
    metadata: Mapping[str, Any]
    content: Mapping[str, Any]
    buffers: tuple[bytes, ...] = ()

    @property
    def kind(self) -> str:
        kind: str = self.header["msg_type"]
        return kind


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def _cut(payload: bytes, number: str) -> list[bytes]:
    """The parts behind a table of offsets; the table must be of the one canonical form."""
    size = struct.calcsize(number)
    (entries,) = struct.unpack_from(number, payload)
    offsets = [struct.unpack_from(number, payload, size * (1 + at))[0] for at in range(entries)]
    if number == "<Q":
        assert offsets[-1] == len(payload)
    else:
        offsets.append(len(payload))
    assert offsets == sorted(offsets) and offsets[0] == size * (entries + 1)
    return [payload[start:end] for start, end in zip(offsets, offsets[1:], strict=False)]


@dataclass(frozen=True)
class Wire:
    """One of the two framings, written by hand."""

    v1: bool

    def read(self, payload: Payload) -> Message:
        """A message that must be well formed."""

        def load(text: Payload) -> Any:
            return json.loads(text, object_pairs_hook=_unambiguous)

        if self.v1:
            assert isinstance(payload, bytes)
            channel, *parts = _cut(payload, "<Q")
            header, parent, metadata, content = map(load, parts[:4])
            return Message(channel.decode(), header, parent, metadata, content, tuple(parts[4:]))
        first, *buffers = _cut(payload, ">I") if isinstance(payload, bytes) else [payload]
        whole = load(first)
        names = ("channel", "header", "parent_header", "metadata", "content")
        return Message(*(whole[name] for name in names), tuple(buffers))

    def join(self, *parts: str | bytes) -> bytes:
        """Parts with the table of framing v1 before them."""
        data = [part.encode() if isinstance(part, str) else part for part in parts]
        ends = [8 * (len(data) + 2)]
        for part in data:
            ends.append(ends[-1] + len(part))
        return struct.pack(f"<{len(ends) + 1}Q", len(ends), *ends) + b"".join(data)

    def made(
        self,
        kind: str,
        content: Mapping[str, Any] | str,
        channel: str = "shell",
        *,
        header: Mapping[str, Any] | str = "",
        parent: Mapping[str, Any] | str = "{}",
        metadata: Mapping[str, Any] | str = "{}",
        buffers: tuple[bytes, ...] = (),
    ) -> Payload:
        """A message; parts that are texts go into it as they are, right or wrong."""
        name = f"message-{next(_NUMBERS)}"
        header = header or {
            "msg_id": name,
            "msg_type": kind,
            "session": "s",
            "username": "u",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, parent, metadata, content)]
        if self.v1:
            return self.join(channel, *texts, *buffers)
        names = ("header", "parent_header", "metadata", "content")
        fields = ",".join(f'"{name}":{text}' for name, text in zip(names, texts, strict=True))
        whole = f'{{"channel":"{channel}",{fields}}}'
        if not buffers:
            return whole
        ends = [4 * (len(buffers) + 2)]
        for part in (whole.encode(), *buffers):
            ends.append(ends[-1] + len(part))
        return struct.pack(f">{len(ends)}I", len(ends) - 1, *ends[:-1]) + whole.encode() + b"".join(buffers)

    def run(self, cell: object, **more: Any) -> Payload:
        """A request to run something."""
        return self.made("execute_request", {"code": cell, **more})


# The site


@dataclass(frozen=True)
class Site:
    """A running server, and the headers of those who may read it."""

    shim: Shim
    gateway: Gateway
    prefix: str = ""
    readers: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def reader(self) -> dict[str, str]:
        return self.readers.get("ada", {})

    def ask(self, path: str, fields: Any = None, method: str = "POST", **headers: str | None) -> Answer:
        """A request of a reader, unless the headers are of somebody else."""
        body = fields if isinstance(fields, bytes) else b"" if fields is None else json.dumps(fields).encode()
        sent = {**self.reader, "content_type": "text/plain;charset=UTF-8", **headers}
        return self.shim(f"{self.prefix}{path}", method, body, **sent)

    def start(self, page: str = "x", **headers: str) -> str:
        answer = self.ask("/api/kernels", {"path": f"/dashboards/{page}/"}, **headers)
        assert answer.status == 201, answer.text
        kernel: str = answer.json()["id"]
        return kernel

    def channels(self, kernel: str, query: str = "?session_id=visit") -> str:
        return f"{self.prefix}/api/kernels/{kernel}/channels{query}"

    def lines(self, **headers: str | None) -> list[str]:
        """Headers for a handshake."""
        sent = {**self.reader, **headers}
        return [f"{name.replace('_', '-').title()}: {value}" for name, value in sent.items() if value is not None]

    @contextmanager
    def dialled(self, target: str, protocol: str = V1, **headers: str | None) -> Iterator[Client]:
        """A client that has asked for a WebSocket and read the answer."""
        port = self.shim.server.port
        with gateways.connected(port, target, *self.lines(**headers), protocol=protocol) as client:
            yield client

    @contextmanager
    def talking(self, kernel: str, protocol: str = V1, query: str = "?session_id=visit") -> Iterator[Talk]:
        """A client and the gateway's end of its WebSocket."""
        before = len(self.gateway.sockets)
        with self.dialled(self.channels(kernel, query), protocol) as client:
            assert client.status == 101, client.answer
            yield Talk(self.gateway, client, self.gateway.socket(before), Wire(protocol == V1))

    def upload(self, page: str, source: str) -> None:
        """Replace a page, as its author does."""
        content = json.dumps(notebook(markdown("# Page"), code(source))).encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        body = form(Part("file", content, "some.ipynb"))
        answer = self.ask(
            f"/_api/notebooks/{page}", body, content_type=kind, authorization=f"token {AUTHOR}", cookie=None
        )
        assert answer.status == 201, answer.text

    def version(self, page: str) -> str:
        found = re.search(r'data-version="([0-9a-f]{16})"', self.ask(f"/dashboards/{page}/", None, "GET").text)
        assert found
        return found[1]



@dataclass
class Talk:
    """A WebSocket from both ends."""

    gateway: Gateway
    client: Client
    socket: Socket
    wire: Wire
    seen: int = 0

    def passed(self) -> list[Message]:
        """What the gateway got since the last call. Order is kept, so a harmless message shows when that is all."""
        name = f"end-{next(_NUMBERS)}"
        header = {"msg_id": name, "msg_type": "kernel_info_request"}
        self.client.send(self.wire.made("kernel_info_request", "{}", header=header))
        self.gateway.wait(lambda: self.socket.ended or name in str(self.socket.messages[self.seen :]))
        assert not self.socket.ended, self.client.wait_closed()
        *found, last = [self.wire.read(payload) for payload in self.socket.messages[self.seen :]]
        assert last.header["msg_id"] == name
        self.seen += len(found) + 1
        return found

    def attack(self, *payloads: Payload) -> list[Message]:
        """What gets through of some messages."""
        self.client.send(*payloads)
        return self.passed()

    def say(self, *payloads: Payload) -> list[Payload]:
        """What a client gets when the kernel says this."""
        self.socket.send(*payloads, self.wire.made("stream", {"name": "stdout", "text": "the end"}, "iopub"))
        heard: list[Payload] = []
        while (payload := self.client.receive()) is not None:
            if "the end" in str(payload):
                return heard
            heard.append(payload)
        raise AssertionError(self.client.closed)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with recording() as running_gateway:
        running_gateway.token = TOKEN
        yield running_gateway


@contextmanager
def serving(folder: Path, gateway: Gateway, **settings: Any) -> Iterator[Shim]:
    """A server whose kernels are at that gateway, which is asked how it is at the start and never again."""
    for page in ("x", "other", "replaced"):
        write(folder / "notebooks", f"{page}.ipynb", notebook(markdown("# Page"), code(CELLS.get(page, CELLS["x"]))))
    write(folder / "notebooks", "off.ipynb", notebook(code(CELLS["x"]), nbfolio={"live": "off"}))
    write(folder / "notebooks", "draft.ipynb", notebook(code(CELLS["x"]), nbfolio={"draft": True}))
    at = {"name": "main", "url": gateway.url, "token": TOKEN}
    given = {"kernels__enabled": True, "kernels__gateway": [at], "auth__api_token": AUTHOR, **settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "PROBE_SECONDS", 3600.0)
        with running(folder, **given) as shim:
            yield shim.as_("")


@pytest.fixture(scope="module", params=["open", "login"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Site]:
    """A site open to all behind a proxy that strips its prefix, and one below a prefix where people log in."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "open":
        with serving(folder, gateway, site__base_url="[/sub]", kernels__max_per_address=4) as shim:
            yield Site(shim, gateway)
        return
    settings = {
        "site__base_url": "/db",
        "auth__user": [{"name": name, "password_hash": HASH} for name in ("ada", "bob")],
        "auth__token": [
            {"name": "ci", "value": "publisher-token", "scopes": ["publish"], "owner": "team"},
            {"name": "cache", "value": "cleaner-token", "scopes": ["cache"]},
        ],
        "kernels__max_per_address": 4,
    }
    with serving(folder, gateway, **settings) as shim:
        yield Site(shim, gateway, "/db", {name: log_in(shim, name) for name in ("ada", "bob")})


def log_in(shim: Shim, name: str) -> dict[str, str]:
    """The headers of somebody who has logged in."""
    body = json.dumps({"username": name, "password": "lovelace"}).encode()
    answer = shim("/db/login", "POST", body, content_type="application/json")
    cookies = [value.partition(";")[0] for key, value in answer.headers if key.lower() == "set-cookie"]
    assert answer.status == 200 and cookies
    return {"cookie": "; ".join(cookies)}


@pytest.fixture(params=[V1, ""], ids=["v1", "default"])
def framing(request: pytest.FixtureRequest) -> str:
    """What a client offers as sub-protocol."""
    offered: str = request.param
    return offered


@pytest.fixture
def kernel(site: Site) -> Iterator[str]:
    """A reader's kernel of the page x."""
    one = site.start()
    yield one
    site.ask(f"/api/kernels/{one}", None, "DELETE")


@pytest.fixture
def talk(site: Site, kernel: str, framing: str) -> Iterator[Talk]:
    with site.talking(kernel, framing) as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_else_got_through(gateway: Gateway) -> Iterator[None]:
    """After every test all that the gateway got meanwhile is looked at, and the gateway is as ever."""
    requests, sockets = len(gateway.requests), len(gateway.sockets)
    yield
    gateway.handshake, gateway.headers, gateway.answer, gateway.on_message = Handshake(), "", None, None
    gateway.replies.clear()
    assert [one for one in gateway.requests[requests:] if not _is_ours(one)] == []
    assert gateway.stray == b""
    for opened in gateway.sockets[sockets:]:
        wire = Wire(opened.protocol == V1)
        assert [one for one in map(wire.read, opened.messages) if not _is_harmless(one)] == []
        assert b"evil" not in opened.received


def asked(gateway: Gateway, before: int) -> list[tuple[str, str]]:
    """What the gateway was asked since, without the questions how it is."""
    questions = [("GET", "/api/kernelspecs"), ("GET", "/api/kernels")]
    return [made for one in gateway.requests[before:] if (made := (one.method, one.path)) not in questions]


# Who may open a WebSocket


def test_only_its_owner_opens_the_websocket_of_a_kernel(site: Site, kernel: str, framing: str) -> None:
    # S1
    if not site.readers:
        strangers: list[dict[str, str | None]] = [{}]
        ids = [*site.gateway.kernels, "0" * 36, kernel.upper(), f"{kernel}x", kernel[:-1], "*", "..", "%2e%2e"]
        expected = {403, 404}
    else:
        gone = log_in(site.shim, "ada")
        assert site.ask("/logout", **gone).status in (200, 204, 302)
        strangers = [{"cookie": None}, {"cookie": "session=garbage"}, {**gone}, {**site.readers["bob"]}]
        strangers += [{"cookie": None, "authorization": f"token {word}"} for word in ("cleaner-token", TOKEN, "")]
        strangers += [{"cookie": None, "authorization": "Basic YWRhOmxvdmVsYWNl"}, {"cookie": None, "user": "ada"}]
        strangers += [{"cookie": None, "authorization": "token publisher-token"}]
        ids, expected = [kernel], {401, 404}
    before = len(site.gateway.requests)
    for headers in strangers:
        for one in ids:
            for query in ("?session_id=visit", "", f"?token={TOKEN}", "?token=cleaner-token", f"?x=/kernels/{kernel}"):
                with site.dialled(site.channels(one, query), framing, **headers) as client:
                    assert client.status in expected, (headers, one, client.answer)
    assert asked(site.gateway, before) == []


FOREIGN = [
    {"origin": origin}
    for origin in (
        "http://evil.example", "https://evil.example", "null", "http://localhost:1", "http://localhost:8888",
        "http://localhost.evil.example", "http://evil.example#localhost", "http://evil@localhost", "file://",
        "http://127.0.0.1", "http://localhost, http://evil.example", "chrome-extension://localhost", "localhost",
        "http://localhost/", "http://[::1]", "x" * 500,
    )
] + [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "Same-Origin"},
    {"origin": "http://localhost", "sec_fetch_site": "cross-site"},
    {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
    {"origin": "http://evil.example", "x_forwarded_host": "evil.example"},
    {"origin": "http://evil.example", "forwarded": "host=evil.example"},
]  # fmt: skip


def test_pages_of_other_sites_reach_nothing(site: Site, kernel: str) -> None:
    # S2
    before = len(site.gateway.requests)
    calls = [("POST", "/api/kernels"), ("POST", "/api/sessions")]
    calls += [("POST", f"/api/kernels/{kernel}/{action}") for action in ("interrupt", "restart")]
    calls += [("DELETE", f"/api/kernels/{kernel}")]
    for headers in FOREIGN:
        with site.dialled(site.channels(kernel), **headers) as client:
            assert client.status == 403, headers
        for method, path in calls:
            assert site.ask(path, {"path": "/x"}, method, **headers).status == 403, (headers, path)
    with site.dialled(site.channels(kernel), host="evil.example", origin="http://evil.example") as client:
        assert client.status == 400
    assert asked(site.gateway, before) == []
    for headers in ({"origin": "http://localhost"}, {"sec_fetch_site": "same-origin"}):
        with site.dialled(site.channels(kernel), **headers) as client:
            assert client.status == 101


def masked(opcode: int, payload: bytes, first: int = 0x80) -> bytes:
    """A frame of a client, with a mask that changes nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size)
    return bytes([first | opcode]) + (length if size < 65536 else struct.pack("!BQ", 0xFF, size)) + bytes(4) + payload


def opcode_of(payload: Payload) -> int:
    return 1 if isinstance(payload, str) else 2


def framed(payload: Payload) -> bytes:
    return masked(opcode_of(payload), payload.encode() if isinstance(payload, str) else payload)


def test_frames_before_the_answer_reach_nobody(
    site: Site, kernel: str, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3
    frame = framed(Wire(framing == V1).run(EVIL))
    good = framed(Wire(framing == V1).run("1"))
    shake = request(site.channels(kernel), *site.lines(), protocol=framing)
    before = len(site.gateway.requests)
    for early in (frame, good, frame[:1], b"POST /evil HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", site.shim.server.port), timeout=60) as connection:
            assert Client(connection).shake_hands(shake + early).status == 400
    assert asked(site.gateway, before) == []
    site.gateway.handshake = Handshake(hangs=True)
    for early in (frame, good):
        before = len(site.gateway.requests)
        with socket.create_connection(("127.0.0.1", site.shim.server.port), timeout=60) as connection:
            connection.sendall(shake)
            site.gateway.wait(lambda before=before: asked(site.gateway, before))
            connection.sendall(early)
            assert b"101" not in Client(connection).read_answer().answer
    # Only now both sides have come to rest, so what was sent on would have arrived.
    until(lambda: site.ask(f"/api/kernels/{kernel}", None, "GET").json()["connections"] == 0)


# What clients send


def escaped(text: str) -> str:
    """Every character written as an escape of JSON."""
    return "".join(f"\\u{ord(character):04x}" for character in text)


def head(kind: str, before: str = "") -> str:
    return f'{{{before}"msg_id":"m","msg_type":"{kind}","session":"s","username":"u","date":"","version":"5.3"}}'


def other_framing(wire: Wire) -> list[Payload]:
    """S4: binary where text is usual, and the other way round, and tables that can be read in two ways."""
    evil = json.dumps({"code": EVIL})
    header = head("execute_request")
    whole = Wire(False).run(EVIL)
    assert isinstance(whole, str)
    text = whole.encode()
    one = struct.pack(">II", 1, 8) + text
    parts = [b"shell", header.encode(), b"{}", b"{}", evil.encode()]
    sizes = [len(part) for part in parts]
    ends = [8 * 7 + sum(sizes[:at]) for at in range(6)]
    hostile = [ends[:-1] + [ends[-1] + 1000], ends[::-1], [ends[0]] * 6, ends[:2] + [2**63] * 4, [0] * 6]
    return [
        Wire(not wire.v1).run(EVIL), whole, text, one, wire.join("shell", header, "{}", "{}", evil),
        *(struct.pack("<7Q", 6, *offsets) + b"".join(parts) for offsets in hostile),
        *(struct.pack("<Q", entries) + b"evil" * 100 for entries in (0, 1, 5, 2**63, 2**64 - 1)),
        *(struct.pack(">I", entries) + text for entries in (0, 1, 2, 2**31, 2**32 - 1)),
        struct.pack(">III", 2, 12, 0) + text, struct.pack(">II", 1, 0) + text, struct.pack(">II", 1, 2**32 - 1) + text,
        b"", "", b"\0" * 64, "evil", text[:-1], one[:-1],
    ]  # fmt: skip


def written_otherwise(wire: Wire) -> list[Payload]:
    """S5: names and values behind escapes, twice in one object, or in no proper JSON."""
    name = escaped("execute_request")
    code_key, value = escaped("code"), escaped(EVIL)
    kinds = ["execute\\u005frequest", name, "execute_request\\u0000", " execute_request", "EXECUTE_REQUEST", ""]
    contents = [
        f'{{"code":"1","code":"{EVIL}"}}', f'{{"code":"{EVIL}","code":"1"}}', f'{{"code":"1","{code_key}":"{EVIL}"}}',
        f'{{"{code_key}":"{value}"}}', f'{{"code":"1","x":NaN,"code":"{EVIL}"}}', f'{{"code":["{EVIL}"]}}',
        f'{{"code":"1\\n{EVIL}"}}', f'{{"code":"{EVIL}","x":"\\ud800"}}', f'{{"code":"1"}}{{"code":"{EVIL}"}}',
        f'{{"code":"1","x":{"[" * 5000}{"]" * 5000},"y":"{EVIL}"}}', f'["{EVIL}"]', f'"{EVIL}"', f'{{"code":{{"x":"{EVIL}"}}}}',
        "{\"code\":\"1\",}", "{'code':'1'}", "{\"code\":1e0}", "{\"code\":01}", "null", "", "\ufeff{\"code\":\"1\"}",
    ]  # fmt: skip
    codes = ["-1", "+1", " 1", "1 ", "01", "0x1", "1.0", "1e0", "\u0661", "\uff11", "\u00b9", "1;evil", "9" * 9, "9" * 100_000, EVIL]
    codes += ["0", "3", "1\x00", True, None, -1, 10**30, 1.0, [], ["1"], {"1": 1}, ""]  # type: ignore[list-item]
    doubled = [head("comm_msg", '"msg_type":"execute_request",'), head("execute_request", '"msg_type":"comm_msg",')]
    twice = [
        f'{{"channel":"iopub","channel":"shell","header":{head("execute_request")},"content":{{"code":"{EVIL}"}}}}',
        f'{{"channel":"shell","header":{head("execute_request")},"content":{{"code":"1"}},"content":{{"code":"{EVIL}"}}}}',
    ]
    return [
        *(wire.made("", {"code": EVIL}, header=head(kind)) for kind in kinds),
        *(wire.made("", text, header=head("execute_request")) for text in contents),
        *(wire.run(each) for each in codes),
        *(wire.made("", {"code": "1"}, header=text) for text in doubled),
        *([] if wire.v1 else twice),
        wire.made("execute_request", {}), wire.made("execute_request", {"index": 1, "cell": 1, "source": EVIL}),
        wire.made("execute_request", {"code": "1"}, escaped("shell")), wire.made("x", {"code": EVIL}, header="[]"),
    ]  # fmt: skip


def other_types(wire: Wire) -> list[Payload]:
    """S7: all that a kernel can be asked beside running a cell, also where it does not belong."""
    content = {"code": EVIL, "value": EVIL, "cursor_pos": 1, "detail_level": 1, "hist_access_type": "range", "raw": True}
    content |= {"output": True, "command": "evaluate", "arguments": {"expression": EVIL}, "restart": False, "session": 0}
    shell = "inspect complete is_complete history shutdown interrupt debug create_subshell delete_subshell list_subshell apply usage"
    control = "execute inspect history shutdown debug create_subshell delete_subshell list_subshell comm_info complete"
    asked = [*((word, "shell") for word in shell.split()), *((word, "control") for word in control.split())]
    asked += [(word, place) for word in ("execute", "kernel_info", "shutdown") for place in ("iopub", "stdin", "hb", "Shell", "")]
    return [
        *(wire.made(f"{word}_request", content, place) for word, place in asked),
        *(wire.made(word, content, "shell") for word in ("execute_reply", "input_reply", "stream", "status", "evil", "")),
        *(wire.made(word, content, "control") for word in ("input_reply", "comm_msg", "debug_event")),
        *(wire.made(word, content, "iopub") for word in ("execute_input", "comm_msg", "comm_open", "stream", "status")),
        wire.made("input_reply", content, "stdin"),
        wire.made("input_reply", content, "stdin", parent={"msg_id": "question"}),
        wire.made("input_reply", {"value": ["evil"]}, "stdin"),
        wire.made("comm_msg", {"comm_id": ["evil"], "data": {}}), wire.made("comm_open", {"comm_id": "evil", "data": {}}),
        *([] if wire.v1 else [json.dumps({"header": {"msg_id": "m", "msg_type": "execute_request"}, "content": content})]),
    ]  # fmt: skip


@pytest.mark.parametrize("attacks", [other_framing, written_otherwise, other_types])
def test_nothing_but_cells_by_their_numbers_gets_through(talk: Talk, attacks: Callable[[Wire], list[Payload]]) -> None:
    # S4, S5, S7
    assert talk.attack(*attacks(talk.wire)) == []
    # They cost their sender nothing but an answer.
    assert [one.content["code"] for one in talk.attack(talk.wire.run("1"))] == [CELLS["x"]]


def test_what_comes_with_the_number_of_a_cell_is_left_out(talk: Talk) -> None:
    # S6
    wire = talk.wire
    more = {"user_expressions": {"x": EVIL}, "silent": True, "store_history": True, "allow_stdin": "evil", "x": EVIL}
    parts: dict[str, Any] = {"parent": {"msg_id": EVIL}, "metadata": {"cellId": EVIL}, "buffers": (EVIL.encode(),)}
    header = {"msg_id": "m", "msg_type": "execute_request", "session": "other", "subshell_id": EVIL, "evil": EVIL}
    sent = [wire.made("execute_request", {"code": code, **more}, header=header, **parts) for code in ("1", 1)]
    run = {"code": CELLS["x"], "silent": False, "store_history": False, "user_expressions": {}, "stop_on_error": True}
    found = talk.attack(*sent)
    assert [one.content for one in found] == [{**run, "allow_stdin": False}] * 2
    assert set(found[0].header) == {"msg_id", "msg_type", "session", "username", "date", "version"}
    for kind, channel in (("kernel_info_request", "shell"), ("interrupt_request", "control")):
        (one,) = talk.attack(wire.made(kind, {"x": EVIL}, channel, **parts))
        assert (one.content, one.metadata, one.parent, one.buffers) == ({}, {}, {}, ())


def test_input_is_taken_once_and_only_when_the_kernel_asks(site: Site, talk: Talk, kernel: str, framing: str) -> None:
    # S7
    wire = talk.wire
    question = {"msg_id": "question", "msg_type": "input_request", "session": "k"}
    answer = wire.made("input_reply", {"value": "Ada", "evil": EVIL}, "stdin", parent={"msg_id": "question", "x": EVIL})
    assert talk.attack(answer) == []
    assert len(talk.say(wire.made("", {"prompt": "?", "password": False}, "stdin", header=question))) > 0
    with site.talking(kernel, framing, "?session_id=second") as second:
        assert second.attack(answer) == []
    (one,) = talk.attack(answer, answer)
    assert (one.channel, one.content, one.parent) == ("stdin", {"value": "Ada"}, question)


def test_words_in_what_is_said_stop_nothing(talk: Talk) -> None:
    # S28
    wire = talk.wire
    words = "execute_request execute_input inspect_request traceback \"msg_type\": \"execute_request\""
    data = {"method": "update", "state": {words: words}}
    sent = wire.made("comm_msg", {"comm_id": "c", "data": data}, buffers=(words.encode(), b""))
    (one,) = talk.attack(sent)
    assert (one.content["data"], one.buffers) == (data, (words.encode(), b""))
    said = [
        wire.made("stream", {"name": "stdout", "text": words}, "iopub"),
        wire.made("comm_msg", {"comm_id": "c", "data": data}, "iopub"),
        wire.made("display_data", {"data": {"text/plain": words}, "metadata": {}, "transient": {}}, "iopub"),
    ]
    heard = [message for message in map(wire.read, talk.say(*said)) if message.kind != "status"]
    assert [message.content for message in heard] == [wire.read(one).content for one in said]


def test_a_message_is_judged_whole_however_it_arrives(talk: Talk) -> None:
    wire = talk.wire
    evil = wire.run(EVIL)
    data = evil.encode() if isinstance(evil, str) else evil
    opcode = opcode_of(evil)
    talk.client.send_raw(masked(opcode, b"", 0) + b"".join(masked(0, bytes([one]), 0) for one in data) + masked(0, b""))
    for byte in framed(evil):
        talk.client.send_raw(bytes([byte]))
    # A ping may stand between the parts of a message, and belongs to neither end's business.
    third = len(data) // 3
    talk.client.send_raw(masked(opcode, data[:third], 0))
    talk.client.send_event(Ping(b"evil"))
    talk.client.send_raw(masked(0, data[third:]))
    assert talk.passed() == []


BROKEN = {
    "no mask": (b"\x81\x04evil", 1002),
    "a reserved bit": (masked(1, b"evil", 0xC0), 1002),
    "an unknown opcode": (masked(3, b"evil"), 1002),
    "text that is no UTF-8": (masked(1, b"evil\xff"), 1007),
    "a long ping": (masked(9, b"evil" * 50), 1002),
    "a ping in parts": (masked(9, b"evil", 0), 1002),
    "a part of nothing": (masked(0, b"evil"), 1002),
    "a message inside another": (masked(1, b"evil", 0) + masked(1, b"evil"), 1002),
    "a close of one byte": (masked(8, b"e"), 1002),
    "a close with a wrong code": (masked(8, struct.pack("!H", 1005) + b"evil"), 1002),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_websocket_ends_it(talk: Talk, how: str) -> None:
    data, code = BROKEN[how]
    talk.client.send_raw(data + framed(talk.wire.run(EVIL)) + framed(talk.wire.run("1")))
    assert talk.client.wait_closed() == code
    talk.gateway.wait(lambda: talk.socket.ended)
    assert talk.socket.messages == []


def test_too_much_ends_it(site: Site, kernel: str, framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # S28
    monkeypatch.setattr(connection_module, "MOST_UP", 1 << 16)
    wire = Wire(framing == V1)
    large = wire.made("comm_msg", {"comm_id": "c", "data": {"x": "evil" * (1 << 15)}})
    lot = large.encode() if isinstance(large, str) else large
    parts = masked(opcode_of(large), lot[:30_000], 0) + masked(0, lot[30_000:60_000], 0) * 10
    flood = framed(wire.run(EVIL)[:20]) * 2000
    for data, code in ((framed(large), 1009), (parts, 1009), (flood, 1008), (masked(9, b"evil") * 2000, 1008)):
        with site.talking(kernel, framing) as talk:
            talk.client.send_raw(data)
            assert talk.client.wait_closed() == code
            site.gateway.wait(lambda talk=talk: talk.socket.ended)
            assert talk.socket.messages == []


def test_what_follows_a_close_reaches_nobody(talk: Talk) -> None:
    talk.client.send_raw(masked(8, struct.pack("!H", 1000)) + framed(talk.wire.run(EVIL)) + framed(talk.wire.run("1")))
    talk.gateway.wait(lambda: talk.socket.ended)
    assert talk.socket.messages == []


# What clients read


def output_widget(traceback: str) -> str:
    """The state of a widget that shows outputs, one of them an error."""
    error = f'{{"output_type":"error","ename":"E","evalue":"v",{traceback}:["{SOURCE}"]}}'
    data = f'{{"method":"update","state":{{"outputs":[{error}]}}}}'
    return f'{{"comm_id":"c","target_name":"jupyter.widget","data":{data}}}'


def spoken(wire: Wire) -> list[Payload]:
    """S32: everything in which a kernel repeats what a cell is."""
    failed = {"status": "error", "ename": "E", "evalue": "v", "traceback": [f"----> 1 {SOURCE}"]}
    payload = [{"source": "set_next_input", "text": SOURCE}, {"source": "page", "data": {"text/plain": SOURCE}}]
    found = {"status": "ok", "found": True, "data": {"text/plain": SOURCE}, "history": [[0, 1, SOURCE]], "matches": [SOURCE]}
    done = {"status": "ok", "execution_count": 1, "payload": payload, "user_expressions": {"x": found}, "x": SOURCE}
    replies = "history inspect complete is_complete debug shutdown create_subshell list_subshell comm input apply".split()
    behind = {"metadata": {"x": SOURCE}, "buffers": (SOURCE.encode(),)}
    twice = f'{{"code":"","execution_count":1,"code":"{SOURCE}"}}'
    return [
        wire.made("execute_input", {"code": SOURCE, "execution_count": 1}, "iopub", **behind),
        wire.made("", twice, "iopub", header=head("execute_input")),
        wire.made("", {"code": SOURCE}, "iopub", header=head("execute_input", '"msg_type":"stream",')),
        wire.made("", {"code": SOURCE, "execution_count": 1}, "iopub", header=head(escaped("execute_input"))),
        wire.made("error", failed, "iopub", **behind), wire.made("execute_reply", {**failed, **done}, **behind),
        wire.made("execute_reply", {**done, **failed}, **behind), wire.made("execute_reply", done, parent={"x": SOURCE}),
        *(wire.made(f"{word}_reply", {**found, **failed}, place) for word in replies for place in ("shell", "control")),
        *(wire.made("execute_reply", done, place) for place in ("iopub", "control", "stdin", "", "hb")),
        *(wire.made("execute_input", {"code": SOURCE}, place) for place in ("shell", "control", "stdin")),
        *(wire.made(word, found, "iopub") for word in ("debug_event", "pyin", "pyout", "pyerr", "iopub_welcome", "evil")),
        *(wire.made(word, output_widget(key), "iopub") for word in ("comm_msg", "comm_open")
          for key in ('"traceback"', '"tr\\u0061ceback"', f'"{escaped("traceback")}"')),
        wire.join("iopub", head("execute_input"), "{}", "{}", SOURCE), SOURCE, SOURCE.encode(),
        Wire(not wire.v1).made("execute_input", {"code": SOURCE}, "iopub"),
        struct.pack(">II", 1, 2**31) + SOURCE.encode(), struct.pack("<QQ", 2**62, 0) + SOURCE.encode(),
    ]  # fmt: skip


def test_what_kernels_say_of_the_source_stays_there(site: Site, talk: Talk) -> None:
    # S32
    heard = talk.say(*spoken(talk.wire))
    messages = [talk.wire.read(payload) for payload in heard]
    for payload, message in zip(heard, messages, strict=True):
        raw = payload.encode() if isinstance(payload, str) else payload
        assert SOURCE.encode() not in raw and SOURCE not in str(message), message
    # Readers hear of them all the same, in so many words.
    inputs = [one.content for one in messages if one.kind == "execute_input"]
    assert inputs and all(content["code"] == "" for content in inputs)
    assert [one.content["traceback"] for one in messages if one.kind == "error"] == [[]]
    replies = [one for one in messages if one.kind == "execute_reply"]
    assert [set(one.content) for one in replies if one.content["status"] == "ok"] == [{"status", "execution_count"}] * 2
    assert {one.channel for one in replies} == {"shell"}
    assert [one.kind for one in messages].count("comm_msg") == 3
    talk.socket.close(1001, f"Traceback: {SOURCE}")
    while (event := talk.client.event()) is not None:
        assert SOURCE not in str(event)


def test_what_comes_with_the_gateways_answer_is_judged_too(site: Site, kernel: str, framing: str) -> None:
    # S32, S33
    wire = Wire(framing == V1)
    said = wire.made("execute_input", {"code": SOURCE, "execution_count": 1}, "iopub")
    data = said.encode() if isinstance(said, str) else said
    frame = struct.pack("!BBH", 0x80 | opcode_of(said), 126, len(data)) + data
    lines = f"Set-Cookie: evil=1\r\nServer: Tornado\r\nX-Evil: {SOURCE}\r\nVia: evil\r\n"
    site.gateway.handshake = Handshake(headers=lines, then=frame)
    with site.talking(kernel, framing) as talk:
        (payload,) = talk.say()
        assert wire.read(payload).content == {"code": "", "execution_count": 1}
        names = {line.partition(":")[0].lower() for line in talk.client.answer.decode().split("\r\n")[1:] if line}
    assert names <= {"upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol"}
