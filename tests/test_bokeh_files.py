"""The files of BokehJS that pages load: those of the installed Bokeh, and only where a page may need them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path

import pytest

from builder import bokeh_files as module
from builder.bokeh_files import bokeh_files, may_draw_bokeh

pytest.importorskip("bokeh")


def test_a_page_with_bokeh_gets_the_files_of_the_installed_version() -> None:
    files = bokeh_files({"bokeh", "plotly"})
    core = f"assets/bokeh/{version('bokeh')}/bokeh.min.js"
    assert core in files
    assert {name.removesuffix(".min.js").rpartition("/")[2] for name in files} == {
        "bokeh", "bokeh-widgets", "bokeh-tables", "bokeh-gl", "bokeh-mathjax",
    }  # fmt: skip
    assert "Bokeh Contributors" in files[core].read_text()[:300], "its licence goes with it"


@pytest.mark.parametrize("features", [(), ("plotly", "vega", "widgets")])
def test_other_pages_get_none(features: tuple[str, ...]) -> None:
    assert bokeh_files(features) == {}


def test_without_bokeh_there_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", missing)
    assert bokeh_files({"bokeh"}) == {}


@pytest.mark.parametrize("number", ["../../etc", "3.9", "3.9.2/x", ""])
def test_what_is_no_version_becomes_no_path(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Distribution):
        version = number

        def read_text(self, filename: str) -> str | None:
            return None

        def locate_file(self, path: object) -> Path:
            return Path(str(path))

    monkeypatch.setattr(module, "distribution", lambda _: Odd())
    assert bokeh_files({"bokeh"}) == {}


def test_finding_the_files_does_not_import_bokeh() -> None:
    code = "import sys, builder.bokeh_files as it; assert it.bokeh_files({'bokeh'}); assert 'bokeh' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from bokeh.plotting import figure", True),
        ("import hvplot.pandas", True),
        ("x = 1", False),
        ("bokehlike = 1", False),
    ],
)
def test_code_that_names_bokeh_may_draw_with_it(source: str, expected: bool) -> None:
    assert may_draw_bokeh(["pass", source]) is expected
