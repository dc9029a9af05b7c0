"""Conversations over a kernel's WebSocket: what passes is what the model says, whatever comes from either side."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzzing import kernel_speech
from fuzzing.engine import Target
from fuzzing.kernel_model import (
    CELLS,
    HEADER,
    HEARD,
    RECORDED,
    REQUESTS,
    UnreadableError,
    World,
    check_sent,
    loosely,
    permitted,
    read,
)
from fuzzing.kernel_speech import SECRET, framed, header
from fuzzing.mutation import CHARACTERS, NUMBERS, NUMBERS_LONG, SURROGATES, data, text

from shim.kernels.filter import Filter
from shim.kernels.messages import Message

EVIL = "os.system('EVIL')"
STEPS = 8
"""Messages of one conversation."""
TYPES = (
    *sorted({kind for _, kind in REQUESTS}), "execute_request", "execute_request", "comm_msg", "comm_msg", "input_reply",
    "inspect_request", "complete_request", "history_request", "is_complete_request", "shutdown_request", "debug_request",
    "create_subshell_request", "connect_request", "abort_request", "usage_request", "apply_request", "execute_reply",
    "status", "stream", "error", "comm_info_reply", "Execute_request", "execute_request ", "execute_requеst", "", "_request",
)  # fmt: skip
CHANNELS = ("shell", "control", "stdin", "iopub", "Shell", "hb", "shell ", "", "ѕhell", "x" * 40, None, 0, ["shell"])
CODES = (
    "0", "2", "3", "5", "1", "4", "6", "00", "01", "-1", "-0", "+1", " 0", "0 ", "0\n", "0x0", "1e0", "0.0", "٠", "０", "²", "",
    "0;" + EVIL, EVIL, "9" * 9, "9" * 5000, 0, 2, 3, 5, 1, -1, 6, 10**9, 10**30, 0.0, 1.5, True, False, None, [0], ["0"], {"0": 0},
)  # fmt: skip
ODD = (
    None, True, False, 0, -1, 1.5, 1e300, 10**30, "", EVIL, "x" * 300, "é\u2028", "\0", [], {}, [[]], [EVIL], {EVIL: EVIL}, {"": {"": 0}},
    "2020-99-99T99:99:99Z", "2020-01-01T00:00:00", *SURROGATES,
)  # fmt: skip
KEYS = (
    *HEADER, "code", "silent", "store_history", "user_expressions", "allow_stdin", "stop_on_error", "comm_id", "target_name",
    "target_module", "data", "value", "status", "password", "buffers", "channel", "content", "subshell_id", "__proto__",
)  # fmt: skip
TOKENS = tuple(
    token.encode(errors="surrogatepass")
    for token in (
        *NUMBERS, *NUMBERS_LONG[:3], *CHARACTERS, *KEYS, "NaN", "-Infinity", "1e999", f'"code":"{EVIL}",', '"msg_type":"execute_request",',
        "{", "[" * 200, '"', "\\u0030", "\\ud800",
    )
)  # fmt: skip
SIZES = (
    struct.pack("<Q", 2**63), b"\xff" * 8,
    *(struct.pack(form, number) for form in ("<Q", "!I", "<I") for number in (0, 1, 5, 6, 7, 8, 12, 64, 65, 2**31, 2**32 - 1)),
)  # fmt: skip


class Step(NamedTuple):
    """One message; `exact` when nothing of a kernel's was changed, so that it is known what is in it."""

    up: bool
    payload: str | bytes
    exact: bool


class Conversation(NamedTuple):
    """One input."""

    v1: bool
    tracebacks: bool
    steps: list[Step]


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """The filter of a small notebook."""
    yield Target(make, check)


def make(random: Random) -> Conversation:
    """Some messages of both sides."""
    v1 = random.random() < 0.5
    return Conversation(v1, random.random() < 0.1, [_step(random, v1) for _ in range(STEPS)])


