"""What users install: the wheel made from the sdist, and its commands in a new environment, away from the checkout."""

from __future__ import annotations

import configparser
import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import builder

CHECKOUT = Path(__file__).parent.parent
TIMEOUT = 240
RUNTIME = "themes/base/static/runtime/"
PLACES = {
    "builder": "builder",
    "shim": "shim",
    "site": "builder/starter",
    "themes/base": "builder/themes/base",
    "themes/paper": "builder/themes/paper",
}
"""Folders of the checkout, and where the wheel has them."""
NO_REGISTRY = "http://127.0.0.1:9"

pytestmark = pytest.mark.slow


def run(*command: str | Path, **environment: str) -> str:
    """What a command says on standard output; it is run from `/` and has to succeed."""
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make(kind: str, project: Path, folder: Path, **environment: str) -> Path:
    """Build one distribution with the build backend of this environment, so that nothing is downloaded."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", folder, project, **environment)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("sdist", CHECKOUT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as installers make it from the sdist, on a machine that cannot reach the npm registry."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (project,) = (folder / "unpacked").iterdir()
    cache = str(folder / "empty")
    return make("wheel", project, folder / "dist", npm_config_registry=NO_REGISTRY, npm_config_cache=cache)


@pytest.fixture(scope="session")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def read(wheel: Path, name: str) -> str:
    """A file of the wheel; `name` may begin with `dist-info/`."""
    with zipfile.ZipFile(wheel) as archive:
        real = name.replace("dist-info", f"nbfolio-{builder.__version__}.dist-info", 1)
        return archive.read(real).decode()


def tracked(folder: str) -> list[str]:
    """The files of a source folder relative to it, without what git ignores: bundle, packages, built pages."""
    ignored = {"node_modules", "runtime", "_site", ".nbfolio", "__pycache__", ".ipynb_checkpoints"}
    root = CHECKOUT / folder
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in paths if not ignored & set(path.parts))


def test_the_wheel_holds_two_packages_and_nothing_else(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names} == {"builder", "shim", f"nbfolio-{builder.__version__}.dist-info"}


def test_the_wheel_holds_every_file_of_the_checkout_in_its_place_and_no_other(wheel: Path, names: list[str]) -> None:
    files = {f"{place}/{name}" for folder, place in PLACES.items() for name in tracked(folder)}
    manifest = json.loads(read(wheel, f"builder/{RUNTIME}manifest.json"))
    fonts = re.findall(r'url\("\./([^"]+)"\)', read(wheel, f"builder/{RUNTIME}{manifest['fonts']}"))
    assert len(fonts) == 1
    assert {"THIRD-PARTY.txt", "manifest.json", manifest["page"], manifest["fonts"], *fonts} < set(manifest["files"])
    bundle = {f"builder/{RUNTIME}{name}" for name in manifest["files"]}
    assert {name for name in names if "dist-info/" not in name} == files | bundle


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    about = email.message_from_string(read(wheel, "dist-info/METADATA"))
    assert (about["Name"], about["Version"]) == ("nbfolio", builder.__version__)
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about["Requires-Python"] == ">=3.11"
    assert read(wheel, "dist-info/licenses/LICENSE") == (CHECKOUT / "LICENSE").read_text()


def test_the_wheel_declares_commands_and_exporter(wheel: Path) -> None:
    points = configparser.ConfigParser()
    points.read_string(read(wheel, "dist-info/entry_points.txt"))
    assert dict(points["console_scripts"]) == {
        "build-site": "builder.cli:main",
        "run-shim": "shim.cli:main",
        "shim-admin": "shim.admin:main",
    }
    assert dict(points["nbconvert.exporters"]) == {"nbfolio": "builder.exporter:NbfolioExporter"}


def test_the_sdist_can_be_developed_and_brings_the_bundle(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("builder", "shim", "site", "tests", "themes")
    sources = {f"{folder}/{name}" for folder in folders for name in tracked(folder)}
    house = {".ci/run", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "hatch_build.py"}
    assert (sources | house | {f"{RUNTIME}manifest.json"}) - names == set()
    assert [name for name in names if "node_modules" in name or "_site" in name.split("/")] == []


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of the wheel in a new environment; its dependencies are those of the tests' environment."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # Only the folder is added: the .pth file in it, which leads to the checkout, is not read.
    packages = sysconfig.get_path("purelib", "venv", {"base": str(home)})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import builder; print(builder.__file__)", PYTHONPATH="").strip()
    assert Path(where).is_relative_to(home)
    return home / "bin"


def test_the_installed_command_says_its_version(installed: Path) -> None:
    assert builder.__version__ in run(installed / "build-site", "--version", PYTHONPATH="")


def test_the_installed_commands_build_the_starter_site(installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "starter"
    run(installed / "build-site", "init", site, PYTHONPATH="")
    assert {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} == set(tracked("site"))
    run(installed / "build-site", site, PYTHONPATH="")
    output = site / "_site"
    assert (output / "index.html").is_file()
    assert (output / "dashboards" / "index.html").is_file()
    assert len(list((output / "assets").glob("page.*.js"))) == 1
