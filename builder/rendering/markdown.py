"""Markdown cells as JupyterLab shows them: mistune, with the formulas taken out before and put back after."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any

from mistune import BlockParser, InlineParser, InlineState, Markdown
from mistune.plugins import Plugin
from mistune.plugins.def_list import def_list
from mistune.plugins.formatting import strikethrough
from mistune.plugins.table import table, table_in_list, table_in_quote
from mistune.plugins.task_lists import task_lists
from mistune.plugins.url import url

from builder.rendering.delimiters import Formula, FormulaFinder
from builder.rendering.markdown_html import END, START, PageRenderer
from builder.rendering.pagetext import PageText

__all__ = ["MarkdownRenderer", "PageText"]

MAX_SOURCE = 500_000
"""Characters of a Markdown cell; a longer one is shown as it is."""

MAX_MARKS = 600
"""Emphasis marks in one paragraph, above which they are text: matching them takes quadratic time."""

_MARK = re.compile(r"\*++|(?<!\w)_++|(?<!_)_++(?!\w)")
_DATA_URL = re.compile(r"data:image/[a-z+.-]{1,20};base64,[A-Za-z0-9+/=]{100,}+")
_NONCHARACTERS = re.compile(f"[{START}{END}]")
_DEFINITION = re.compile(r"^ {0,3}:[ \t]", re.M)
_HEADING = r"^ {0,3}(?P<atx_1>#{1,6})(?!#)(?P<atx_2>[ \t]*(?:.*?)?)$"
"""A blank after the `#` may be missing, as in older notebooks and for nbconvert."""


def _strikethrough(source: str) -> bool:
    return "~~" in source


def _table(source: str) -> bool:
    return "|" in source


def _url(source: str) -> bool:
    return "http" in source


def _task_lists(source: str) -> bool:
    return "[" in source


def _def_list(source: str) -> bool:
    return ":" in source and _DEFINITION.search(source) is not None


def _formulas(source: str) -> bool:
    return START in source


def _tables(md: Markdown) -> None:
    for plugin in (table, table_in_list, table_in_quote):
        plugin(md)


def _parse_formula(inline: InlineParser, match: re.Match[str], state: InlineState) -> int:
    state.append_token({"type": "formula", "raw": match["formula_number"]})
    return match.end()


def _formula_rule(md: Markdown) -> None:
    pattern = f"{START}(?P<formula_number>\\d+){END}"
    md.inline.register("formula", pattern, _parse_formula, start_chars=START)


class _InlineParser(InlineParser):
    """Leaves emphasis alone where there is too much of it."""

    watchful = False
    """Set for a source with enough marks in all; counting them in every line would cost more than it saves."""
    overflowed = False

    def finalize_tokens(self, tokens: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
        if self.watchful and _marks(tokens) > MAX_MARKS:
            self.overflowed = True
            depth = self.max_nested_level
        return super().finalize_tokens(tokens, depth)


def _marks(tokens: list[dict[str, Any]]) -> int:
    return sum(len(_MARK.findall(token["raw"])) for token in tokens if token["type"] == "text")


# nbconvert's plugins in its order, each with what a source must have for it to matter.
_PLUGINS: tuple[tuple[Callable[[str], bool], Plugin], ...] = (
    (_strikethrough, strikethrough),
    (_table, _tables),
    (_url, url),
    (_task_lists, task_lists),
    (_def_list, def_list),
    (_formulas, _formula_rule),
)


class MarkdownRenderer:
    """Renders Markdown; one per process, parsers are built once and reused; not thread-safe.

    `highlight(source, language)` gives the escaped, coloured content of `<code>`.
    """

    def __init__(self, highlight: Callable[[str, str], str]) -> None:
        self._renderer = PageRenderer(highlight)
        self._parsers: dict[tuple[bool, ...], tuple[Markdown, _InlineParser]] = {}

    def render(self, source: str, page: PageText) -> str:
        """The HTML of the cell that `page` is at; what it refers to, its headings and findings are collected there."""
        source = _NONCHARACTERS.sub("\ufffd", source).replace("\r\n", "\n").replace("\r", "\n")
        self._renderer.page = page
        text, self._renderer.held = _hold_back(source)
        if len(text) > MAX_SOURCE:
            return _as_it_is(source, page, f"This Markdown cell has more than {MAX_SOURCE} characters")
        parser, inline = self._parser(text)
        inline.watchful = text.count("*") + text.count("_") > MAX_MARKS
        inline.overflowed = False
        try:
            html = str(parser(text))
        except RecursionError:
            return _as_it_is(source, page, "This Markdown cell is nested too deeply")
        if inline.overflowed:
            page.warn(f"A paragraph has more than {MAX_MARKS} emphasis marks; they are shown as they are.")
        return html

    def _parser(self, source: str) -> tuple[Markdown, _InlineParser]:
        """The parser with only the rules that matter for `source`; fewer rules are faster, the result is the same."""
        wanted = tuple(matters(source) for matters, _ in _PLUGINS)
        parser = self._parsers.get(wanted)
        if parser is None:
            plugins = [plugin for (_, plugin), chosen in zip(_PLUGINS, wanted, strict=True) if chosen]
            block = BlockParser()
            block.specification["atx_heading"] = _HEADING
            inline = _InlineParser()
            parser = self._parsers[wanted] = Markdown(self._renderer, block, inline, plugins), inline
        return parser


def _as_it_is(source: str, page: PageText, reason: str) -> str:
    page.warn(f"{reason}; it is shown as it is.")
    return f'<pre tabindex="0">{escape(source, quote=False)}</pre>\n'


def _hold_back(source: str) -> tuple[str, list[tuple[Formula | None, str]]]:
    """The source with placeholders, which Markdown leaves alone, for formulas and data URLs, and these as written."""
    held: list[tuple[Formula | None, str]] = []

    def hold(formula: Formula | None, text: str) -> str:
        held.append((formula, text))
        return f"{START}{len(held) - 1}{END}"

    if ";base64," in source:
        source = _DATA_URL.sub(lambda match: hold(None, match[0]), source)
    # beyond the limit nothing is rendered
    if len(source) > MAX_SOURCE or ("$" not in source and "\\" not in source):
        return source, held
    pieces: list[str] = []
    position = 0
    for formula in FormulaFinder(source):
        pieces += (source[position : formula.start], hold(formula, source[formula.start : formula.end]))
        position = formula.end
    return "".join(pieces) + source[position:], held