def _step(random: Random, v1: bool) -> Step:
    up = random.random() < 0.7
    if up:
        message, doubled = _request(random), random.random() < 0.1
        exact = random.random() < 0.75
    else:
        message, doubled = kernel_speech.message(random), False
        # What the model has to follow stays as it is.
        exact = random.random() < 0.8 or message["header"]["msg_type"] in ("input_request", "status")
    payload = framed(random, message, v1, doubled=doubled)
    if not exact and isinstance(payload, str):
        payload = text(random, payload, [token.decode(errors="replace") for token in TOKENS])
    elif not exact:
        payload = _damaged(random, payload)
    if random.random() < 0.01:
        payload = payload.encode(errors="replace") if isinstance(payload, str) else payload.decode("latin-1")
        exact = False
    return Step(up, payload, exact)


def _damaged(random: Random, payload: bytes) -> bytes:
    if random.random() < 0.6:
        return data(random, payload, TOKENS)
    size = random.choice(SIZES)
    at = random.randrange(13) * random.choice((4, 8))
    return payload[:at] + size + payload[at + len(size) :]


def _request(random: Random) -> dict[str, Any]:
    """A reader's message: usually one that may pass, or nearly."""
    channel, kind = random.choice(sorted(REQUESTS))
    if random.random() < 0.3:
        kind = random.choice(TYPES)
    if random.random() < 0.1:
        channel = random.choice(CHANNELS)
    content: dict[str, Any] = {"code": EVIL}
    if kind == "execute_request":
        asked = {
            "silent": False,
            "store_history": False,
            "user_expressions": {"x": EVIL},
            "allow_stdin": True,
            "stop_on_error": False,
        }
        content = {"code": random.choice(CODES[:4] if random.random() < 0.5 else CODES), **asked}
    elif kind.startswith("comm"):
        content = {
            "comm_id": "c1",
            "target_name": "jupyter.widget",
            "data": {"method": "update", "state": {"value": deepcopy(random.choice(ODD))}},
        }
    elif kind == "input_reply":
        content = {"value": EVIL, "status": "ok"}
    message = {
        "channel": channel,
        "header": header(random, kind),
        "parent_header": {},
        "metadata": {},
        "content": content,
        "buffers": [],
    }
    if random.random() < 0.3:
        message["parent_header"] = {"msg_id": f"question-{random.randrange(3)}", "code": EVIL}
    if random.random() < 0.2:
        message["metadata"] = {"version": "2.1.0", "cellId": EVIL}
    if random.random() < 0.2:
        message["buffers"] = [
            random.randbytes(random.choice((0, 1, 30))) for _ in range(random.choice((1, 2, 58, 59, 60, 63, 64)))
        ]
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        _change(random, message)
    return message


def _change(random: Random, message: dict[str, Any]) -> None:
    part = random.choice(("header", "header", "content", "content", "content", "metadata", "parent_header", ""))
    odd = deepcopy(random.choice(ODD))
    if random.random() < 0.05:
        for _ in range(random.choice((95, 97, 98, 99, 100, 101, 150))):
            odd = [odd] if random.random() < 0.5 else {"a": odd}
    inside = message.get(part) if part else message
    if isinstance(inside, dict) and random.random() < 0.8:
        known: Sequence[str] = [*inside, *random.sample(KEYS, 1)]
        inside[random.choice(known)] = odd
    elif isinstance(inside, dict) and inside:
        del inside[random.choice(list(inside))]
    for name in ("header", "content", "channel", "buffers"):
        message.setdefault(name, [] if name == "buffers" else None)
    if not isinstance(message["buffers"], list) or not all(isinstance(buffer, bytes) for buffer in message["buffers"]):
        message["buffers"] = []


def check(made: Conversation) -> None:
    """That each message becomes what the model says."""
    world = World()
    said = (
        ("iopub", "stream", {"name": "stdout", "text": "SAID"}),
        ("shell", "execute_reply", {"status": "ok", "execution_count": 1}),
    )
    recording = {
        RECORDED: tuple(Message(channel, header(Random(0), kind), {}, {}, content) for channel, kind, content in said)
    }
    judge = Filter(CELLS, v1=made.v1, tracebacks=made.tracebacks, recording=recording)
    for step in made.steps:
        if step.up:
            _check_up(judge, step.payload, made.v1, world)
        else:
            _check_down(judge, step, made, world)


