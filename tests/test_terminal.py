from __future__ import annotations

import re
import time
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.filters import ansi2html

from builder.rendering.terminal import terminal_html

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


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("", ""),
        ("a < b & 'c'", "a &lt; b &amp; 'c'"),
        ("\x1b[31mred\x1b[0m", '<span class="ansi-red-fg">red</span>'),
        ("\x1b[1;31mx", '<span class="ansi-red-intense-fg ansi-bold">x</span>'),
        ("\x1b[7mx", '<span class="ansi-default-inverse-fg ansi-default-inverse-bg">x</span>'),
        ("\x1b[38;2;1;2;3mx", '<span style="color: rgb(1,2,3)">x</span>'),
        ("\x1b]8;;https://example.org/?a=<b>\x1b\\link\x1b]8;;\x1b\\.", "link."),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b(Bplain\x1b=", "plain"),
        ("cut\x1b[", "cut"),
        ("cut\x1b", "cut"),
        ("\x1b]unfinished\nnext", "unfinished\nnext"),
        ("\x1b[38mx", "x"),
        ("\x1b[38;5mx", "x"),
    ],
)
def test_escape_sequences(text: str, html: str) -> None:
    assert terminal_html(text) == html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10%\r20%\r100%", "100%"),
        ("long line\rxy", "xyng line"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("two\r\r\nlines", "two\nlines"),
        ("done 10%\r\x1b[Kok\n", "ok\n"),
        ("gone\x1b[2K\rhere", "here"),
        ("ab\bc", "ac"),
        ("\b\bx", "x"),
        ("_\bU", "U"),
        ("outer 0\ninner 0\x1b[A\router 1\ninner 9", "outer 1\ninner 9"),
        ("\r 0%\n\r 0%\x1b[A\r50%\n\r99%\x1b[A", "50%\n99%"),
        ("a\x1b[9Ab", "ab"),
        ("ab\x1b[1Gx\x1b[5Cy\x1b[9Dz", "zby"),
        ("a\nb\x1b[A\rc\x1b[Bd", "c\nbd"),
        ("\x1b[99999999999999Ax", "x"),
        ("text\r", "text"),
    ],
)
def test_what_was_written_over_is_gone(text: str, shown: str) -> None:
    assert terminal_html(text) == shown


def test_overwritten_text_keeps_the_colours_of_both() -> None:
    html = terminal_html("\x1b[31mabcd\x1b[0m\rX")
    assert html == 'X<span class="ansi-red-fg">bcd</span>'


def test_a_shorter_erased_line_keeps_its_colours() -> None:
    assert terminal_html("\x1b[32mabcd\x1b[0m\b\b\x1b[K") == '<span class="ansi-green-fg">ab</span>'


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

    # quadratic time would be 64 times as much for 8 times the text
    assert seconds(64_000) < 40 * max(seconds(8_000), 0.002)
