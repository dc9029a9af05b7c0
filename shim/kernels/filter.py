"""What may pass between a reader's browser and a kernel: the browser may only name a cell.

Both directions are lists of what is allowed, by channel and type. A reader's message is never passed on but made anew
from constants and checked parts; what becomes of a kernel's is in `disclosure`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from shim.kernels.disclosure import (
    COMMS,
    INPUT,
    PASSING,
    QUESTION,
    STATUS,
    STREAM,
    is_rewritten,
    may_hold_traceback,
    recorded,
    reduced,
    strings,
    way_out,
)
from shim.kernels.messages import VERSION, Message, MessageError, Payload, glance, is_date, now, parse, serialise
from shim.kernels.printed import Streams

__all__ = ["MAX_NAME", "MAX_QUESTIONS", "Down", "Filter", "Payload", "Recording", "Up", "recorded"]

Recording = dict[int, tuple[Message, ...]]
"""Of a kernel whose first cells were run ahead: by cell what `recorded` kept of it."""

MAX_QUESTIONS = 16
"""Requests for input that may be open on one socket; the oldest is forgotten."""
MAX_NAME = 256
"""Characters of the id or target of a comm."""
LEFT = "A cell asked for commands, as debuggers and consoles do. Readers can give none, so that was ended.\n"
"""What readers get instead of a debugger."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_MAX_INDEX = 999_999_999
_STATES = frozenset({"starting", "busy", "idle", "restarting", "autorestarting", "terminating", "dead", "unknown"})


class Up(NamedTuple):
    """What becomes of a reader's message: what the kernel gets, what the reader gets, and why it was refused if so."""

    forward: Payload | None
    answers: tuple[Payload, ...] = ()
    note: str = ""


class Down(NamedTuple):
    """What becomes of a kernel's message; `state` is its execution state when the message is news of that.

    `answer` is what the kernel gets at once.
    """

    forward: Payload | None
    state: str = ""
    answer: Payload | None = None


class _Status(msgspec.Struct):
    execution_state: str


class _Printed(msgspec.Struct):
    name: str
    text: str


_STATUS_CONTENT = msgspec.json.Decoder(_Status)
_STREAM_CONTENT = msgspec.json.Decoder(_Printed)


class _RefusedError(Exception):
    """Raised for a message that may not pass; says why, for whoever sent it."""


class Question(NamedTuple):
    """A kernel's request for input that nobody answered yet."""

    header: dict[str, str]
    asker: Any
    """The id of the message that the kernel was running."""


Questions = dict[str, Question]
"""By the msg_id of the request."""


