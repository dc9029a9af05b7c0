"""A page may name cells, talk to widgets and answer questions; a kernel's messages come without the cells' sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.jsonutil import json_default
from jupyter_client.manager import KernelManager
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from shim.kernels.disclosure import way_out
from shim.kernels.filter import LEFT, MAX_QUESTIONS, Down, Filter, Payload, Questions, Recording, Up, recorded
from shim.kernels.messages import Message, parse, serialise
from shim.kernels.opening import Upstream
from shim.kernels.printed import MAX_LINE, Reading, Streams, without_source
from shim.kernels.rehearsal import MOST_KEPT, Rehearsal

CELLS = ("print('zero')", None, "name = input('?')", "", "x = '\ud800'")
HEADER = {
    "msg_id": "m1",
    "msg_type": "",
    "session": "page",
    "username": "",
    "date": "2026-11-21T10:00:00.123Z",
    "version": "5.2",
}
KERNEL = {**HEADER, "msg_id": "k1", "session": "kernel", "username": "ada"}
ERROR = {"ename": "NameError", "evalue": "name 'x' is not defined", "traceback": ["----> 1 SOURCE", "NameError"]}
BUSY, IDLE = ("iopub", "status", {"execution_state": "busy"}), ("iopub", "status", {"execution_state": "idle"})


class Socket:
    """A filter and the messages of its two sides."""

    def __init__(self, v1: bool, *, tracebacks: bool = False, recording: Recording | None = None) -> None:
        self.v1 = v1
        self.filter = Filter(CELLS, v1=v1, tracebacks=tracebacks, recording=recording)

    def up(self, kind: str, content: dict[str, Any], channel: str = "shell", **parts: Any) -> Up:
        message = Message(channel, {**HEADER, "msg_type": kind}, {}, {}, content)._replace(**parts)
        return self.filter.up(serialise(message, self.v1))

    def sent(self, kind: str, content: dict[str, Any], channel: str = "shell", **parts: Any) -> Message:
        forward, answers, note = self.up(kind, content, channel, **parts)
        assert forward is not None and (answers, note) == ((), "")
        return parse(forward, self.v1)

    def answered(
        self, kind: str, content: dict[str, Any], channel: str = "shell", **parts: Any
    ) -> list[tuple[str, str, Any]]:
        forward, answers, note = self.up(kind, content, channel, **parts)
        assert forward is None and note.startswith(f"refused {kind} on {channel}: ")
        return self.read(answers)

    def read(self, answers: tuple[Payload, ...]) -> list[tuple[str, str, Any]]:
        read = [parse(answer, self.v1) for answer in answers]
        assert all(message.parent_header["msg_id"] == "m1" for message in read)
        assert all(message.parent_header["session"] == "page" for message in read)
        assert len({message.header["msg_id"] for message in read}) == len(read)
        return [(message.channel, message.kind, message.content) for message in read]

    def said(self, kind: str, content: dict[str, Any], channel: str = "iopub", **parts: Any) -> tuple[Payload, Down]:
        message = Message(channel, {**KERNEL, "msg_type": kind}, {**HEADER, "msg_type": "execute_request"}, {}, content)
        payload = serialise(message._replace(**parts), self.v1)
        return payload, self.filter.down(payload)

    def heard(self, kind: str, content: dict[str, Any], channel: str = "iopub", **parts: Any) -> Message:
        forward = self.said(kind, content, channel, **parts)[1].forward
        assert forward is not None
        return parse(forward, self.v1)


@pytest.fixture(params=[False, True], ids=["default", "v1"])
def socket(request: pytest.FixtureRequest) -> Socket:
    return Socket(request.param)


def code_of(source: str, **asked: bool) -> dict[str, Any]:
    fixed = {"silent": False, "store_history": True, "user_expressions": {}}
    return {"code": source, **fixed, "allow_stdin": False, "stop_on_error": True, **asked}


@pytest.mark.parametrize("code", ["0", 0])
def test_a_cell_is_run_by_its_number_and_nothing_else_of_the_message_counts(socket: Socket, code: object) -> None:
    evil = {
        "silent": True,
        "store_history": False,
        "user_expressions": {"x": "evil"},
        "cell": "evil",
        "allow_stdin": 1,
        "stop_on_error": 0,
    }
    parts = {"parent_header": {"msg_id": "evil"}, "metadata": {"cellId": "evil"}, "buffers": (b"evil",)}
    sent = socket.sent("execute_request", {"code": code, **evil}, **parts)
    assert sent == Message(
        "shell", {**HEADER, "msg_type": "execute_request", "version": "5.3"}, {}, {}, code_of("print('zero')")
    )
    assert socket.sent("execute_request", {"code": "3"}).content == code_of("")
    asked = {"allow_stdin": True, "stop_on_error": False}
    assert socket.sent("execute_request", {"code": "2", **asked}).content == code_of("name = input('?')", **asked)


ONLY_NUMBERS = "Only cell numbers can be run here."
NO_NUMBERS = (
    "", "-1", "-0", "+1", "00", "01", " 0", "0 ", "0\n", "1.0", "1e0", "0x0", "0_0", "0;x", "print(1)", "٠", "０", "²", "9" * 10, "9" * 100_000,
    -1, 10**9, 10**30, 0.0, 0.5, True, False, None, [], ["0"], {"0": 0},
)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "why"),
    [
        *(({"code": code}, ONLY_NUMBERS) for code in NO_NUMBERS),
        ({}, ONLY_NUMBERS),
        ({"index": "0"}, ONLY_NUMBERS),
        ({"code": "5"}, "There is no cell 5 in this notebook."),
        ({"code": 999_999_999}, "There is no cell 999999999 in this notebook."),
        ({"code": "1"}, "Cell 1 is not a code cell."),
        ({"code": "4"}, "This cannot be sent to the kernel."),
    ],
)
def test_what_is_no_cell_is_refused_as_a_kernel_would_answer(socket: Socket, content: dict[str, Any], why: str) -> None:
    error = {"ename": "Refused", "evalue": why, "traceback": []}
    reply = ("shell", "execute_reply", {"status": "error", "execution_count": None, **error})
    assert socket.answered("execute_request", content) == [BUSY, ("iopub", "error", error), reply, IDLE]


@pytest.mark.parametrize(
    ("channel", "kind", "content", "passed"),
    [
        ("shell", "kernel_info_request", {"x": "evil"}, {}),
        ("control", "kernel_info_request", {}, {}),
        ("control", "interrupt_request", {"x": "evil"}, {}),
        ("shell", "comm_info_request", {}, {}),
        ("shell", "comm_info_request", {"target_name": "jupyter.widget", "x": 1}, {"target_name": "jupyter.widget"}),
        ("shell", "comm_msg", {"comm_id": "c", "data": {"a": [1]}, "x": 1}, {"comm_id": "c", "data": {"a": [1]}}),
        ("shell", "comm_close", {"comm_id": "c"}, {"comm_id": "c", "data": {}}),
        (
            "shell",
            "comm_open",
            {"comm_id": "c", "target_name": "t", "target_module": "os", "data": {}},
            {"comm_id": "c", "target_name": "t", "data": {}},
        ),
    ],
)
def test_what_else_passes_is_made_anew(
    socket: Socket, channel: str, kind: str, content: dict[str, Any], passed: dict[str, Any]
) -> None:
    parts = {"parent_header": {"msg_id": "evil"}, "metadata": {"version": "2.1.0", "x": "evil"}, "buffers": (b"1", b"")}
    sent = socket.sent(kind, content, channel, **parts)
    is_comm = kind in ("comm_open", "comm_msg", "comm_close")
    metadata = {"version": "2.1.0"} if kind == "comm_open" else {}
    header = {**HEADER, "msg_type": kind, "version": "5.3"}
    assert sent == Message(channel, header, {}, metadata, passed, (b"1", b"") if is_comm else ())


REFUSED = [
    ("shell", "inspect_request"), ("shell", "complete_request"), ("shell", "is_complete_request"), ("shell", "history_request"),
    ("shell", "shutdown_request"), ("shell", "interrupt_request"), ("shell", "debug_request"), ("shell", "apply_request"),
    ("control", "execute_request"), ("control", "shutdown_request"), ("control", "debug_request"), ("control", "create_subshell_request"),
    ("control", "comm_msg"), ("control", "comm_info_request"), ("stdin", "execute_request"), ("stdin", "comm_open"), ("stdin", "shutdown_request"),
    ("iopub", "execute_request"), ("iopub", "comm_msg"), ("shell", "input_reply"), ("control", "input_reply"), ("shell", "execute_reply"),
    ("hb", "kernel_info_request"), ("Shell", "execute_request"), ("shell", "Execute_request"), ("shell", "request"),
]  # fmt: skip


@pytest.mark.parametrize(("channel", "kind"), REFUSED)
def test_everything_else_is_refused_and_answered(socket: Socket, channel: str, kind: str) -> None:
    content = {"code": "0", "value": "evil", "comm_id": "evil", "target_name": "evil", "data": {}}
    first, *answers, last = socket.answered(kind, content, channel)
    assert (first, last) == (BUSY, IDLE)
    assert "evil" not in str(answers)
    error = {"ename": "Refused", "evalue": "Pages cannot ask this of a kernel.", "traceback": []}
    if not kind.endswith("_request"):
        assert answers == []
        return
    if kind == "execute_request":
        assert answers.pop(0) == ("iopub", "error", error)
        error["execution_count"] = None  # type: ignore[assignment]
    (reply,) = answers
    reply_channel = channel if channel in ("control", "stdin") else "shell"
    assert reply == (reply_channel, kind.replace("request", "reply"), {"status": "error", **error})


@pytest.mark.parametrize("kind", ["comm_open", "comm_msg", "comm_close", "comm_info_request"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"comm_id": ""},
        {"comm_id": 1},
        {"comm_id": "x" * 257},
        {"data": []},
        {"data": None},
        {"target_name": 1},
        {"target_name": "x" * 257},
    ],
)
def test_messages_of_widgets_have_the_parts_that_kernels_rely_on(
    socket: Socket, kind: str, wrong: dict[str, Any]
) -> None:
    fields = {"comm_info_request": ["target_name"], "comm_open": ["comm_id", "data", "target_name"]}.get(
        kind, ["comm_id", "data"]
    )
    content = {"comm_id": "c", "target_name": "t", "data": {}, **wrong}
    if next(iter(wrong)) in fields:
        answers = socket.answered(kind, content)
        assert (answers[0], answers[-1]) == (BUSY, IDLE)
        assert len(answers) == (3 if kind.endswith("request") else 2)
    else:
        assert socket.sent(kind, content).kind == kind


@pytest.mark.parametrize(
    "payload",
    ["", "{}", "x", b"", b"\0" * 100, '{"channel":"shell","header":{"msg_type":"execute_request"},"content":{}}'],
)
def test_what_has_no_readable_header_is_dropped(socket: Socket, payload: Payload) -> None:
    forward, answers, note = socket.filter.up(payload)
    assert (forward, answers) == (None, ())
    assert note.startswith("dropped a message: ")


def test_escapes_and_doubled_keys_do_not_help() -> None:
    header = json.dumps({**HEADER, "msg_type": "X"}).replace("X", r"execute\u005frequest")
    text = f'{{"channel":"shell","header":{header},"content":{{"code":"import os"}}}}'
    _, answers, _ = Socket(False).filter.up(text)
    assert ONLY_NUMBERS in str(answers)
    doubled = text.replace('"code"', '"code":"0","code"')
    assert Socket(False).filter.up(doubled) == Up(None, (), "dropped a message: a key stands twice in one object of it")


@pytest.mark.parametrize("date", ["", "now", "2020-99-99T99:99:99Z", "2020-01-01T00:00:00"])
@pytest.mark.parametrize("version", ["", "4.1", "x", "999"])
def test_kernels_get_a_version_and_a_date_that_they_can_read(socket: Socket, date: str, version: str) -> None:
    header = {**HEADER, "msg_type": "kernel_info_request", "date": date, "version": version}
    sent = socket.sent("kernel_info_request", {}, header=header)
    assert sent.header["version"] == "5.3"
    assert sent.header["date"].endswith("Z") and sent.header["date"] != date


def test_answers_have_what_clients_of_default_framing_look_at() -> None:
    for answer in Socket(False).up("inspect_request", {}).answers:
        assert isinstance(answer, str)
        message = json.loads(answer)
        assert message["msg_id"] == message["header"]["msg_id"]
        assert message["msg_type"] == message["header"]["msg_type"]
        assert message["buffers"] == []


def test_answers_name_the_session_of_the_kernel(socket: Socket) -> None:
    def sessions() -> set[str]:
        return {parse(answer, socket.v1).header["session"] for answer in socket.up("inspect_request", {}).answers}

    assert sessions() == {""}
    socket.said("status", {"execution_state": "idle"})
    assert sessions() == {"kernel"}


def ask(socket: Socket, name: str = "q1") -> None:
    header = {**KERNEL, "msg_id": name, "msg_type": "input_request"}
    payload, down = socket.said("input_request", {"prompt": "?", "password": False}, "stdin", header=header)
    assert down == Down(payload)


@pytest.mark.parametrize(
    "parent", [{}, {"msg_id": "q1"}, {"msg_id": ""}, {"msg_id": "q1", "session": "evil", "x": "evil"}]
)
def test_a_question_is_answered_once(socket: Socket, parent: dict[str, Any]) -> None:
    content = {"value": "Ada", "status": "ok", "x": "evil"}
    assert socket.answered("input_reply", content, "stdin", parent_header=parent) == [BUSY, IDLE]
    ask(socket)
    sent = socket.sent("input_reply", content, "stdin", parent_header=parent, metadata={"x": 1}, buffers=(b"x",))
    request = {**KERNEL, "msg_id": "q1", "msg_type": "input_request"}
    header = {**HEADER, "msg_type": "input_reply", "version": "5.3"}
    assert sent == Message("stdin", header, request, {}, {"value": "Ada"})
    assert socket.answered("input_reply", content, "stdin", parent_header=parent) == [BUSY, IDLE]


@pytest.mark.parametrize(
    ("content", "parent"),
    [
        ({}, {}),
        ({"value": 1}, {}),
        ({"value": None}, {}),
        ({"value": "x"}, {"msg_id": "other"}),
        ({"value": "x"}, {"msg_id": ["q1"]}),
        ({"value": "x"}, {"msg_id": 1}),
    ],
)
def test_what_answers_no_question_is_refused_and_the_question_stays(
    socket: Socket, content: dict[str, Any], parent: dict[str, Any]
) -> None:
    ask(socket)
    assert socket.answered("input_reply", content, "stdin", parent_header=parent) == [BUSY, IDLE]
    assert socket.sent("input_reply", {"value": "x"}, "stdin").content == {"value": "x"}


def test_questions_end_with_the_cell_that_asked(socket: Socket) -> None:
    ask(socket)
    socket.said("status", {"execution_state": "idle"}, parent_header={"msg_id": "other"})
    socket.said("status", {"execution_state": "busy"})
    ask(socket, "q2")
    assert socket.sent("input_reply", {"value": ""}, "stdin").parent_header["msg_id"] == "q2"
    socket.said("status", {"execution_state": "idle"})
    assert socket.answered("input_reply", {"value": ""}, "stdin")


def test_questions_are_bounded(socket: Socket) -> None:
    for number in range(MAX_QUESTIONS + 1):
        ask(socket, f"q{number}")
    assert socket.answered("input_reply", {"value": ""}, "stdin", parent_header={"msg_id": "q0"})
    for number in range(MAX_QUESTIONS, 0, -1):
        assert socket.sent("input_reply", {"value": ""}, "stdin").parent_header["msg_id"] == f"q{number}"


def test_a_question_of_another_socket_cannot_be_answered(socket: Socket) -> None:
    ask(socket)
    other = Socket(socket.v1)
    assert other.answered("input_reply", {"value": "x"}, "stdin", parent_header={"msg_id": "q1"}) == [BUSY, IDLE]


def test_a_client_that_lost_its_socket_can_answer_on_the_next(socket: Socket) -> None:
    questions: Questions = {}
    before, after = Socket(socket.v1), Socket(socket.v1)
    before.filter = Filter(CELLS, v1=socket.v1, tracebacks=False, questions=questions)
    after.filter = Filter(CELLS, v1=socket.v1, tracebacks=False, questions=questions)
    ask(before)
    sent = after.sent("input_reply", {"value": "Ada"}, "stdin", parent_header={"msg_id": "q1"})
    assert sent.content == {"value": "Ada"}
    assert before.answered("input_reply", {"value": "Ada"}, "stdin") == [BUSY, IDLE]
    ask(before, "q2")
    after.said("status", {"execution_state": "idle"})
    assert questions == {}


@pytest.mark.parametrize(
    ("prompt", "end"),
    [
        *((prompt, "continue") for prompt in ("(Pdb) ", "ipdb> ", "ipdb>", "(Pdb++) ", "((Pdb)) ", "\x1b[32mipdb>\x1b[0m ", "(trepan3k) ")),
        ("In [1]: ", "exit"),
        *((prompt, "\x04") for prompt in (">>> ", "In : ", "... ", "...: ")),
        *((prompt, None) for prompt in ("", "?", "> ", "PDB: ", "PDB id> ", "Name (Pdb): ", "In: which town? ", None, 3)),
    ],
)  # fmt: skip
def test_no_reader_is_put_at_a_debugger(socket: Socket, prompt: object, end: str | None) -> None:
    assert way_out(prompt) == end
    header = {**KERNEL, "msg_id": "q1", "msg_type": "input_request"}
    content = {"prompt": prompt, "password": False}
    payload, down = socket.said("input_request", content, "stdin", header=header)
    if end is None:
        assert down == Down(payload)
        return
    assert down.forward is not None and down.answer is not None
    told, reply = parse(down.forward, socket.v1), parse(down.answer, socket.v1)
    assert (told.channel, told.kind, told.content) == ("iopub", "stream", {"name": "stderr", "text": LEFT})
    assert told.parent_header == {**HEADER, "msg_type": "execute_request"}
    assert (reply.channel, reply.kind, reply.content) == ("stdin", "input_reply", {"value": end})
    assert reply.parent_header == header
    assert socket.answered("input_reply", {"value": "evil"}, "stdin", parent_header={"msg_id": "q1"}) == [BUSY, IDLE]
    again = socket.said("input_request", content, "stdin", header=header)[1]
    assert again.forward is None and again.answer is not None


FRAMES = 'Traceback (most recent call last):\n  File "/tmp/1.py", line 3, in f\n    SECRET\n    ~^~\n'
GROUP = (
    "  + Exception Group Traceback (most recent call last):\n  |   File \"/tmp/1.py\", line 2, in <module>\n  |     SECRET\n"
    "  |     ^^^^^^\n  | ExceptionGroup: g (1 sub-exception)\n  +-+---------------- 1 ----------------\n    | ValueError: 1\n"
    "    +------------------------------------\n"
)  # fmt: skip
CELL = (
    "ZeroDivisionError        Traceback (most recent call last)\nCell In[3], line 1\n----> 1 SECRET\n      2 SECRET\n\n"
    "ZeroDivisionError: division by zero\n"
)  # fmt: skip
QUOTING = [
    ("/tmp/ipykernel_7/4.py:3: UserWarning: one\n  SECRET\n", "UserWarning: one\n"),
    ("<ipython-input-3-ab>:1: Odd: one\n  SECRET\nafter\n", "Odd: one\nafter\n"),
    ("WARNING:py.warnings:/a.py:1: UserWarning: one\n  SECRET\n\n", "WARNING:py.warnings:UserWarning: one\n\n"),
    (" 9%|# | 1/9 [00:01, 3.1it/s]/a.py:3: W: one\ntwo\n\n    three\n  SECRET\n\r  9%|", " 9%|# | 1/9 [00:01, 3.1it/s]W: one\ntwo\n\n    three\n\r  9%|"),
    ("a.py:3: W: one\n  SECRET\nObject allocated at (most recent call last):\n  File \"a.py\", lineno 1\n    SECRET\n", "W: one\nObject allocated at (most recent call last):\n"),
    (f"ERROR:root:failed\n{FRAMES}KeyError: 'a'\n  of a message\n", "ERROR:root:failed\nTraceback (most recent call last):\nKeyError: 'a'\n  of a message\n"),
    (f"{FRAMES}A: a\n\nDuring handling\n\n{FRAMES}B: b\n", "Traceback (most recent call last):\nA: a\n\nDuring handling\n\nTraceback (most recent call last):\nB: b\n"),
    (f"50 %{FRAMES}A: a\n", "50 %Traceback (most recent call last):\nA: a\n"),
    (FRAMES.partition("\n")[2] + "after\n", "after\n"),
    (GROUP, "".join(GROUP.splitlines(True)[:1] + GROUP.splitlines(True)[4:])),
    (CELL, CELL.splitlines(True)[0] + CELL.splitlines(True)[-1]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "left"), QUOTING)
def test_warnings_and_tracebacks_on_stderr_quote_no_source(socket: Socket, text: str, left: str) -> None:
    assert socket.heard("stream", {"name": "stderr", "text": text}).content == {"name": "stderr", "text": left}
    open_minded = Socket(socket.v1, tracebacks=True)
    payload, down = open_minded.said("stream", {"name": "stderr", "text": text})
    assert down.forward is payload
    message = spoken("iopub", "stream", {"name": "stderr", "text": text})
    assert recorded(json_copy([message]), tracebacks=False)[0].content["text"] == left
    # Where somebody prints it deliberately it is no matter of ours.
    payload, down = Socket(socket.v1).said("stream", {"name": "stdout", "text": text})
    assert down.forward is payload


PLACE = (
    "\x1b[32m----> 2\x1b[39m SECRET\n\x1b[32m      3\x1b[39m SECRET\n\n",
    "-> SECRET\n",
)  # fmt: skip


@pytest.mark.parametrize("source", PLACE)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_place_where_a_debugger_stops_is_not_shown(socket: Socket, name: str, source: str) -> None:
    place = f"begun\n> \x1b[32m/tmp/1.py\x1b[39m(\x1b[92m2\x1b[39m)\x1b[36m<module>\x1b[39m\x1b[34m()\x1b[39m\n{source}went on\n"
    assert socket.heard("stream", {"name": name, "text": place}).content["text"] == "begun\nwent on\n"
    assert socket.said("stream", {"name": name, "text": place[6:-8]})[1] == Down(None)


@given(st.sampled_from([text for text, _ in QUOTING]), st.data())
def test_no_way_of_cutting_a_stream_shows_source(text: str, data: st.DataObject) -> None:
    streams, shown, at = Streams(), "", 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text)))
        shown += streams.read("stderr", text[at : at + size])
        at += size
    assert "SECRET" not in shown and "\n    ~" not in shown
    assert shown.count("\n") >= without_source(text, Reading())[0].count("\n")


WORDS = st.sampled_from(
    ["\r", "\n", "  0%|", " 33%|###", "  - an item", "INFO:root:a: b\n", "12:30:01: ready\n", "    indented\n", "> ", "|", "1/3", "\r\n", "é"]
)  # fmt: skip


@given(st.lists(WORDS), st.sampled_from(["stdout", "stderr"]))
def test_progress_bars_and_logs_pass_as_they_are_and_at_once(pieces: list[str], name: str) -> None:
    streams = Streams()
    assert [streams.read(name, piece) for piece in pieces] == pieces


@given(st.lists(st.text()), st.sampled_from(["stdout", "stderr"]))
def test_any_text_can_be_printed(pieces: list[str], name: str) -> None:
    streams = Streams()
    for piece in pieces:
        assert len(streams.read(name, piece)) <= sum(map(len, pieces))


def test_of_a_line_without_end_little_is_remembered() -> None:
    reading = Reading()
    for _ in range(50):
        left, reading = without_source("\r 50 %" * 1000, reading)
        assert left and len(reading.line) <= 6
    for _ in range(50):
        _, reading = without_source("." * 1000, reading)
    assert len(reading.line) == MAX_LINE
    assert without_source("/a.py:1: W: " + "x" * 2 * MAX_LINE, Reading())[1].line
    streams = Streams()
    streams.read("stderr", "/a.py:1: W: " + "x" * 2 * MAX_LINE)
    assert streams.read("stderr", "\n  SECRET\n") == "\n"


def test_each_cell_begins_anew(socket: Socket) -> None:
    socket.said("stream", {"name": "stderr", "text": "<>:1: SyntaxWarning: without source\n"})
    socket.said("execute_input", {"code": "", "execution_count": 1})
    payload, down = socket.said("stream", {"name": "stderr", "text": "  - an item\n"})
    assert down.forward is payload


def test_printed_text_that_is_not_quite_unicode_still_arrives(socket: Socket) -> None:
    header = json.dumps({**KERNEL, "msg_type": "stream"}).encode()
    content = b'{"name":"stderr","text":"\\ud800 a.py:1: W: w\\n  SECRET\\n"}'
    forward = (
        Filter(CELLS, v1=True, tracebacks=False)
        .down(serialize_msg_to_ws_v1([header, b"{}", b"{}", content], "iopub"))
        .forward
    )
    assert forward is not None
    assert parse(forward, True).content["text"] == "? W: w\n"
    assert socket.said("stream", {"name": "stderr", "text": ["  SECRET"]})[1] == Down(None)


VERBATIM: list[tuple[str, str, dict[str, Any]]] = [
    ("iopub", "stream", {"name": "stderr", "text": "traceback: SOURCE"}),
    ("iopub", "display_data", {"data": {"text/plain": "x"}, "metadata": {}, "transient": {}}),
    ("iopub", "update_display_data", {"data": {"text/plain": "x"}, "metadata": {}, "transient": {}}),
    ("iopub", "execute_result", {"data": {"text/plain": "x"}, "metadata": {}, "execution_count": 1}),
    ("iopub", "clear_output", {"wait": False}),
    ("iopub", "comm_open", {"comm_id": "c", "target_name": "t", "data": {}}),
    ("iopub", "comm_msg", {"comm_id": "c", "data": {"state": {"value": "é"}}}),
    ("iopub", "comm_close", {"comm_id": "c", "data": {}}),
    ("shell", "comm_info_reply", {"status": "ok", "comms": {}}),
    ("control", "interrupt_reply", {"status": "ok"}),
]


@pytest.mark.parametrize(("channel", "kind", "content"), VERBATIM)
def test_outputs_and_widgets_pass_as_they_are(socket: Socket, channel: str, kind: str, content: dict[str, Any]) -> None:
    payload, down = socket.said(kind, content, channel, buffers=(b"x",) * 100)
    assert down.forward is payload and down.state == ""


@pytest.mark.parametrize("state", ["starting", "busy", "idle", "restarting", "dead"])
def test_the_state_of_the_kernel_is_told(socket: Socket, state: str) -> None:
    payload, down = socket.said("status", {"execution_state": state})
    assert down == Down(payload, state)
    assert socket.said("status", {"execution_state": "x" * 1000})[1].state == ""
    assert socket.said("status", {})[1] == Down(None)


@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("iopub", "iopub_welcome"), ("iopub", "debug_event"), ("iopub", "shutdown_reply"), ("iopub", "execute_reply"), ("iopub", "input_request"),
        ("shell", "history_reply"), ("shell", "inspect_reply"), ("shell", "complete_reply"), ("shell", "shutdown_reply"), ("shell", "error"),
        ("shell", "stream"), ("shell", "comm_msg"), ("control", "debug_reply"), ("control", "execute_reply"), ("stdin", "stream"),
        ("stdin", "execute_input"), ("hb", "stream"), ("iopub", "Stream"), ("iopub", ""),
    ],
)  # fmt: skip
def test_everything_else_of_a_kernel_stays_there(socket: Socket, channel: str, kind: str) -> None:
    assert socket.said(kind, {"name": "stdout", "text": "SOURCE", "execution_state": "idle"}, channel)[1] == Down(None)


@pytest.mark.parametrize(
    "payload",
    ["", "{}", "x", b"", b"\0" * 100, '{"channel":"iopub","header":{"msg_type":"error"},"content":1}', "[" * 100_000],
)
def test_what_cannot_be_read_stays_there(socket: Socket, payload: Payload) -> None:
    assert socket.filter.down(payload) == Down(None)


def test_the_source_that_kernels_repeat_is_taken_out(socket: Socket) -> None:
    parts = {
        "metadata": {"code": "SOURCE"},
        "parent_header": {**HEADER, "code": "SOURCE", "msg_type": ["SOURCE"]},
        "buffers": (b"SOURCE",),
    }
    heard = socket.heard("execute_input", {"code": "SOURCE", "execution_count": 7, "x": "SOURCE"}, **parts)
    parent = {name: value for name, value in HEADER.items() if name != "msg_type"}
    assert heard == Message(
        "iopub", {**KERNEL, "msg_type": "execute_input"}, parent, {}, {"code": "", "execution_count": 7}
    )


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (
            {"status": "ok", "execution_count": 2, "payload": ["SOURCE"], "user_expressions": {"x": 1}},
            {"status": "ok", "execution_count": 2},
        ),
        ({"status": "aborted", **ERROR}, {"status": "aborted", "execution_count": None}),
        (
            {"status": "error", "execution_count": 2, "engine_info": "SOURCE", **ERROR},
            {"status": "error", "execution_count": 2, **ERROR, "traceback": []},
        ),
        (
            {"status": "SOURCE", "evalue": 1},
            {"status": "error", "execution_count": None, "ename": "", "evalue": "", "traceback": []},
        ),
        (
            {"execution_count": "SOURCE"},
            {"status": "error", "execution_count": None, "ename": "", "evalue": "", "traceback": []},
        ),
        (
            {"status": ["SOURCE"], "execution_count": True},
            {"status": "error", "execution_count": None, "ename": "", "evalue": "", "traceback": []},
        ),
    ],
)
def test_replies_say_how_it_went_and_no_more(socket: Socket, content: dict[str, Any], left: dict[str, Any]) -> None:
    assert socket.heard("execute_reply", content, "shell", metadata={"started": "x"}).content == left


def test_errors_come_without_traceback_unless_the_author_wants_it(socket: Socket) -> None:
    assert socket.heard("error", {**ERROR, "x": "SOURCE"}).content == {**ERROR, "traceback": []}
    open_minded = Socket(socket.v1, tracebacks=True)
    assert open_minded.heard("error", {**ERROR, "x": "SOURCE"}).content == ERROR
    assert (
        open_minded.heard("execute_reply", {"status": "error", **ERROR}, "shell").content["traceback"]
        == ERROR["traceback"]
    )
    assert open_minded.heard("execute_input", {"code": "SOURCE"}).content == {"code": "", "execution_count": 0}


@pytest.mark.parametrize(
    "escape",
    [
        "traceback",
        "tr\\u0061ceback",
        "\\u0074raceback",
        "trace\\u0062ack",
        "traceb\\u0061ck",
        "traceb\\u0061\\u0063\\u006B",
    ],
)
@pytest.mark.parametrize("kind", ["comm_open", "comm_msg"])
def test_errors_in_a_widget_that_shows_outputs_come_without_traceback(socket: Socket, kind: str, escape: str) -> None:
    shown = {"output_type": "error", **ERROR}
    content = {
        "comm_id": "c",
        "target_name": "t",
        "data": {"state": {"outputs": [{"a": [shown]}], "traceback": "a word"}},
    }
    message = Message("iopub", {**KERNEL, "msg_type": kind}, {}, {"version": "2.1.0"}, content, (b"1", b"2"))
    # In a buffer the word means nothing, and both framings have room for it.
    payload = serialise(message, socket.v1)
    assert isinstance(payload, bytes)
    marked = json.dumps(content).replace('"traceback": [', f'"{escape}": [')
    if socket.v1:
        parts = [json.dumps(part).encode() for part in (message.header, {}, message.metadata)]
        payload = serialize_msg_to_ws_v1([*parts, marked.encode(), b"1", b"2"], "iopub")
    else:
        payload = serialise(message._replace(content={"X": 1}), False).replace(b'{"X":1}', marked.encode())  # type: ignore[arg-type, union-attr]
        grown = len(marked.encode()) - len(b'{"X":1}')
        starts = [int.from_bytes(payload[at : at + 4], "big") for at in (4, 8, 12)]
        payload = payload[:8] + b"".join((start + grown).to_bytes(4, "big") for start in starts[1:]) + payload[16:]
    forward = socket.filter.down(payload).forward
    assert forward is not None
    shown["traceback"] = []
    assert parse(forward, socket.v1) == message
    assert Socket(socket.v1, tracebacks=True).filter.down(payload).forward is payload


def test_no_spelling_of_a_text_message_hides_a_traceback() -> None:
    message = Message(
        "iopub", {**KERNEL, "msg_type": "comm_msg"}, {}, {}, {"comm_id": "c", "data": {"outputs": [ERROR]}}
    )
    plain = serialise(message, False)
    assert isinstance(plain, str)
    for at, letter in enumerate("traceback"):
        spelled = f"{'traceback'[:at]}\\u{ord(letter):04x}{'traceback'[at + 1 :]}"
        forward = Socket(False).filter.down(plain.replace("traceback", spelled)).forward
        assert forward is not None
        assert parse(forward, False).content["data"] == {"outputs": [{**ERROR, "traceback": []}]}


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_clients_are_not_told_of_features_that_would_be_refused(socket: Socket, channel: str) -> None:
    info = {
        "status": "ok",
        "protocol_version": "5.3",
        "language_info": {"name": "python"},
        "banner": "b",
        "help_links": [],
    }
    content = {**info, "supported_features": ["kernel subshells", "debugger"], "debugger": True}
    assert socket.heard("kernel_info_reply", content, channel).content == {**info, "supported_features": []}


def test_an_error_that_is_not_quite_unicode_still_arrives() -> None:
    header = json.dumps({**KERNEL, "msg_type": "error"}).encode()
    payload = serialize_msg_to_ws_v1(
        [header, b"{}", b"{}", b'{"ename":"E","evalue":"\xff \\ud800","traceback":[]}'], "iopub"
    )
    forward = Filter(CELLS, v1=True, tracebacks=False).down(payload).forward
    assert forward is not None
    assert parse(forward, True).content == {"ename": "E", "evalue": "\ufffd ?", "traceback": []}


def spoken(channel: str, kind: str, content: dict[str, Any]) -> Message:
    header = {**KERNEL, "msg_id": f"{kind} {content.get('execution_state')}", "msg_type": kind}
    return Message(channel, header, {**HEADER, "msg_id": "ahead"}, {}, content)


SPOKEN = [
    spoken("iopub", "status", {"execution_state": "busy"}),
    spoken("iopub", "execute_input", {"code": "SOURCE", "execution_count": 1}),
    spoken("shell", "execute_reply", {"status": "ok", "execution_count": 1, "payload": ["SOURCE"]}),
    spoken("iopub", "stream", {"name": "stdout", "text": "zero\n"}),
    spoken("iopub", "comm_open", {"comm_id": "c", "target_name": "t", "data": {"outputs": [{**ERROR}]}}),
    spoken("iopub", "debug_event", {"x": "SOURCE"}),
    spoken("stdin", "input_request", {"prompt": "?"}),
    spoken("shell", "kernel_info_reply", {}),
    spoken("iopub", "status", {"execution_state": "idle"}),
]
PLAYED = [
    ("iopub", "execute_input", {"code": "", "execution_count": 1}),
    ("iopub", "stream", {"name": "stdout", "text": "zero\n"}),
    ("iopub", "comm_open", {"comm_id": "c", "target_name": "t", "data": {"outputs": [{**ERROR, "traceback": []}]}}),
    ("shell", "execute_reply", {"status": "ok", "execution_count": 1}),
]


def test_a_cell_that_was_run_ahead_is_played_once(socket: Socket) -> None:
    kept = recorded(json_copy(SPOKEN), tracebacks=False)
    assert [(message.channel, message.kind, message.content) for message in kept] == PLAYED
    recording = {0: kept, 2: ()}
    warm = Socket(socket.v1, recording=recording)
    forward, answers, note = warm.up("execute_request", {"code": "0"})
    assert (forward, note) == (None, "")
    assert warm.read(answers) == [BUSY, *PLAYED, IDLE]
    assert {parse(answer, socket.v1).header["session"] for answer in answers} == {"kernel"}
    assert list(recording) == [2]
    assert warm.sent("execute_request", {"code": "0"}).content == code_of("print('zero')")
    assert warm.sent("execute_request", {"code": "3"}).content == code_of("")
    assert warm.read(warm.up("execute_request", {"code": 2}).answers) == [BUSY, IDLE]


def test_sockets_of_one_kernel_share_what_was_recorded(socket: Socket) -> None:
    recording: Recording = {}
    first, second = Socket(socket.v1, recording=recording), Socket(socket.v1, recording=recording)
    recording[0] = recorded(json_copy(SPOKEN), tracebacks=False)
    assert first.up("execute_request", {"code": 0}).answers
    assert second.sent("execute_request", {"code": 0}).content == code_of("print('zero')")


class Talkative(Rehearsal):
    """A rehearsal whose kernel prints as many bytes as a cell says, without a gateway between."""

    def __init__(self, *cells: str) -> None:
        super().__init__(Upstream("ws://unused", (), None), cells, tracebacks=False)
        self.said: list[Message] = []
        self._socket.send = self.sent  # type: ignore[assignment]

    def sent(self, payload: Payload, opcode: int) -> None:
        request = parse(payload, False)
        printed = {"name": "stdout", "text": "x" * int(request.content["code"])}
        reply = spoken("shell", "execute_reply", {"status": "ok", "execution_count": 1})
        said = [spoken("iopub", "stream", printed), reply, spoken("iopub", "status", {"execution_state": "idle"})]
        self.said = [message._replace(parent_header=request.header) for message in said]

    def _message(self) -> Payload:
        return serialise(self.said.pop(0), False)


def test_of_one_kernel_only_so_much_is_recorded_and_the_other_cells_run_again() -> None:
    most = str(MOST_KEPT * 2 // 5)
    assert list(Talkative(most, str(MOST_KEPT), most, most, "3")._recording()) == [0, 2, 4]


def json_copy(messages: list[Message]) -> list[Message]:
    return [parse(serialise(message, True), True, trusted=True) for message in messages]


class Gateway:
    """A real kernel, and between its sockets and the two framings what a gateway does."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self.heard: list[Message] = []
        self.filters = {v1: Filter(LIVE, v1=v1, tracebacks=False) for v1 in (True, False)}

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", **parts: Any) -> None:
        message = Message(channel, {**HEADER, "msg_id": f"m{len(self.heard)}", "msg_type": kind}, {}, {}, content)
        forwards = [filter.up(serialise(message._replace(**parts), v1)).forward for v1, filter in self.filters.items()]
        assert isinstance(forwards[0], bytes) and forwards[1] is not None
        assert parse(forwards[0], True) == parse(forwards[1], False)
        socket = getattr(self.client, f"{channel}_channel").socket
        self.client.session.send_raw(socket, deserialize_msg_from_ws_v1(forwards[0])[1])

    def answer(self, times: int) -> None:
        """Let the filter answer what the kernel asks."""
        for _ in range(times):
            assert self.pass_on("stdin").answer is not None

    def listen(self, channel: str, kind: str, state: str | None = None) -> Message:
        """Pass on what comes on a channel, until there is such a message."""
        while True:
            down = self.pass_on(channel)
            if down.forward is not None and self.heard[-1].kind == kind and state in (None, down.state):
                return self.heard[-1]

    def pass_on(self, channel: str) -> Down:
        """Pass on the next message of a channel."""
        session, stream = self.client.session, getattr(self.client, f"{channel}_channel").socket
        if stream.poll(20_000):
            _, (signature, *parts) = session.feed_identities(stream.recv_multipart())
            fields = session.deserialize([signature, *parts])
            default = json.dumps({**fields, "channel": channel, "buffers": []}, default=json_default)
            ours = [self.filters[True].down(serialize_msg_to_ws_v1(parts, channel)), self.filters[False].down(default)]
            assert ours[0].state == ours[1].state
            assert all("SECRET" not in str(down.forward) for down in ours)
            if ours[0].answer is not None:
                assert isinstance(ours[0].answer, bytes)
                session.send_raw(stream, deserialize_msg_from_ws_v1(ours[0].answer)[1])
            if ours[0].forward is None or ours[1].forward is None:
                assert [down.forward for down in ours] == [None, None]
                return ours[0]
            self.heard.append(parse(ours[0].forward, True))
            assert self.heard[-1][4] == parse(ours[1].forward, False)[4]
            return ours[0]
        raise AssertionError(f"nothing came on {channel}")


