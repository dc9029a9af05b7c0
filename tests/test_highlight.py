from __future__ import annotations

import re
import time
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from builder.rendering.highlight import MAX_SOURCE, highlight

LANGUAGES = [
    "python",
    "ipython3",
    "bash",
    "html",
    "javascript",
    "sql",
    "r",
    "latex",
    "markdown",
    "yaml",
    "json",
    "c++",
    "julia",
    "scala",
    "css",
    "diff",
    "pycon",
    "ruby",
    "no-such-language",
    "",
]


def text(html: str) -> str:
    return unescape(re.sub(r"</?span[^>]*>", "", html))


def spans(html: str) -> list[tuple[str, str]]:
    """Class and text of each span."""
    return re.findall(r'<span class="(\w+)">([^<]*)</span>', html)


@settings(deadline=None)
@given(st.text(), st.sampled_from(LANGUAGES))
def test_the_text_is_the_source_for_any_text(source: str, language: str) -> None:
    assert text(highlight(source, language)) == source


fragments = st.sampled_from(
    [
        "x",
        "def f():",
        "\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        '"',
        "'''",
        '"""',
        "f'{",
        "}",
        "# c",
        "%%bash",
        "%%html ",
        "%time",
        "!ls",
        "?",
        "\\",
        "<b>",
        "&amp;",
        "0x1f",
        "1e5",
        "é漢\U0001f600",
        "\ufeff",
        "\x00",
        "\x0b",
        "\x0c",
        "\u2028",
        "%%",
        "import a.b",
        "@d",
        "(",
        ")",
    ]
)


@settings(deadline=None)
@given(st.lists(fragments).map("".join), st.sampled_from(["python", "ipython3", "bash", "html"]))
def test_the_text_is_the_source_for_things_that_look_like_code(source: str, language: str) -> None:
    html = highlight(source, language)
    assert text(html) == source
    assert not re.search(r"<(?!/?span)", html)


def test_keywords_strings_numbers_and_comments_have_pygments_short_classes() -> None:
    html = highlight("def f(a):\n    return 'x' + 1  # why", "python")
    assert spans(html)[:2] == [("k", "def"), ("nf", "f")]
    assert {("k", "return"), ("mi", "1"), ("c1", "# why")} <= set(spans(html))
    assert ("s1", "'x'") in spans(html), "neighbours of one class are one span"


def test_names_and_blanks_have_no_span() -> None:
    assert highlight("name  other", "python") == "name  other"
    assert '"w"' not in highlight("ls  -l\n", "bash")
    assert '"n"' not in highlight("a = b", "python")


@pytest.mark.parametrize(
    "source",
    [
        "x = 5\n",
        "for i in range(3):\n    print(f'{i!r}', end='')\n",
        "class A(B):\n    '''doc'''\n",
        "!ls -la\nx = !pwd\n",
        "%matplotlib inline\nplt.plot?\n",
        "a % b\n",
    ],
)
def test_the_classes_are_those_of_pygments_ipython_lexer(source: str) -> None:
    def classes(html: str) -> list[str]:
        """The class of each character that is not blank; names have none."""
        html = re.sub(r'<span class="(?:n|w)">([^<]*)</span>', r"\1", html)
        pieces = re.findall(r'<span class="(\w*)">([^<]*)</span>|([^<]+)', html)
        return [css for css, inner, bare in pieces for char in unescape(inner or bare) if not char.isspace()]

    formatter = HtmlFormatter(nowrap=True)
    expected = "".join(_format(formatter, source))
    assert classes(highlight(source, "ipython3")) == classes(expected)


def _format(formatter: HtmlFormatter[str], source: str) -> list[str]:
    from pygments import highlight as pygments_highlight

    return [pygments_highlight(source, get_lexer_by_name("ipython3"), formatter)]