class Filter:
    """Judges all messages of one WebSocket; not for several threads.

    `cells` are the sources of code cells by index, None for other cells. A cell in `recording` is taken out of it and
    played to the reader instead of being run. `questions` are those the same client was asked on an earlier socket.
    """

    def __init__(
        self,
        cells: Sequence[str | None],
        *,
        v1: bool,
        tracebacks: bool,
        recording: Recording | None = None,
        questions: Questions | None = None,
    ) -> None:
        self._cells = cells
        self._v1 = v1
        self._tracebacks = tracebacks
        # Other sockets of the same kernel share it, also while it is empty.
        self._recording = {} if recording is None else recording
        self._questions = {} if questions is None else questions
        # Clients drop what follows an answer whose header names another session than the kernel's.
        self._session = ""
        self._streams = Streams()
        # What the kernel ran when a debugger was ended; readers are told so once.
        self._left: Any = None

    def up(self, payload: Payload) -> Up:
        """Judge a message of the reader; never raises."""
        try:
            message = parse(payload, self._v1)
            try:
                return self._judge(message)
            except _RefusedError as refused:
                why = str(refused)
            except Exception:
                # In doubt nothing passes.
                why = "This cannot be sent to the kernel."
            return Up(None, self._refusal(message, why), f"refused {message.kind} on {message.channel}: {why}")
        except MessageError as error:
            return Up(None, note=f"dropped a message: {error}")
        except Exception as error:
            return Up(None, note=f"dropped a message: {type(error).__name__}")

    def down(self, payload: Payload) -> Down:
        """Judge a message of the kernel; never raises."""
        try:
            return self._judge_down(payload)
        except Exception:
            return Down(None)

    def _judge(self, message: Message) -> Up:
        match message.channel, message.kind:
            case "shell", "comm_open" | "comm_msg" | "comm_close":
                return self._forward(message, _comm(message), _comm_metadata(message), message.buffers)
            case "shell", "execute_request":
                return self._execute(message)
            case ("shell" | "control", "kernel_info_request") | ("control", "interrupt_request"):
                return self._forward(message, {})
            case "shell", "comm_info_request":
                return self._forward(message, _target(message.content) if "target_name" in message.content else {})
            case "stdin", "input_reply":
                return self._reply(message)
        raise _RefusedError("Pages cannot ask this of a kernel.")

    def _execute(self, message: Message) -> Up:
        index = _index(message.content.get("code"))
        if index >= len(self._cells):
            raise _RefusedError(f"There is no cell {index} in this notebook.")
        source = self._cells[index]
        if source is None:
            raise _RefusedError(f"Cell {index} is not a code cell.")
        said = self._recording.pop(index, None)
        if said is not None:
            self._session = self._session or next((known.header.get("session", "") for known in said), "")
            answers = (self._status("busy"), *said, self._status("idle"))
            return Up(None, self._addressed(message, answers))
        content = {
            "code": source,
            "silent": False,
            # Else IPython shows results that a semicolon hides, and does not count. Readers cannot ask for history.
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": message.content.get("allow_stdin") is True,
            "stop_on_error": message.content.get("stop_on_error") is not False,
        }
        return self._forward(message, content)

    def _reply(self, message: Message) -> Up:
        """An input_reply passes once, as the answer to what the kernel asked; not all clients say which question."""
        value = message.content.get("value")
        if not isinstance(value, str):
            raise _RefusedError("This is no input.")
        asked = message.parent_header.get("msg_id") or next(reversed(self._questions), None)
        question = self._questions.pop(asked, None) if isinstance(asked, str) else None
        if question is None:
            raise _RefusedError("The kernel did not ask for input.")
        return self._forward(message, {"value": value}, parent=question.header)

    def _forward(
        self,
        message: Message,
        content: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        buffers: tuple[bytes, ...] = (),
        parent: dict[str, Any] | None = None,
    ) -> Up:
        """The message made anew; kernels adapt messages of other versions, and fail at impossible dates."""
        date = message.header["date"]
        header = {**message.header, "version": VERSION, "date": date if is_date(date) else now()}
        made = Message(message.channel, header, parent or {}, metadata or {}, content, buffers)
        return Up(serialise(made, self._v1))

    def _refusal(self, message: Message, why: str) -> tuple[Payload, ...]:
        """What a kernel would have sent: clients wait for the reply and for idle."""
        error = {"ename": "Refused", "evalue": why, "traceback": []}
        answers = [self._status("busy")]
        if message.kind == "execute_request":
            answers.append(self._made("iopub", "error", error))
        if message.kind.endswith("_request"):
            channel = message.channel if message.channel in ("control", "stdin") else "shell"
            count = {"execution_count": None} if message.kind == "execute_request" else {}
            reply = f"{message.kind.removesuffix('_request')}_reply"
            answers.append(self._made(channel, reply, {"status": "error", **count, **error}))
        return self._addressed(message, [*answers, self._status("idle")])

    def _status(self, state: str) -> Message:
        return self._made("iopub", "status", {"execution_state": state})

    def _made(self, channel: str, kind: str, content: dict[str, Any]) -> Message:
        header = {
            "msg_id": uuid4().hex,
            "msg_type": kind,
            "session": self._session,
            "username": "nbfolio",
            "date": now(),
            "version": VERSION,
        }
        return Message(channel, header, {}, {}, content)

    def _addressed(self, asked: Message, answers: Sequence[Message]) -> tuple[Payload, ...]:
        return tuple(serialise(answer._replace(parent_header=asked.header), self._v1) for answer in answers)

    def _judge_down(self, payload: Payload) -> Down:
        channel, kind, session, content = glance(payload, self._v1)
        self._session = session or self._session
        key = channel, kind
        if key == STATUS:
            return Down(payload, self._state(payload, content))
        if key == STREAM:
            return Down(payload) if self._tracebacks else self._print(payload, content)
        if key == QUESTION:
            return self._ask(payload)
        if key == INPUT:
            self._streams = Streams()
        if key in PASSING or (key in COMMS and (self._tracebacks or not may_hold_traceback(payload))):
            return Down(payload)
        if not (is_rewritten(key) or key in COMMS):
            return Down(None)
        message = parse(payload, self._v1, trusted=True)
        allowed = reduced(message, self._tracebacks)
        return Down(serialise(allowed, self._v1) if allowed else None)

    def _state(self, payload: Payload, content: bytes | msgspec.Raw) -> str:
        state = _STATUS_CONTENT.decode(content).execution_state
        if state == "idle" and self._questions:
            done = parse(payload, self._v1, trusted=True).parent_header.get("msg_id")
            for name in [name for name, asked in self._questions.items() if asked.asker == done]:
                del self._questions[name]
        return state if state in _STATES else ""

    def _print(self, payload: Payload, content: bytes | msgspec.Raw) -> Down:
        try:
            printed = _STREAM_CONTENT.decode(content)
        except ValueError:
            # Text that is not quite Unicode is mended.
            said = parse(payload, self._v1, trusted=True).content
            printed = msgspec.convert({"name": said.get("name"), "text": said.get("text")}, _Printed)
        text = self._streams.read(printed.name, printed.text)
        if text == printed.text:
            return Down(payload)
        if not text:
            return Down(None)
        message = parse(payload, self._v1, trusted=True)
        return Down(serialise(message._replace(content={**message.content, "text": text}), self._v1))

    def _ask(self, payload: Payload) -> Down:
        message = parse(payload, self._v1, trusted=True)
        asker = message.parent_header.get("msg_id")
        if (end := way_out(message.content.get("prompt"))) is not None:
            told, self._left = self._left is not None and asker == self._left, asker
            reply = self._made("stdin", "input_reply", {"value": end})._replace(parent_header=message.header)
            note = self._made("iopub", "stream", {"name": "stderr", "text": LEFT})
            note = note._replace(parent_header=strings(message.parent_header))
            return Down(None if told else serialise(note, self._v1), answer=serialise(reply, self._v1))
        name = message.header["msg_id"]
        # The newest stands last.
        self._questions.pop(name, None)
        self._questions[name] = Question(message.header, asker)
        if len(self._questions) > MAX_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        return Down(payload)


def _index(code: object) -> int:
    """A cell's number: a decimal string in its one canonical form, or an integer."""
    if isinstance(code, str) and _INDEX.fullmatch(code):
        return int(code)
    if type(code) is int and 0 <= code <= _MAX_INDEX:
        return code
    raise _RefusedError("Only cell numbers can be run here.")


def _comm(message: Message) -> dict[str, Any]:
    content = message.content
    comm, data = content.get("comm_id"), content.get("data", {})
    if not isinstance(comm, str) or not 0 < len(comm) <= MAX_NAME or not isinstance(data, dict):
        raise _RefusedError("This is no message of a widget.")
    target = _target(content) if message.kind == "comm_open" else {}
    return {"comm_id": comm, **target, "data": data}


def _comm_metadata(message: Message) -> dict[str, Any]:
    """Widgets that a page makes say which version of the widget protocol they speak."""
    version = message.metadata.get("version") if message.kind == "comm_open" else None
    return {"version": version} if isinstance(version, str) and len(version) <= MAX_NAME else {}


def _target(content: dict[str, Any]) -> dict[str, Any]:
    target = content.get("target_name")
    if not isinstance(target, str) or len(target) > MAX_NAME:
        raise _RefusedError("This is no name of a target.")
    return {"target_name": target}
