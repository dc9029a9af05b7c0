"""The bytes of a binary message: a table of where its parts begin, then the parts.

Framing v1: a little-endian u64 count of offsets, then the offsets, of which the last is the end. Default framing: a
big-endian u32 count of parts, then where each begins. A table is taken only when its parts follow each other from its
own end to the end of the message, so that nobody can read other parts than we did.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

from builder.errors import NbfolioError

_V1_HEAD = struct.Struct("<7Q")


class MessageError(NbfolioError):
    """Raised when a payload is no message that everybody would read the same way."""


def split_v1(payload: bytes, most: int) -> list[bytes]:
    """The parts of a message in framing v1: channel, four of JSON, buffers; `most` in all. Raises MessageError."""
    count = int.from_bytes(payload[:8], "little")
    if not 6 <= count <= most + 1 or len(payload) < 8 * (count + 1):
        raise MessageError("its number of parts is wrong")
    return _cut(payload, 8 * (count + 1), struct.unpack_from(f"<{count}Q", payload, 8))


def join_v1(parts: Sequence[bytes]) -> bytes:
    """The message in framing v1 that has these parts."""
    offsets = accumulate(map(len, parts), initial=8 * (len(parts) + 2))
    return b"".join((struct.pack(f"<{len(parts) + 2}Q", len(parts) + 1, *offsets), *parts))


def head_v1(payload: bytes) -> tuple[bytes, bytes, memoryview]:
    """Channel, header and content of a message in framing v1, without a copy of the content. Raises MessageError."""
    if len(payload) < _V1_HEAD.size:
        raise MessageError("it is too short")
    count, start, channel, header, parent, metadata, content = _V1_HEAD.unpack_from(payload)
    if (
        count < 6
        or start != 8 * (count + 1)
        or not start <= channel <= header <= parent <= metadata <= content <= len(payload)
    ):
        raise MessageError("its table of parts is wrong")
    return payload[start:channel], payload[channel:header], memoryview(payload)[metadata:content]


def split_default(payload: bytes, most: int) -> list[bytes]:
    """The parts of a binary message in default framing: JSON, buffers; `most` in all. Raises MessageError."""
    count = int.from_bytes(payload[:4], "big")
    if not 1 <= count <= most or len(payload) < 4 * (count + 1):
        raise MessageError("its number of parts is wrong")
    return _cut(payload, 4 * (count + 1), (*struct.unpack_from(f"!{count}I", payload, 4), len(payload)))


def join_default(parts: Sequence[bytes]) -> bytes:
    """The binary message in default framing that has these parts."""
    offsets = accumulate(map(len, parts[:-1]), initial=4 * (len(parts) + 1))
    return b"".join((struct.pack(f"!{len(parts) + 1}I", len(parts), *offsets), *parts))


def head_default(payload: bytes) -> memoryview:
    """The JSON of a binary message in default framing, without a copy of its buffers. Raises MessageError."""
    if len(payload) < 12:
        raise MessageError("it is too short")
    count, start, second = struct.unpack_from("!3I", payload)
    end = second if count > 1 else len(payload)
    if not count or start != 4 * (count + 1) or not start <= end <= len(payload):
        raise MessageError("its table of parts is wrong")
    return memoryview(payload)[start:end]


def _cut(payload: bytes, start: int, offsets: Sequence[int]) -> list[bytes]:
    """The parts between offsets that leave no byte out and use none twice."""
    if offsets[0] != start or offsets[-1] != len(payload) or sorted(offsets) != list(offsets):
        raise MessageError("its table of parts is wrong")
    return [payload[begin:end] for begin, end in pairwise(offsets)]
