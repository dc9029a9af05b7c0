"""The ledger: what was published is remembered exactly, damage costs a rebuild and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.ledger import FileRecord, Ledger, PageRecord
from builder.page import Finding, PageMeta, Ref
from builder.report import PageReport
from builder.scanning import Stat

PAGE = PageRecord(
    path="a/ü b",
    file="a/ü b.ipynb",
    stat=Stat(1, 2, 3),
    digest="d",
    body_key="b",
    frame_key="f",
    meta=PageMeta(title="T", tags=("x",)),
    refs=(Ref("link", "x.ipynb", "#a", 0, "x.ipynb#a"),),
    findings=(Finding("warning", "w", 1),),
    outputs=("dashboards/a/ü b/index.html",),
    needs=("media/x.png",),
)
SOURCES = {"a/ü b.ipynb": Stat(1, 2, 3), "site.toml": Stat(4, 5, 6)}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "media").mkdir(parents=True)
    (folder / "media/x.png").write_bytes(b"x")
    return folder


def saved(tmp_path: Path, output: Path) -> Ledger:
    ledger = Ledger(tmp_path / "state", output)
    ledger.open()
    ledger.begin()
    status = os.stat(output / "media/x.png")
    ledger.pages["a/ü b"] = PAGE
    ledger.files["media/x.png"] = FileRecord(Stat(status.st_mtime_ns, status.st_size, status.st_ino), "media")
    ledger.save()
    ledger.save_scan("finger", SOURCES, [PageReport("a/ü b", "built", "a warning\nin two lines")])
    ledger.close()
    return ledger


def test_records_come_back_equal(tmp_path: Path, output: Path) -> None:
    before = saved(tmp_path, output)
    after = Ledger(tmp_path / "state", output)
    after.open()
    assert after.pages == {"a/ü b": PAGE}
    assert after.files == before.files
    assert not after.interrupted
    after.close()


def test_deleted_records_are_gone(tmp_path: Path, output: Path) -> None:
    saved(tmp_path, output)
    ledger = Ledger(tmp_path / "state", output)
    ledger.open()
    del ledger.pages["a/ü b"]
    ledger.save()
    ledger.close()
    again = Ledger(tmp_path / "state", output)
    again.open()
    assert again.pages == {}
    again.close()


def test_two_outputs_of_one_source_do_not_share_records(tmp_path: Path, output: Path) -> None:
    saved(tmp_path, output)
    other = Ledger(tmp_path / "state", tmp_path / "other")
    other.open()
    assert other.pages == {}
    other.close()


def test_unchanged_says_what_the_last_build_said(tmp_path: Path, output: Path) -> None:
    ledger = saved(tmp_path, output)
    assert ledger.unchanged("finger", SOURCES, output) == [PageReport("a/ü b", "kept", "a warning in two lines")]


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {**SOURCES, "new.ipynb": Stat(1, 1, 1)},
        {**SOURCES, "site.toml": Stat(4, 5, 7)},
        {"a/ü b.ipynb": Stat(1, 2, 3)},
    ],
)
def test_any_other_scan_counts_as_changed(tmp_path: Path, output: Path, sources: dict[str, Stat]) -> None:
    assert saved(tmp_path, output).unchanged("finger", sources, output) is None


def test_other_settings_count_as_changed(tmp_path: Path, output: Path) -> None:
    assert saved(tmp_path, output).unchanged("other", SOURCES, output) is None


def test_a_published_file_that_was_touched_or_removed_counts_as_changed(tmp_path: Path, output: Path) -> None:
    ledger = saved(tmp_path, output)
    os.utime(output / "media/x.png", ns=(1, 1))
    assert ledger.unchanged("finger", SOURCES, output) is None
    (output / "media/x.png").unlink()
    assert ledger.unchanged("finger", SOURCES, output) is None


def test_a_build_that_was_not_finished_counts_as_changed_and_interrupted(tmp_path: Path, output: Path) -> None:
    saved(tmp_path, output)
    killed = Ledger(tmp_path / "state", output)
    killed.open()
    killed.begin()
    killed.close()
    after = Ledger(tmp_path / "state", output)
    assert after.unchanged("finger", SOURCES, output) is None
    after.open()
    assert after.interrupted
    assert after.pages == {"a/ü b": PAGE}
    after.close()


@pytest.mark.parametrize("damage", [b"", b"no database at all, but longer than a header of SQLite needs" * 50])
def test_a_damaged_database_counts_as_empty(tmp_path: Path, output: Path, damage: bytes) -> None:
    ledger = saved(tmp_path, output)
    for path in ledger.folder.glob("ledger.db*"):
        path.write_bytes(damage)
    again = Ledger(tmp_path / "state", output)
    again.open()
    assert again.pages == {}
    assert again.interrupted, "so that files of unknown pages are looked for"
    again.close()


@pytest.mark.parametrize("text", ["", "finger", "finger\n\n1 2 3 x", "finger\n\n\n\n\n\n", "\xff"])
def test_damaged_lines_count_as_changed(tmp_path: Path, output: Path, text: str) -> None:
    ledger = saved(tmp_path, output)
    (ledger.folder / "scan").write_bytes(text.encode("latin-1"))
    assert ledger.unchanged("finger", SOURCES, output) is None


def test_names_with_line_separators_are_compared_like_others(tmp_path: Path, output: Path) -> None:
    name = "a\u2028b"
    (output / name).write_bytes(b"x")
    stat = os.stat(output / name)
    ledger = Ledger(tmp_path / "state", output)
    ledger.open()
    ledger.files = {name: FileRecord((stat.st_mtime_ns, stat.st_size, stat.st_ino), "")}
    ledger.save()
    ledger.save_scan("finger", SOURCES, [PageReport(name, "built", "")])
    ledger.close()
    assert ledger.unchanged("finger", SOURCES, output) == [PageReport(name, "kept", "")]
