"""The nbconvert exporter `nbfolio`: one notebook to one body, with a flat template and our own renderers.

`build-site` calls `render_body`; `jupyter nbconvert --to nbfolio` gets a page that needs no other file.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from html import escape
from typing import Any

from nbconvert.exporters.html import HTMLExporter
from nbformat import NotebookNode
from traitlets import List, default

from builder.cells import BodyPage, PageBuilder
from builder.markdown import MarkdownRenderer
from builder.page import Body, Finding, Media, PageOptions
from builder.resources import themes_dir


class NbfolioExporter(HTMLExporter):
    """Exports a notebook as nbfolio shows it; preprocessors, filters and templates of the user are nbconvert's."""

    export_from_notebook = "HTML (nbfolio)"
    default_preprocessors: List[Any] = List([]).tag(config=True)

    @default("template_file")
    def _template_file_default(self) -> str:
        return "body.html.j2"

    @default("template_paths")
    def _template_paths_default(self) -> list[str]:
        return [*self.extra_template_paths, str(themes_dir() / "base" / "templates")]

    @default("extra_template_basedirs")
    def _extra_template_basedirs_default(self) -> list[str]:
        return []  # not the working folder: whoever can write there could change the pages

    @cached_property
    def _markdown(self) -> MarkdownRenderer:
        from builder.highlight import highlight

        return MarkdownRenderer(highlight)

    def render_body(
        self, nb: NotebookNode, options: PageOptions, findings: Sequence[Finding] = ()
    ) -> tuple[Body, tuple[Media, ...]]:
        """The body of a notebook and the images taken out of it; `findings` are what reading the file already found."""
        builder = PageBuilder(nb, options, self._markdown)
        page: BodyPage = builder.page()
        html = self.template.render(page=page, nb=nb, resources={})
        return builder.body(html, page, findings), builder.media

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: Any = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """A whole page with style sheet and images inside it, as nbconvert's other HTML exporters give."""
        resources = self._init_resources(resources)  # type: ignore[no-untyped-call]
        if self._preprocessors:
            nb, resources = self._preprocess(copy.deepcopy(nb), resources)  # type: ignore[no-untyped-call]
        name = resources.get("metadata", {}).get("name", "") or "Notebook"
        body, media = self.render_body(nb, PageOptions(name=name))
        return self._standalone(body, media), resources

    def _standalone(self, body: Body, media: Iterable[Media]) -> str:
        from builder.frame import Frame, fill
        from builder.settings import Site
        from builder.theme import load_theme

        images = {
            item.name: f"data:{_image_type(item.name)};base64,{base64.b64encode(item.data).decode()}" for item in media
        }
        values = [images[ref.target] if ref.kind == "media" else escape(ref.raw) for ref in body.refs]
        theme = load_theme("paper", [])
        style = f"data:text/css;base64,{base64.b64encode(theme.stylesheet).decode()}"
        return Frame(Site(title=body.meta.title), theme, style, "").standalone(body, fill(body.html, values)).decode()


def _image_type(name: str) -> str:
    ending = name.rpartition(".")[2]
    return "image/" + {"svg": "svg+xml", "jpg": "jpeg"}.get(ending, ending)
