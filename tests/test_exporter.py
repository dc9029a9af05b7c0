"""`jupyter nbconvert --to nbfolio`: the same page as the site's, in one file, with nbconvert's own settings at work."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from making import code, display, markdown, notebook, png, png64, result, write
from traitlets.config import Config

from builder.exporter import NbfolioExporter
from builder.frame import fill
from builder.page import PageOptions
from builder.rendering.body import BodyRenderer


@pytest.fixture
def node() -> nbformat.NotebookNode:
    """A notebook with text, code, an image and a link."""
    cells = (
        markdown("# Title\n\n[other](other.ipynb) $x^2$"),
        code("1 + 1", result("2")),
        code("plot()", display({"image/png": png64()}), tags=["drop-me"]),
    )
    return nbformat.from_dict(notebook(*cells))


def test_the_body_is_that_of_the_site(node: nbformat.NotebookNode) -> None:
    html, _ = NbfolioExporter().from_notebook_node(node, {"metadata": {"name": "n"}})
    body, _ = BodyRenderer().render(node, PageOptions(name="n"))
    values = [
        f"data:image/png;base64,{base64.b64encode(png()).decode()}" if ref.kind == "media" else ref.raw
        for ref in body.refs
    ]
    assert fill(body.html, values) in html


def test_the_page_needs_no_other_file(node: nbformat.NotebookNode) -> None:
    html, _ = NbfolioExporter().from_notebook_node(node)
    assert "data:text/css;base64," in html
    assert "\x02" not in html
    assert 'href="other.ipynb"' in html, "there is no site in which the link could lead to a page"
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_preprocessors_of_the_user_run_and_leave_the_notebook_alone(node: nbformat.NotebookNode) -> None:
    config = Config()
    config.NbfolioExporter.preprocessors = ["nbconvert.preprocessors.TagRemovePreprocessor"]
    config.TagRemovePreprocessor.remove_cell_tags = {"drop-me"}
    html, _ = NbfolioExporter(config=config).from_notebook_node(node)
    assert "plot()" not in html
    assert "1" in html
    assert len(node.cells) == 3


def test_a_template_of_the_user_is_taken(node: nbformat.NotebookNode, tmp_path: Path) -> None:
    write(tmp_path, "body.html.j2", "<p>{{ page.cells|length }} cells of {{ nb.metadata.kernelspec.name }}</p>")
    html, _ = NbfolioExporter(extra_template_paths=[str(tmp_path)]).from_notebook_node(node)
    assert "<p>3 cells of python3</p>" in html


def test_templates_in_the_working_folder_are_not_taken(
    node: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "body.html.j2", "hijacked")
    write(tmp_path, "lab/body.html.j2", "hijacked")
    monkeypatch.chdir(tmp_path)
    html, _ = NbfolioExporter().from_notebook_node(node)
    assert "hijacked" not in html


def test_rendering_for_the_site_does_not_import_nbconvert() -> None:
    program = "import sys, builder.render; builder.render.renderer(); print('nbconvert' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
