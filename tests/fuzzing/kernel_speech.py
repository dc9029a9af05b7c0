"""What kernels say, with secrets where readers must not see them, and both framings written in odd but valid ways."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

SECRET = "SECRET"
PROMPT = "(Pdb) "
"""Of a debugger, which no reader may answer."""
STATES = ("busy", "idle", "starting", "dead", "restarting")
UNTOUCHED = (
    "stream",
    "display_data",
    "update_display_data",
    "execute_result",
    "clear_output",
    "comm_close",
    "status",
    "comm_info_reply",
    "interrupt_reply",
    "input_request",
)
"""What passes byte for byte."""

_ERROR = {"ename": "NameError", "evalue": "name 'x' is not defined", "traceback": [f"----> 1 {SECRET}", SECRET]}
_SHOWN = {"output_type": "error", **_ERROR}
_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("iopub", "stream", {"name": "stdout", "text": "é traceback \\u0074 \u2028"}),
    ("iopub", "stream", {"name": "stderr", "text": f"/tmp/1.py:3: UserWarning: w\n  {SECRET}\n\r  0%|"}),
    ("iopub", "stream", {"name": "stderr", "text": f"Traceback (most recent call last):\n  File \"a\", line 3, in f\n    {SECRET}\nE: e\n"}),
    ("iopub", "stream", {"name": "stdout", "text": f"> /tmp/1.py(3)f()\n----> 3 {SECRET}\n\n"}),
    ("iopub", "display_data", {"data": {"text/plain": "1"}, "metadata": {}, "transient": {"display_id": "d"}}),
    ("iopub", "update_display_data", {"data": {"text/plain": "1"}, "metadata": {}, "transient": {"display_id": "d"}}),
    ("iopub", "execute_result", {"data": {"text/plain": "1"}, "metadata": {}, "execution_count": 3}),
    ("iopub", "clear_output", {"wait": True}),
    ("iopub", "error", {**_ERROR, "source": SECRET}),
    ("iopub", "execute_input", {"code": SECRET, "execution_count": 3, "cell": SECRET}),
    ("iopub", "comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {"state": {"outputs": [_SHOWN]}}}),
    ("iopub", "comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {"state": {"value": 1}}}),
    ("iopub", "comm_msg", {"comm_id": "c", "data": {"method": "update", "state": {"outputs": [{"output_type": "stream"}, _SHOWN]}}}),
    ("iopub", "comm_msg", {"comm_id": "c", "data": {"method": "update_states", "states": {"a": {"state": {"outputs": [_SHOWN]}}}}}),
    ("iopub", "comm_msg", {"comm_id": "c", "data": {"method": "update", "state": {"value": 1e300}}}),
    ("iopub", "comm_close", {"comm_id": "c", "data": {}}),
    ("shell", "execute_reply", {"status": "ok", "execution_count": 3, "payload": [{"source": "set_next_input", "text": SECRET}], "user_expressions": {"x": SECRET}}),
    ("shell", "execute_reply", {"status": "error", "execution_count": 3, **_ERROR, "engine_info": SECRET}),
    ("shell", "execute_reply", {"status": "aborted", "payload": [SECRET]}),
    ("shell", "execute_reply", {"status": [SECRET], "execution_count": SECRET, "ename": [SECRET], "evalue": {SECRET: 1}, "traceback": SECRET}),
    ("shell", "kernel_info_reply", {"status": "ok", "protocol_version": "5.3", "banner": "b", "supported_features": ["kernel subshells"], "debugger": True}),
    ("control", "kernel_info_reply", {"status": "ok", "protocol_version": "5.3", "banner": "b"}),
    ("shell", "comm_info_reply", {"status": "ok", "comms": {}}),
    ("control", "interrupt_reply", {"status": "ok"}),
    ("stdin", "input_request", {"prompt": "? ", "password": True}),
    ("shell", "history_reply", {"history": [[1, 1, SECRET]]}),
    ("shell", "inspect_reply", {"data": {"text/plain": SECRET}}),
    ("control", "debug_reply", {"body": SECRET}),
    ("control", "execute_reply", {"status": "ok", "payload": [SECRET]}),
    ("iopub", "execute_reply", {"status": "ok", "payload": [SECRET]}),
    ("iopub", "debug_event", {"body": SECRET}),
    ("iopub", "iopub_welcome", {"subscription": SECRET}),
    ("shell", "error", _ERROR),
    ("shell", "comm_msg", {"comm_id": "c", "data": {"state": {"outputs": [_SHOWN]}}}),
    ("stdin", "stream", {"name": "stdout", "text": SECRET}),
    ("hb", "stream", {"name": "stdout", "text": SECRET}),
)  # fmt: skip


def heard(content: dict[str, Any], kind: str) -> set[str]:
    """The keys of a kernel's content that are left."""
    error = {"ename", "evalue", "traceback"}
    if kind == "execute_reply":
        failed = content["status"] not in ("ok", "aborted")
        return {"status", "execution_count"} | (error if failed else set())
    if kind == "kernel_info_reply":
        return set(content) - {"debugger"} | {"supported_features"}
    return {"error": error, "execute_input": {"code", "execution_count"}}.get(kind, set(content))


