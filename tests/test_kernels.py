"""The life of kernels with real ones: reconnecting, ending, limits, warm kernels, and a server that is killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import websocket
from dashboards import Answer, Shim, running, until
from making import code, markdown, notebook, write

from shim.kernels import keeper, warm

COUNT = "try:\n    n += 1\nexcept NameError:\n    n = 1\nprint('count', n)"
SLOW = "import pathlib, time\nprint('begin')\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\nprint('end')"


def write_site(folder: Path) -> None:
    """Pages with cells that show what state a kernel has."""
    write(folder, "x.ipynb", notebook(markdown("# Page"), code(COUNT), code(SLOW), code("raise ValueError('no')")))
    write(folder, "gone.ipynb", notebook(markdown("# Page"), code(COUNT)))
    write(folder, "parameters.ipynb", notebook(code("who = 'nobody'", tags=["parameters"]), code("print('I am', who)")))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server with kernels behind a proxy, which looks after them more often than others do."""
    folder = tmp_path_factory.mktemp("life")
    write_site(folder / "notebooks")
    settings = {
        "retention": 2,
        "max_total": 4,
        "max_per_address": 3,
        "warm_min_free_mb": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "PROBE_SECONDS", 0.3)
        with running(
            folder,
            kernels__enabled=True,
            server__trusted_proxies=["127.0.0.1"],
            auth__api_token="s3cret",
            **{f"kernels__{name}": value for name, value in settings.items()},
        ) as running_shim:
            yield running_shim


class Visitor:
    """Somebody who looks at a page, from an address of their own."""

    def __init__(self, shim: Shim, address: str = "192.0.2.1") -> None:
        self.shim = shim
        self.session = uuid.uuid4().hex
        self.headers = {
            "x_forwarded_for": address,
            "x_jupyter_session_id": self.session,
            "authorization": None,
            "content_type": "application/json",
        }
        self.kernel = ""

    def ask(self, path: str = "/x", query: str = "", **headers: str) -> Answer:
        """Ask for a kernel."""
        body = json.dumps({"path": path, "query": query}).encode()
        answer = self.shim("/api/kernels", "POST", body, **self.headers, **headers)
        if answer.status == 201:
            self.kernel = answer.json()["id"]
        return answer

    def start(self, path: str = "/x", query: str = "") -> Visitor:
        answer = self.ask(path, query)
        assert answer.status == 201, answer.text
        return self

    def there(self) -> bool:
        """Whether the kernel is still there."""
        return self.shim(f"/api/kernels/{self.kernel}", **self.headers).status == 200

    def end(self) -> None:
        """End the kernel; none is fine."""
        self.shim(f"/api/kernels/{self.kernel}", "DELETE", **self.headers)

    @contextmanager
    def connected(self, session: str = "") -> Iterator[Connection]:
        """A WebSocket to the kernel."""
        url = f"ws://127.0.0.1:{self.shim.server.port}/api/kernels/{self.kernel}/channels"
        with dialled(url, session or self.session) as connection:
            yield connection


@contextmanager
def dialled(url: str, session: str) -> Iterator[Connection]:
    """A WebSocket under a session id."""
    connection = websocket.create_connection(f"{url}?session_id={session}", timeout=60)
    # It forgets its socket when the other side has closed.
    with closing(connection.sock), closing(connection):
        yield Connection(connection, session)


