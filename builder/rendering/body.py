"""Renders one notebook to its body: the cells drawn by `cells.py`, put together by the theme's `body.html.j2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from builder.page import Body, Finding, Media, PageOptions
from builder.rendering.cells import PageBuilder
from builder.rendering.highlight import highlight
from builder.rendering.markdown import MarkdownRenderer
from builder.resources import themes_dir

if TYPE_CHECKING:
    from jinja2 import Template
    from nbformat import NotebookNode

TEMPLATE = "body.html.j2"


class BodyRenderer:
    """Makes bodies, one after the other; one per process, because making it costs more than a page."""

    def __init__(self, template: Template | None = None) -> None:
        self._template = template or _environment().get_template(TEMPLATE)
        self._markdown = MarkdownRenderer(highlight)

    def render(
        self, nb: NotebookNode, options: PageOptions, findings: Sequence[Finding] = ()
    ) -> tuple[Body, tuple[Media, ...]]:
        """The body of a notebook and the images taken out of it; `findings` are what reading the file already found."""
        drawing = PageBuilder(nb, options, self._markdown)
        page = drawing.page()
        html = self._template.render(page=page, nb=nb, resources={})
        return drawing.body(html, page, findings), drawing.media


def _environment() -> Environment:
    """Jinja without escaping: what `cells.py` hands to the template is HTML already."""
    loader = FileSystemLoader(themes_dir() / "base" / "templates")
    return Environment(loader=loader, undefined=StrictUndefined, auto_reload=False, autoescape=False)
