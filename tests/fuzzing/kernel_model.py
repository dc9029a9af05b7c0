"""What may pass between readers and kernels, said a second time: read with `json` alone, in no hurry."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from jupyter_client.jsonutil import parse_date
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1

CELLS = ("print('SOURCE-0')", None, "input('SOURCE-2')", "", None, "x = 'SOURCE-5'")
RECORDED = 5
HEADER = ("msg_id", "msg_type", "session", "username", "date", "version")
LIMITS = {"msg_id": 128, "msg_type": 64, "session": 128, "username": 256, "date": 64, "version": 16}
REQUESTS = {
    ("shell", "kernel_info_request"), ("control", "kernel_info_request"), ("control", "interrupt_request"),
    ("shell", "comm_info_request"), ("shell", "execute_request"), ("shell", "comm_open"), ("shell", "comm_msg"),
    ("shell", "comm_close"), ("stdin", "input_reply"),
}  # fmt: skip
HEARD = {
    "iopub": {
        "stream", "display_data", "update_display_data", "execute_result", "error", "status", "clear_output",
        "comm_open", "comm_msg", "comm_close", "execute_input",
    },
    "shell": {"execute_reply", "kernel_info_reply", "comm_info_reply"},
    "control": {"kernel_info_reply", "interrupt_reply"},
    "stdin": {"input_request"},
}  # fmt: skip


class UnreadableError(Exception):
    """Raised for what is no message for everybody."""


@dataclass
class World:
    """What the reader's socket has seen."""

    questions: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    """The headers of open ones, and the id of what the kernel was running."""
    recorded: bool = True

    def hear(self, message: dict[str, Any]) -> None:
        """Learn from a kernel's message that the reader got."""
        kind, asker = message["header"]["msg_type"], message["parent_header"].get("msg_id")
        if kind == "input_request":
            name = message["header"]["msg_id"]
            self.questions = [question for question in self.questions if question[0]["msg_id"] != name]
            self.questions.append((message["header"], asker))
        elif kind == "status" and message["content"]["execution_state"] == "idle":
            self.questions = [question for question in self.questions if question[1] != asker]


