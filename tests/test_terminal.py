from __future__ import annotations

import json
import re
import time
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.filters import ansi2html

from builder.rendering.terminal import terminal_html

CASES = json.loads(Path(__file__).with_name("terminal-cases.json").read_bytes())
"""Pairs of text and HTML; the tests of the page runtime read them as well."""

COLOURS = [
    "\x1b[0m",
    "\x1b[m",
    "\x1b[1m",
    "\x1b[4m",
    "\x1b[5m",
    "\x1b[7m",
    "\x1b[21m",
    "\x1b[22m",
    "\x1b[24m",
    "\x1b[27m",
    "\x1b[31m",
    "\x1b[97m",
    "\x1b[39m",
    "\x1b[42m",
    "\x1b[107m",
    "\x1b[49m",
    "\x1b[1;31;4m",
    "\x1b[38;5;3m",
    "\x1b[38;5;200m",
    "\x1b[48;5;250m",
    "\x1b[38;2;1;2;3m",
    "\x1b[48;2;255;0;9;1m",
    "\x1b[38;2;256;0;0;1m",
    "\x1b[38;5;256m",
    "\x1b[99m",
    "\x1b[?25l",
    "\x1b[2J",
]


def plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


@settings(deadline=None)
@given(st.lists(st.sampled_from([*COLOURS, "a", "<b> & 'c' \"d\"", "\n", "é 漢", " "])).map("".join))
def test_colours_come_out_as_nbconvert_writes_them(text: str) -> None:
    expected = str(ansi2html(text)).replace("&#34;", '"').replace("&#39;", "'")
    assert terminal_html(text) == expected


@pytest.mark.parametrize(("text", "html"), CASES)
def test_text_is_shown_as_the_page_runtime_shows_it_too(text: str, html: str) -> None:
    assert terminal_html(text) == html


@settings(deadline=None)
@given(st.text(alphabet="ab<&\r\n\b\x1b[]0;1mAKCDG78\\\x07"))
def test_any_text_becomes_html_without_control_characters(text: str) -> None:
    html = terminal_html(text)
    assert not set("\x1b\r\b") & set(html)
    assert "<" not in re.sub(r'<span(?: (?:class|style)="[^"<>&]*")*>|</span>', "", html)
    assert html.count("<span") == html.count("</span>")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="\x1b\r\b", exclude_categories=["Cs"])))
def test_text_without_control_sequences_stays_the_same(text: str) -> None:
    assert plain(terminal_html(text)) == text


@pytest.mark.parametrize(
    "unit",
    [
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x1b[1;",
        "\x1b[m",
        "\b",
        "\bx",
        "ab\b",
        "\r",
        "x\r",
        "\n\x1b[A",
        "\x1b[Ay",
        "a\x1b[K\r",
        "\x1b[9Cx",
        "\x1bP",
        "\x1b[31mx\x1b[A",
    ],
)
def test_time_grows_with_the_length_of_hostile_text_not_with_its_square(unit: str) -> None:
    def seconds(size: int) -> float:
        text = "x" * size + "\r" + "\n" * (size // 8) + unit * (size // len(unit))
        start = time.thread_time()
        html = terminal_html(text)
        assert len(html) < 60 * len(text)
        return time.thread_time() - start

    # quadratic time would be 64 times as much for 8 times the text; other processes only ever make it longer
    assert min(seconds(64_000) for _ in range(3)) < 40 * max(seconds(8_000), 0.002)
