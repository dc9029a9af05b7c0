"""Messages are read the same way as gateways and clients read them, or not at all."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.jsonutil import parse_date
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)

from shim.kernels.messages import (
    MAX_DEPTH,
    MAX_PARTS,
    MAX_VALUES,
    Message,
    MessageError,
    glance,
    is_date,
    now,
    parse,
    serialise,
)

HEADER = {
    "msg_id": "8b1b6f4e-1111-2222-3333-444455556666",
    "msg_type": "comm_msg",
    "session": "s",
    "username": "Ada Lovelace",
    "date": "2026-11-21T10:00:00.123Z",
    "version": "5.3",
}
MESSAGE = Message("shell", HEADER, {}, {}, {"comm_id": "c", "data": {"value": "é\u2028😀"}})
FEW = settings(max_examples=40, deadline=None)
BOTH = pytest.mark.parametrize("v1", [False, True], ids=["default", "v1"])

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(st.text(), json_values, max_size=2)
messages = st.builds(
    Message,
    st.sampled_from(["shell", "control", "stdin", "iopub"]),
    st.just(HEADER),
    st.just({}),
    st.dictionaries(st.text(), st.text(), max_size=1),
    objects,
    st.lists(st.binary(max_size=40), max_size=5).map(tuple),
)


def v1_of(*parts: bytes, count: int | None = None, offsets: list[int] | None = None) -> bytes:
    """Framing v1 with these parts, and a table that may lie."""
    ends = [8 * (len(parts) + 2)]
    for part in parts:
        ends.append(ends[-1] + len(part))
    table = ends if offsets is None else offsets
    return struct.pack(f"<{len(table) + 1}Q", len(table) if count is None else count, *table) + b"".join(parts)


def binary_of(*parts: bytes, count: int | None = None, offsets: list[int] | None = None) -> bytes:
    """Binary default framing with these parts, and a table that may lie."""
    starts = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        starts.append(starts[-1] + len(part))
    table = starts if offsets is None else offsets
    return struct.pack(f"!{len(table) + 1}I", len(table) if count is None else count, *table) + b"".join(parts)


def written(v1: bool, **changes: str) -> str | bytes:
    """The message with parts of it replaced by other JSON."""
    parts = {"header": json.dumps(HEADER), "parent_header": "{}", "metadata": "{}", "content": "{}", **changes}
    if v1:
        return v1_of(b"shell", *(part.encode(errors="surrogatepass") for part in parts.values()))
    return '{"channel":"shell",' + ",".join(f'"{name}":{part}' for name, part in parts.items()) + "}"


@BOTH
@FEW
@given(message=messages)
def test_what_is_serialised_is_read_again(v1: bool, message: Message) -> None:
    payload = serialise(message, v1)
    assert parse(payload, v1) == parse(payload, v1, trusted=True) == message
    assert glance(payload, v1)[:3] == (message.channel, "comm_msg", "s")


@FEW
@given(message=messages)
def test_gateways_read_what_we_write(message: Message) -> None:
    channel, (*parts, content) = deserialize_msg_from_ws_v1(serialise(message._replace(buffers=()), True))
    assert (channel, *map(json.loads, parts), json.loads(content)) == message[:5]
    assert deserialize_msg_from_ws_v1(serialise(message, True))[1][4:] == list(message.buffers)
    payload = serialise(message, False)
    read = json.loads(payload) if isinstance(payload, str) else deserialize_binary_message(payload)
    assert isinstance(payload, bytes) == bool(message.buffers)
    assert (read["channel"], read["content"], read["metadata"]) == (message.channel, message.content, message.metadata)
    assert (read["msg_id"], read["msg_type"], read["buffers"]) == (HEADER["msg_id"], "comm_msg", list(message.buffers))


@FEW
@given(message=messages)
def test_we_read_what_gateways_write(message: Message) -> None:
    fields = {name: getattr(message, name) for name in ("channel", "header", "parent_header", "metadata", "content")}
    in_v1 = serialize_msg_to_ws_v1(
        [*(json.dumps(part).encode() for part in message[1:5]), *message.buffers], message.channel
    )
    assert parse(in_v1, True) == message
    assert parse(serialize_binary_message({**fields, "buffers": message.buffers}), False) == message
    assert parse(json.dumps({**fields, "buffers": []}), False) == message._replace(buffers=())


@settings(deadline=None)
@given(payload=st.binary(max_size=200) | st.text(max_size=200), v1=st.booleans(), trusted=st.booleans())
def test_anything_else_is_a_message_error(payload: str | bytes, v1: bool, trusted: bool) -> None:
    with pytest.raises(MessageError):
        parse(payload, v1, trusted=trusted)
    with pytest.raises(MessageError):
        glance(payload, v1)


@BOTH
@FEW
@given(message=messages, data=st.data())
def test_a_message_cut_anywhere_is_none(v1: bool, message: Message, data: st.DataObject) -> None:
    payload = serialise(message, v1)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    if isinstance(cut, bytes) and not v1:
        # The last buffer has no end of its own.
        cut = cut[: struct.unpack_from("!I", payload, 4)[0]]  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        parse(cut, v1)


PARTS = [b"shell", json.dumps(HEADER).encode(), b"{}", b"{}", b"{}"]
BODY = json.dumps({"channel": "shell", "header": HEADER, "content": {}}).encode()
SOUND = [56, 61, 61 + len(PARTS[1]), 63 + len(PARTS[1]), 65 + len(PARTS[1]), 67 + len(PARTS[1])]


@pytest.mark.parametrize(
    "payload",
    [
        v1_of(*PARTS, count=0),
        v1_of(*PARTS, count=1),
        v1_of(*PARTS, count=5),
        v1_of(*PARTS, count=7),
        v1_of(*PARTS, count=2**63),
        v1_of(*PARTS, count=2**64 - 1),
        v1_of(*PARTS[:4]),
        v1_of(*PARTS, offsets=[0, *SOUND[1:]]),
        v1_of(*PARTS, offsets=[*SOUND[:5], SOUND[5] - 1]),
        v1_of(*PARTS, offsets=[*SOUND[:5], SOUND[5] + 1]),
        v1_of(*PARTS, offsets=[*SOUND[:5], 2**63]),
        v1_of(*PARTS, offsets=[SOUND[0], SOUND[2], SOUND[1], *SOUND[3:]]),
        v1_of(*PARTS, b"left", offsets=[64, *(end + 8 for end in SOUND[1:]), SOUND[5] + 8]),
        v1_of(*PARTS, *[b""] * (MAX_PARTS - 4)),
        v1_of(*PARTS) + b"x",
        v1_of(b"sh\xe9ll", *PARTS[1:]),
        v1_of(*PARTS[:4], b'{"a":"\xff"}'),
        v1_of(*PARTS[:4], b'{"a":"\xed\xa0\x80"}'),
        v1_of(*PARTS[:4], b"\xef\xbb\xbf{}"),
        v1_of(*PARTS[:4], b"{} {}"),
        v1_of(*PARTS[:4], b""),
        v1_of(*PARTS[:4], b"[]"),
        v1_of(*PARTS[:4], b"null"),
        b"",
        b"\0" * 8,
        BODY.decode(),
    ],
)
def test_v1_with_a_wrong_table_or_part(payload: bytes | str) -> None:
    assert parse(v1_of(*PARTS), True).channel == "shell"
    with pytest.raises(MessageError):
        parse(payload, True)


@pytest.mark.parametrize(
    "payload",
    [
        binary_of(BODY, b"x", count=0),
        binary_of(BODY, b"x", count=1),
        binary_of(BODY, b"x", count=3),
        binary_of(BODY, count=2**32 - 1),
        binary_of(BODY, count=2**31),
        binary_of(BODY, b"x", offsets=[12, 11]),
        binary_of(BODY, b"x", offsets=[0, 12 + len(BODY)]),
        binary_of(BODY, b"x", offsets=[12, 2**32 - 1]),
        binary_of(BODY, b"x", offsets=[12, 14 + len(BODY)]),
        binary_of(BODY, *[b""] * MAX_PARTS),
        binary_of(BODY + b"\xff"),
        BODY,
        b"",
        b"\0\0\0\1",
        v1_of(*PARTS),
    ],
)
def test_default_framing_with_a_wrong_table(payload: bytes) -> None:
    with pytest.raises(MessageError):
        parse(payload, False)


def test_no_byte_lies_outside_of_all_parts_or_in_two_of_them() -> None:
    moved = [end + 16 for end in SOUND]
    sound = v1_of(*PARTS, b"ab", b"cd", offsets=[*moved, moved[5] + 2, moved[5] + 4])
    assert parse(sound, True).buffers == (b"ab", b"cd")
    twice = v1_of(*PARTS, b"ab", b"cd", offsets=[*moved, moved[5] - 2, moved[5] + 4])
    hidden = v1_of(b"xx", *PARTS, offsets=[end + 2 for end in SOUND])
    for payload in (twice, hidden):
        with pytest.raises(MessageError):
            parse(payload, True)
    end = 16 + len(BODY)
    assert parse(binary_of(BODY, b"ab", b"cd", offsets=[16, end, end + 2]), False).buffers == (b"ab", b"cd")
    for payload in (
        binary_of(BODY, b"ab", b"cd", offsets=[16, end, end - 2]),
        binary_of(b"xx", BODY, offsets=[14, 14 + len(BODY)]),
    ):
        with pytest.raises(MessageError):
            parse(payload, False)


def test_a_binary_message_of_default_framing_may_have_no_buffers() -> None:
    assert parse(binary_of(BODY), False) == parse(BODY.decode(), False)
    assert parse(binary_of(BODY, *[b""] * (MAX_PARTS - 1)), False).buffers == (b"",) * 63
    assert parse(v1_of(*PARTS, *[b"x"] * (MAX_PARTS - 5)), True).buffers == (b"x",) * 59


@BOTH
@pytest.mark.parametrize(
    "content",
    [
        '{"code":"0","code":"evil"}',
        '{"code":"0","co\\u0064e":"evil"}',
        '{"a":{"b":[{"c":1,"c":2}]}}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e999}',
        '{"a":-1e400}',
        '{"a":"\\ud800"}',
        '{"a":"\\udc00\\ud800"}',
        '{"\\ud800":1}',
        '{"a":"\ud800"}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 100_000,
        '{"a":1,}',
        "{'a':1}",
        '{"a":01}',
        '{"a":"\n"}',
        '{"a":\u00a01}',
        "{}//",
        "[]",
        '"{}"',
        "null",
        "",
    ],
)
def test_json_that_could_be_read_in_another_way_is_refused(v1: bool, content: str) -> None:
    with pytest.raises(MessageError):
        parse(written(v1, content=content), v1)


@BOTH
@pytest.mark.parametrize("part", ["header", "parent_header", "metadata"])
def test_no_part_may_have_a_key_twice_or_be_anything_but_an_object(v1: bool, part: str) -> None:
    for other in ('{"msg_id":"a","msg_type":"b","msg_id":"a"}', "[]", "null", '"x"', "1"):
        with pytest.raises(MessageError):
            parse(written(v1, **{part: other}), v1)


def test_a_doubled_part_of_default_framing_is_refused() -> None:
    for part in ('"channel":"control"', '"content":{"code":"evil"}', '"header":{}', '"x":1,"x":1'):
        with pytest.raises(MessageError):
            parse(str(written(False))[:-1] + f",{part}}}", False)


def test_default_framing_needs_channel_header_and_content_and_takes_other_keys() -> None:
    fields: dict[str, Any] = {"channel": "shell", "header": HEADER, "content": {}}
    assert parse(json.dumps({**fields, "buffers": [1], "other": 1}), False) == Message("shell", HEADER, {}, {}, {})
    for missing in fields:
        with pytest.raises(MessageError):
            parse(json.dumps({name: value for name, value in fields.items() if name != missing}), False)
    for whole in ("[]", "null", "1", '"x"', "{}"):
        with pytest.raises(MessageError):
            parse(whole, False)


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("msg_id", value)
            for value in ("", None, 1, [], "x" * 129, "a\nb", "a\0", "a\u2028b", "\u202e", "2020-99-99T99:99:99Z")
        ),
        *(("msg_type", value) for value in ("", None, 1, "x" * 65, "a b", "_request", "execute_requеst", "a-b", "1")),
        *(("session", value) for value in (None, 1, {}, "x" * 129, "\x7f", "2020-01-01T00:00:00")),
        *(("username", value) for value in (None, 1, "x" * 257, "a\tb", "2020-01-01T00:00:00Z")),
        *((name, value) for name in ("date", "version") for value in (None, 5.3, "x" * 65, "\r\n")),
    ],
)
def test_headers_are_short_printable_strings(v1: bool, name: str, value: object) -> None:
    assert parse(written(v1), v1).header == HEADER
    with pytest.raises(MessageError):
        parse(written(v1, header=json.dumps({**HEADER, name: value})), v1)


@BOTH
def test_headers_have_six_keys_whatever_was_sent(v1: bool) -> None:
    given_header = {"msg_id": "a", "msg_type": "b", "subshell_id": "c", "code": "evil", "__proto__": {}}
    header = parse(written(v1, header=json.dumps(given_header)), v1).header
    assert header == {"msg_id": "a", "msg_type": "b", "session": "", "username": "", "date": "", "version": ""}


@BOTH
def test_numbers_keep_their_value_and_depth_has_a_bound_that_is_not_too_low(v1: bool) -> None:
    deep: Any = 0
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    values = {"a": [10**30, -(2**63), 1e300, 5e-324, 0.1, 1.0, 120000000000000000000], "deep": deep, "text": "[{" * 500}
    message = parse(written(v1, content=json.dumps(values)), v1)
    assert message.content == values
    assert json.dumps(parse(serialise(message, v1), v1).content) == json.dumps(values)


@BOTH
@pytest.mark.parametrize(("value", "each"), [("{}", 2), ("[]", 2), ("1", 1), ('{"a":1}', 2)])
def test_a_reader_may_send_so_many_values_and_a_kernel_more(v1: bool, value: str, each: int) -> None:
    # The braces and commas of the message itself are few.
    most = MAX_VALUES // each - 50
    for count, passes in ((most, True), (most + 50, False)):
        payload = written(v1, content='{"a":[' + ",".join([value] * count) + "]}")
        assert len(parse(payload, v1, trusted=True).content["a"]) == count
        if passes:
            assert len(parse(payload, v1).content["a"]) == count
        else:
            with pytest.raises(MessageError, match="too many values"):
                parse(payload, v1)


@BOTH
def test_values_are_counted_in_all_parts_together(v1: bool) -> None:
    half = '{"a":[' + ",".join(["0"] * (MAX_VALUES // 2)) + "]}"
    assert parse(written(v1, content=half), v1).content
    with pytest.raises(MessageError, match="too many values"):
        parse(written(v1, content=half, metadata=half), v1)


@BOTH
def test_what_is_no_json_is_not_counted_as_values(v1: bool) -> None:
    message = MESSAGE._replace(content={"text": "x" * 2**22}, buffers=(b"{[," * MAX_VALUES,))
    assert parse(serialise(message, v1), v1) == message


@BOTH
def test_oddities_of_kernels_are_mended(v1: bool) -> None:
    message = MESSAGE._replace(buffers=(b"x",) * 200)
    assert parse(serialise(message, v1), v1, trusted=True) == message
    odd = parse(written(v1, content='{"a":NaN,"b":"\\ud800!","b":"\\ud801?","c":1e999}'), v1, trusted=True)
    again = parse(serialise(odd, v1), v1)
    assert again.content == {"a": None, "b": "??", "c": None}
    raw = parse(v1_of(*PARTS[:4], b'{"evalue":"\xff"}'), True, trusted=True)
    assert raw.content == {"evalue": "\ufffd"}


def test_a_glance_believes_the_last_of_two_keys_as_browsers_do() -> None:
    header = '{"msg_type":"stream","session":"s","msg_type":"hist\\u006fry_reply"}'
    for v1 in (False, True):
        assert glance(written(v1, header=header), v1)[:3] == ("shell", "history_reply", "s")
    assert (
        glance('{"channel":"iopub","header":{"msg_type":"stream"},"content":{},"channel":"shell"}', False).channel
        == "shell"
    )


@pytest.mark.parametrize(
    "payload",
    [
        v1_of(*PARTS, offsets=[56, 61, 60, *SOUND[3:]]),
        v1_of(*PARTS, count=9),
        v1_of(*PARTS, offsets=[56, 61, 2**63, *SOUND[3:]]),
    ],
)
def test_a_glance_at_a_wrong_table(payload: bytes) -> None:
    with pytest.raises(MessageError):
        glance(payload, True)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:?\d\d)?", fullmatch=True))
def test_a_date_that_passes_can_be_read_by_kernels(text: str) -> None:
    if is_date(text):
        read = parse_date(text)
        assert not isinstance(read, (str, type(None))) and read.tzinfo


def test_dates_of_clients() -> None:
    assert is_date(now())
    assert is_date("2026-11-21T10:00:00.123Z")  # JavaScript
    assert is_date("2026-11-21T10:00:00.123456+00:00")  # Python
    # Python takes zones that the parser of kernels fails at.
    for zone in ("+00:60", "-00:99", "+24:00", "+99:00"):
        assert not is_date(f"2026-11-21T10:00:00{zone}")
    for text in ("", "now", "2026-11-21", "2026-13-21T10:00:00Z", "2026-11-21T10:00:00", "٢٠٢٦-11-21T10:00:00Z"):
        assert not is_date(text)
