"""The nbconvert exporter `nbfolio`: `jupyter nbconvert --to nbfolio` gets a page that needs no other file.

It renders through the same `BodyRenderer` and template as `build-site`, which does without nbconvert because importing
it takes longer than rendering fifty notebooks.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable
from html import escape
from typing import Any

from nbconvert.exporters.html import HTMLExporter
from nbformat import NotebookNode
from traitlets import List, default

from builder.page import Body, Media, PageOptions
from builder.rendering.body import TEMPLATE, BodyRenderer
from builder.resources import themes_dir


class NbfolioExporter(HTMLExporter):
    """Exports a notebook as nbfolio shows it; preprocessors, filters and templates of the user are nbconvert's."""

    export_from_notebook = "HTML (nbfolio)"
    default_preprocessors: List[Any] = List([]).tag(config=True)

    @default("template_file")
    def _template_file_default(self) -> str:
        return TEMPLATE

    @default("template_paths")
    def _template_paths_default(self) -> list[str]:
        return [*self.extra_template_paths, str(themes_dir() / "base" / "templates")]

    @default("extra_template_basedirs")
    def _extra_template_basedirs_default(self) -> list[str]:
        return []  # not the working folder: whoever can write there could change the pages

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: Any = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """A whole page with style sheet and images inside it, as nbconvert's other HTML exporters give."""
        resources = self._init_resources(resources)  # type: ignore[no-untyped-call]
        if self._preprocessors:
            nb, resources = self._preprocess(copy.deepcopy(nb), resources)  # type: ignore[no-untyped-call]
        name = resources.get("metadata", {}).get("name", "") or "Notebook"
        body, media = BodyRenderer(self.template).render(nb, PageOptions(name=name))
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
