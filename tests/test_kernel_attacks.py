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
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import gateways
import pytest
from argon2 import PasswordHasher
from dashboards import BOUNDARY, Answer, Part, Shim, exchange, form, parsed, running, until
from gateways import V1, Client, Gateway, Handshake, Payload, Request, Socket, recording, request
from making import code, markdown, notebook, write
from wsproto.events import CloseConnection, Ping

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
START = rb'\{"kernel_id": "([0-9a-f-]{36})", "env": \{"KERNEL_ID": "\1"\}, "name": "python3"\}'

_NUMBERS = count()


# What a gateway may get


def _is_ours(one: Request) -> bool:
    """Whether a request is one of those that are made for kernels of pages, with nothing of a client in it."""
    forms = {
        "GET": (r"/api/kernelspecs|/api/kernels(/[0-9a-f-]{36})?", b""),
        "DELETE": (r"/api/kernels/[0-9a-f-]{36}", b""),
        "POST": (r"/api/kernels/[0-9a-f-]{36}/(interrupt|restart)", b"{}"),
    }
    names = {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization"}
    if one.headers.get("authorization") != f"token {TOKEN}" or b"evil" in one.head:
        return False
    if "upgrade" in one.headers:
        names = {"host", "connection", "upgrade", "authorization"}
        names |= {f"sec-websocket-{name}" for name in ("key", "version", "protocol")}
        (session,) = one.query.get("session_id", [""])
        if set(one.query) != {"session_id"} or not re.fullmatch("[0-9a-f]{32}", session):
            return False
        sub_protocol = one.headers.get("sec-websocket-protocol", V1)
        found = re.fullmatch(r"/api/kernels/[0-9a-f-]{36}/channels", one.path)
        return bool(found) and sub_protocol == V1 and set(one.headers) <= names and not one.body
    if one.method != "GET":
        names |= {"content-type", "content-length"}
    if one.query or not set(one.headers) <= names:
        return False
    if one.method == "POST" and one.path == "/api/kernels":
        return re.fullmatch(START, one.body) is not None
    path, body = forms.get(one.method, ("", b""))
    return re.fullmatch(path, one.path) is not None and one.body == body


def _is_harmless(message: Message) -> bool:
    """Whether a message runs a cell as it stands in a notebook, or is one of those that run nothing."""
    content = message.content
    if message.metadata or (message.buffers and not message.kind.startswith("comm_")):
        return False
    match message.channel, message.kind:
        case "shell", "execute_request":
            fixed = {"silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": True}
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
    return [payload[start:end] for start, end in pairwise(offsets)]


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
        first, *buffers = _cut(payload, ">I") if isinstance(payload, bytes) else [payload.encode()]
        whole = load(first)
        header, parent, metadata = whole["header"], whole["parent_header"], whole["metadata"]
        return Message(whole["channel"], header, parent, metadata, whole["content"], tuple(buffers))

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

    def end(self) -> None:
        """Wait for the end, before which the gateway must have got nothing."""
        self.gateway.wait(lambda: self.socket.ended)
        assert self.socket.messages == []

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
def _nothing_else_got_through(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[None]:
    """After every test all that the gateway got meanwhile is looked at, and everything is as ever."""
    requests, sockets = len(gateway.requests), len(gateway.sockets)
    yield
    gateway.handshake, gateway.headers, gateway.answer = Handshake(), "", None
    gateway.replies.clear()
    if "site" in request.fixturenames:
        # A test that fails leaves some, for which the next one would fail too.
        live = request.getfixturevalue("site").shim.live
        for left in live.kernels._table.kernels():
            live.kernels._life.end(left.record.id, "The test is over.")
    assert [one for one in gateway.requests[requests:] if not _is_ours(one)] == []
    stray, gateway.stray = gateway.stray, b""
    assert stray == b""
    for opened in gateway.sockets[sockets:]:
        wire = Wire(opened.protocol == V1)
        assert [one for one in map(wire.read, opened.messages) if not _is_harmless(one) or "evil" in str(one)] == []


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
    short = struct.pack("!BH", 0xFE, size & 0xFFFF) if size > 125 else bytes([0x80 | size])
    length = struct.pack("!BQ", 0xFF, size) if size > 0xFFFF else short
    return bytes([first | opcode]) + length + bytes(4) + payload


def opcode_of(payload: Payload) -> int:
    return 1 if isinstance(payload, str) else 2


def framed(payload: Payload) -> bytes:
    return masked(opcode_of(payload), payload.encode() if isinstance(payload, str) else payload)


def test_frames_before_the_answer_reach_nobody(site: Site, kernel: str, framing: str) -> None:
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
            site.gateway.wait(partial(asked, site.gateway, before))
            connection.sendall(early)
            assert Client(connection).read_answer().answer == b""
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
    hostile = [[*ends[:-1], ends[-1] + 1000], ends[::-1], [ends[0]] * 6, ends[:2] + [2**63] * 4, [0] * 6]
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
    codes = [
        "-1",
        "+1",
        " 1",
        "1 ",
        "01",
        "0x1",
        "1.0",
        "1e0",
        "\u0661",
        "\uff11",
        "\u00b9",
        "1;evil",
        "9" * 9,
        "9" * 100_000,
        EVIL,
    ]
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
        wire.made("execute_request", {"code": EVIL}, escaped("shell")), wire.made("x", {"code": EVIL}, header="[]"),
    ]  # fmt: skip


def other_types(wire: Wire) -> list[Payload]:
    """S7: all that a kernel can be asked beside running a cell, also where it does not belong."""
    content = {
        "code": EVIL,
        "value": EVIL,
        "cursor_pos": 1,
        "detail_level": 1,
        "hist_access_type": "range",
        "raw": True,
    }
    content |= {
        "output": True,
        "command": "evaluate",
        "arguments": {"expression": EVIL},
        "restart": False,
        "session": 0,
    }
    shell = "inspect complete is_complete history shutdown interrupt debug create_subshell delete_subshell list_subshell apply usage"
    control = "execute inspect history shutdown debug create_subshell delete_subshell list_subshell comm_info complete"
    asked = [*((word, "shell") for word in shell.split()), *((word, "control") for word in control.split())]
    asked += [
        (word, place)
        for word in ("execute", "kernel_info", "shutdown")
        for place in ("iopub", "stdin", "hb", "Shell", "")
    ]
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
    more = {"user_expressions": {"x": EVIL}, "silent": True, "store_history": False, "allow_stdin": "evil", "x": EVIL}
    parts: dict[str, Any] = {"parent": {"msg_id": EVIL}, "metadata": {"cellId": EVIL}, "buffers": (EVIL.encode(),)}
    header = {"msg_id": "m", "msg_type": "execute_request", "session": "other", "subshell_id": EVIL, "evil": EVIL}
    sent = [wire.made("execute_request", {"code": code, **more}, header=header, **parts) for code in ("1", 1)]
    run = {"code": CELLS["x"], "silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": True}
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
    words = 'execute_request execute_input inspect_request traceback "msg_type": "execute_request"'
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
    talk.end()


def test_too_much_ends_it(site: Site, kernel: str, framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # S28
    monkeypatch.setattr(connection_module, "MOST_UP", 1 << 16)
    wire = Wire(framing == V1)
    large = wire.made("comm_msg", {"comm_id": "c", "data": {"x": "evil" * (1 << 15)}})
    lot = large.encode() if isinstance(large, str) else large
    parts = masked(opcode_of(large), lot[:30_000], 0) + masked(0, lot[30_000:60_000], 0) * 10
    flood = framed(wire.run(EVIL)[:20]) * 2000
    for data, expected in ((framed(large), 1009), (parts, 1009), (flood, 1008), (masked(9, b"evil") * 2000, 1008)):
        with site.talking(kernel, framing) as talk:
            talk.client.send_raw(data)
            assert talk.client.wait_closed() == expected
            talk.end()


def test_what_follows_a_close_reaches_nobody(talk: Talk) -> None:
    talk.client.send_raw(masked(8, struct.pack("!H", 1000)) + framed(talk.wire.run(EVIL)) + framed(talk.wire.run("1")))
    talk.end()


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
    found = {
        "status": "ok",
        "found": True,
        "data": {"text/plain": SOURCE},
        "history": [[0, 1, SOURCE]],
        "matches": [SOURCE],
    }
    done = {"status": "ok", "execution_count": 1, "payload": payload, "user_expressions": {"x": found}, "x": SOURCE}
    replies = (
        "history",
        "inspect",
        "complete",
        "is_complete",
        "debug",
        "shutdown",
        "create_subshell",
        "input",
        "apply",
    )
    behind: dict[str, Any] = {"metadata": {"x": SOURCE}, "buffers": (SOURCE.encode(),)}
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


def test_what_kernels_say_of_the_source_stays_there(talk: Talk) -> None:
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
    event = talk.client.event()
    assert event == CloseConnection(1001, "")
    talk.client.send_event(event.response())


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


# Requests


NOWHERE = [
    "/api/contents", "/api/contents/x.ipynb", "/api/terminals", "/api/terminals/1", "/terminals/websocket/1", "/api/config/x",
    "/api/kernels/../contents/x.ipynb", "/api/kernels/%2e%2e/contents", "/api/kernels/..%2fcontents", "/api/kernels%2f..%2fcontents",
    "/api/kernels/ID/../../contents", "/api/kernels/ID/..%2f..%2fcontents/x", "/api/kernels/ID%2f..%2f..%2fcontents", "/api/kernels/ID%00",
    "/api/kernels/ID/channels/../../../terminals/websocket/1",
    "/api/kernels/ID/shutdown", "/api/kernels/ID/execute", "/api/kernels/ID/interrupt/x", "/api/kernels/ID;x/interrupt", "/api/kernels/ID%20",
    "/api/kernels//", "/api//kernels", "/./api/kernels", "/api/./kernels", "/api/kernels/.", "/api/kernels/*", "/API/kernels",
    "/api/kernels%3fx", "/api\\kernels", "/api/kernels\\ID", "/api/kernelspecs/python3", "/api/spec.yaml",
    "/api/sessions/ID", "/api/sessions/ID/x", "/api/sessions/../contents", "/api/nbconvert", "/api/shutdown", "/api/v1/notebook", "/api/evil",
    "//evil.example/api/kernels", "/\\evil.example/api", "/dashboards/../api/contents", "/files/x.ipynb", "/lsp/ws", "/nbextensions/x",
    "/api/events/subscribe", "/api/me/../contents", "/api/status/x", "/lab", "/tree",
]  # fmt: skip
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "evil")


def test_nothing_else_of_a_gateway_can_be_reached(site: Site, kernel: str) -> None:
    # S8, S9
    before = len(site.gateway.requests)
    body = json.dumps({"path": "/x", "code": EVIL, "type": "notebook", "kernel": {"name": EVIL}}).encode()
    port = site.shim.server.port
    for path in NOWHERE:
        target = f"{site.prefix}{path}".replace("ID", kernel)
        for verb in VERBS:
            lines = [f"{verb} {target} HTTP/1.1", "Host: localhost", "Connection: close", *site.lines()]
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
            answer = parsed(exchange(port, head + body))
            assert answer.status in (301, 302, 400, 403, 404, 405, 426), (verb, path, answer)
            assert re.fullmatch(r"(/[^/\\].*)?", str(answer["location"] or "")), (verb, path, answer)
        with site.dialled(target) as client:
            assert client.status != 101, path
    for target in (
        f"http://evil.example{site.prefix}/api/contents",
        "*",
        "evil.example:80",
        f"{site.prefix}x/api/kernels",
    ):
        lines = [f"POST {target} HTTP/1.1", "Host: localhost", "Connection: close", *site.lines()]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
        assert parsed(exchange(port, head + body)).status in (400, 403, 404, 405)
    assert asked(site.gateway, before) == []


def test_other_spellings_of_an_address_are_as_closed_as_it_is(site: Site, kernel: str) -> None:
    # S8, S9
    before = len(site.gateway.requests)
    for spelled in (
        "//api",
        "/%61pi",
        "/api%2f",
        "/%2fapi",
        "/api/",
        "/./api",
        "/x/../api",
        "/login/../api",
        "/assets/..%2fapi",
    ):
        path = f"{spelled}/kernels/{kernel}"
        stranger = {"cookie": None} if site.readers else {"origin": "http://evil.example"}
        for method, end in (("POST", "/interrupt"), ("POST", "/restart"), ("DELETE", "")):
            assert site.ask(f"{path}{end}", None, method, **stranger).status in (401, 403, 404, 405)
        with site.dialled(f"{site.prefix}{path}/channels", **stranger) as client:
            assert client.status in (401, 403, 404)
    assert asked(site.gateway, before) == []


HEADERS = {
    "cookie": "_xsrf=evil", "x_xsrftoken": "evil", "x_forwarded_for": "192.0.2.66", "x_forwarded_user": "evil", "referer": "http://localhost/evil",
    "user_agent": "evil", "x_evil": "evil", "kernel_user_auth": "evil", "kernel-user-auth": "evil", "accept_language": "evil",
    "if_none_match": "evil", "x_request_id": "evil", "x_http_method_override": "PUT", "te": "trailers",
}  # fmt: skip
BODY = {
    "env": {"KERNEL_USER_AUTH": "evil", "PATH": "evil", "LD_PRELOAD": "evil"}, "kernel_id": "00000000-0000-4000-8000-00000000dead", "cwd": "/evil",
    "name": "evil", "kernel_name": "evil", "id": "evil", "type": "evil", "argv": ["evil"], "working_dir": "/evil", "code": EVIL,
    "kernel": {"name": "evil", "id": "00000000-0000-4000-8000-00000000dead", "env": {"x": "evil"}, "path": "/evil"},
}  # fmt: skip


def test_a_start_is_made_of_the_notebook_alone(site: Site) -> None:
    # S24, S33; what was sent instead would be no request of ours.
    cookie = "; ".join([HEADERS["cookie"], *site.reader.values()])
    headers = {**HEADERS, "cookie": cookie, **({} if site.readers else {"authorization": "token evil"})}
    before = len(site.gateway.requests)
    for url in ("/api/kernels?name=evil&env=evil", "/api/sessions/?kernel=evil"):
        answer = site.ask(url, {"path": "/x", "notebook": {"path": "/evil"}, **BODY}, **headers)
        assert answer.status == 201, answer.text
        model = answer.json().get("kernel", answer.json())
        assert (model["name"], model["id"] in site.gateway.kernels, model["id"] == BODY["kernel_id"]) == (
            "python3",
            False,
            False,
        )
        for action in ("interrupt?x=evil", "restart"):
            assert site.ask(f"/api/kernels/{model['id']}/{action}", BODY, **headers).status in (200, 204)
        target = site.channels(model["id"], "?session_id=visit&token=evil&x=evil")
        with site.dialled(target, f"evil, {V1}", **headers, sec_websocket_extensions="permessage-deflate") as client:
            assert client.status == 101
            assert client.header("Sec-WebSocket-Extensions") is None
        assert site.ask(f"/api/kernels/{model['id']}?x=evil", BODY, "DELETE", **headers).status == 204
    made = [f"{method} {path.split('/')[-1]}" for method, path in asked(site.gateway, before)]
    assert [each for each in made if not each.startswith("DELETE")] == [
        "POST kernels",
        "POST interrupt",
        "POST restart",
        "GET channels",
    ] * 2
    refused = [
        {"path": "/../x"},
        {"path": "/etc/passwd"},
        {"path": ["x"]},
        {"path": EVIL},
        {"path": "x\x00"},
        {**BODY},
        [EVIL],
    ]
    for fields in refused:
        assert site.ask("/api/kernels", fields).status in (400, 404), fields
    assert len(asked(site.gateway, before)) == 10


@pytest.mark.parametrize("page", ["off", "draft"])
def test_pages_that_are_not_live_get_nothing(site: Site, page: str) -> None:
    before = len(site.gateway.requests)
    for url in ("/api/kernels", "/api/sessions"):
        for path in (page, f"/dashboards/{page}/", f"{site.prefix}/dashboards-plain/{page}/", f"{page}.ipynb"):
            assert site.ask(url, {"path": path, "live": "auto", "draft": False}).status == 403
    assert asked(site.gateway, before) == []


def test_session_ids_decide_nothing(site: Site, framing: str) -> None:
    # S25
    wire = Wire(framing == V1)
    visit = {"x_jupyter_session_id": "visit"}
    with ExitStack() as stack:
        kernels = [site.start(page, **visit) for page in ("x", "other")]
        talks = [stack.enter_context(site.talking(kernel, framing)) for kernel in kernels]
        assert talks[0].socket.request.query != talks[1].socket.request.query
        stack.callback(lambda: [site.ask(f"/api/kernels/{kernel}", None, "DELETE") for kernel in kernels])
        for talk, page in zip(talks, ("x", "other"), strict=True):
            for name in ("visit", kernels[0], kernels[1], EVIL):
                header = {"msg_id": "m", "msg_type": "execute_request", "session": name.replace("evil", "")}
                (one,) = talk.attack(wire.made("", {"code": "1"}, header=header))
                assert one.content["code"] == CELLS[page]
    answer = site.ask("/api/sessions", {"path": "/x", "name": "x"}, **visit)
    session = answer.json()
    fields = {
        "path": "/other",
        "name": "other",
        "kernel": {"id": kernels[1], "name": "evil"},
        "notebook": {"path": "/other"},
    }
    renamed = site.ask(f"/api/sessions/{session['id']}", fields, "PATCH").json()
    assert (renamed["path"], renamed["kernel"]["id"]) == ("/other", session["kernel"]["id"])
    with site.talking(session["kernel"]["id"], framing) as talk:
        assert [one.content["code"] for one in talk.attack(wire.run("1"))] == [CELLS["x"]]
    assert site.ask(f"/api/sessions/{session['id']}", None, "DELETE").status == 204


def test_names_of_sessions_that_are_none_are_refused(site: Site, kernel: str) -> None:
    before = len(site.gateway.requests)
    names = [
        "x" * 65,
        "x" * 300,
        "%C3%A9",
        "a%2fb",
        "a%0d%0aX-Evil:%201",
        "a%00",
        "a+b",
        "a%26token%3devil",
        "..",
        "%ff",
        "a&x=" * 30,
    ]
    for name in names:
        with site.dialled(site.channels(kernel, f"?session_id={name}")) as client:
            assert client.status == 400, name
    for name in ("x" * 300, "a b", "a/b", "\xe9"):
        with site.dialled(site.channels(kernel, ""), x_jupyter_session_id=name) as client:
            assert client.status == 400, name
        assert site.ask("/api/kernels", {"path": "/x"}, x_jupyter_session_id=name).status == 400
    assert asked(site.gateway, before) == []


def test_nobody_ends_the_kernel_of_somebody_else(site: Site, kernel: str) -> None:
    # S26
    other = {**(site.readers["bob"] if site.readers else {}), "x_jupyter_session_id": "another"}
    own = site.start("other", **other)
    theirs, _ = site.gateway.kernels
    before = len(site.gateway.requests)
    for query in (f"?y=/kernels/{kernel}", f"?session_id=visit&kernel_id={kernel}", f"?/api/kernels/{kernel}"):
        with site.dialled(site.channels(own, query), **other) as client:
            assert client.status == 101
    until(lambda: site.ask(f"/api/kernels/{own}", None, "GET", **other).json()["connections"] == 0)
    tries = [("DELETE", "/api/kernels"), ("DELETE", f"/api/kernels?id={kernel}"), ("DELETE", f"/api/kernels/{theirs}"),
             ("POST", f"/api/kernels/{theirs}/interrupt"), ("POST", f"/api/kernels/{theirs}/restart"), ("GET", f"/api/kernels/{theirs}"),
             ("DELETE", f"/api/kernels/{own}/{kernel}"), ("DELETE", "/api/kernels/*"), ("DELETE", f"/api/sessions/{kernel}"),
             ("POST", f"/api/shutdown?kernel={kernel}")]  # fmt: skip
    if site.readers:
        tries += [("DELETE", f"/api/kernels/{kernel}"), ("POST", f"/api/kernels/{kernel}/interrupt")]
        tries += [("POST", f"/api/kernels/{kernel}/restart"), ("GET", f"/api/kernels/{kernel}")]
    for method, path in tries:
        assert site.ask(path, BODY, method, **other).status in (403, 404, 405), path
    listed = [model["id"] for model in site.ask("/api/kernels", None, "GET", **other).json()]
    assert kernel not in listed and site.ask("/api/sessions", None, "GET", **other).json() == []
    assert {path.split("/")[-1] for _, path in asked(site.gateway, before)} == {"channels"}
    assert site.ask(f"/api/kernels/{own}?/api/kernels/{kernel}", None, "DELETE", **other).status == 204
    assert site.ask(f"/api/kernels/{kernel}", None, "GET").status == 200
    assert theirs in site.gateway.kernels


SHAKES: list[tuple[tuple[str, str], set[int]]] = [
    (("GET ", "POST "), {400, 405}), (("GET ", "HEAD "), {400}), (("GET ", "PUT "), {400, 405}), (("GET ", "DELETE "), {400, 404, 405}),
    (("HTTP/1.1", "HTTP/1.0"), {400}), (("HTTP/1.1", "HTTP/2.0"), {400, 505}),
    (("Version: 13", "Version: 8"), {426}), (("Version: 13", "Version: 13, 8"), {426}), (("Version: 13", "Version: "), {426}),
    (("Key: ", "Key: x"), {400}), (("Key: ", "Key: x=\r\nSec-WebSocket-Key: "), {400}), (("Key: ", "No: "), {400}),
    (("Upgrade: websocket", "Upgrade: h2c"), {426}), (("Upgrade: websocket", "X: y"), {426}), (("Upgrade: websocket", "Upgrade: websocket/13"), {426}),
    (("Connection: Upgrade", "Connection: keep-alive"), {426}), (("Connection: Upgrade", "X: y"), {426}),
    (("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nevil"), {400}),
    (("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"), {400}),
    (("\r\n\r\n", "\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\nevil"), {400}),
    (("\r\n\r\n", "\r\nX : evil\r\n\r\n"), {400}), (("\r\n\r\n", "\r\n folded: evil\r\n\r\n"), {101}),
    (("\r\n\r\n", "\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n"), {403}),
    (("Host: localhost", "Host: evil.example"), {400}), (("Host: localhost", "X: y"), {400}),
    (("Connection: Upgrade", "Connection: keep-alive,\tuPGRADE"), {101}), (("Upgrade: websocket", "Upgrade: h2c, WebSocket"), {101}),
    (("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate, evil\r\n\r\n"), {101}),
    (("Protocol: ", "Protocol: evil, "), {101}), (("Protocol: ", "Protocol: " + "evil," * 500), {101}),
]  # fmt: skip


def test_handshakes_reach_the_gateway_made_anew_or_not_at_all(site: Site, kernel: str) -> None:
    shake = request(site.channels(kernel), *site.lines()).decode()
    for change, expected in SHAKES:
        assert change[0] in shake
        before = len(site.gateway.requests)
        with socket.create_connection(("127.0.0.1", site.shim.server.port), timeout=60) as connection:
            client = Client(connection).shake_hands(shake.replace(*change).encode())
            assert client.status in expected, (change, client.answer)
            assert len(asked(site.gateway, before)) == (client.status == 101), change


# Gateways in trouble


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, site: Site) -> Iterator[None]:
    """A server that waits for its gateway for less than a second."""
    monkeypatch.setattr(gateway_module, "START_SECONDS", 0.3)
    monkeypatch.setattr(gateway_module, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(rest, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(handshake_module, "SECONDS", 0.3)
    yield
    site.gateway.answer = None
    site.gateway.replies.clear()
    monkeypatch.undo()
    assert site.shim.live
    site.shim.live.gateways.probe()
    site.shim.live.keeper._finish()


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"{")
        await asyncio.sleep(0.05)


async def is_huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 201 Created\r\n\r\n{"id": "')
    while not writer.is_closing():
        writer.write(b"evil" * 50_000)
        await writer.drain()


def says(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


TRACEBACK = {"message": f'Traceback (most recent call last): File "x.py" {SOURCE}', "reason": None, "traceback": SOURCE}
WRONG: dict[str, Any] = {
    "hangs": hangs,
    "drips": drips,
    "is huge": is_huge,
    "ends": says(b""),
    "speaks something else": says(b"SSH-2.0-evil\r\n"),
    "sends a head without end": says(b"HTTP/1.1 201 Created\r\n" + b"X: evil\r\n" * 500),
    "answers half": says(b'HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{"id": "evil'),
    "claims to be compressed": says(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\n\r\nevil"),
    "leads elsewhere": says(b"HTTP/1.1 307 x\r\nLocation: /evil\r\nContent-Length: 0\r\n\r\n"),
    "fails": (500, TRACEBACK),
    "refuses": (403, TRACEBACK),
    "finds nothing": (404, TRACEBACK),
    "knows no kernel": (201, {**TRACEBACK, "id": f"../../{SOURCE}"}),
    "answers no object": (201, [SOURCE]),
    "answers deep JSON": (201, b"[" * 100_000),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_gateway_that_does_wrong_is_a_sentence_in_time(site: Site, kernel: str, hurried: None, how: str) -> None:
    # S28, S33
    (theirs,) = site.gateway.kernels
    paths = ["/api/kernels", *(f"/api/kernels/{theirs}/{action}" for action in ("interrupt", "restart"))]
    site.gateway.headers = f"Set-Cookie: evil=1\r\nServer: evil\r\nX-Evil: {SOURCE}\r\n"
    if callable(WRONG[how]):
        site.gateway.answer = WRONG[how]
    else:
        site.gateway.replies |= {("POST", path): WRONG[how] for path in paths}
    for path in ("/api/kernels", "/api/sessions", f"/api/kernels/{kernel}/restart", f"/api/kernels/{kernel}/interrupt"):
        # Whoever asks waits for no more than a few time-outs, or the connection of this test would end first.
        answer = site.ask(path, {"path": "/x"})
        assert answer.status == 502 and answer.message
        shown = f"{answer.headers} {answer.text}"
        assert not [word for word in (SOURCE, "evil", theirs, str(site.gateway.port), TOKEN) if word in shown]
    assert list(site.gateway.kernels) == [theirs]
    assert site.ask(f"/api/kernels/{kernel}", None, "GET").status == 200


BAD_HANDSHAKES: dict[str, tuple[Handshake, int]] = {
    "hangs": (Handshake(hangs=True), 504),
    "resets": (Handshake(resets=True), 502),
    "wrong accept": (Handshake(accept="evil"), 502),
    "protocol that nobody asked for": (Handshake(protocol="=evil"), 502),
    "extension that nobody asked for": (Handshake(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"), 502),
    "error": (Handshake(500), 502),
    "no login": (Handshake(401), 502),
    "elsewhere": (Handshake(raw=b"HTTP/1.1 302 x\r\nLocation: /evil\r\nContent-Length: 0\r\n\r\n"), 502),
    "no kernel": (Handshake(404), 404),
    "other protocol": (Handshake(raw=b"SSH-2.0-evil\r\n\r\n"), 502),
    "nonsense": (Handshake(raw=b"\0evil" * 10_000), 502),
    "body": (Handshake(raw=f"HTTP/1.1 500 x\r\nSet-Cookie: evil=1\r\n\r\n{TRACEBACK}".encode()), 502),
}


@pytest.mark.parametrize("how", BAD_HANDSHAKES)
def test_a_gateway_that_gives_no_websocket_is_a_sentence_in_time(
    site: Site, kernel: str, framing: str, hurried: None, how: str
) -> None:
    # S28, S33
    site.gateway.handshake, status = BAD_HANDSHAKES[how]
    with site.dialled(site.channels(kernel), framing) as client:
        assert client.status == status
        shown = client.answer + client.rest()
    assert not [word for word in (SOURCE, "evil", TOKEN, "Set-Cookie") if word.encode() in shown]


def test_what_a_gateway_adds_to_its_answers_stays_here(site: Site) -> None:
    # S33
    site.gateway.headers = (
        f"Set-Cookie: evil=1\r\nServer: evil\r\nVia: evil\r\nX-Evil: {SOURCE}\r\nKeep-Alive: timeout=1\r\n"
    )
    kernel = site.start()
    (theirs,) = site.gateway.kernels
    answers = [site.ask(f"/api/kernels/{kernel}/restart"), site.ask(f"/api/kernels/{kernel}/interrupt")]
    answers += [site.ask(path, None, "GET") for path in (f"/api/kernels/{kernel}", "/api/kernelspecs", "/api/status")]
    answers.append(site.ask(f"/api/kernels/{kernel}", None, "DELETE"))
    for answer in answers:
        assert answer.status in (200, 204)
        shown = f"{answer.headers} {answer.text}".lower()
        assert not [word for word in ("set-cookie", "evil", SOURCE, theirs, str(site.gateway.port)) if word in shown]


# How much there may be


def test_other_addresses_cannot_be_claimed(site: Site) -> None:
    # S27: whoever is no proxy of ours is the one address that it is.
    kernels = []
    for number in range(12):
        claimed = f"192.0.2.{number}"
        headers = {"x_forwarded_for": claimed, "x_real_ip": claimed, "forwarded": f"for={claimed}"}
        answer = site.ask("/api/kernels", {"path": "/x"}, x_jupyter_session_id="visit-1", **headers)
        kernels += [answer.json()["id"]] if answer.status == 201 else []
        assert answer.status in (201, 503)
    assert len(kernels) == len(site.gateway.kernels) == 4
    assert {site.ask(f"/api/kernels/{kernel}", None, "DELETE").status for kernel in kernels} == {204}


def test_kernels_are_few_however_many_are_asked_for(
    tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # S27
    monkeypatch.setattr(table, "LEAST_UNCONNECTED", 3600.0)
    settings = {"max_total": 3, "max_per_address": 2, "retention": 0}
    given = {f"kernels__{name}": value for name, value in settings.items()}
    with serving(tmp_path, gateway, server__trusted_proxies=["127.0.0.1"], **given) as shim:
        site = Site(shim, gateway)
        before = len(gateway.requests)

        def many(first: int) -> set[int]:
            connection = http.client.HTTPConnection("127.0.0.1", shim.server.port, timeout=60)
            statuses = set()
            for number in range(first, first + 250):
                headers = {"Host": "localhost", "X-Forwarded-For": "192.0.2.1", "X-Jupyter-Session-Id": f"v{number}"}
                connection.request("POST", "/api/kernels", b'{"path": "/x"}', headers)
                with connection.getresponse() as response:
                    statuses.add(response.status)
                    assert response.read()
            connection.close()
            return statuses

        with ThreadPoolExecutor(4) as threads:
            assert set[int]().union(*threads.map(many, range(0, 1000, 250))) == {201, 503}
        assert asked(gateway, before) == [("POST", "/api/kernels")] * 2
        answers = [site.ask("/api/kernels", {"path": "/x"}, x_forwarded_for=f"192.0.2.{last}") for last in (2, 3, 4)]
        assert [answer.status for answer in answers] == [201, 503, 503]
        assert answers[2]["retry-after"] and answers[2].json()["queue"] > 1
        assert len(gateway.kernels) == 3
        # Those that nobody uses end, connected once or never.
        kernel = answers[0].json()["id"]
        with site.talking(kernel):
            pass
        gateway.wait(lambda: len(gateway.kernels) == 2)
        monkeypatch.setattr(table, "LEAST_UNCONNECTED", 0.0)
        until(lambda: site.ask("/api/kernels", {"path": "/x"}, x_forwarded_for="192.0.2.3").status == 201)
        gateway.wait(lambda: len(gateway.kernels) == 2)
    assert gateway.kernels == {}


# Pages that change


def test_numbers_mean_the_cells_that_the_reader_saw(site: Site, framing: str) -> None:
    # S35
    wire = Wire(framing == V1)
    site.upload("replaced", CELLS["x"])
    old = site.version("replaced")
    kernel = site.start("replaced", x_nbfolio_page_version=old)
    with site.talking(kernel, framing) as talk:
        site.upload("replaced", CELLS["new"])
        new = site.version("replaced")
        assert new != old
        assert [one.content["code"] for one in talk.attack(wire.run("1"))] == [CELLS["x"]]
        assert site.ask(f"/api/kernels/{kernel}/restart").status == 200
        assert [one.content["code"] for one in talk.attack(wire.run("1"))] == [CELLS["x"]]
    before = len(site.gateway.requests)
    for version in (old, "0" * 16, "evil", f"{new} "[:-2], new.upper() + "x"):
        for url in ("/api/kernels", "/api/sessions"):
            assert site.ask(url, {"path": "/replaced"}, x_nbfolio_page_version=version).status == 409
    assert asked(site.gateway, before) == []
    other = site.start("replaced", x_nbfolio_page_version=new)
    with site.talking(other, framing) as talk, site.talking(kernel, framing) as first:
        assert [one.content["code"] for one in talk.attack(wire.run("1"))] == [CELLS["new"]]
        assert [one.content["code"] for one in first.attack(wire.run("1"))] == [CELLS["x"]]
    assert [site.ask(f"/api/kernels/{one}", None, "DELETE").status for one in (kernel, other)] == [204, 204]


# The log


def test_the_log_has_no_secrets_and_no_source(
    site: Site, framing: str, hurried: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire = Wire(framing == V1)
    kernel = site.start(x_jupyter_session_id="visit-of-a-reader", authorization="Bearer authorization-of-a-reader")
    query = "?session_id=visit-of-a-reader&token=token-of-a-reader&x=query-of-a-reader"
    with site.talking(kernel, framing, query) as talk:
        sent = [
            *other_framing(wire),
            *written_otherwise(wire),
            *other_types(wire),
            wire.run("1"),
            wire.run("code-of-a-reader"),
        ]
        talk.attack(*sent)
        talk.say(*spoken(wire))
    site.gateway.handshake = Handshake(500, headers=f"X-Evil: {SOURCE}\r\n")
    with site.dialled(site.channels(kernel, query), framing) as client:
        assert client.status == 502
    site.gateway.answer = says(f"HTTP/1.1 500 {SOURCE}\r\nX: {SOURCE}\r\n\r\n{TRACEBACK}".encode())
    for path in ("/api/kernels", f"/api/kernels/{kernel}/restart"):
        assert site.ask(f"{path}{query}", {"path": "/x", "query": "?x=query-of-a-reader"}).status == 502
    site.gateway.answer = None
    assert site.ask(f"/api/kernels/{kernel}{query}", None, "DELETE").status == 204
    lines = [JsonLines().format(record) for record in caplog.records if record.name.startswith("shim")]
    assert len(lines) > 10
    secrets = [SOURCE, TOKEN, AUTHOR, "of-a-reader", "evil", "token=", "session_id="]
    secrets += [
        value for headers in site.readers.values() for value in re.findall("nbfolio=([^;]+)", headers["cookie"])
    ]
    assert [line for line in lines for secret in secrets if secret in line] == []
