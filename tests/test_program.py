"""A kernel runs the cells of exactly the version that its page shows, under the page's own numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import msgspec
import pytest
from making import Cell, code, markdown, notebook, stream, write
from sites import config_of

from builder.build import Builder
from builder.bundles import Bundle, BundleLimits, open_bundle
from builder.catalog import LivePage
from builder.config import Config
from builder.errors import ChangedError, NotebookError
from builder.rendering.notebook import read_plain
from shim.kernels.program import Program, _Memory, read_program

RAW: Cell = {"cell_type": "raw", "metadata": {}, "source": "raw"}


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.program._memory", _Memory())


def catalog_of(config: Config) -> dict[str, LivePage]:
    with Builder(config) as builder:
        builder.build()
        return builder.catalog()


def as_cataloged(file: Path) -> LivePage:
    """What the catalog says of a page that was just made from a file."""
    kind: Literal["zip", "notebook"] = "zip" if file.suffix == ".zip" else "notebook"
    digest = sha256(file.read_bytes()).hexdigest()
    return LivePage(file.stem, file.name, kind, digest, "0" * 16, "button", False, True, 0, "")


def program_of(folder: Path, *cells: Cell, **metadata: Any) -> Program:
    return read_program(config_of(folder), as_cataloged(write(folder, "a.ipynb", notebook(*cells, **metadata))))


def zipped(path: Path, **files: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def code_cells_of(config: Config, path: str) -> list[int]:
    html = (config.output / "dashboards" / path / "index.html").read_text()
    return [int(number) for number in re.findall(r'<section class="cell code"[^>]* data-cell="(\d+)"', html)]


def test_cells_keep_their_places_and_only_code_is_there(tmp_path: Path) -> None:
    cells = [markdown("# T"), code("a = 1"), RAW, code(""), code(["b\n", "c"])]  # type: ignore[arg-type]
    config = config_of(tmp_path)
    write(tmp_path, "a.ipynb", notebook(*cells))
    page = catalog_of(config)["a"]
    program = read_program(config, page)
    assert program == Program("a", page.version, "python3", "python", (None, "a = 1", None, "", "b\nc"), None)
    assert code_cells_of(config, "a") == [1, 3, 4]


def test_old_formats_and_repaired_cells_have_the_numbers_of_the_page(tmp_path: Path) -> None:
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": "n"},
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 1, "metadata": {}, "source": "T"},
                    {"cell_type": "code", "input": "x = 3", "outputs": [], "language": "python", "metadata": {}},
                    {"cell_type": "code", "outputs": 7},
                ]
            },
            {"cells": [{"cell_type": "code", "input": ["y\n", "z"], "outputs": [], "language": "python"}]},
        ],
    }
    broken = notebook(code("one"), code("three"))
    broken["cells"].insert(1, "no cell")
    broken["cells"].append({"cell_type": "kode", "metadata": {}, "source": "four"})
    broken["cells"].append({"cell_type": "code", "metadata": [], "source": 5, "outputs": None})
    config = config_of(tmp_path)
    write(tmp_path, "old.ipynb", old)
    write(tmp_path, "broken.ipynb", broken)
    catalog = catalog_of(config)
    programs = {path: read_program(config, catalog[path]).cells for path in ("old", "broken")}
    assert programs["old"][1] == "x = 3"
    assert programs["old"][-1] == "y\nz"
    assert programs["broken"] == ("one", None, "three", None, "")
    for path, cells in programs.items():
        assert [index for index, source in enumerate(cells) if source is not None] == code_cells_of(config, path)


@pytest.mark.parametrize(
    ("metadata", "name", "language"),
    [
        ({}, "python3", "python"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "python"}}, "ir", "r"),
        ({"kernelspec": {"name": "xpython"}, "language_info": {"name": "Python"}}, "xpython", "python"),
        ({"kernelspec": {"name": "python3.11"}, "language_info": {}}, "python3.11", "python"),
        ({"kernelspec": {"name": "bash"}, "language_info": {}}, "bash", ""),
        ({"kernelspec": {"name": "../python3"}, "language_info": {"name": "x" * 65}}, "", ""),
        ({"kernelspec": {"name": "a" * 65}}, "", "python"),
        ({"kernelspec": {"name": "python3\n", "language": "python"}}, "", "python"),
        ({"kernelspec": {"name": 3, "language": ["python"]}, "language_info": None}, "", ""),
        ({"kernelspec": [], "language_info": []}, "", ""),
    ],
)
def test_kernelspec_and_language_are_what_the_notebook_says_if_it_can_be(
    tmp_path: Path, metadata: dict[str, Any], name: str, language: str
) -> None:
    program = program_of(tmp_path, code("1"), **metadata)
    assert (program.kernelspec, program.language) == (name, language)


@pytest.mark.parametrize(
    ("cells", "index"),
    [
        ([code("a"), code("b", tags=["x", "parameters"]), code("c", tags=["parameters"])], 1),
        ([markdown("m", tags=["parameters"]), code("b", tags=["parameters"])], 1),
        ([code("a", tags="parameters")], None),
        ([code("a", tags={"parameters": 1})], None),
        ([code("a", tags=[["parameters"]])], None),
        ([], None),
    ],
)
def test_the_parameters_cell_is_the_first_code_cell_with_the_tag(
    tmp_path: Path, cells: list[Cell], index: int | None
) -> None:
    assert program_of(tmp_path, *cells).parameters == index


def test_the_notebook_of_an_archive_is_read_within_the_limits(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    content = json.dumps(notebook(markdown("T"), code("in the zip")))
    page = as_cataloged(zipped(tmp_path / "a.zip", index__ipynb=content, data__csv="1"))
    with pytest.raises(NotebookError, match="more than the 1 entries"):
        read_program(config_of(tmp_path, server__max_entries=1), page)
    assert read_program(config, page).cells == (None, "in the zip")


def replaced(path: Path) -> None:
    write(path.parent, "new", path.read_bytes().replace(b"first", b"other")).replace(path)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def foldered(path: Path) -> None:
    path.unlink()
    path.mkdir()


def led_out(path: Path) -> None:
    outside = path.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("change", [replaced, Path.unlink, piped, foldered, led_out])
@pytest.mark.parametrize("ending", ["ipynb", "zip"])
def test_another_version_of_the_file_is_not_run(tmp_path: Path, change: Callable[[Path], object], ending: str) -> None:
    content = json.dumps(notebook(code("first")))
    file = write(tmp_path, f"source/a.{ending}", content)
    if ending == "zip":
        zipped(file, index__ipynb=content)
    config, page = config_of(file.parent), as_cataloged(file)
    change(file)
    with pytest.raises(ChangedError, match="has just changed; reload the page"):
        read_program(config, page)


def test_an_archive_that_is_replaced_while_it_is_read_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    file = zipped(tmp_path / "a.zip", index__ipynb=json.dumps(notebook(code("first"))))
    other = zipped(tmp_path / "other", index__ipynb=json.dumps(notebook(code("another"))))

    def late(path: Path, limits: BundleLimits) -> Bundle:
        other.replace(file)
        return open_bundle(path, limits)

    monkeypatch.setattr("shim.kernels.original.open_bundle", late)
    with pytest.raises(ChangedError):
        read_program(config, as_cataloged(file))


def test_a_page_whose_new_version_fails_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write(tmp_path, "a.ipynb", notebook(code("good")))
    assert read_program(config, catalog_of(config)["a"]).cells == ("good",)
    write(tmp_path, "a.ipynb", "{")
    page = catalog_of(config)["a"]
    assert page.published
    with pytest.raises(ChangedError, match="could not be made anew") as caught:
        read_program(config, page)
    assert "JSON" not in str(caught.value), "what is wrong with it is not for readers"


def test_a_huge_notebook_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.original.MAX_NOTEBOOK", 1000)
    with pytest.raises(NotebookError, match="too many to be run"):
        program_of(tmp_path, code("x" * 2000))
    file = zipped(tmp_path / "b.zip", index__ipynb=json.dumps(notebook(code("x" * 2000))))
    with pytest.raises(NotebookError, match="too many to be run"):
        read_program(config_of(tmp_path), as_cataloged(file))


def test_many_readers_at_a_time_cost_one_reading_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    catalog = {
        name: as_cataloged(write(tmp_path, f"{name}.ipynb", notebook(code(name, stream("out"))))) for name in "abc"
    }
    reads: list[str] = []

    def counted(data: bytes, name: str) -> dict[str, Any]:
        reads.append(name)
        return read_plain(data, name)

    monkeypatch.setattr("shim.kernels.program.read_plain", counted)
    monkeypatch.setattr("shim.kernels.program.KEPT", 2)
    together = threading.Barrier(30)

    def visit(_: int) -> Program:
        together.wait(60)
        return read_program(config, catalog["a"])

    with ThreadPoolExecutor(30) as pool:
        programs = set(pool.map(visit, range(30)))
    assert (len(programs), len(reads)) == (1, 1)
    for name in "bac":
        assert read_program(config, catalog[name]).cells == (name,)
    assert len(reads) == 3
    read_program(config, catalog["a"])
    assert len(reads) == 3, "the one that was used last stays"
    read_program(config, catalog["b"])
    assert len(reads) == 4


def test_no_message_names_the_folders_of_the_machine(tmp_path: Path) -> None:
    config, page = config_of(tmp_path), as_cataloged(write(tmp_path, "a.ipynb", notebook(code("x"))))
    (tmp_path / "a.ipynb").unlink()
    (tmp_path / "a.ipynb").symlink_to("a.ipynb")
    with pytest.raises(NotebookError) as caught:
        read_program(config, page)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_first_reader_does_not_wait_for_libraries_of_the_builder(tmp_path: Path) -> None:
    page = as_cataloged(write(tmp_path, "a.ipynb", notebook(code("n = 2", tags=["parameters"]))))
    script = """
import sys
from pathlib import Path
import msgspec
from builder.catalog import LivePage
from builder.config import load_config
from shim.kernels.parameters import with_parameters
from shim.kernels.program import read_program
page = msgspec.json.decode(sys.argv[2], type=LivePage)
print(with_parameters(read_program(load_config(Path(sys.argv[1]), None, {}, {}), page), "n=1").cells)
print([name for name in ("nbformat", "jsonschema", "nbconvert", "mistune", "pygments") if name in sys.modules])
"""
    command = [sys.executable, "-c", script, str(tmp_path), msgspec.json.encode(page).decode()]
    assert subprocess.check_output(command, text=True).splitlines() == ["('n = 2\\n\\nn = 1',)", "[]"]