LIVE = (
    "get_ipython().set_next_input('SECRET')\nprint('fine')  # SECRET",
    "1 / 0  # SECRET",
    "print('Hello', input('Name? '))  # SECRET",
    "c = continue_ = 'SECRET'\nfor _ in range(2):\n    import pdb; pdb.set_trace()  # SECRET\nprint('went on')",
    "1 / 0  # SECRET",
    "%debug",
    "import code; code.interact(banner='', exitmsg='')\nprint('left')  # SECRET",
    "import IPython; IPython.embed(banner1='')\nprint('left')  # SECRET",
    "import logging, warnings\nwarnings.warn('careful')  # SECRET\ntry:\n    1 / 0  # SECRET\n"
    "except ZeroDivisionError:\n    logging.exception('failed')\nprint('left')",
)


def test_a_real_kernel_understands_what_it_gets_and_tells_no_source(tmp_path: Path) -> None:
    with zmq.Context() as context:
        manager = KernelManager(kernel_name="python3", context=context, connection_file=str(tmp_path / "kernel.json"))
        manager.start_kernel(cwd=str(tmp_path))
        client = manager.blocking_client()
        client.start_channels(hb=False)
        try:
            client.wait_for_ready(timeout=60)
            converse(Gateway(client))
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def converse(gateway: Gateway) -> None:
    gateway.ask("kernel_info_request", {})
    assert gateway.listen("shell", "kernel_info_reply").content["supported_features"] == []
    gateway.listen("iopub", "status", "idle")
    evil = {"user_expressions": {"x": "open('evil', 'w')"}}
    gateway.ask("execute_request", {"code": "0", **evil})
    # Without history kernels do not count on.
    assert gateway.listen("shell", "execute_reply").content == {"status": "ok", "execution_count": 1}
    assert gateway.listen("iopub", "execute_input").content == {"code": "", "execution_count": 1}
    assert gateway.listen("iopub", "stream").content == {"name": "stdout", "text": "fine\n"}
    gateway.listen("iopub", "status", "idle")
    gateway.ask("execute_request", {"code": 1})
    failure = {"ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": []}
    assert gateway.listen("shell", "execute_reply").content == {"status": "error", "execution_count": 2, **failure}
    assert gateway.listen("iopub", "error").content == failure
    gateway.listen("iopub", "status", "idle")
    gateway.ask("execute_request", {"code": "2", "allow_stdin": True})
    question = gateway.listen("stdin", "input_request")
    gateway.ask("input_reply", {"value": "Ada"}, "stdin", parent_header=question.header)
    assert gateway.listen("iopub", "stream").content["text"] == "Hello Ada\n"
    gateway.listen("iopub", "status", "idle")
    converse_with_debuggers(gateway)
    gateway.ask("interrupt_request", {}, "control")
    assert gateway.listen("control", "interrupt_reply").content["status"] == "ok"


def converse_with_debuggers(gateway: Gateway) -> None:
    """A kernel that asks for commands is answered by us; the test listens on stdin, else nobody would answer."""
    for cell, times, last in (
        (3, 2, "went on\n"),
        (4, 0, ""),
        (5, 1, ""),
        (6, 1, "left\n"),
        (7, 1, "left\n"),
        (8, 0, "left\n"),
    ):
        before = len(gateway.heard)
        gateway.ask("execute_request", {"code": cell, "allow_stdin": True})
        gateway.answer(times)
        gateway.listen("iopub", "status", "idle")
        said = [message for message in gateway.heard[before:] if message.kind == "stream"]
        assert sum(message.content["text"] == LEFT for message in said) == min(times, 1)
        printed = "".join(message.content["text"] for message in said if message.content["name"] == "stdout")
        assert printed.endswith(last)
    warned = "".join(message.content["text"] for message in said if message.content["name"] == "stderr")
    assert warned.endswith("Traceback (most recent call last):\nZeroDivisionError: division by zero\n")
    assert "UserWarning: careful\nERROR:root:failed\n" in warned
