"""From a notebook to what the body template shows: each cell drawn, placed and named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.libraries import libraries_of
from builder.page import Body, Finding, Media, PageOptions
from builder.rendering.formulas import Formulas
from builder.rendering.highlight import highlight
from builder.rendering.layout import Place, Slot, read_layout
from builder.rendering.markdown import MarkdownRenderer
from builder.rendering.metadata import Said, code_mode, live_mode, page_meta
from builder.rendering.mimebundle import OutputContext
from builder.rendering.outputs import render_effects, render_outputs, widget_models, widget_state_html, without_source
from builder.rendering.pagetext import PageText
from builder.rendering.references import References, rewrite_html
from builder.rendering.visibility import CellVisibility, Visibility, cell_visibility

if TYPE_CHECKING:
    from nbformat import NotebookNode

_CELL_ID = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_KINDS = {"none": "notebook", "report": "report", "grid": "grid"}


class CellView(NamedTuple):
    """A cell as the template writes it; all texts are HTML or safe in an attribute."""

    number: int
    """0-based index in the notebook."""
    type: str
    id: str
    style: str = ""
    hidden: bool = False
    html: str = ""
    input_state: Visibility = "shown"
    prompt: str = ""
    outputs: str = ""
    output_state: Visibility = "none"


class BodyPage(NamedTuple):
    """All that `body.html.j2` gets."""

    kind: str
    kernel: str
    language: str
    style: str
    runs: str
    """The numbers of the code cells that have code, in order: what running all of them runs."""
    cells: list[CellView]
    tail: str


class PageBuilder:
    """Draws one notebook: `page()` once, then `body()` with the HTML that the template made of it."""

    def __init__(self, nb: NotebookNode, options: PageOptions, markdown: MarkdownRenderer) -> None:
        self._nb = nb
        self._options = options
        self._markdown = markdown
        self._media: dict[str, Media] = {}
        self._said = Said(nb.metadata)
        self._layout = read_layout(nb.metadata, nb.cells)
        self._code = code_mode(self._said, options, self._layout.type)
        self._language = _language(nb)
        self._secret = self._hidden_lines()
        references = References()
        sources = [cell.source if cell.cell_type == "markdown" else "" for cell in nb.cells]
        self._text = PageText(references, Formulas(sources), self._add_media)
        self._outputs = OutputContext(
            references, self._output_markdown, self._text.formulas.convert_text, widget_models(nb.metadata)
        )

    def page(self) -> BodyPage:
        """Draw all cells, in the order of the notebook."""
        grid = self._layout.type == "grid"
        style = f"--columns:{self._layout.columns};--row-height:{self._layout.row_height}px;--gap:{self._layout.gap}px"
        views = [
            view
            for index, (cell, place) in enumerate(zip(self._nb.cells, self._layout.cells, strict=True))
            if (view := self._cell(cell, index, place))
        ]
        return BodyPage(
            kind=_KINDS[self._layout.type],
            kernel=escape(_text(self._nb.metadata.get("kernelspec", {}), "name")),
            language=escape(self._language),
            style=style if grid else "",
            runs=" ".join(map(str, code_sources(self._nb))),
            cells=views,
            tail=widget_state_html(self._nb.metadata, self._secret) if "widgets" in self._outputs.features else "",
        )

    def body(self, html: str, page: BodyPage, findings: Sequence[Finding]) -> Body:
        """The record of the rendered page."""
        for name, data in self._outputs.media.items():
            self._media[name] = Media(name, data)
        references = self._text.references
        live = live_mode(self._said, self._options, self._layout.type, self._nb.cells)
        return Body(
            html=html,
            meta=page_meta(self._said, self._options, self._code, live, self._text.headings, _prose(page)),
            headings=tuple(self._text.headings),
            refs=tuple(references.refs),
            media=tuple(self._media),
            externals=tuple(references.externals),
            findings=_ordered(
                [
                    *findings,
                    *self._said.findings,
                    *self._text.findings,
                    *self._text.formulas.findings,
                    *self._outputs.findings,
                ]
            ),
            libraries=libraries_of(
                self._outputs.features, self._nb.metadata, code_sources(self._nb).values(), live=live != "off"
            ),
            layout=self._layout.type,
            language=self._language,
            kernel=_text(self._nb.metadata.get("kernelspec", {}), "name"),
            code_cells=sum(cell.cell_type == "code" for cell in self._nb.cells),
        )

    @property
    def media(self) -> tuple[Media, ...]:
        """The images taken out of the notebook, each once."""
        return tuple(self._media.values())

    def _add_media(self, media: Media) -> None:
        self._media[media.name] = media

    def _cell(self, cell: NotebookNode, index: int, place: Place) -> CellView | None:
        seen = cell_visibility(cell, self._code)
        if place == "hidden" or (seen.input == "none" and seen.output == "none"):
            return self._unseen(cell, index, effects=place == "hidden" and seen.output != "none")
        style = _slot_style(place) if isinstance(place, Slot) else ""
        if cell.cell_type == "code":
            return self._code_cell(cell, index, style, seen)
        html = self._markdown_cell(cell, index) if cell.cell_type == "markdown" else self._raw(cell, index)
        return (
            CellView(index, cell.cell_type, _cell_id(cell, index), style, html=html, input_state=seen.input)
            if html
            else None
        )

    def _hidden_lines(self) -> frozenset[str]:
        """The lines of code that are not on the page, and may not come there as quotations."""
        hidden = (
            cell.source
            for cell, place in zip(self._nb.cells, self._layout.cells, strict=True)
            if cell.cell_type == "code" and (place == "hidden" or cell_visibility(cell, self._code).input == "none")
        )
        return frozenset(line.strip() for source in hidden for line in source.splitlines() if len(line.strip()) > 2)

    def _unseen(self, cell: NotebookNode, index: int, *, effects: bool) -> CellView | None:
        """A code cell that is run but not shown; on a dashboard styles and scripts among its outputs take effect."""
        if cell.cell_type != "code":
            return None
        outputs = render_effects(cell, index, self._outputs) if effects else ""
        return CellView(index, "code", _cell_id(cell, index), hidden=True, outputs=outputs)

    def _code_cell(self, cell: NotebookNode, index: int, style: str, seen: CellVisibility) -> CellView:
        empty = not cell.source.strip()
        return CellView(
            index,
            "code",
            _cell_id(cell, index),
            style,
            html=highlight(cell.source, self._language) if seen.input != "none" and not empty else "",
            input_state="none" if empty else seen.input,
            prompt=f"[{cell.execution_count}]:" if cell.execution_count is not None else "[ ]:",
            outputs=render_outputs(
                {**cell, "outputs": without_source(cell.outputs, self._secret)},
                index,
                self._outputs,
                tracebacks=seen.tracebacks,
            )
            if cell.outputs
            else "",
            output_state=seen.output if cell.outputs else "shown",
        )

    def _markdown_cell(self, cell: NotebookNode, index: int) -> str:
        self._text.cell = index
        self._text.attachments = cell.get("attachments", {})
        return self._markdown.render(cell.source, self._text)

    def _output_markdown(self, source: str, index: int) -> str:
        self._text.cell = index
        self._text.attachments = {}
        return self._markdown.render(source, self._text)

    def _raw(self, cell: NotebookNode, index: int) -> str:
        """Raw cells that say they are HTML or Markdown are; others are shown as text, but never on a dashboard."""
        mime = _text(cell.metadata, "format") or _text(cell.metadata, "raw_mimetype")
        if mime == "text/html":
            return rewrite_html(cell.source, self._text.references, index)
        if mime == "text/markdown":
            return self._output_markdown(cell.source, index)
        if mime or self._layout.type != "none" or not cell.source.strip():
            return ""
        return f'<pre tabindex="0">{escape(cell.source, quote=False)}</pre>'


def _prose(page: BodyPage) -> str:
    """What the author wrote for everybody to see, in which a description of the page is looked for."""
    return "".join(cell.html for cell in page.cells if cell.type == "markdown" and cell.input_state == "shown")


def _slot_style(slot: Slot) -> str:
    return f"--row:{slot.row};--col:{slot.col};--width:{slot.width};--height:{slot.height}"


def _cell_id(cell: NotebookNode, index: int) -> str:
    name = cell.get("id")
    return f"cell-id={name}" if isinstance(name, str) and _CELL_ID.fullmatch(name) else f"cell-{index}"


def code_sources(nb: NotebookNode) -> dict[int, str]:
    """The sources of the code cells that have code, by their number, in order."""
    return {
        index: cell.source for index, cell in enumerate(nb.cells) if cell.cell_type == "code" and cell.source.strip()
    }


def _language(nb: NotebookNode) -> str:
    info, kernel = nb.metadata.get("language_info", {}), nb.metadata.get("kernelspec", {})
    return (_text(info, "name") or _text(kernel, "language") or "python").lower()


def _text(table: Any, key: str) -> str:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else ""


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: -1 if finding.cell is None else finding.cell))
