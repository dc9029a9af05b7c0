"""What a kernel says and readers may hear, and what is taken out of it: the source of a cell never leaves.

Only messages in which source can stand are rewritten; everything else that is allowed passes as it is. What is taken
out of printed text is in `printed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from shim.kernels.messages import MAX_LENGTHS, Message, Payload
from shim.kernels.printed import Streams

Kind = tuple[str, str]
"""A channel and the type of a message."""

STATUS: Kind = ("iopub", "status")
STREAM: Kind = ("iopub", "stream")
INPUT: Kind = ("iopub", "execute_input")
QUESTION: Kind = ("stdin", "input_request")
PASSING: frozenset[Kind] = frozenset(
    {
        *(("iopub", name) for name in ("display_data", "update_display_data", "execute_result")),
        *(("iopub", name) for name in ("clear_output", "comm_close", "status")),
        ("shell", "comm_info_reply"),
        ("control", "interrupt_reply"),
        QUESTION,
    }
)
"""Messages that pass as they are."""
COMMS: frozenset[Kind] = frozenset({("iopub", "comm_open"), ("iopub", "comm_msg")})
"""Messages of widgets; the state of one that shows outputs has the errors of cells in it."""

_STATUSES = ("ok", "error", "abort", "aborted")
_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x1f\x7f]")
# A name in brackets or before an arrow, as in "(Pdb) ", "((Pdb++))" and "ipdb>"; "PDB: " asks for a protein.
_DEBUGGER = re.compile(r"\(+[A-Za-z]*[Pp]db[a-z]*(\+\+)?\)+|[a-z]*pdb>|\(trepan\w*\)")
_EMBEDDED = re.compile(r"In \[\d+\]:")
_CONSOLE = re.compile(r">>>|\.\.\.:?|In ?:")
# Every letter of "traceback" as an escape of JSON begins like that.
_ESCAPED = re.compile(r"\\u00[67]")
_ESCAPED_BYTES = re.compile(_ESCAPED.pattern.encode())


def is_rewritten(kind: Kind) -> bool:
    """Whether messages of this kind pass, but with things taken out."""
    return kind in _REDUCTIONS or kind == STREAM


def reduced(message: Message, tracebacks: bool) -> Message | None:
    """A kernel's message as readers may have it, None when they may not have it at all.

    Of a stream one message does not tell what is source; `Streams` does.
    """
    kind = message.channel, message.kind
    if kind in COMMS:
        return message if tracebacks else message._replace(content=_without_tracebacks(message.content))
    if reduce := _REDUCTIONS.get(kind):
        content = reduce(message.content, tracebacks)
        return message._replace(parent_header=strings(message.parent_header), metadata={}, content=content, buffers=())
    return message if kind in PASSING or kind == STREAM else None


def strings(header: dict[str, Any]) -> dict[str, str]:
    """What every header has, and nothing else that a kernel put into it."""
    return {name: text for name in MAX_LENGTHS if isinstance(text := header.get(name), str)}


def recorded(messages: Iterable[Message], *, tracebacks: bool) -> tuple[Message, ...]:
    """What is kept of all that a kernel said while it ran one cell: its outputs, then the reply."""
    kept, streams = [], Streams()
    for message in messages:
        wanted = message.kind == "execute_reply" or (message.channel == "iopub" and message.kind != "status")
        allowed = reduced(message, tracebacks) if wanted else None
        if allowed is not None and not tracebacks and (allowed.channel, allowed.kind) == STREAM:
            text = streams.read(_text(allowed.content, "name"), _text(allowed.content, "text"))
            allowed = allowed._replace(content={**allowed.content, "text": text}) if text else None
        if allowed is not None:
            kept.append(allowed)
    return tuple(sorted(kept, key=lambda message: message.channel == "shell"))


def way_out(prompt: object) -> str | None:
    """What ends a debugger or console that asks with this prompt, None for a question to readers.

    The words are keywords or commands, which no variable can stand for; the end of input is what ipykernel makes of ^D.
    """
    asked = _ESCAPE_CODES.sub("", prompt).strip() if isinstance(prompt, str) else ""
    ends = ((_DEBUGGER, "continue"), (_EMBEDDED, "exit"), (_CONSOLE, "\x04"))
    return next((end for pattern, end in ends if pattern.fullmatch(asked)), None)


def may_hold_traceback(payload: Payload) -> bool:
    """Whether there can be a key of that name in a message, written plainly or with escapes."""
    if isinstance(payload, str):
        return "traceback" in payload or ("\\u00" in payload and _ESCAPED.search(payload) is not None)
    return b"traceback" in payload or (b"\\u00" in payload and _ESCAPED_BYTES.search(payload) is not None)


def _without_tracebacks(content: dict[str, Any]) -> dict[str, Any]:
    """Empty the traceback of every error in it, however deep, in place."""
    values: list[Any] = [content]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if isinstance(value.get("traceback"), list):
                value["traceback"] = []
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return content


def _failure(content: dict[str, Any], tracebacks: bool) -> dict[str, Any]:
    lines = content.get("traceback")
    shown = [line for line in lines if isinstance(line, str)] if tracebacks and isinstance(lines, list) else []
    return {"ename": _text(content, "ename"), "evalue": _text(content, "evalue"), "traceback": shown}


def _execute_reply(content: dict[str, Any], tracebacks: bool) -> dict[str, Any]:
    """Payloads (`set_next_input`, pagers) and user expressions are dropped with everything else."""
    status = content.get("status")
    reply = {"status": status if status in _STATUSES else "error", "execution_count": _count(content)}
    return {**reply, **_failure(content, tracebacks)} if reply["status"] == "error" else reply


def _execute_input(content: dict[str, Any], tracebacks: bool) -> dict[str, Any]:
    return {"code": "", "execution_count": _count(content) or 0}


def _kernel_info_reply(content: dict[str, Any], tracebacks: bool) -> dict[str, Any]:
    """Clients use subshells and the debugger once they are told of them, and would only be refused."""
    return {**{name: value for name, value in content.items() if name != "debugger"}, "supported_features": []}


def _text(content: dict[str, Any], name: str) -> str:
    text = content.get(name)
    return text if isinstance(text, str) else ""


def _count(content: dict[str, Any]) -> int | None:
    count = content.get("execution_count")
    return count if type(count) is int else None


_REDUCTIONS: dict[Kind, Callable[[dict[str, Any], bool], dict[str, Any]]] = {
    ("iopub", "error"): _failure,
    ("iopub", "execute_input"): _execute_input,
    ("shell", "execute_reply"): _execute_reply,
    ("shell", "kernel_info_reply"): _kernel_info_reply,
    ("control", "kernel_info_reply"): _kernel_info_reply,
}