@pytest.mark.parametrize(
    ("source", "span"),
    [
        ("%%bash\nfor f in *; do echo $f; done", ("nv", "$f")),
        ("%%sh\necho $a", ("nv", "$a")),
        ("\n\n%%bash -s x\nexport A=1", ("nb", "export")),
        ("%%script bash\necho $a", ("nv", "$a")),
        ("%%html\n<b>x</b>", ("nt", "b")),
        ("%%javascript\nlet a = 1", ("kd", "let")),
        ("%%js\nlet a = 1", ("kd", "let")),
        ("%%sql postgres://x\nSELECT 1", ("k", "SELECT")),
        ("%%R -i df\nx <- TRUE", ("kc", "TRUE")),
        ("%%latex\n\\alpha", ("k", "\\alpha")),
        ("%%markdown\n# Title", ("gh", "# Title")),
        ("%%time\ndef f(): pass", ("nf", "f")),
        ("%%writefile run.sh\necho $a", ("nv", "$a")),
        ("%%writefile module.py\ndef f(): pass", ("nf", "f")),
        ("%%file\ndef f(): pass", ("nf", "f")),
        ("%%some_unknown_magic\ndef f(): pass", ("nf", "f")),
    ],
)
def test_a_cell_magic_colours_the_rest_in_its_language(source: str, span: tuple[str, str]) -> None:
    html = highlight(source, "ipython3")
    assert span in spans(html)
    assert text(html) == source


def test_a_cell_magic_is_one_only_for_python() -> None:
    assert ("nb", "export") not in spans(highlight("%%bash\nexport A=1", "r"))


@pytest.mark.parametrize(
    "source", ["%%bash", "%%bash\n", "%%", "%%html x", "%", "!", "?", "%%script", "%%writefile\n", "\n%%\n"]
)
def test_magics_without_a_body_stay_as_they_are(source: str) -> None:
    assert text(highlight(source, "python")) == source


def test_line_magics_and_shell_commands_are_coloured() -> None:
    found = spans(highlight("%timeit f()\n!echo $HOME\nprint?", "python"))
    assert ("o", "%") in found
    assert ("k", "timeit") in found
    assert ("o", "!") in found
    assert ("nv", "$HOME") in found
    assert ("o", "?") in found


@pytest.mark.parametrize("language", ["no-such-language", "", "../../etc", "x" * 10_000, "Python 99"])
def test_an_unknown_language_is_escaped_text(language: str) -> None:
    assert highlight("if a < b & c: 'd'", language) == "if a &lt; b &amp; c: 'd'"


def test_languages_are_found_whatever_their_case() -> None:
    assert spans(highlight("x <- TRUE", "R")) == spans(highlight("x <- TRUE", " r "))
    assert spans(highlight("def f(): pass", "Python"))


def test_unknown_languages_cost_nothing_the_second_time() -> None:
    highlight("x", "warm-up")
    start = time.thread_time()
    for number in range(2_000):
        highlight("x", f"unknown-{number}")
    # looking through the installed packages for each took a minute
    assert time.thread_time() - start < 5


def test_very_long_sources_are_not_coloured() -> None:
    assert "<span" not in highlight("x = 1\n" * (MAX_SOURCE // 6 + 1), "python")
    assert "<span" in highlight("x = 1\n" * 100, "python")


@pytest.mark.parametrize("language", ["python", "ruby"])
def test_a_lexer_that_takes_too_long_gives_up(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.rendering.highlight.MAX_SECONDS", 0.0)
    source = "x = '1'\n" * 200
    assert highlight(source, language) == source


@pytest.mark.parametrize("unit", ["?", "%", "a?\n", "*", "\n", "'''", "f'{", "!\n"])
def test_hostile_sources_come_back_within_the_time_limit(unit: str) -> None:
    source = unit * (60_000 // len(unit)) + "?"
    start = time.thread_time()
    assert text(highlight(source, "python")) == source
    # the limit is looked at only between tokens
    assert time.thread_time() - start < 12


def test_a_lexer_that_loses_text_is_not_believed() -> None:
    source = "In [1]: x\r\n\tOut\x00\r"
    for language in LANGUAGES:
        assert text(highlight(source, language)) == source