def header(random: Random, kind: str) -> dict[str, Any]:
    """What clients and kernels put into one."""
    return {
        "msg_id": f"question-{random.randrange(3)}" if kind == "input_request" else f"{random.getrandbits(64):x}_1_2",
        "msg_type": kind,
        "session": random.choice(("s1", "s1", "", "8b1b6f4e-1111-2222-3333-444455556666")),
        "username": random.choice(("", "username", "Ada Lovelace é")),
        "date": random.choice(
            ("2026-11-21T10:00:00.123Z", "2026-11-21T10:00:00.123456+00:00", "", "2020-99-99T99:99:99Z", "now")
        ),
        "version": random.choice(("5.3", "5.2", "4.1", "", "x")),
    }


def message(random: Random) -> dict[str, Any]:
    """A kernel's message."""
    channel, kind, content = random.choice(_KINDS)
    if random.random() < 0.2:
        channel, kind, content = "iopub", "status", {"execution_state": random.choice(STATES)}
    elif random.random() < 0.2:
        prompt = PROMPT if random.random() < 0.2 else "? "
        channel, kind, content = "stdin", "input_request", {"prompt": prompt, "password": False}
    parent = {**header(random, "execute_request"), "msg_id": f"request-{random.randrange(2)}"}
    # Metadata of what is passed on as it is has no sources in it.
    hidden = kind in ("error", "execute_reply", "execute_input")
    metadata = {"started": "2026-11-21T10:00:00Z", **({"code": SECRET} if hidden else {})}
    made = {
        "header": header(random, kind),
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "channel": channel,
    }
    if hidden:
        parent["code"] = SECRET
    buffers = [random.randbytes(8) for _ in range(random.choice((1, 3, 100)))] if random.random() < 0.2 else []
    return {**made, "msg_id": made["header"]["msg_id"], "msg_type": kind, "buffers": buffers}


def framed(random: Random, message: dict[str, Any], v1: bool, *, doubled: bool) -> str | bytes:
    """A payload; `doubled`: keys may stand in an object twice."""
    twice = 0.05 if doubled else 0.0
    plain = random.random() < 0.7 and not doubled
    buffers = message["buffers"]
    if v1:
        parts = [
            spelled(random, message.get(name, {}), twice, plain)
            for name in ("header", "parent_header", "metadata", "content")
        ]
        channel = message["channel"] if isinstance(message["channel"], str) else ""
        return _table("<Q", [part.encode(errors="surrogatepass") for part in (channel, *parts)] + buffers)
    whole = {name: value for name, value in message.items() if name != "buffers"}
    if not buffers and random.random() < 0.7:
        return spelled(random, {**whole, "buffers": []}, twice, plain)
    return _table("!I", [spelled(random, whole, twice, plain).encode(errors="surrogatepass"), *buffers])


def _table(form: str, parts: Sequence[bytes]) -> bytes:
    size = struct.calcsize(form)
    entries = len(parts) + 1 if form == "<Q" else len(parts)
    offsets = [size * (entries + 1)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join([struct.pack(form, number) for number in (entries, *offsets[:entries])] + list(parts))


def spelled(random: Random, value: Any, twice: float, plain: bool) -> str:
    """JSON as nobody writes it, but everybody reads it."""
    if plain:
        return json.dumps(value, ensure_ascii=random.random() < 0.5)
    if isinstance(value, dict):
        items = [(_string(random, name), spelled(random, inner, twice, plain)) for name, inner in value.items()]
        if items and random.random() < twice:
            items.insert(
                random.randrange(len(items)),
                (random.choice(items)[0], random.choice(('"EVIL"', '"execute_request"', "{}", "0"))),
            )
        return (
            "{"
            + ",".join(f"{_space(random)}{name}{_space(random)}:{inner}" for name, inner in items)
            + _space(random)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(spelled(random, inner, twice, plain) for inner in value) + "]"
    return _string(random, value) if isinstance(value, str) else json.dumps(value)


def _space(random: Random) -> str:
    return random.choice(("", "", "", " ", "\n\t"))


def _string(random: Random, text: str) -> str:
    """Now and then with a character as an escape that needs none."""
    at = random.randrange(len(text) * 2 + 1)
    if at >= len(text) or ord(text[at]) > 0xFFFF:
        return json.dumps(text, ensure_ascii=at % 2 == 0)
    return f"{json.dumps(text[:at])[:-1]}\\u{ord(text[at]):04x}{json.dumps(text[at + 1 :])[1:]}"
