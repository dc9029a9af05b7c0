r"""Where formulas stand in a text, by their delimiters: `$ $$ \( \[ \\( \\[ \begin{..}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from builder.rendering.tex import environments


class Formula(NamedTuple):
    """A formula in a text: `source[start:end]` with its delimiters, `tex` without them (environments keep theirs)."""

    kind: Literal["inline", "block", "ref", "dollar"]
    r"""ref: `\eqref{..}` outside of a formula; dollar: `\\$`, which Jupyter shows as a plain dollar sign."""
    start: int
    end: int
    tex: str


_REACH = 5_000
"""Characters in which a bracketed formula or a code span must end: keeps text full of openers linear."""

_PREFIX = r"(?:[ \t>]|[-*+][ \t]|\d{1,9}[.)][ \t])*+"
"""What may stand before a fence: indentation, quotes, list markers."""
_FENCE_PREFIX = re.compile(_PREFIX)
_STARTS = re.compile(
    rf"(?P<ticks>`++)|^{_PREFIX}(?P<tildes>~{{3,}}+)|(?P<dollars>\$\$?)|(?P<escaped>\\\\\$)|(?P<open>\\{{1,2}}[\[(])"
    r"|(?P<begin>\\begin\{[A-Za-z]++\*?\})|(?P<ref>\\(?:eq)?ref\{[^{}\n]{1,200}\})|\\.",
    re.S | re.M,
)
_DISPLAY = re.compile(r"\$\$((?:[^$\\]++|\\.|\$(?!\$))*+)\$\$", re.S)
_INLINE = re.compile(r"\$((?:[^$\\]++|\\.)++)\$(?!\d)", re.S)
_BLANK_LINE = re.compile(r"\n[ \t]*+\n")
_QUOTE_PREFIX = re.compile(r"^[ \t]{0,3}(?:>[ \t]?)++", re.M)
# What starts a new block in Markdown, or is markup, does not lie within an inline formula.
_BREAKS_INLINE = re.compile(r"</|<!--|\n[ \t]*+(?:\n|[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|>[ \t]|```|~~~|\|)")
_TEXISH = re.compile(r"[\\^_={}]")
_AMOUNT = re.compile(r"\d[\d.,]*+[kKmMbB]?(?:\s+\(?[A-Za-z]{2,}|.*\s\Z)", re.S)
_EVIDENT_TEX = re.compile(r"\\[A-Za-z]|[\^=+]|_\{|(?<!\w)[A-Za-z]_\w(?!\w)")


class FormulaFinder:
    r"""Iterates over the formulas of a text, in linear time.

    In Markdown code is left out, and `\(..\)`, which is an escaped bracket there, counts only around evident TeX.
    A dollar sign opens no formula when what follows reads like an amount of money.
    """

    def __init__(self, source: str, markdown: bool = True) -> None:
        self._source = source
        self._markdown = markdown
        self._absent: dict[str, int] = {}
        """For a closing delimiter: the position up to which none closes."""
        self._environments: dict[int, int] | None = None

    def __iter__(self) -> Iterator[Formula]:
        position = 0
        while (match := _STARTS.search(self._source, position)) is not None:
            position = match.end()
            if match["ticks"] or match["tildes"]:
                position = self._after_code(match) if self._markdown else position
            elif (formula := self._formula(match)) is not None:
                yield formula
                position = formula.end

    def _formula(self, match: re.Match[str]) -> Formula | None:
        start, end = match.span()
        if match["dollars"]:
            return self._display(start) if end - start == 2 else self._inline(start)
        if match["open"]:
            return self._bracketed(match["open"], start, end)
        if match["begin"]:
            if self._environments is None:
                self._environments = environments(self._source)
            end = self._environments.get(start, 0)
            return Formula("block", start, end, self._unquoted(start, start, end)) if end else None
        if match["ref"]:
            return Formula("ref", start, end, match[0])
        return Formula("dollar", start, end, "$") if match["escaped"] and self._markdown else None

    def _display(self, start: int) -> Formula | None:
        match = _DISPLAY.match(self._source, start)
        if match is None or not match[1].strip():
            return None
        return Formula("block", start, match.end(), self._unquoted(start, *match.span(1)))

    def _inline(self, start: int) -> Formula | None:
        match = _INLINE.match(self._source, start)
        if match is None:
            return None
        body = match[1]
        if not body.strip() or _BREAKS_INLINE.search(body):
            return None
        if body[0].isspace() and self._source[max(start - 1, 0) : start].isalnum():
            return None  # "5$ and 6$"
        if not _TEXISH.search(body) and (_AMOUNT.match(body) or (" | " in body and self._line(start)[:1] == "|")):
            return None
        return Formula("inline", start, match.end(), self._unquoted(start, *match.span(1)))

    def _bracketed(self, opening: str, start: int, after: int) -> Formula | None:
        is_block = opening[-1] == "["
        closing = opening[:-1] + ("]" if is_block else ")")
        if after < self._absent.get(closing, 0):
            return None
        end = self._source.find(closing, after, after + _REACH)
        if end < 0:
            self._absent[closing] = after + _REACH - len(closing)
            return None
        body = self._unquoted(start, after, end)
        if not body.strip() or (not is_block and _BLANK_LINE.search(body)):
            return None
        if self._markdown and len(opening) == 2 and not _EVIDENT_TEX.search(body[:200]):
            return None
        return Formula("block" if is_block else "inline", start, end + len(closing), body)

    def _after_code(self, match: re.Match[str]) -> int:
        """Where the code that these backticks or tildes open ends; right after them when they open none."""
        mark = match["ticks"] or match["tildes"]
        after = match.end()
        if len(mark) >= 3 and _FENCE_PREFIX.fullmatch(self._line(after - len(mark))) is not None:
            line_end = self._source.find("\n", after)
            if mark[0] == "~" or "`" not in self._source[after : line_end if line_end >= 0 else None]:
                close = re.compile(rf"^[ \t>]*+{mark[0]}{{{len(mark)},}}[ \t]*$", re.M).search(self._source, after)
                return close.end() if close else len(self._source)
        if mark[0] == "~" or after < self._absent.get(mark, 0):
            return after
        blank = _BLANK_LINE.search(self._source, after, after + _REACH)
        reach = blank.start() if blank else after + _REACH
        close = re.compile(rf"(?<!`){mark}(?!`)").search(self._source, after, reach)
        if close is None:
            self._absent[mark] = reach
        return close.end() if close else after

    def _line(self, position: int) -> str:
        """What stands before `position` on its line, without blanks around; only the end of a very long one."""
        start = max(self._source.rfind("\n", 0, position) + 1, position - 200)
        return self._source[start:position].strip(" \t") + " "

    def _unquoted(self, start: int, body_start: int, body_end: int) -> str:
        """The text of a formula without the `>` of the block quote that it stands in."""
        body = self._source[body_start:body_end]
        if self._markdown and "\n" in body and self._line(start).startswith(">"):
            return _QUOTE_PREFIX.sub("", body)
        return body
