"""The servers that `kernels.py` measures, each a process of its own, and the client that asks them.

As a program it is the gateway that does nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import websocket

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from making import write  # noqa: E402

from shim.kernels.messages import PROTOCOL, Message, now, parse, serialise  # noqa: E402

SECONDS = 120.0
"""The longest that anything is waited for."""
OUTPUTS = frozenset({"stream", "display_data", "execute_result"})
SMALL_OUTPUTS = 2000

ECHO = """
def opened(comm, message):
    comm.on_msg(lambda message: comm.send(message["content"]["data"]))

get_ipython().kernel.comm_manager.register_target("echo", opened)
"""
LARGE = "display({'text/plain': 'x' * 10_000_000}, raw=True)"
MANY = f"for number in range({SMALL_OUTPUTS}): display({{'text/plain': str(number)}}, raw=True)"
PLOT = """
import base64, io, os
import matplotlib.pyplot as plt

figure, axes = plt.subplots()
axes.plot([0, 1, 4, 9])
picture = io.BytesIO()
figure.savefig(picture)
plt.close(figure)
display({"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": str(os.getpid())}, raw=True)
"""
PAGES = {"talk": (ECHO, LARGE, MANY), "cold": (PLOT,)}
GATEWAY = "import sys; sys.modules['rfc3987_syntax'] = None; from kernel_gateway import launch_instance; "
"""Leaves out four seconds of an import that the gateway does without."""


@dataclass(frozen=True)
class Server:
    """A process that has kernels."""

    name: str
    process: psutil.Popen
    port: int
    token: str = ""
    """Of a gateway; "" for a run-shim, which is open to all."""

    def start(self, page: str) -> str:
        """The id of a new kernel for the cells of a page; a run-shim that is not ready yet is asked again."""
        content = {"name": "python3"} if self.token else {"path": f"/{page}"}
        end = time.monotonic() + SECONDS
        while True:
            status, answer = self._ask("POST", "/api/kernels", content)
            if status == 201:
                return str(json.loads(answer)["id"])
            if status not in (502, 503) or time.monotonic() > end:
                raise SystemExit(f"No kernel was started: {status} {answer.decode()}")
            time.sleep(0.2)

    def end(self, kernel: str) -> None:
        """End a kernel."""
        self._ask("DELETE", f"/api/kernels/{kernel}")

    @contextmanager
    def connected(self, kernel: str, *, v1: bool = True, acknowledges: bool = True) -> Iterator[Client]:
        """A WebSocket to a kernel in one of the two framings."""
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}",
            timeout=SECONDS,
            header=[f"{name}: {value}" for name, value in self._headers.items()],
            subprotocols=[PROTOCOL] if v1 else None,
            suppress_origin=True,
            skip_utf8_validation=True,
            http_no_proxy=["*"],
        )
        try:
            yield Client(connection, v1, acknowledges=acknowledges)
        finally:
            connection.shutdown()  # type: ignore[no-untyped-call]

    @contextmanager
    def kernel(self, page: str) -> Iterator[str]:
        """A new kernel, ended afterwards."""
        kernel = self.start(page)
        try:
            yield kernel
        finally:
            self.end(kernel)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"} if self.token else {}

    def _ask(self, method: str, path: str, content: object = None) -> tuple[int, bytes]:
        if (code := self.process.poll()) is not None:
            raise SystemExit(f"{self.name} ended by itself with code {code}.")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        body = None if content is None else json.dumps(content)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **self._headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @property
    def cpu(self) -> float:
        """Seconds that the process has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


