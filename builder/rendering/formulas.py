"""TeX formulas of a notebook as MathML, made when the page is built; what cannot be converted is shown as TeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from builder.page import Finding
from builder.rendering.delimiters import FormulaFinder
from builder.rendering.dialect import escape_text, normalise
from builder.rendering.mathml import strict_mathml, to_mathml
from builder.rendering.tex import (
    DEFINES,
    MAX_LENGTH,
    Macros,
    TexError,
    argument,
    check_bounds,
    expand,
    split_definitions,
    split_top,
    strip_comments,
)

BLOCK_START, BLOCK_END = '<div class="math">', "</div>"

_OUTER = re.compile(
    r"\s*\\begin\s*\{(equation|align|alignat|flalign|gather|multline|eqnarray)(\*?)\}(.*)\\end\s*\{\1\2\}\s*\Z", re.S
)
_LABEL = re.compile(r"\\label\s*\{([^{}]*)\}")
_TAG = re.compile(r"\\tag(\*?)\s*(?=\{)")
_REFERENCE = re.compile(r"\\(eqref|ref)\s*\{([^{}]*)\}")
_COLUMNS = re.compile(r"\A\s*\{\d*\}")
_NUMBERS_LINES = frozenset({"align", "alignat", "flalign", "gather", "eqnarray"})
_PLACEHOLDER = re.compile(r"<mtext>nbfolio(\d+)z</mtext>")


class _Row(NamedTuple):
    """A line of a display formula, which may have a number."""

    tex: str
    labels: tuple[str, ...] = ()
    tag: str | None = None
    """What the author wants for a number, in parentheses unless he used `\\tag*`."""


class Formulas:
    r"""The formulas of one notebook: its macros and numbered equations, and the conversion to MathML.

    `cells` are the sources of the notebook's cells in order, with "" for those that are not Markdown, so that their
    index is the `cell` of the other methods. As in JupyterLab only equations with a `\tag` or `\label` show a number.
    """

    def __init__(self, cells: Iterable[str]) -> None:
        self.findings: list[Finding] = []
        self._macros = Macros()
        self._numbers: dict[str, str] = {}
        self._anchors: set[str] = set()
        self._cache: dict[tuple[str, bool, int], tuple[str, str]] = {}
        self._count = 0
        for cell, source in enumerate(cells):
            if r"\label" in source or DEFINES.search(source):
                self._scan(source, cell)

    def _scan(self, source: str, cell: int) -> None:
        for formula in FormulaFinder(source):
            if formula.kind in ("inline", "block") and len(formula.tex) <= MAX_LENGTH:
                tex, macros = split_definitions(strip_comments(escape_text(formula.tex)))
                self._macros.add(macros, cell)
                if r"\label" in tex:
                    for row in _rows(tex)[1]:
                        self._number(row)

    def convert(self, tex: str, block: bool, cell: int) -> str:
        """MathML of a formula, or its source as `<code class="tex">` and a warning in `findings`; "" for mere macros.

        A block formula is one `<div class="math">`.
        """
        key = (tex, block, cell if self._macros.depend_on_cell else 0)
        found = self._cache.get(key)
        if found is None:
            found = self._convert(tex, block, cell)
            if not _LABEL.search(tex) and not _REFERENCE.search(tex):
                self._cache[key] = found
        html, problem = found
        if problem:
            shown = " ".join(tex.split())
            shown = shown if len(shown) <= 60 else shown[:59] + "…"
            self.findings.append(Finding("warning", f"The formula {shown} {problem}; its source is shown.", cell))
        return html

    def convert_text(self, text: str, cell: int) -> str:
        r"""Plain text with formulas between delimiters (`$ $$ \( \[ \begin{..}`) as HTML, the rest escaped."""
        pieces: list[str] = []
        position = 0
        for formula in FormulaFinder(text, markdown=False):
            pieces.append(escape(text[position : formula.start], quote=False))
            if formula.kind == "ref":
                pieces.append(self.reference(formula.tex, cell))
            else:
                pieces.append(self.convert(formula.tex, formula.kind == "block", cell))
            position = formula.end
        return "".join(pieces) + escape(text[position:], quote=False)

    def reference(self, tex: str, cell: int) -> str:
        r"""The link that `\eqref{name}` or `\ref{name}` stands for; `(???)` and a warning for an unknown name."""
        match = _REFERENCE.match(tex)
        if match is None:
            return escape(tex)
        label = match[2].strip()
        number = self._numbers.get(label)
        if number is None:
            message = f"{match[0]} refers to an equation that is not on this page."
            self.findings.append(Finding("warning", message, cell))
            return "(???)" if match[1] == "eqref" else "???"
        if match[1] == "ref" and number.startswith("(") and number.endswith(")"):
            number = number[1:-1]
        return f'<a href="#{escape(_anchor(label))}">{number}</a>'

    def _convert(self, tex: str, block: bool, cell: int) -> tuple[str, str]:
        """HTML, and what is wrong with the formula when it is only the source."""
        numbers: list[str] = []
        problem = ""
        try:
            check_bounds(tex)
            plain, own = split_definitions(strip_comments(escape_text(tex)))
            if own and not plain.strip():
                return "", ""
            if DEFINES.search(plain):
                raise TexError("has a macro definition that cannot be read")
            plain = expand(plain, lambda name: own.get(name) or self._macros.get(name, cell))
            check_bounds(plain)
            table, rows = _rows(plain)
            numbers = [self._eqno(row) for row in rows] if block else []
            html = self._mathml([row.tex for row in rows], numbers, table, tex, cell)
        except TexError as error:
            problem = str(error)
            html = f'<code class="tex">{escape(tex.strip(), quote=False)}</code>' + "".join(numbers)
        return (f"{BLOCK_START}{html}{BLOCK_END}" if block else html), problem

    def _mathml(self, rows: list[str], numbers: list[str], table: str, source: str, cell: int) -> str:
        """`rows` with their `numbers` (none for an inline formula) as MathML."""
        notes: list[str] = []

        def note(html: str) -> str:
            notes.append(html)
            return f"nbfolio{len(notes) - 1}z"

        def noted(match: re.Match[str]) -> str:
            number = int(match[1])
            return f"<mtext>{notes[number]}</mtext>" if number < len(notes) else match[0]

        def linked(row: str) -> str:
            return normalise(_REFERENCE.sub(lambda match: rf"\text{{{note(self.reference(match[0], cell))}}}", row))

        rows = [linked(row) for row in rows]
        if len(rows) > 1 and any(numbers):
            tags = [rf"\tag*{{{note(number)}}}" if number else "" for number in numbers]
            name = "align*" if table == "aligned" else "gather*"
            lines = r"\\".join(row + tag for row, tag in zip(rows, tags, strict=True))
            try:
                return _PLACEHOLDER.sub(noted, strict_mathml(rf"\begin{{{name}}}{lines}\end{{{name}}}", True, source))
            except TexError:
                pass  # the lenient converter knows no tags: the numbers go beside the formula
        lines = r"\\".join(rows)
        tex = rf"\begin{{{table}}}{lines}\end{{{table}}}" if table else lines
        return _PLACEHOLDER.sub(noted, to_mathml(tex, bool(numbers), source)) + "".join(numbers)

    def _number(self, row: _Row) -> str:
        """What a row shows for a number as HTML, "" for none; references know it from now on."""
        number = ""
        if row.tag is not None:
            number = self._tag(row.tag)
        elif row.labels:
            number = self._numbers.get(row.labels[0], "")
            if not number:
                self._count += 1
                number = f"({self._count})"
        for label in row.labels:
            self._numbers.setdefault(label, number)
        return number

    def _tag(self, tag: str) -> str:
        try:
            return to_mathml(normalise(rf"\text{{{tag}}}"), False, tag) if "\\" in tag or "$" in tag else escape(tag)
        except TexError:
            return escape(tag)

    def _eqno(self, row: _Row) -> str:
        """The number of a row with an anchor for each of its labels; each anchor is on the page once."""
        number = self._number(row)
        if not number:
            return ""
        anchors = [anchor for label in row.labels if (anchor := _anchor(label)) not in self._anchors]
        self._anchors.update(anchors)
        ids = [f' id="{escape(anchor)}"' for anchor in dict.fromkeys(anchors)] or [""]
        return f'<span class="eqno"{ids[0]}>{number}</span>' + "".join(f"<span{further}></span>" for further in ids[1:])


def _anchor(label: str) -> str:
    return "eq-" + "-".join(label.split())


def _rows(tex: str) -> tuple[str, list[_Row]]:
    r"""The table that the lines of a display formula form (`aligned`, `gathered` or none), and these lines.

    Only environments that number each line are taken apart; `a \\ b` outside of one has lines, too, but one number.
    """
    outer = _OUTER.match(tex)
    name, body = (outer[1], outer[3]) if outer else ("", tex)
    if name == "alignat":
        body = _COLUMNS.sub("", body)
    lines = split_top(body)
    if len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    if name == "eqnarray":
        lines = [_two_columns(line) for line in lines]
    if name not in _NUMBERS_LINES:
        lines = [r"\\".join(lines)]
    columns = len(split_top(lines[0], cells=True)) > 1
    several = len(lines) > 1 or len(split_top(lines[0])) > 1
    return "aligned" if columns else "gathered" if several else "", [_row(line) for line in lines]


def _two_columns(line: str) -> str:
    """A line of an eqnarray, `a & = & b`, for two columns."""
    first, *others = split_top(line, cells=True)
    return f"{first}&{''.join(others)}" if others else first


def _row(line: str) -> _Row:
    labels = tuple(label.strip() for label in _LABEL.findall(line))
    line = _LABEL.sub("", line)
    tag = None
    while (match := _TAG.search(line)) is not None and (group := argument(line, match.end())) is not None:
        tag = group[0] if match[1] else f"({group[0]})"
        line = line[: match.start()] + line[group[1] :]
    return _Row(line, labels, tag)