def _check_up(judge: Filter, payload: str | bytes, v1: bool, world: World) -> None:
    forward, answers, note = judge.up(payload)
    # Of what was sent a line of the log repeats channel and type, which are words.
    assert len(note) < 300 and note.isprintable() and "os.system" not in note
    try:
        message = read(payload, v1)
    except UnreadableError:
        assert (forward, answers) == (None, ()) and note
        return
    expected = permitted(message, world)
    if isinstance(expected, dict):
        assert forward is not None and not answers and not note
        assert read(forward, v1)["content"] == expected["content"]
        check_sent(loosely(forward, v1), expected)
        return
    assert forward is None
    heard = [loosely(answer, v1) for answer in answers]
    for answer in heard:
        assert answer["parent_header"] == message["header"]
        assert "EVIL" not in json.dumps([answer["content"], answer["metadata"]])
    assert sum(map(len, answers)) < 20_000
    kinds = [(answer["channel"], answer["header"]["msg_type"]) for answer in heard]
    assert kinds[0] == kinds[-1] == ("iopub", "status")
    assert [heard[0]["content"], heard[-1]["content"]] == [{"execution_state": "busy"}, {"execution_state": "idle"}]
    _check_answers(message, expected, kinds[1:-1], bool(note))


def _check_answers(message: dict[str, Any], expected: str, kinds: list[tuple[str, str]], noted: bool) -> None:
    asked, channel = message["header"]["msg_type"], message["channel"]
    assert noted == (expected != "playback")
    if expected == "playback":
        assert kinds == [("iopub", "stream"), ("shell", "execute_reply")]
    elif not asked.endswith("_request"):
        assert not kinds
    else:
        reply = (channel if channel in ("control", "stdin") else "shell", asked.removesuffix("request") + "reply")
        assert kinds == [*([("iopub", "error")] if asked == "execute_request" else []), reply]


def _check_down(judge: Filter, step: Step, made: Conversation, world: World) -> None:
    forward, state, answer = judge.down(step.payload)
    assert state in ("", *kernel_speech.STATES)
    assert answer is None or (forward is not step.payload and kernel_speech.PROMPT in _plain(step.payload))
    if not step.exact:
        return
    sent = loosely(step.payload, made.v1)
    kind = sent["header"]["msg_type"]
    if kind not in HEARD.get(sent["channel"], ()):
        assert (forward, state) == (None, "")
        return
    if kind == "input_request" and sent["content"]["prompt"] == kernel_speech.PROMPT:
        _check_left(sent, forward, answer, made.v1)
        return
    assert answer is None
    # What a damaged message left open can make all of the next one source.
    printed = kind == "stream" and not made.tracebacks
    if printed and forward is None:
        return
    assert forward is not None
    message = loosely(forward, made.v1)
    assert message["header"] == sent["header"] and message["parent_header"]["msg_id"] == sent["parent_header"]["msg_id"]
    assert state == (message["content"]["execution_state"] if kind == "status" else "")
    for part in ("content", "metadata", "parent_header"):
        assert made.tracebacks or SECRET not in json.dumps(message[part])
    if kind in kernel_speech.UNTOUCHED and not printed:
        assert forward is step.payload
    assert set(message["content"]) == kernel_speech.heard(sent["content"], kind)
    world.hear(message)


def _check_left(asked: dict[str, Any], forward: str | bytes | None, answer: str | bytes | None, v1: bool) -> None:
    """That a debugger is ended by us, and the reader is told of it once at most and asked nothing."""
    assert answer is not None
    reply = loosely(answer, v1)
    assert (reply["channel"], reply["header"]["msg_type"]) == ("stdin", "input_reply")
    assert reply["content"] == {"value": "continue"} and reply["parent_header"]["msg_id"] == asked["header"]["msg_id"]
    if forward is not None:
        told = loosely(forward, v1)
        assert (told["channel"], told["header"]["msg_type"]) == ("iopub", "stream")
        assert kernel_speech.PROMPT not in json.dumps(told["content"])


def _plain(payload: str | bytes) -> str:
    """Whatever is an escape for itself, too."""
    text = payload if isinstance(payload, str) else payload.decode(errors="replace")
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
