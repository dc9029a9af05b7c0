"""Files that change while a build works: pages are of one version, and stay as they were until the build can be sure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from making import markdown, notebook, write
from sites import config_of, statuses

from builder import scanning
from builder.build import LOOKS, Builder
from builder.scanning import Scan, rescan, scan


class Meddled(Builder):
    """A builder whose source folder is changed right after each look at it."""

    meddle: Callable[[int], None] = staticmethod(lambda look: None)
    looks = 0

    def _look(self, hints: Iterable[str] | None) -> Scan:
        found = super()._look(hints)
        self.looks += 1
        self.meddle(self.looks)
        return found


def page(source: Path, path: str) -> str:
    return (source / "_site/dashboards" / path / "index.html").read_text()


def replace(folder: Path, name: str, content: Any) -> None:
    """What a careful program does: write aside, then rename."""
    os.replace(write(folder, ".new", content), folder / name)


def zipped(text: str, **files: str) -> bytes:
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook(markdown(text))))
        for name, data in files.items():
            archive.writestr(f"{name}.txt", data)
    return content.getvalue()


def test_a_notebook_replaced_after_the_scan_is_shown_in_its_newest_version(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("one")))
    with Meddled(config_of(tmp_path)) as builder:
        builder.meddle = lambda look: replace(tmp_path, "a.ipynb", notebook(markdown("two"))) if look == 1 else None
        report = builder.build()
        assert statuses(report) == {"a": "built"}
        assert builder.looks == 2
    assert "two" in page(tmp_path, "a")


def test_a_page_never_lacks_a_file_that_came_with_its_newest_version(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("one")))
    with Meddled(config_of(tmp_path)) as builder:
        builder.build()
        seen: list[str] = []

        def meddle(look: int) -> None:
            if look == 2:
                write(tmp_path, "data.csv", "1")
            elif look > 2:
                seen.append(page(tmp_path, "a"))

        write(tmp_path, "a.ipynb", notebook(markdown("two [data](data.csv)")))
        builder.meddle = meddle
        builder.build(["a.ipynb"])
    assert all("one" in text for text in seen), "not published without its file"
    assert "two" in page(tmp_path, "a")
    assert (tmp_path / "_site/dashboards/data.csv").read_text() == "1"


@pytest.mark.parametrize("archive", [False, True])
def test_a_file_that_never_rests_keeps_its_old_page_until_it_does(tmp_path: Path, archive: bool) -> None:
    name = "a.zip" if archive else "a.ipynb"

    def version(text: str) -> Any:
        return zipped(text, data=text) if archive else notebook(markdown(text))

    write(tmp_path, name, version("version 0"))
    with Meddled(config_of(tmp_path)) as builder:
        builder.build()
        builder.meddle = lambda look: replace(tmp_path, name, version(f"version {look} {'x' * look}"))
        write(tmp_path, name, version("version one"))
        report = builder.build([name])
        assert statuses(report) == {"a": "failed"}
        assert builder.looks == 2 + LOOKS
        assert "version 0" in page(tmp_path, "a")
        if archive:
            assert (tmp_path / "_site/dashboards/a/data.txt").read_text() == "version 0"
        builder.meddle = lambda look: None
        assert statuses(builder.build([name])) == {"a": "built"}
    assert f"version {1 + 1 + LOOKS}" in page(tmp_path, "a")


def test_a_page_is_not_lost_when_its_file_is_replaced_by_the_other_form(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("one")))
    before = scan(tmp_path)
    write(tmp_path, "a.zip", zipped("two"))
    (tmp_path / "a.ipynb").unlink()
    assert set(rescan(before, tmp_path, (), ["a.ipynb"]).files) == {"a.zip"}
    assert set(rescan(before, tmp_path, (), ["a"]).files) == {"a.zip"}


def test_a_folder_from_which_a_file_goes_while_it_is_looked_at_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.ipynb", notebook())
    real = os.scandir
    calls: list[str] = []

    class Listing(list[os.DirEntry[str]]):
        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self)

        def __exit__(self, *_: object) -> None:
            pass

    def scandir(folder: str) -> Listing:
        with real(folder) as found:
            entries = Listing(found)
        calls.append(folder)
        if len(calls) == 1:  # the notebook goes and the archive comes, and this list has neither
            (tmp_path / "a.ipynb").unlink()
            write(tmp_path, "a.zip", zipped("two"))
        return entries

    monkeypatch.setattr(scanning.os, "scandir", scandir)
    assert set(scan(tmp_path).files) == {"a.zip"}


def test_a_bundle_keeps_its_files_when_a_scan_sees_the_old_notebook_and_not_the_files_it_shows(tmp_path: Path) -> None:
    write(tmp_path, "b/index.ipynb", notebook(markdown("one [d](one.txt)")))
    write(tmp_path, "b/one.txt", "one")
    os.utime(tmp_path / "b/index.ipynb", (1e9, 1e9))  # what was written a moment ago is read again anyway
    shown: list[tuple[str, bool]] = []

    class Torn(Builder):
        torn = False

        def _look(self, hints: Iterable[str] | None) -> Scan:
            found = super()._look(hints)
            if self.torn:  # the notebook was looked at before it was replaced, the file after it had gone
                self.torn = False
                write(tmp_path, "b/two.txt", "two")
                replace(tmp_path / "b", "index.ipynb", notebook(markdown("two [d](two.txt)")))
                (tmp_path / "b/one.txt").unlink()
                del found.files["b/one.txt"]
            elif self._last:
                shown.append((page(tmp_path, "b"), (tmp_path / "_site/dashboards/b/one.txt").exists()))
            return found

    with Torn(config_of(tmp_path)) as builder:
        builder.build()
        builder.torn = True
        report = builder.build(["b/one.txt"])
    assert shown
    assert all(exists for text, exists in shown if "one.txt" in text), "the old page was whole while it was there"
    assert statuses(report) == {"b": "built"}
    assert "two" in page(tmp_path, "b")
    assert (tmp_path / "_site/dashboards/b/two.txt").read_text() == "two"
    assert not (tmp_path / "_site/dashboards/b/one.txt").exists()
