"""The quick way through Pygments' lexers gives what the slow way gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipython_pygments_lexers import IPython3Lexer
from pygments.lexers import get_lexer_by_name

from builder.rendering.firstchars import OTHER, first_characters
from builder.rendering.lexing import tokens_of

LANGUAGES = [
    "python",
    "r",
    "julia",
    "bash",
    "sql",
    "javascript",
    "json",
    "yaml",
    "html",
    "c++",
    "scala",
    "latex",
    "rust",
    "java",
    "xml",
]

PIECES = st.sampled_from(
    [
        "def f(x):\n", "    return ", "'text'", '"""doc\n', "f'{a!r:>{w}}'", "r'\\d'", "b'\\x00'", "\\N{DASH}", "# comment\n",
        "@decorator\n", "class A(B):\n", "import a.b as c\n", "from . import x\n", "1_000.5e-3j", "0x1f", "lambda x: x", "%timeit f()\n",
        "!ls -l\n", "?f\n", "%%bash\n", "for i in range(3):\n", "é", "名 = 1\n", "\t", "\n", " ", "{", "}", "[", "(", ")", "]", "'", '"', "\\",
        "<a href='x'>", "</a>", "SELECT * FROM t;", "$x", "`cmd`", "<- c(1,2)", "::", "->", "&amp;", "/* c */", "// c\n", "match x:\n", "print", "\0",
    ]
)  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(PIECES, max_size=25))
def test_tokens_are_those_of_pygments(language: str, pieces: list[str]) -> None:
    lexer = get_lexer_by_name(language)
    text = "".join(pieces)
    assert [t for t in tokens_of(lexer, text) if t[2]] == [t for t in lexer.get_tokens_unprocessed(text) if t[2]]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=25))
def test_tokens_of_ipython_code_are_those_of_pygments(pieces: list[str]) -> None:
    lexer = IPython3Lexer()
    text = "".join(pieces)
    assert [t for t in tokens_of(lexer, text) if t[2]] == [t for t in lexer.get_tokens_unprocessed(text) if t[2]]


def test_tokens_of_real_modules_are_those_of_pygments() -> None:
    lexer = get_lexer_by_name("python")
    for path in sorted(Path(__file__).parent.glob("test_*.py"))[:15]:
        text = path.read_text(encoding="utf-8")
        assert list(tokens_of(lexer, text)) == list(lexer.get_tokens_unprocessed(text))


@pytest.mark.parametrize(
    ("pattern", "starts", "not_starts"),
    [
        ("abc", "a", "bA"),
        ("(?i)abc", "aA", "b"),
        ("[a-c]x|d", "abcd", "ex"),
        (r"\d+", "05", "a"),
        (r"\s*x", " \tx", "y"),
        (r"a*?b", "ab", "c"),
        (r"(?:a|)b", "ab", "c"),
        (r"(?=q)\w", "q1", " "),
        (r"(?<=z)k", "k", "z"),
        (r"[^a]", "b\n", "a"),
        (r".x", "ab", "\x80"[1:]),
        (r"\bif\b", "i", "f"),
        (r"(?>ab)", "a", "b"),
        (r"a{2,3}", "a", "b"),
    ],
)
def test_first_characters_are_never_too_few_and_rarely_too_many(pattern: str, starts: str, not_starts: str) -> None:
    found = first_characters(re.compile(pattern))
    assert found is not None
    assert set(starts) <= found
    assert not set(not_starts) & found


@pytest.mark.parametrize("pattern", ["", "a?", "a*", "(?=x)", "$", "(a)?|b", r"\b"])
def test_an_expression_that_matches_nothing_may_match_anywhere(pattern: str) -> None:
    assert first_characters(re.compile(pattern)) is None


@pytest.mark.parametrize("pattern", ["é", "[à-ü]", r"\w", "[^a]", ".", "(?i)k", "(?i)s"])
def test_characters_beyond_ascii_are_one_class(pattern: str) -> None:
    found = first_characters(re.compile(pattern))
    assert found is not None
    assert OTHER in found


@settings(max_examples=500, deadline=None)
@given(st.from_regex(r"[ab.\[\]^()|*+?\\dws -]{1,10}", fullmatch=True), st.text(alphabet="ab 1é-.", max_size=4))
def test_no_match_begins_with_another_character(pattern: str, text: str) -> None:
    try:
        expression = re.compile(pattern)
    except (re.error, FutureWarning):
        return
    found = first_characters(expression)
    if expression.match(text) and text and found is not None:
        assert (text[0] if text[0].isascii() else OTHER) in found
