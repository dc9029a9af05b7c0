"""The files of third-party widgets: those installed for the modules that pages name, and nothing else of the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import widget_files as module
from builder.widget_files import stored_modules, widget_files

WIDGET = 'define(["@jupyter-widgets/base"], (base) => ({}))'
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs `module` with these files into an environment that has no others."""
    monkeypatch.setattr(module, "_folders", lambda: (tmp_path / "user", tmp_path / "environment"))

    def install(name: str, files: dict[str, str], where: str = "environment") -> Path:
        folder = tmp_path / where / name
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        return folder

    return install


def test_a_named_module_gets_its_files_without_source_maps(install: Install) -> None:
    files = {"index.js": WIDGET, "a/chunk.js": "1", "index.js.LICENSE.txt": "MIT", "index.js.map": "{}", ".hidden": "x"}
    folder = install("jupyter-matplotlib", files)
    install("other", {"index.js": WIDGET})
    prefix = "assets/nbextensions/jupyter-matplotlib"
    assert widget_files({"jupyter-matplotlib"}, live=False) == {
        f"{prefix}/a/chunk.js": folder / "a" / "chunk.js",
        f"{prefix}/index.js": folder / "index.js",
        f"{prefix}/index.js.LICENSE.txt": folder / "index.js.LICENSE.txt",
    }


def test_a_live_site_gets_all_installed_widgets_and_nothing_else_for_the_classic_notebook(install: Install) -> None:
    install("one", {"index.js": "/*! licence */" + WIDGET})
    install("@scope/two", {"index.js": WIDGET})
    install("toc", {"index.js": 'define(["base/js/namespace"], () => {})'})
    install("no-entry", {"main.js": WIDGET})
    install("anywidget", {"index.js": WIDGET})
    assert set(widget_files((), live=True)) == {
        "assets/nbextensions/@scope/two/index.js",
        "assets/nbextensions/one/index.js",
    }
    assert widget_files((), live=False) == {}


def test_the_place_that_comes_first_in_jupyters_path_wins(install: Install) -> None:
    install("one", {"index.js": WIDGET})
    mine = install("one", {"index.js": WIDGET + "//"}, "user")
    assert widget_files((), live=True) == {"assets/nbextensions/one/index.js": mine / "index.js"}


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "/etc", "@a/../b", ".git", "", "a\\b", "a\0", "missing", "anywidget"]
)
def test_names_that_are_no_installed_module_give_nothing(name: str, install: Install) -> None:
    for place in ("x", "a/b", "b", "anywidget"):
        install(place, {"index.js": WIDGET})
    assert widget_files({name}, live=False) == {}


def test_links_out_of_a_module_are_not_followed_but_the_module_may_be_one(install: Install, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    source = install("one", {"index.js": WIDGET}, "checkout")
    (source / "leak.js").symlink_to(tmp_path / "secret")
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "one").symlink_to(source)
    assert set(widget_files({"one"}, live=False)) == {"assets/nbextensions/one/index.js"}


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_BYTES", 60)])
def test_a_module_that_is_too_large_is_left_out(
    limit: str, value: int, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("large", {"index.js": WIDGET, "a.js": "x" * 10, "b.js": "x" * 10})
    install("small", {"index.js": WIDGET})
    monkeypatch.setattr(module, limit, value)
    assert set(widget_files((), live=True)) == {"assets/nbextensions/small/index.js"}


def stored(*models: Any) -> dict[str, Any]:
    return {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": dict(enumerate(models))}}}


def test_the_modules_of_stored_widgets_are_found_but_for_those_of_the_runtime() -> None:
    slider = {"model_module": "@jupyter-widgets/controls", "state": {"_view_module": "@jupyter-widgets/controls"}}
    canvas = {"model_module": "jupyter-matplotlib", "state": {"_view_module": "its-view"}}
    assert stored_modules(stored(slider, canvas)) == {"jupyter-matplotlib", "its-view"}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"widgets": []},
        {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": [1]}}},
        stored(None, {"model_module": 3, "state": {}}, {"model_module": "x"}, {"model_module": "../x", "state": {}}),
    ],
)
def test_what_is_no_widget_state_names_no_modules(metadata: dict[str, Any]) -> None:
    assert stored_modules(metadata) == frozenset()


def test_the_real_ipympl_is_found_without_importing_it() -> None:
    pytest.importorskip("ipympl")
    code = (
        "import sys; from builder.widget_files import widget_files; "
        "assert 'assets/nbextensions/jupyter-matplotlib/index.js' in widget_files((), live=True); "
        "assert not {'ipympl', 'ipywidgets', 'nbconvert'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
