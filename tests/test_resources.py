"""Shipped data is found in an installed package and in a checkout; a missing or broken bundle is no bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder import resources

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the part of the installed package."""
    folder = tmp_path / "builder"
    folder.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", folder)
    return folder


@pytest.fixture
def bundle(package: Path) -> Path:
    """A whole bundle of the page runtime inside the package."""
    folder = package / "themes" / "base" / "static" / "runtime"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"source": "abc", "page": "page.X1.js"}')
    (folder / "THIRD-PARTY.txt").write_text("none")
    (folder / "page.X1.js").write_text("1")
    return folder


def test_an_installed_package_has_its_data_inside(package: Path) -> None:
    (package / "themes").mkdir()
    (package / "starter").mkdir()
    (package.parent / "themes").mkdir()
    (package.parent / "site").mkdir()
    assert resources.themes_dir() == package / "themes"
    assert resources.starter_dir() == package / "starter"


def test_a_checkout_has_its_data_beside_the_package(package: Path) -> None:
    assert resources.themes_dir() == package.parent / "themes"
    assert resources.starter_dir() == package.parent / "site"


def test_this_checkout_has_base_a_theme_and_a_starter_site() -> None:
    code = "from builder import resources as r; print(r.themes_dir()); print(r.starter_dir())"
    # From another folder and without site-packages: as in a checkout in which nothing was installed.
    command = [sys.executable, "-S", "-c", code]
    told = subprocess.check_output(command, cwd="/", env={"PYTHONPATH": str(CHECKOUT)}, text=True)
    themes, starter = map(Path, told.splitlines())
    assert (themes / "base" / "templates").is_dir()
    assert (themes / "paper" / "theme.toml").is_file()
    assert (starter / "index.ipynb").is_file()


def test_a_checkout_that_was_never_installed_has_no_runtime(package: Path) -> None:
    assert resources.runtime_manifest() is None
    assert resources.runtime_files() == {}


def test_the_bundle_names_its_page_script_and_what_to_publish(bundle: Path) -> None:
    assert resources.runtime_dir() == bundle
    assert resources.runtime_manifest() == resources.RuntimeManifest(source="abc", page="page.X1.js")
    files = {name: bundle / name for name in ("THIRD-PARTY.txt", "page.X1.js")}
    assert resources.runtime_files() == files


@pytest.mark.parametrize(
    "manifest", ["", "{", "[]", "null", "{}", '{"source": "abc"}', '{"source": "a", "page": 1}', "\udcff"]
)
def test_a_broken_manifest_counts_as_no_bundle(bundle: Path, manifest: str) -> None:
    (bundle / "manifest.json").write_bytes(manifest.encode(errors="surrogateescape"))
    assert resources.runtime_manifest() is None
    assert resources.runtime_files() == {}


def test_a_bundle_whose_script_is_gone_counts_as_none(bundle: Path) -> None:
    (bundle / "manifest.json").write_text(json.dumps({"source": "abc", "page": "page.X2.js"}))
    assert resources.runtime_manifest() is None