def read(payload: str | bytes, v1: bool) -> dict[str, Any]:
    """A message of a reader, strictly."""
    try:
        message = _v1(payload) if v1 else _default(payload)
        for part in ("header", "parent_header", "metadata", "content"):
            _require(isinstance(message[part], dict))
            json.dumps(message[part], ensure_ascii=False, allow_nan=False).encode()
        _require(_depth(message["whole"] if "whole" in message else list(message.values())) <= 101)
        _require(len(message["buffers"]) <= (59 if v1 else 63))
        _require(re.fullmatch("[a-zA-Z][a-zA-Z0-9_]{0,31}", message["channel"]) is not None)
        header = message["header"]
        message["header"] = {name: header.get(name, "") for name in HEADER}
        for name, text in message["header"].items():
            _require(isinstance(text, str) and text.isprintable() and len(text) <= LIMITS[name])
            _require(name == "date" or not re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}T", text))
        _require(message["header"]["msg_id"] and re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", message["header"]["msg_type"]))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise UnreadableError from error
    return message


def loosely(payload: str | bytes, v1: bool) -> dict[str, Any]:
    """A message as gateways and browsers read it."""
    if v1:
        assert isinstance(payload, bytes)
        channel, (header, parent, metadata, content, *buffers) = deserialize_msg_from_ws_v1(payload)
        message = dict(
            zip(
                ("header", "parent_header", "metadata", "content"),
                map(json.loads, (header, parent, metadata, content)),
                strict=True,
            )
        )
        return {**message, "channel": channel, "buffers": buffers}
    if isinstance(payload, str):
        return dict(json.loads(payload))
    (count,) = struct.unpack_from("!I", payload)
    offsets = [*struct.unpack_from(f"!{count}I", payload, 4), len(payload)]
    body, *buffers = (payload[begin:end] for begin, end in pairwise(offsets))
    return {**json.loads(body), "buffers": buffers}


def permitted(message: dict[str, Any], world: World) -> dict[str, Any] | str:
    """The message a kernel may get for a reader's; otherwise "answers", or "playback" for a recorded cell."""
    kind = message["channel"], message["header"]["msg_type"]
    content = message["content"]
    sent = {"channel": kind[0], "header": message["header"], "parent_header": {}, "metadata": {}, "buffers": []}
    if kind not in REQUESTS:
        return "answers"
    if kind[1] == "execute_request":
        index = _index(content.get("code"))
        if index is None or index >= len(CELLS) or CELLS[index] is None:
            return "answers"
        if index == RECORDED and world.recorded:
            world.recorded = False
            return "playback"
        asked = {
            "allow_stdin": content.get("allow_stdin") is True,
            "stop_on_error": content.get("stop_on_error") is not False,
        }
        return {
            **sent,
            "content": {"code": CELLS[index], "silent": False, "store_history": True, "user_expressions": {}, **asked},
        }
    if kind[1].startswith("comm_") and kind[1] != "comm_info_request":
        return _comm(message, sent)
    if kind[1] == "input_reply":
        return _input(message, sent, world)
    if kind[1] == "comm_info_request" and "target_name" in content:
        return (
            {**sent, "content": {"target_name": content["target_name"]}} if _name(content["target_name"]) else "answers"
        )
    return {**sent, "content": {}}


def check_sent(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """That a kernel gets exactly what it may get, and can read the header."""
    header = found.pop("header")
    wanted = expected.pop("header")
    for name in ("msg_id", "msg_type"):
        assert found.pop(name, wanted[name]) == wanted[name]
    assert list(header) == list(HEADER)
    assert header["version"] == "5.3"
    assert not isinstance(parse_date(header["date"]), str) and parse_date(header["date"]).tzinfo
    for name in ("msg_id", "msg_type", "session", "username"):
        assert header[name] == wanted[name]
        assert isinstance(parse_date(header[name]), str)
    found["buffers"] = list(found.get("buffers", []))
    assert json.dumps(found.pop("content")) == json.dumps(expected.pop("content"))
    assert found == expected


def _comm(message: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any] | str:
    content, opens = message["content"], message["header"]["msg_type"] == "comm_open"
    data = content.get("data", {})
    if not _name(content.get("comm_id")) or not content["comm_id"] or not isinstance(data, dict):
        return "answers"
    passed = {"comm_id": content["comm_id"]}
    if opens:
        if not _name(content.get("target_name")):
            return "answers"
        passed["target_name"] = content["target_name"]
    version = message["metadata"].get("version")
    metadata = {"version": version} if opens and _name(version) else {}
    return {**sent, "metadata": metadata, "content": {**passed, "data": data}, "buffers": message["buffers"]}


def _input(message: dict[str, Any], sent: dict[str, Any], world: World) -> dict[str, Any] | str:
    value, asked = message["content"].get("value"), message["parent_header"].get("msg_id")
    if not isinstance(value, str):
        return "answers"
    open_ones = [question for question in world.questions if not asked or question[0]["msg_id"] == asked]
    if not open_ones:
        return "answers"
    world.questions.remove(open_ones[-1])
    return {**sent, "parent_header": open_ones[-1][0], "content": {"value": value}}


def _name(text: object) -> bool:
    return isinstance(text, str) and len(text) <= 256


def _index(code: object) -> int | None:
    if isinstance(code, bool) or not isinstance(code, (int, str)):
        return None
    for index in range(10):
        if code in (index, str(index)):
            return index
    return 10 if re.fullmatch("[1-9][0-9]{0,8}", str(code)) else None


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _require(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def _number(text: str) -> float:
    _require(text not in ("NaN", "Infinity", "-Infinity") and math.isfinite(float(text)))
    return float(text)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_number, parse_float=_number)


def _v1(payload: str | bytes) -> dict[str, Any]:
    _require(isinstance(payload, bytes))
    assert isinstance(payload, bytes)
    count = int.from_bytes(payload[:8], "little")
    _require(6 <= count <= 65)
    offsets = [int.from_bytes(payload[8 * i + 8 : 8 * i + 16], "little") for i in range(count)]
    parts = [payload[begin:end] for begin, end in pairwise(offsets)]
    # The one table these parts can have is the one that was sent.
    ends = [8 * (count + 1) + sum(map(len, parts[:i])) for i in range(count)]
    _require(b"".join([number.to_bytes(8, "little") for number in (count, *ends)] + parts) == payload)
    texts = [part.decode() for part in parts[:5]]
    keys = ("header", "parent_header", "metadata", "content")
    read_parts = dict(zip(keys, map(_json, texts[1:]), strict=True))
    return {**read_parts, "channel": parts[0].decode("ascii"), "buffers": parts[5:]}


def _default(payload: str | bytes) -> dict[str, Any]:
    buffers: list[bytes] = []
    if isinstance(payload, bytes):
        count = int.from_bytes(payload[:4], "big")
        _require(1 <= count <= 64)
        offsets = [int.from_bytes(payload[4 * i + 4 : 4 * i + 8], "big") for i in range(count)]
        parts = [payload[begin:end] for begin, end in zip(offsets, [*offsets[1:], len(payload)], strict=True)]
        starts = [4 * (count + 1) + sum(map(len, parts[:i])) for i in range(count)]
        _require(b"".join([number.to_bytes(4, "big") for number in (count, *starts)] + parts) == payload)
        payload, buffers = parts[0].decode(), parts[1:]
    whole = _json(payload)
    _require(isinstance(whole, dict))
    json.dumps(whole, ensure_ascii=False).encode()
    message = {name: whole.get(name, {}) for name in ("parent_header", "metadata")}
    return {
        **message,
        **{name: whole[name] for name in ("header", "content", "channel")},
        "buffers": buffers,
        "whole": [whole],
    }


def _depth(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
