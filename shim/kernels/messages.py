"""Messages of the Jupyter protocol, in the two framings that a kernel's WebSocket has.

Default framing: JSON text with a `channel` in it, binary when there are buffers. Framing v1, which a client asks for as
a sub-protocol: always binary, each part of the message its own JSON. What readers send is read strictly, so that nobody
after us can read it differently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import msgspec

from shim.kernels.framing import MessageError, head_default, head_v1, join_default, join_v1, split_default, split_v1

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTHS",
    "MAX_PARTS",
    "MAX_VALUES",
    "PROTOCOL",
    "VERSION",
    "Glance",
    "Message",
    "MessageError",
    "Payload",
    "glance",
    "is_date",
    "now",
    "parse",
    "serialise",
]

PROTOCOL = "v1.kernel.websocket.jupyter.org"
"""The sub-protocol that stands for framing v1."""
VERSION = "5.3"
"""Of the message protocol that is spoken to kernels."""
MAX_PARTS = 64
"""Of a reader's message, buffers included."""
MAX_DEPTH = 100
"""Of objects and lists in a reader's message; every JSON parser behind us can follow."""
MAX_VALUES = 200_000
"""Of the characters `{`, `[` and `,` in the JSON of a reader's message: values cost time, long strings hardly any."""
MAX_LENGTHS = {"msg_id": 128, "msg_type": 64, "session": 128, "username": 256, "date": 64, "version": 16}
"""The strings of a header, and how many characters a reader's may have."""

Payload = str | bytes
"""One WebSocket message: text or binary."""

_MAX_CHANNEL = 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT", re.ASCII)
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_FULL_DATE = re.compile(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}:[0-5]\d(\.\d{{1,6}})?(Z|[+-]{_CLOCK})", re.ASCII)


class Message(NamedTuple):
    """One message; the header of a reader's has the keys of `MAX_LENGTHS` and no others."""

    channel: str
    header: dict[str, str]
    parent_header: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: tuple[bytes, ...] = ()

    @property
    def kind(self) -> str:
        """The message's type, such as `execute_request`."""
        return self.header["msg_type"]


class Glance(NamedTuple):
    """As much of a kernel's message as tells whether it may pass; `content` is JSON that nobody has looked at."""

    channel: str
    kind: str
    session: str
    content: msgspec.Raw


class _Header(msgspec.Struct):
    msg_type: str
    session: str = ""


class _Envelope(msgspec.Struct):
    channel: str
    header: _Header
    content: msgspec.Raw


_HEADER = msgspec.json.Decoder(_Header)
_ENVELOPE = msgspec.json.Decoder(_Envelope)