class Connection:
    """A WebSocket as a page uses it, in the default framing."""

    def __init__(self, connection: websocket.WebSocket, session: str) -> None:
        self._connection = connection
        self._session = session

    def execute(self, index: int) -> str:
        """Ask for a cell to be run; the answer is the id of the request."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": self._session}
        header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        content = {"code": str(index), "silent": False}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._connection.send(json.dumps({**message, "buffers": []}))
        return header["msg_id"]

    def printed(self, request: str, until_text: str = "") -> str:
        """What a request prints until it is done, or until a text comes."""
        text, open_ends = "", {"reply", "idle"}
        while open_ends:
            message = json.loads(self._connection.recv())
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                text += content["text"]
            if kind == "error":
                text += content["ename"]
            if until_text and until_text in text:
                return text
            # They come over two channels, in any order.
            if kind == "execute_reply":
                open_ends.discard("reply")
            if kind == "status" and content["execution_state"] == "idle":
                open_ends.discard("idle")
        return text

    def run(self, index: int) -> str:
        return self.printed(self.execute(index))

    def closed(self) -> int:
        """The code with which the server closes the connection."""
        while True:
            opcode, data = self._connection.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")


def metric(shim: Shim, line: str) -> float:
    """The value of a metric."""
    text = shim("/metrics", x_forwarded_for=None).text
    return next(float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(f"{line} "))


@pytest.fixture
def visitor(shim: Shim) -> Iterator[Visitor]:
    one = Visitor(shim).start()
    yield one
    one.end()


# Reconnecting


def test_visitors_have_kernels_of_their_own(shim: Shim, visitor: Visitor) -> None:
    other = Visitor(shim).start()
    try:
        with visitor.connected() as mine, other.connected() as theirs:
            assert mine.run(1) == "count 1\n"
            assert mine.run(1) == "count 2\n"
            assert theirs.run(1) == "count 1\n"
            assert theirs.run(3) == "ValueError"
            assert metric(shim, "nbfolio_kernel_sockets") == 2
            assert metric(shim, 'nbfolio_kernels{use="reader"}') == 2
            model = shim(f"/api/kernels/{visitor.kernel}").json()
            assert (model["connections"], model["execution_state"]) == (1, "idle")
    finally:
        other.end()


def test_whoever_comes_back_in_time_gets_what_was_missed(shim: Shim, visitor: Visitor) -> None:
    with visitor.connected() as connection:
        assert connection.run(1) == "count 1\n"
        request = connection.execute(2)
        assert connection.printed(request, "begin") == "begin\n"
    until(lambda: not shim(f"/api/kernels/{visitor.kernel}").json()["connections"])
    write(shim.source, "go", "")
    with visitor.connected() as connection:
        assert connection.printed(request) == "end\n"
        assert connection.run(1) == "count 2\n"


def test_a_kernel_ends_when_its_last_socket_stays_closed(shim: Shim, visitor: Visitor) -> None:
    with visitor.connected() as first:
        with visitor.connected("another-window") as second:
            assert second.run(1) == "count 1\n"
        # Longer than a kernel waits alone.
        assert not threading.Event().wait(2.5)
        assert first.run(1) == "count 2\n"
    assert visitor.there()
    until(lambda: not visitor.there())


def test_what_a_client_must_not_send_is_refused_and_counted(shim: Shim, visitor: Visitor) -> None:
    before = metric(shim, "nbfolio_kernel_messages_refused_total")
    with visitor.connected() as connection:
        assert connection.run(0)
        assert connection.run(1) == "count 1\n"
    assert metric(shim, "nbfolio_kernel_messages_refused_total") == before + 1


# The end of kernels


def test_deleting_a_kernel_closes_its_connections(visitor: Visitor) -> None:
    with visitor.connected() as connection:
        connection.run(1)
        visitor.end()
        assert connection.closed() == 4404


def test_a_kernel_that_its_gateway_ended_is_noticed(shim: Shim, visitor: Visitor) -> None:
    assert shim.live
    life = shim.live.keeper._life
    kernel = life.table.get(visitor.kernel)
    assert kernel
    with visitor.connected() as connection:
        connection.run(1)
        life.gateway(kernel.record).delete(kernel.record.kernel)
        assert connection.closed() == 4404
    assert not visitor.there()


def test_deleting_a_dashboard_ends_its_kernels(shim: Shim) -> None:
    visitor = Visitor(shim).start("/gone")
    with visitor.connected() as connection:
        connection.run(1)
        assert shim.delete("gone", x_forwarded_for=None).status == 204
        assert connection.closed() == 4404
    assert visitor.ask("/gone").status == 404


def test_a_page_that_is_replaced_keeps_its_kernels_with_their_cells(shim: Shim) -> None:
    def upload(text: str) -> None:
        content = json.dumps(notebook(markdown("# Page"), code(f"print({text!r})"))).encode()
        assert shim.upload("replaced", content).status == 201

    upload("old")
    old = Visitor(shim).start("/replaced")
    try:
        with old.connected() as connection:
            upload("new")
            assert connection.run(1) == "old\n"
            new = Visitor(shim).start("/replaced")
            with new.connected() as other:
                assert other.run(1) == "new\n"
            new.end()
            assert connection.run(1) == "old\n"
    finally:
        old.end()


def test_a_restarted_kernel_begins_anew_on_the_same_connection(shim: Shim, visitor: Visitor) -> None:
    with visitor.connected() as connection:
        assert connection.run(1) == "count 1\n"
        assert shim(f"/api/kernels/{visitor.kernel}/restart", "POST").status == 200
        assert connection.run(1) == "count 1\n"


def test_values_from_the_address_of_the_page_are_set(shim: Shim) -> None:
    visitor = Visitor(shim).start("/parameters", "?who=ada")
    try:
        with visitor.connected() as connection:
            connection.run(0)
            assert connection.run(1) == "I am ada\n"
        assert Visitor(shim).ask("/parameters", "who=a&who=b").status == 400
    finally:
        visitor.end()


# Limits


def test_whoever_comes_too_late_waits_in_line(shim: Shim) -> None:
    full = [Visitor(shim, f"192.0.2.{number % 2}").start() for number in range(4)]
    try:
        late, later = Visitor(shim, "192.0.2.8"), Visitor(shim, "192.0.2.9")
        for waiting, place in ((late, 1), (later, 2), (late, 1)):
            answer = waiting.ask()
            assert (answer.status, answer.json()["queue"]) == (503, place)
            assert answer["retry-after"]
        assert metric(shim, "nbfolio_kernels_waiting") == 2
        full[0].end()
        assert later.ask().status == 503
        assert late.ask().status == 201
        late.end()
        assert later.ask().status == 201
        later.end()
    finally:
        for one in full:
            one.end()


def test_one_address_does_not_get_all_kernels(shim: Shim) -> None:
    greedy = [Visitor(shim).start() for _ in range(3)]
    try:
        waiting = Visitor(shim)
        assert waiting.ask().status == 503
        modest = Visitor(shim, "192.0.2.2").start()
        modest.end()
    finally:
        for one in greedy:
            one.end()
    waiting.start().end()


# Warm kernels


def test_a_warm_kernel_has_run_its_cells_and_is_replaced(shim: Shim) -> None:
    cells = [code(COUNT), markdown("text"), code("n"), code("1 / 0"), code(COUNT)]
    assert shim.upload("warm", json.dumps(notebook(*cells, nbfolio={"warm": 1})).encode()).status == 201

    def ready() -> bool:
        assert shim.live
        entries = shim.live.keeper._life.table._entries.values()
        return any(entry.record.warm and entry.ready for entry in entries)

    try:
        until(ready)
        before = metric(shim, 'nbfolio_kernel_starts_total{outcome="warm"}')
        visitor = Visitor(shim).start("/warm")
        assert metric(shim, 'nbfolio_kernel_starts_total{outcome="warm"}') == before + 1
        with visitor.connected() as connection:
            # Played from the recording the first time, run the second.
            assert connection.run(0) == "count 1\n"
            assert connection.run(0) == "count 2\n"
            # This one failed ahead of the visitor, so it runs now.
            assert connection.run(3) == "ZeroDivisionError"
            assert connection.run(4) == "count 3\n"
        visitor.end()
        until(ready)
    finally:
        assert shim.delete("warm", x_forwarded_for=None).status == 204
    until(lambda: metric(shim, 'nbfolio_kernels{use="warm"}') == 0)


def test_a_warm_kernel_that_crashed_is_replaced(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "SOON_SECONDS", 0.1)
    assert shim.upload("warm", json.dumps(notebook(code(COUNT), nbfolio={"warm": 1})).encode()).status == 201

    def ready() -> set[str]:
        """What the kernel server calls those that wait."""
        assert shim.live
        entries = shim.live.keeper._life.table._entries.values()
        return {entry.record.kernel for entry in entries if entry.record.warm and entry.ready}

    try:
        until(ready)
        (crashed,) = ready()
        (process,) = [one for one in psutil.Process().children(recursive=True) if crashed in " ".join(one.cmdline())]
        process.kill()
        until(lambda: ready() - {crashed})
        visitor = Visitor(shim).start("/warm")
        with visitor.connected() as connection:
            assert connection.run(0) == "count 1\n"
            assert connection.run(0) == "count 2\n"
        visitor.end()
    finally:
        assert shim.delete("warm", x_forwarded_for=None).status == 204
    until(lambda: metric(shim, 'nbfolio_kernels{use="warm"}') == 0)


def test_warm_kernels_give_way_to_visitors(shim: Shim) -> None:
    assert shim.upload("warm", json.dumps(notebook(code(COUNT), nbfolio={"warm": 1})).encode()).status == 201
    try:
        until(lambda: metric(shim, 'nbfolio_kernels{use="warm"}') == 1)
        visitors = [Visitor(shim, f"192.0.2.{number}") for number in range(4)]
        try:
            assert [one.ask().status for one in visitors] == [201] * 4
            assert metric(shim, 'nbfolio_kernels{use="warm"}') == 0
        finally:
            for one in visitors:
                one.end()
    finally:
        assert shim.delete("warm", x_forwarded_for=None).status == 204
    until(lambda: metric(shim, 'nbfolio_kernels{use="warm"}') == 0)


# A server that is killed, and one that stops


@contextmanager
def kernel_gateway() -> Iterator[str]:
    """The address of a Kernel Gateway that lists its kernels."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    # Without an import that takes seconds.
    program = "import sys; sys.modules['rfc3987_syntax'] = None; from kernel_gateway import launch_instance; launch_instance()"
    options = [f"--KernelGatewayApp.port={port}", "--JupyterWebsocketPersonality.list_kernels=True"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: process.poll() is not None or answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def run_shim(source: Path, gateway: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program with that gateway, and its address once it has pages."""
    (source / "site.toml").write_text(f'[[kernels.gateway]]\nname = "main"\nurl = "{gateway}"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "shim", str(source), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        address = process.stdout.readline().strip().rstrip("/")
        until(lambda: requests.get(f"{address}/readyz", timeout=60).ok)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_kernels_outlive_a_server_that_is_killed_and_none_outlives_one_that_stops(tmp_path: Path) -> None:
    write_site(tmp_path)

    def connected(address: str, kernel: str) -> Any:
        return dialled(f"{address.replace('http', 'ws')}/api/kernels/{kernel}/channels", "visit")

    with kernel_gateway() as gateway:

        def running_there() -> set[str]:
            return {one["id"] for one in requests.get(f"{gateway}/api/kernels", timeout=60).json()}

        with run_shim(tmp_path, gateway) as (process, address):
            answer = requests.post(f"{address}/api/kernels", json={"path": "/x"}, timeout=60)
            assert answer.status_code == 201
            kernel = answer.json()["id"]
            assert running_there().isdisjoint({kernel})
            with connected(address, kernel) as connection:
                assert connection.run(1) == "count 1\n"
            process.kill()
        with run_shim(tmp_path, gateway) as (process, address):
            with connected(address, kernel) as connection:
                assert connection.run(1) == "count 2\n"
                assert len(running_there()) == 1
                process.send_signal(signal.SIGTERM)
                assert connection.closed() == 1012
            assert process.wait(60) == 0
            assert running_there() == set()
        with run_shim(tmp_path, gateway) as (_, address):
            assert requests.get(f"{address}/api/kernels/{kernel}", timeout=60).status_code == 404
