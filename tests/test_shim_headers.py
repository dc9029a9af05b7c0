"""Request headers: what they mean, and that nonsense means nothing."""

from __future__ import annotations

from contextlib import suppress
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.headers import (
    RangeError,
    accepts_gzip,
    byte_range,
    has_etag,
    host_and_port,
    matches_etag,
    still_holds,
    timestamp,
    wants_html,
)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("identity", False),
        ("x-gzippy", False),
        ("gzip;q=high", False),
        ("x-gzip", True),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
    ],
)
def test_gzip_is_sent_to_those_who_take_it(header: str, answer: bool) -> None:
    assert accepts_gzip(header) is answer


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, TEXT/HTML;q=0.1", True),
        ("text/html;q=0", False),
    ],
)
def test_html_is_for_those_who_name_it(header: str, answer: bool) -> None:
    assert wants_html(header) is answer


@pytest.mark.parametrize(
    ("header", "answer"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False), ('"a', False)],
)
def test_entity_tags_are_compared_weakly(header: str, answer: bool) -> None:
    assert matches_etag(header, '"a"') is answer


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ('"a"', True),
        ('W/"a"', False),
        ('W/"a", "a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_entity_tags_are_compared_strongly_where_a_part_or_a_state_is_meant(header: str, answer: bool) -> None:
    assert has_etag(header, '"a"') is answer


def test_a_range_holds_for_the_same_file_only() -> None:
    date = formatdate(1000, usegmt=True)
    assert still_holds('"a"', '"a"', 1000)
    assert still_holds(date, '"a"', 1000)
    assert not still_holds('W/"a"', '"a"', 1000)
    assert not still_holds('"b"', '"a"', 1000)
    assert not still_holds(date, '"a"', 1001)
    assert not still_holds("", '"a"', 1000)
    assert not still_holds(date, '"a"', None)
    assert not still_holds("", '"a"', None)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=2-", range(2, 10)),
        ("Bytes=2-4", range(2, 5)),
        ("bytes=8-99", range(8, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-99", range(10)),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=1-2junk", None),
        ("lines=1-2", None),
        (f"bytes={'9' * 19}-", None),
        ("", None),
    ],
)
def test_one_range_is_read_and_anything_else_means_the_whole_file(header: str, answer: range | None) -> None:
    assert byte_range(header, 10) == answer


def test_the_last_bytes_of_an_empty_file_are_all_of_it() -> None:
    assert byte_range("bytes=-5", 0) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-11", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_outside_the_file_is_refused(header: str, size: int) -> None:
    with pytest.raises(RangeError):
        byte_range(header, size)


@settings(deadline=None)
@given(st.integers(0, 30), st.none() | st.integers(0, 40), st.none() | st.integers(0, 40))
def test_ranges_lie_in_the_file(size: int, first: int | None, last: int | None) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    content = range(size)
    try:
        found = byte_range(header, size)
    except RangeError:
        assert (first is None and not last) or (first is not None and first >= size) or not size
        return
    if found is None:
        backwards = first is not None and last is not None and last < first
        assert backwards or (first is None and (last is None or not size))
    elif first is None:
        assert list(found) == list(content)[-(last or 0) :]
    else:
        assert list(found) == list(content)[first : None if last is None else last + 1]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_header_raises_anything_but_a_range_error(text: str) -> None:
    accepts_gzip(text)
    wants_html(text)
    matches_etag(text, '"a"')
    has_etag(text, '"a"')
    timestamp(text)
    host_and_port(text)
    with suppress(RangeError):
        byte_range(text, 10)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("Example.ORG", ("example.org", "")),
        ("a:80", ("a", "80")),
        ("[::1]:3000", ("[::1]", "3000")),
        ("", None),
        ("a b", None),
        ("a:", None),
        ("a:b", None),
        ("a:123456", None),
        ("::1", None),
        ("a@b", None),
        ("a/b", None),
        ("a, b", None),
        ("a\n", None),
    ],
)
def test_a_host_is_a_name_and_perhaps_a_port(header: str, answer: tuple[str, str] | None) -> None:
    assert host_and_port(header) == answer


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Sat, 99 Nov 2026 00:00:00 GMT", "Sat, 21 Nov 99999 00:00:00 GMT", "1"]
)
def test_dates_that_are_none_are_not_sent(date: str) -> None:
    assert timestamp(date) is None


def test_dates_are_seconds() -> None:
    assert timestamp("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777


@pytest.mark.parametrize("date", ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_dates_in_the_forms_of_old_are_read_too(date: str) -> None:
    assert timestamp(date) == 784111777