def parse(payload: Payload, v1: bool, *, trusted: bool = False) -> Message:
    """Read a message; `trusted` is for what kernels say, where oddities are mended and sizes have no bound.

    Raises MessageError: for a reader's message also when it has a key twice in one object, numbers that are none, half
    characters, too deep nesting, or a header of other things than short printable strings.
    """
    try:
        message = _parsed(payload, v1, trusted)
    except RecursionError:
        raise MessageError("its JSON is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MessageError("it is no message in this framing") from None
    channel: object = message.channel
    if not isinstance(channel, str) or len(channel) > _MAX_CHANNEL or not _NAME.fullmatch(channel):
        raise MessageError("it has no proper channel")
    if not all(isinstance(part, dict) for part in message[1:5]):
        raise MessageError("a part of it is no object")
    if not all(isinstance(message.header.get(name), str) for name in ("msg_id", "msg_type")):
        raise MessageError("its header has no msg_id or msg_type")
    return message


def serialise(message: Message, v1: bool) -> Payload:
    """The message in a framing, ready to be sent; default framing has the top-level keys that gateways add."""
    encode = msgspec.json.encode
    if v1:
        return join_v1([message.channel.encode(), *map(encode, message[1:5]), *message.buffers])
    fields = {
        "header": message.header,
        "msg_id": message.header["msg_id"],
        "msg_type": message.header["msg_type"],
        "parent_header": message.parent_header,
        "metadata": message.metadata,
        "content": message.content,
        "channel": message.channel,
    }
    if message.buffers:
        return join_default([encode(fields), *message.buffers])
    return encode({**fields, "buffers": ()}).decode()


def glance(payload: Payload, v1: bool) -> Glance:
    """Look at a kernel's message, as quickly as can be; raises MessageError."""
    try:
        if not v1:
            seen = _ENVELOPE.decode(payload if isinstance(payload, str) else head_default(payload))
            return Glance(seen.channel, seen.header.msg_type, seen.header.session, seen.content)
        channel, header, content = head_v1(_binary(payload))
        head = _HEADER.decode(header)
        return Glance(str(channel, "ascii"), head.msg_type, head.session, msgspec.Raw(content))
    except (ValueError, RecursionError):
        raise MessageError("it is no message in this framing") from None


def now() -> str:
    """The date of a header made now."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def is_date(text: str) -> bool:
    """Whether every kernel can read a header's date."""
    if not _FULL_DATE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _binary(payload: Payload) -> bytes:
    if isinstance(payload, str):
        raise MessageError("it is text, which this framing does not have")
    return payload


def _parsed(payload: Payload, v1: bool, trusted: bool) -> Message:
    most = len(payload) if trusted else MAX_PARTS
    if v1:
        name, *parts = split_v1(_binary(payload), most)
        header, parent, metadata, content = _load(parts[:4], trusted)
        channel, buffers = str(name, "ascii"), parts[4:]
    else:
        first, *buffers = [b""] if isinstance(payload, str) else split_default(payload, most)
        (fields,) = _load([payload if isinstance(payload, str) else first], trusted)
        # Servers differ in what they make of a message without channel, and no client sends one.
        channel, header, content = fields["channel"], fields["header"], fields["content"]
        parent, metadata = fields.get("parent_header", {}), fields.get("metadata", {})
    return Message(channel, header if trusted else _header(header), parent, metadata, content, tuple(buffers))


def _load(texts: Sequence[Payload], trusted: bool) -> list[Any]:
    if trusted:
        return [_load_kernels(text) for text in texts]
    if sum(map(_values, texts)) > MAX_VALUES:
        raise MessageError("its JSON has too many values")
    return [_load_readers(text) for text in texts]


def _values(data: Payload) -> int:
    """No fewer values than JSON has; the commas of its strings count, too."""
    if isinstance(data, str):
        return sum(map(data.count, "{[,"))
    return sum(map(data.count, (b"{", b"[", b",")))


def _load_readers(data: Payload) -> Any:
    if data == b"{}":
        # Two parts of nearly every message.
        return {}
    text = data if isinstance(data, str) else str(data, "utf-8")
    value = _STRICT.decode(text)
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(value)
    # Escapes, and text that was never UTF-8, can hold half a character; that cannot be encoded.
    if "\\u" in text or (data is text and not text.isascii()):
        msgspec.json.encode(value)
    return value


def _load_kernels(data: Payload) -> Any:
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    value = json.loads(raw.decode("utf-8", "replace"))
    try:
        # Numbers that are none become null by that.
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MessageError("a key stands twice in one object of it")
    return made


def _no_number(text: str) -> NoReturn:
    raise MessageError("a number in it is none")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


_STRICT = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_number, parse_float=_finite)


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        groups = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for group in groups for child in group if isinstance(child, (dict, list))]
        if not level:
            return
    raise MessageError("its JSON is nested too deeply")


def _header(given: dict[str, Any]) -> dict[str, str]:
    """A header of short strings; kernels make dates of all that look like one, and fail at impossible ones."""
    header = {}
    for name, longest in MAX_LENGTHS.items():
        text = given.get(name, "")
        if not isinstance(text, str) or len(text) > longest or not text.isprintable():
            raise MessageError(f"its header has no proper {name}")
        if text[4:5] == "-" and name != "date" and _DATE.match(text):
            raise MessageError(f"its header has a date as {name}")
        header[name] = text
    if not header["msg_id"] or not _NAME.fullmatch(header["msg_type"]):
        raise MessageError("its header has no msg_id or msg_type")
    return header