class Client:
    """A WebSocket to a kernel and one question at a time."""

    def __init__(self, connection: websocket.WebSocket, v1: bool, *, acknowledges: bool) -> None:
        """`acknowledges`: each packet at once, as it is received; else some 40 ms later, as systems do."""
        self.last: Message | None = None
        """What the last question was about to bring."""
        self._connection = connection
        self._v1 = v1
        self._acknowledges = acknowledges
        self._session = uuid.uuid4().hex

    def ask(self, kind: str, content: dict[str, Any], awaited: frozenset[str], count: int = 1) -> float:
        """Seconds from a question to the last of `count` awaited messages; returns when the kernel is idle again."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self._session, "username": ""}
        header |= {"date": now(), "version": "5.3"}
        payload = serialise(Message("shell", header, {}, {}, content), self._v1)
        began = time.perf_counter()
        self._connection.send(payload, opcode=websocket.ABNF.OPCODE_BINARY if self._v1 else websocket.ABNF.OPCODE_TEXT)
        seconds, replied, idle = 0.0, not kind.endswith("_request"), False
        while count > 0 or not (replied and idle):
            received, arrived = self._receive(), time.perf_counter()
            message = parse(received, self._v1, trusted=True)
            if message.parent_header.get("msg_id") != header["msg_id"]:
                continue
            if message.content.get("status") == "error" or message.kind == "error":
                raise SystemExit(f"A kernel failed: {message.content}")
            if count > 0 and message.kind in awaited:
                count, seconds, self.last = count - 1, arrived - began, message
            replied |= message.channel == "shell"
            idle |= message.content.get("execution_state") == "idle"
        return seconds

    def run(self, server: Server, page: str, index: int, awaited: frozenset[str] = OUTPUTS, count: int = 1) -> float:
        """Seconds from a cell's start to so many of its outputs."""
        told = {"silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        asked = PAGES[page][index] if server.token else str(index)
        return self.ask("execute_request", {"code": asked, **told, "stop_on_error": True}, awaited, count)

    def information(self) -> float:
        """Seconds from a kernel_info_request to its reply."""
        return self.ask("kernel_info_request", {}, frozenset({"kernel_info_reply"}))

    def echo(self, comm: str) -> float:
        """Seconds from a widget's message to its echo."""
        return self.ask("comm_msg", {"comm_id": comm, "data": {"value": 1}}, frozenset({"comm_msg"}))

    def open_echo(self, server: Server) -> str:
        """A comm that sends back whatever it gets."""
        comm = uuid.uuid4().hex
        self.run(server, "talk", 0, frozenset({"execute_reply"}))
        opening = {"comm_id": comm, "target_name": "echo", "data": {}}
        self.ask("comm_open", opening, frozenset({"status"}))
        return comm

    def _receive(self) -> str | bytes:
        if self._acknowledges:
            # The system forgets it after each packet.
            assert self._connection.sock
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        opcode, data = self._connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise SystemExit(f"A server closed a WebSocket: {data!r}")
        return data.decode() if opcode == websocket.ABNF.OPCODE_TEXT else bytes(data)


# Servers


def environment() -> dict[str, str]:
    """That of all servers: without settings of this project or of the gateway."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NBFOLIO_", "KG_"))}


@contextmanager
def process(command: list[str], **env: str) -> Iterator[psutil.Popen]:
    """A process that is told to end afterwards; complaints about kernels without encryption are of no interest."""
    started = psutil.Popen(
        command,
        env={**environment(), **env},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(SECONDS)
        started.stdout.close()


@contextmanager
def kernel_gateway() -> Iterator[Server]:
    """The gateway without anything in front of it; its limits of outputs a second are off, for both sides."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-c", f"{GATEWAY}launch_instance()", f"--KernelGatewayApp.port={port}"]
    options = ["--KernelManager.shutdown_wait_time=1", "--ZMQChannelsWebsocketConnection.limit_rate=False"]
    with process([*command, *options, "--log-level=ERROR"], KG_AUTH_TOKEN=token) as started:
        end = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if started.poll() is not None or time.monotonic() > end:
                    raise SystemExit("The Kernel Gateway did not start.") from None
                time.sleep(0.1)
        yield Server("The Kernel Gateway", started, port, token)


@contextmanager
def run_shim(folder: Path, pages: dict[str, Any], gateway: str = "", token: str = "") -> Iterator[Server]:
    """A run-shim with some pages, in front of a gateway or, with "", of a kernel server of its own."""
    lines = ["[kernels]", "max_total = 1000", "max_per_address = 1000", "retention = 600", "warm_min_free_mb = 0"]
    if gateway:
        lines += ["[[kernels.gateway]]", 'name = "main"', f"url = {json.dumps(gateway)}"]
        lines += [f"token = {json.dumps(token)}"] if token else []
    write(folder, "site.toml", "\n".join(lines)).chmod(0o600)
    for name, content in pages.items():
        write(folder, f"{name}.ipynb", content)
    with process([sys.executable, "-m", "shim", str(folder), "--port", "0", "-q"], PYTHONPATH=str(ROOT)) as started:
        assert started.stdout
        if not (port := urlsplit(started.stdout.readline()).port):
            raise SystemExit("run-shim did not start.")
        yield Server("run-shim", started, port)


@contextmanager
def idle_gateway() -> Iterator[int]:
    """The port of a gateway whose kernels do nothing but say that they are there."""
    with process([sys.executable, __file__]) as started:
        assert started.stdout
        yield int(started.stdout.readline())


def serve() -> None:
    """Be that gateway until the process is ended."""
    from gateways import Payload, Socket, recording

    def answer(connection: Socket, payload: Payload) -> None:
        asked = parse(payload, v1=True)
        header = {**asked.header, "msg_id": uuid.uuid4().hex, "msg_type": "kernel_info_reply"}
        status = {**asked.header, "msg_id": uuid.uuid4().hex, "msg_type": "status"}
        replies = [Message("shell", header, dict(asked.header), {}, {"status": "ok"})]
        replies += [Message("iopub", status, dict(asked.header), {}, {"execution_state": "idle"})]
        connection.send(*(serialise(reply, v1=True) for reply in replies))

    with recording() as gateway:
        gateway.on_message = answer
        print(gateway.port, flush=True)
        while True:
            time.sleep(SECONDS)


if __name__ == "__main__":
    serve()
