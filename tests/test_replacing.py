"""Changes of the source folder: wholly or not at all, also when the program ends at any moment in between."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from making import write

from builder.errors import OutputError
from shim.replacing import KEPT
from shim.staging import STAGING, Staging

MOST_STEPS = 80
KILLED = 77


class Case(NamedTuple):
    """A change of one name, and what the folder holds before."""

    target: str
    others: tuple[str, ...]
    before: tuple[str, ...]
    old: tuple[str, ...]
    """The files that are the old version."""


CASES = {
    "new": Case("a.ipynb", (), (), ()),
    "new-in-new-folders": Case("x/y/z/a.ipynb", (), (), ()),
    "replace": Case("a.ipynb", (), ("a.ipynb",), ("a.ipynb",)),
    "zip-over-notebook": Case("a.zip", ("a.ipynb",), ("a.ipynb",), ("a.ipynb",)),
    "notebook-over-zip": Case("a.ipynb", ("a.zip",), ("a.zip",), ("a.zip",)),
    "notebook-over-folder": Case("a.ipynb", ("a",), ("a/index.ipynb", "a/b/data.csv"), ("a/index.ipynb", "a/b/data.csv")),
    "over-all-forms": Case("a.zip", ("a.ipynb", "a"), ("a.zip", "a.ipynb", "a/index.ipynb"), ("a.zip", "a.ipynb", "a/index.ipynb")),
    "delete": Case("", ("a.ipynb",), ("a.ipynb",), ("a.ipynb",)),
    "delete-all-forms": Case("", ("a.ipynb", "a.zip", "a"), ("a.zip", "a.ipynb", "a/index.ipynb"), ("a.zip", "a.ipynb", "a/index.ipynb")),
}  # fmt: skip
ENDINGS = ("done", "undo")


def files(root: Path) -> dict[str, str]:
    """Every file with its content."""
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def filled(root: Path, case: Case) -> dict[str, str]:
    """The folder as it was before, with a neighbour that is never touched."""
    for file in (*case.before, "neighbour.ipynb", "other/neighbour.ipynb"):
        write(root, file, f"old {file}")
    return files(root)


def after(case: Case, before: dict[str, str]) -> dict[str, str]:
    """The folder once the change is done."""
    gone = {file for file in before for other in case.others if file == other or file.startswith(f"{other}/")}
    kept = {file: text for file, text in before.items() if file not in gone}
    return kept | ({case.target: "new"} if case.target else {})


class Deadly:
    """Counts the steps of a change in a child process, before and after each call that changes a folder."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def step(self) -> None:
        self._left -= 1
        if not self._left:
            os._exit(KILLED)

    def wrap(self, name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            self.step()
            result = real(*args, **named)
            self.step()
            return result

        setattr(os, name, call)


def run(root: Path, case: Case, ending: str, fatal: int) -> bool:
    """Do a change in a process that ends at a given step; whether it came to that step."""
    child = os.fork()
    if not child:
        status = 1
        try:
            with Staging(root).change() as change:
                change.upload.write_text("new")
                deadly = Deadly(fatal)
                for name in ("replace", "rename", "link", "unlink", "mkdir", "rmdir"):
                    deadly.wrap(name)
                change.apply(case.target or None, case.others)
                if ending == "undo":
                    change.undo()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def killed_at_every_step(tmp_path: Path, case: Case, ending: str, look: Callable[[Path, dict[str, str]], None]) -> None:
    """Kill a change at each of its steps, each time in a fresh folder, and look at the outcome."""
    for fatal in range(1, MOST_STEPS):
        root = tmp_path / str(fatal)
        before = filled(root, case)
        if not run(root, case, ending, fatal):
            assert files(root) == (after(case, before) if ending == "done" else before)
            assert not (root / STAGING).exists()
            return
        look(root, before)
    raise AssertionError("the change has more steps than expected")


# --- without a kill


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_change_is_done_and_leaves_nothing_behind(tmp_path: Path, case: Case) -> None:
    before = filled(tmp_path, case)
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        assert files(tmp_path).items() >= before.items()
        change.apply(case.target or None, case.others)
        assert {name: text for name, text in files(tmp_path).items() if not name.startswith(".")} == after(case, before)
    assert files(tmp_path) == after(case, before)
    assert not (tmp_path / STAGING).exists()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_undone_change_leaves_everything_as_it_was(tmp_path: Path, case: Case) -> None:
    before = filled(tmp_path, case)
    inodes = {name: (tmp_path / name).stat().st_ino for name in before}
    folders = sorted(path for path in tmp_path.rglob("*") if path.is_dir())
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        change.apply(case.target or None, case.others)
        change.undo()
        change.undo()  # a second time is no harm
    assert files(tmp_path) == before
    assert {name: (tmp_path / name).stat().st_ino for name in before} == inodes
    assert sorted(path for path in tmp_path.rglob("*") if path.is_dir()) == folders


def test_change_without_apply_changes_nothing(tmp_path: Path) -> None:
    before = filled(tmp_path, CASES["replace"])
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        assert stat.S_IMODE((tmp_path / STAGING).stat().st_mode) == 0o700
    assert files(tmp_path) == before
    assert not (tmp_path / STAGING).exists()


def test_what_is_gone_by_itself_is_no_error(tmp_path: Path) -> None:
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        change.apply("a.zip", ["a.ipynb", "a"])
        change.undo()
    assert files(tmp_path) == {}


def test_undo_leaves_alone_what_somebody_put_there_meanwhile(tmp_path: Path) -> None:
    filled(tmp_path, CASES["zip-over-notebook"])
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        change.apply("a.zip", ["a.ipynb"])
        write(tmp_path, "a.ipynb", "by hand")
        write(tmp_path, "by-hand", "by hand, too")
        os.replace(tmp_path / "by-hand", tmp_path / "a.zip")
        change.undo()
    assert files(tmp_path) == {"a.ipynb": "by hand", "a.zip": "by hand, too"} | {
        name: text for name, text in files(tmp_path).items() if "neighbour" in name
    }


def test_undo_leaves_a_made_folder_in_which_somebody_put_a_file(tmp_path: Path) -> None:
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        change.apply("x/y/a.ipynb", [])
        write(tmp_path, "x/by-hand.ipynb", "by hand")
        change.undo()
    assert files(tmp_path) == {"x/by-hand.ipynb": "by hand"}
    assert not (tmp_path / "x/y").exists()


@pytest.mark.parametrize("target", ["neighbour.ipynb/a.ipynb", "folder.ipynb"])
def test_change_that_cannot_be_made_changes_nothing(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    before = filled(tmp_path, CASES["zip-over-notebook"])
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        with pytest.raises(OutputError, match=r"^The notebooks cannot be changed: .*[.]$") as caught:
            change.apply(target, ["a.ipynb"])
        assert str(tmp_path) not in str(caught.value)
    assert files(tmp_path) == before


def test_error_in_the_middle_brings_back_what_was_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["over-all-forms"]
    before = filled(tmp_path, case)
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        with pytest.raises(OutputError):
            change.apply(case.target, case.others)
    assert files(tmp_path) == before


# --- killed


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", CASES)
def test_killed_change_is_old_or_new_and_never_neither_nor_both(tmp_path: Path, name: str, ending: str) -> None:
    case = CASES[name]

    def look(root: Path, before: dict[str, str]) -> None:
        shown = {file: text for file, text in files(root).items() if not file.startswith(".")}
        assert {file: text for file, text in shown.items() if "neighbour" in file} == {
            file: text for file, text in before.items() if "neighbour" in file
        }
        Staging(root).recover()
        found = files(root)
        if case.target or len(case.others) == 1:
            assert found in (before, after(case, before)), root
        else:  # of a deletion any part may be done: whoever asked has no answer, and asks again
            assert found.items() <= before.items()
        assert not (root / STAGING).exists()
        Staging(root).recover()
        assert files(root) == found

    killed_at_every_step(tmp_path, case, ending, look)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["zip-over-notebook", "notebook-over-zip", "replace", "over-all-forms"])
def test_what_people_put_there_after_a_kill_stays(tmp_path: Path, name: str, ending: str) -> None:
    case = CASES[name]

    def look(root: Path, before: dict[str, str]) -> None:
        for file in {case.target, *case.others} - {"a"}:
            path = root / file
            write(root, "by-hand", f"newer {file}")
            os.replace(root / "by-hand", path)
        Staging(root).recover()
        found = files(root)
        for file in {case.target, *case.others} - {"a"}:
            assert found[file] == f"newer {file}"
        assert not (root / STAGING).exists()

    killed_at_every_step(tmp_path, case, ending, look)


def test_what_people_change_deep_in_a_folder_after_a_kill_stays(tmp_path: Path) -> None:
    case = CASES["notebook-over-folder"]

    def look(root: Path, before: dict[str, str]) -> None:
        if (root / "a").exists():
            write(root, "a/b/data.csv", "newer")
            Staging(root).recover()
            assert files(root).get("a/b/data.csv") == "newer"

    killed_at_every_step(tmp_path, case, "done", look)


# --- recovery


def test_recovery_leaves_the_changes_of_others_alone(tmp_path: Path) -> None:
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        Staging(tmp_path).recover()
        change.apply("a.ipynb", [])
    assert files(tmp_path) == {"a.ipynb": "new"}


def test_recovery_leaves_what_only_a_person_may_remove(tmp_path: Path) -> None:
    write(tmp_path, f"{STAGING}/{KEPT}1/old-0", "precious")
    write(tmp_path, f"{STAGING}/1/upload", "rest")
    Staging(tmp_path).recover()
    assert files(tmp_path) == {f"{STAGING}/{KEPT}1/old-0": "precious"}


@pytest.mark.parametrize(
    "journal",
    ["", "{", "[]", "null", '{"target": "a.ipynb"}', '{"target": "a.ipynb", "others": 1}', '{"target": 1, "others": {}}',
     '{"target": "a.ipynb", "others": {"neighbour.ipynb": 1}}', '{"target": "a.ipynb", "others": {"neighbour.ipynb": [1, 2]}}'],
)  # fmt: skip
def test_unreadable_journal_removes_no_file_of_anybody(tmp_path: Path, journal: str) -> None:
    before = filled(tmp_path, CASES["replace"])
    write(tmp_path, f"{STAGING}/1/journal", journal)
    Staging(tmp_path).recover()
    assert {name: text for name, text in files(tmp_path).items() if not name.startswith(".")} == before


def test_recovery_follows_no_link_and_needs_no_folder(tmp_path: Path) -> None:
    Staging(tmp_path / "nowhere").recover()
    outside = write(tmp_path, "outside/upload", "precious").parent
    source = tmp_path / "source"
    (source / STAGING).mkdir(parents=True)
    (source / STAGING / "1").symlink_to(outside)
    Staging(source).recover()
    assert (outside / "upload").read_text() == "precious"
    shutil.rmtree(source)
