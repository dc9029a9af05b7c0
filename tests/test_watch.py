"""The watch: real files, real inotify, every wait ends with an event or a deadline."""

from __future__ import annotations

import errno
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD

import builder.watch
from builder import scanning
from builder.errors import ThemeError
from builder.hints import BOUND, Hints, How, Stopper
from builder.inotify import FolderTree
from builder.watch import watch

DEADLINE = 20.0
"""Seconds after which something that should have happened did not."""
NEVER = 1000.0
"""For intervals a test does not want to see the end of."""

Hinted = frozenset[str] | None

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is a part of Linux")


class Watched:
    """A running `watch` whose rebuilds and messages can be waited for."""

    def __init__(self, root: Path, excluded: Collection[Path] = (), **timings: Any) -> None:
        self.calls: queue.Queue[Hinted] = queue.Queue()
        self.lines: queue.Queue[str] = queue.Queue()
        self.troubles: list[BaseException] = []
        self.look: Callable[[], None] = lambda: None
        self.stop = Stopper()
        self.error: BaseException | None = None
        timings = {"health": NEVER, "full": NEVER, **timings}
        self.thread = threading.Thread(target=self._run, args=(root, excluded), kwargs=timings)

    def _run(self, root: Path, excluded: Collection[Path], **timings: Any) -> None:
        try:
            watch(root, excluded, self._rebuild, self.stop, self.lines.put, **timings)
        except BaseException as error:
            self.error = error

    def _rebuild(self, hints: Hinted) -> None:
        self.look()
        self.calls.put(hints)
        if self.troubles:
            raise self.troubles.pop(0)

    def line(self) -> str:
        """The next message."""
        return self.lines.get(timeout=DEADLINE)

    def full_look(self) -> None:
        """Wait for a rebuild that looks at everything."""
        while self.calls.get(timeout=DEADLINE) is not None:
            pass

    def hints(self, *wanted: str) -> set[str]:
        """All hints that came until every one of `wanted` was among them; none of them a look at everything."""
        seen: set[str] = set()
        while not seen.issuperset(wanted):
            call = self.calls.get(timeout=DEADLINE)
            assert call is not None
            seen |= call
        return seen

    def quiet(self, root: Path) -> set[str]:
        """The hints that came before those of a file that is saved now."""
        save(root / "sentinel.ipynb")
        return self.hints("sentinel.ipynb") - {"sentinel.ipynb"}

    def finish(self) -> None:
        self.stop.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


Start = Callable[..., Watched]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a watch and wait for its first look; it is ended with the test."""
    running: list[Watched] = []

    def start(root: Path, *arguments: Any, first: bool = True, **timings: Any) -> Watched:
        watched = Watched(root, *arguments, **timings)
        running.append(watched)
        watched.thread.start()
        if first:
            assert watched.calls.get(timeout=DEADLINE) is None
        return watched

    yield start
    for watched in running:
        watched.finish()
        if watched.error:
            raise watched.error
        assert watched.lines.empty(), f"not expected: {watched.lines.get()}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def save(path: Path, text: str = "{}") -> None:
    path.write_text(text, encoding="utf-8")


def save_atomically(path: Path) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    save(aside)
    os.replace(aside, path)


# --- what is hinted


def test_the_first_call_looks_at_everything_and_then_only_changes_call(root: Path, start: Start) -> None:
    watched = start(root)
    save(root / "a.ipynb")
    assert watched.hints("a.ipynb") == {"a.ipynb"}
    assert watched.calls.empty()


def test_an_atomic_save_hints_the_file_and_not_the_temporary_one(root: Path, start: Start) -> None:
    save(root / "a.ipynb")
    watched = start(root)
    save_atomically(root / "a.ipynb")
    assert watched.calls.get(timeout=DEADLINE) == frozenset({"a.ipynb"})
    assert watched.quiet(root) == set()


def test_a_save_that_first_renames_the_old_file_never_shows_a_hole(root: Path, start: Start) -> None:
    notebook = root / "a.ipynb"
    save(notebook)
    watched = start(root, settle=0.5)
    there: list[bool] = []
    watched.look = lambda: there.append(notebook.exists())
    os.rename(notebook, root / "a.ipynb~")
    save(notebook, "{} ")
    os.unlink(root / "a.ipynb~")
    assert watched.hints("a.ipynb") == {"a.ipynb"}
    assert all(there)


def test_a_file_that_is_still_being_written_is_not_read_half(root: Path, start: Start) -> None:
    notebook = root / "a.ipynb"
    watched = start(root, settle=0.001)
    sizes: list[int] = []
    watched.look = lambda: sizes.append(notebook.stat().st_size)
    with notebook.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 1000)
            file.flush()
    assert watched.hints("a.ipynb") == {"a.ipynb"}
    assert sizes == [50_000]


def test_renaming_a_file_hints_both_names(root: Path, start: Start) -> None:
    save(root / "a.ipynb")
    watched = start(root)
    os.rename(root / "a.ipynb", root / "b.ipynb")
    assert watched.hints("a.ipynb", "b.ipynb") == {"a.ipynb", "b.ipynb"}


def test_deleting_a_file_hints_it(root: Path, start: Start) -> None:
    save(root / "a.ipynb")
    watched = start(root)
    os.unlink(root / "a.ipynb")
    assert watched.hints("a.ipynb") == {"a.ipynb"}


def test_a_link_to_a_file_that_is_never_closed_is_hinted_too(root: Path, start: Start) -> None:
    save(root / "a.ipynb")
    watched = start(root)
    os.link(root / "a.ipynb", root / "b.ipynb")
    os.symlink("a.ipynb", root / "c.ipynb")
    assert watched.hints("b.ipynb", "c.ipynb") == {"b.ipynb", "c.ipynb"}


def test_a_renamed_folder_hints_both_names_and_files_saved_in_it_its_new_one(root: Path, start: Start) -> None:
    (root / "old" / "deep").mkdir(parents=True)
    watched = start(root)
    os.rename(root / "old", root / "new")
    save(root / "new" / "deep" / "a.ipynb")
    assert {"old", "new"} <= watched.hints("old", "new") <= {"old", "new", "new/deep/a.ipynb"}
    save_atomically(root / "new" / "deep" / "b.ipynb")
    seen = watched.hints("new/deep/b.ipynb")
    assert not [path for path in seen if path.startswith("old/")]


def test_a_folder_moved_in_from_outside_hints_itself_and_is_watched(tmp_path: Path, root: Path, start: Start) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    save(tmp_path / "elsewhere" / "deep" / "a.ipynb")
    watched = start(root)
    os.rename(tmp_path / "elsewhere", root / "in")
    assert watched.hints("in") == {"in"}
    save(root / "in" / "deep" / "a.ipynb")
    assert watched.hints("in/deep/a.ipynb") == {"in/deep/a.ipynb"}


def test_a_folder_moved_out_hints_itself_and_is_not_watched_any_more(tmp_path: Path, root: Path, start: Start) -> None:
    (root / "out" / "deep").mkdir(parents=True)
    watched = start(root)
    os.rename(root / "out", tmp_path / "out")
    assert watched.hints("out") == {"out"}
    save(tmp_path / "out" / "deep" / "a.ipynb")
    assert watched.quiet(root) == set()


def test_folders_moved_out_and_over_each_other_do_not_end_the_watch(tmp_path: Path, root: Path, start: Start) -> None:
    (root / "x").mkdir()
    (root / "y").mkdir()
    watched = start(root)
    os.rename(root / "x", tmp_path / "x")
    os.rename(root / "y", root / "x")
    watched.hints("x", "y")
    (root / "x").rmdir()
    (tmp_path / "x").rmdir()
    watched.hints("x")
    assert watched.quiet(root) == set()


def test_a_folder_moved_out_and_in_again_under_another_name_hints_the_new_name(
    tmp_path: Path, root: Path, start: Start
) -> None:
    (root / "x" / "deep").mkdir(parents=True)
    watched = start(root)
    os.rename(root / "x", tmp_path / "x")
    os.rename(tmp_path / "x", root / "z")
    watched.hints("x", "z")
    save(root / "z" / "deep" / "a.ipynb")
    assert watched.hints("z/deep/a.ipynb") == {"z/deep/a.ipynb"}


def test_a_new_folder_hints_itself_so_files_made_before_it_was_watched_are_found(root: Path, start: Start) -> None:
    watched = start(root)
    for number in range(50):
        deep = root / f"n{number}" / "deep"
        deep.mkdir(parents=True)
        save(deep / "a.ipynb")
    watched.hints(*(f"n{number}" for number in range(50)))
    save(root / "n49" / "deep" / "b.ipynb")
    watched.hints("n49/deep/b.ipynb")


def test_three_thousand_files_at_once_are_all_hinted_in_few_calls(root: Path, start: Start) -> None:
    watched = start(root)
    names = {f"{number}.ipynb" for number in range(3000)}
    listings: list[set[str]] = []
    watched.look = lambda: listings.append(set(os.listdir(root)))
    for name in names:
        save(root / name)
    seen: set[str] = set()
    calls = 0
    while not names <= seen:
        call = watched.calls.get(timeout=DEADLINE)
        seen |= listings[calls] if call is None else call
        calls += 1
    assert calls < 300


@pytest.mark.parametrize(
    "name", ["a b.ipynb", "süß 表.ipynb", "#%?'\".ipynb", "a\nb.ipynb", b"caf\xe9.ipynb", "-rf.ipynb", "x" * 240]
)
def test_odd_names_are_hinted_as_they_are(root: Path, start: Start, name: str | bytes) -> None:
    watched = start(root)
    odd = os.fsdecode(name)
    (root / odd).mkdir()
    save(root / odd / odd)
    watched.hints(odd)
    save(root / odd / odd)
    assert watched.hints(f"{odd}/{odd}") <= {odd, f"{odd}/{odd}"}


def test_a_very_deep_tree_is_watched_as_deep_as_paths_go(root: Path) -> None:
    name = "d" * 200
    before = os.getcwd()
    os.chdir(root)
    try:
        for _ in range(30):
            os.mkdir(name)
            os.chdir(name)
    finally:
        os.chdir(before)
    with tree_of(root) as collected:
        save(root / name / name / "a.ipynb")
        collected.until(f"{name}/{name}/a.ipynb")
    shutil.rmtree(root / name)


# --- what is not


def test_reading_the_sources_causes_no_rebuild(root: Path, start: Start) -> None:
    (root / "sub").mkdir()
    save(root / "sub" / "a.ipynb")
    watched = start(root)

    def read() -> None:
        for path in root.rglob("*.ipynb"):
            path.read_bytes()

    watched.look = read
    (root / "sub" / "a.ipynb").read_bytes()
    os.link(root / "sub" / "a.ipynb", root.parent / "copy")  # as an output shares a file with its source
    list(root.rglob("*"))
    assert watched.quiet(root) == set()
    assert watched.quiet(root) == set()


def test_excluded_folders_cause_no_rebuild(root: Path, start: Start) -> None:
    (root / "_site" / "deep").mkdir(parents=True)
    watched = start(root, [root / "_site", root / "state", root.parent])
    save(root / "_site" / "index.html")
    save(root / "_site" / "deep" / "index.html")
    shutil.rmtree(root / "_site")
    (root / "_site" / "other").mkdir(parents=True)
    save(root / "_site" / "other" / "index.html")
    (root / "state").mkdir()
    save(root / "state" / "ledger.db")
    assert watched.quiet(root) == set()


def test_only_the_excluded_path_itself_is_left_out_not_its_namesakes(root: Path, start: Start) -> None:
    (root / "a" / "_site").mkdir(parents=True)
    watched = start(root, [root / "_site"])
    save(root / "a" / "_site" / "a.ipynb")
    save(root / "_site.ipynb")
    assert watched.hints("a/_site/a.ipynb", "_site.ipynb") == {"a/_site/a.ipynb", "_site.ipynb"}


def test_hidden_files_checkpoints_and_temporary_files_cause_no_rebuild(root: Path, start: Start) -> None:
    (root / ".git" / "objects").mkdir(parents=True)
    watched = start(root)
    save(root / ".git" / "objects" / "x")
    (root / ".ipynb_checkpoints").mkdir()
    save(root / ".ipynb_checkpoints" / "a-checkpoint.ipynb")
    for name in (".a.ipynb.swp", ".~a.ipynb", "a.ipynb~", "#a.ipynb#"):
        save(root / name)
    assert watched.quiet(root) == set()


def test_a_folder_renamed_from_hidden_to_visible_is_watched_from_then_on(root: Path, start: Start) -> None:
    (root / ".drafts").mkdir()
    watched = start(root)
    os.rename(root / ".drafts", root / "drafts")
    assert watched.hints("drafts") == {"drafts"}
    save(root / "drafts" / "a.ipynb")
    assert watched.hints("drafts/a.ipynb") == {"drafts/a.ipynb"}
    os.rename(root / "drafts", root / ".drafts")
    assert watched.hints("drafts") == {"drafts"}
    save(root / ".drafts" / "a.ipynb")
    assert watched.quiet(root) == set()


# --- the root


def test_a_symlinked_root_is_watched_where_it_leads_and_its_excluded_folders_are(root: Path, start: Start) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    (root / "_site").mkdir()
    watched = start(link, [link / "_site"])
    save(root / "_site" / "index.html")
    assert watched.quiet(link) == set()


def test_a_symlinked_root_that_leads_elsewhere_now_is_followed(root: Path, start: Start) -> None:
    other = root.parent / "other"
    other.mkdir()
    link = root.parent / "link"
    link.symlink_to(root)
    watched = start(link, health=0.02)
    (root.parent / "next").symlink_to(other)
    os.replace(root.parent / "next", link)
    assert watched.line() == f"The folder {link} was replaced; watching the new one."
    watched.full_look()
    save(other / "a.ipynb")
    assert watched.hints("a.ipynb") == {"a.ipynb"}


def test_a_relative_root_is_watched(root: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "_site").mkdir()
    watched = start(Path("."), [Path("_site")])
    save(root / "_site" / "index.html")
    assert watched.quiet(root) == set()


def test_a_deleted_root_is_waited_for_and_nothing_is_rebuilt_meanwhile(root: Path, start: Start) -> None:
    (root / "sub").mkdir()
    for number in range(100):
        save(root / "sub" / f"{number}.ipynb")
    watched = start(root, settle=0.5)
    there: list[bool] = []
    watched.look = lambda: there.append(root.is_dir())
    shutil.rmtree(root)
    assert watched.line() == f"The folder {root} is not there; its pages stay as they are until it is."
    assert watched.calls.empty()
    root.mkdir()
    save(root / "a.ipynb")
    assert watched.line() in {
        f"The folder {root} was replaced; watching the new one.",
        f"The folder {root} is there again.",  # the new folder may have the inode of the old one
    }
    watched.full_look()
    assert all(there)
    save(root / "b.ipynb")
    watched.hints("b.ipynb")


def test_a_root_deleted_and_recreated_at_once_is_watched_again(root: Path, start: Start) -> None:
    watched = start(root)
    root.rmdir()
    root.mkdir()
    watched.full_look()
    save(root / "a.ipynb")
    watched.hints("a.ipynb")
    assert "The folder" in watched.line()
    while not watched.lines.empty():  # gone and found again, when it was noticed in between
        watched.line()


def test_a_new_root_with_the_inode_of_the_old_one_is_watched(root: Path, start: Start) -> None:
    inode = root.stat().st_ino
    watched = start(root)

    def replace() -> None:
        for _ in range(100):
            shutil.rmtree(root)
            root.mkdir()
            if root.stat().st_ino == inode:
                break

    watched.look = replace
    save(root / "a.ipynb")
    watched.hints("a.ipynb")
    watched.look = lambda: None
    assert "was replaced" in watched.line()
    watched.full_look()
    if root.stat().st_ino != inode:
        pytest.skip("this file system gives no inode twice in a row")
    save(root / "b.ipynb")
    watched.hints("b.ipynb")


def test_a_root_renamed_away_and_back_keeps_its_pages(root: Path, start: Start) -> None:
    watched = start(root)
    away = root.with_name("away")
    os.rename(root, away)
    assert "is not there" in watched.line()
    save(away / "a.ipynb")
    os.rename(away, root)
    assert watched.line() == f"The folder {root} is there again."
    assert watched.calls.get(timeout=DEADLINE) is None  # nothing else came before
    save(root / "b.ipynb")
    assert watched.hints("b.ipynb") == {"b.ipynb"}


def test_a_root_whose_parent_is_renamed_is_missed_by_the_regular_check(tmp_path: Path, start: Start) -> None:
    root = tmp_path / "home" / "notebooks"
    root.mkdir(parents=True)
    watched = start(root, health=0.02)
    os.rename(tmp_path / "home", tmp_path / "moved")
    assert "is not there" in watched.line()
    os.rename(tmp_path / "moved", tmp_path / "home")
    assert "is there again" in watched.line()
    watched.full_look()


def test_another_folder_in_the_place_of_the_root_is_watched_instead(root: Path, start: Start) -> None:
    other = root.with_name("other")
    other.mkdir()
    watched = start(root)
    os.rename(root, root.with_name("old"))
    os.rename(other, root)
    while "was replaced" not in watched.line():
        pass
    watched.full_look()
    save(root.with_name("old") / "x.ipynb")
    assert watched.quiet(root) == set()


def test_a_root_that_vanishes_while_it_is_read_is_not_called_a_failure(root: Path, start: Start) -> None:
    watched = start(root)
    watched.look = lambda: shutil.rmtree(root, ignore_errors=True)
    watched.troubles = [FileNotFoundError(errno.ENOENT, "No such file or directory", str(root))]
    save(root / "a.ipynb")
    watched.hints("a.ipynb")
    assert "is not there" in watched.line()


@pytest.mark.parametrize("poll", [None, 0.02])
def test_a_root_that_is_not_there_yet_is_waited_for(root: Path, start: Start, poll: float | None) -> None:
    root.rmdir()
    watched = start(root, first=False, poll=poll)
    assert "is not there" in watched.line()
    assert watched.calls.empty()
    root.mkdir()
    assert "is there again" in watched.line()
    watched.full_look()


def test_a_root_that_vanishes_while_the_watch_begins_is_waited_for(
    root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*arguments: Any) -> FolderTree:
        shutil.rmtree(root)
        return FolderTree(*arguments)

    monkeypatch.setattr("builder.inotify.FolderTree", vanish)
    watched = start(root, first=False)
    assert "is not there" in watched.line()
    monkeypatch.undo()
    root.mkdir()
    watched.line()
    watched.full_look()


def test_a_file_in_the_place_of_the_root_is_no_root(root: Path, start: Start) -> None:
    root.rmdir()
    save(root)
    watched = start(root, first=False)
    assert "is not there" in watched.line()
    assert watched.calls.empty()


# --- failures


def test_a_failed_rebuild_is_said_and_tried_again_with_a_look_at_everything(root: Path, start: Start) -> None:
    watched = start(root, retry=0.01)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/index.html")
    watched.troubles = [full, full, ThemeError("The theme 'x' has no page.html.j2.")]
    save(root / "a.ipynb")
    assert watched.line() == (
        "The site is not up to date: No space left on device: /out/index.html. Trying again until it works."
    )
    assert watched.line() == (
        "The site is not up to date: The theme 'x' has no page.html.j2. Trying again until it works."
    )
    assert [watched.calls.get(timeout=DEADLINE) for _ in range(4)] == [{"a.ipynb"}, None, None, None]
    assert watched.quiet(root) == set()


def test_events_do_not_hurry_the_next_try(root: Path, start: Start) -> None:
    watched = start(root, retry=0.2)
    watched.troubles = [OSError(errno.ENOSPC, "full")]
    times: list[float] = []
    watched.look = lambda: times.append(time.monotonic())
    save(root / "a.ipynb")
    watched.hints("a.ipynb")
    assert "full" in watched.line()
    save(root / "b.ipynb")
    watched.full_look()
    assert times[1] - times[0] >= 0.2


def test_events_shorten_the_growing_pause_between_two_tries(root: Path, start: Start) -> None:
    watched = start(root, retry=0.02)
    watched.troubles = [OSError(errno.ENOSPC, "full")] * 12  # without events the last pauses were longer than DEADLINE
    for number in range(12):
        save(root / f"{number}.ipynb")
        watched.calls.get(timeout=DEADLINE)
    assert "full" in watched.line()
    save(root / "last.ipynb")
    watched.full_look()


def test_other_exceptions_are_bugs_and_end_the_watch_without_leaving_a_thread(root: Path) -> None:
    watched = Watched(root)
    watched.troubles = [ZeroDivisionError()]
    watched.thread.start()
    watched.thread.join(DEADLINE)
    assert isinstance(watched.error, ZeroDivisionError)
    assert not readers()


def test_messages_are_one_line_and_printable_whatever_the_names(tmp_path: Path, start: Start) -> None:
    root = tmp_path / os.fsdecode(b"a\nb\xff")
    watched = start(root, first=False)
    line = watched.line()
    assert line.isprintable()
    assert "a\\nb\\udcff" in line


# --- the watch itself


def readers() -> list[InotifyFD]:
    return [thread for thread in threading.enumerate() if isinstance(thread, InotifyFD)]


def test_stop_returns_at_once_and_leaves_no_thread(root: Path, start: Start) -> None:
    watched = start(root)
    assert len(readers()) == 1
    watched.finish()
    assert not readers()


@pytest.mark.parametrize("poll", [None, NEVER])
def test_a_signal_handler_can_stop_the_watch(root: Path, poll: float | None) -> None:
    stop = Stopper()
    old = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        watch(root, [], lambda _: os.kill(os.getpid(), signal.SIGUSR1), stop, pytest.fail, poll=poll, health=NEVER)
        stop = Stopper()
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        watch(root, [], lambda _: None, stop, pytest.fail, poll=poll, health=NEVER)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_a_watch_that_was_stopped_before_it_began_does_nothing(root: Path) -> None:
    stop = Stopper()
    stop.set()
    watch(root, [], lambda _: pytest.fail("rebuilt"), stop, pytest.fail)


def test_everything_is_looked_at_now_and_then_as_a_safety_net(root: Path, start: Start) -> None:
    watched = start(root, full=0.02)
    for _ in range(3):
        watched.full_look()


def test_polling_looks_at_everything_without_inotify(root: Path, start: Start) -> None:
    watched = start(root, poll=0.01)
    assert not readers()
    for _ in range(3):
        watched.full_look()


def test_polling_waits_between_two_looks_and_still_stops_at_once(root: Path, start: Start) -> None:
    watched = start(root, poll=NEVER)
    save(root / "a.ipynb")
    watched.finish()
    assert watched.calls.empty()


def test_a_reader_that_dies_is_replaced(root: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()
    original = FolderTree.on_event

    def on_event(self: FolderTree, event: InotifyEvent) -> None:
        if not died.is_set():
            raise ZeroDivisionError
        original(self, event)

    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())
    monkeypatch.setattr(FolderTree, "on_event", on_event)
    watched = start(root, health=0.02)
    save(root / "a.ipynb")
    assert watched.line() == f"The watch of {root} had stopped; it was started again."
    watched.full_look()
    save(root / "b.ipynb")
    watched.hints("b.ipynb")


def test_lost_events_lead_to_a_look_at_everything_and_new_folders_are_watched(
    root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("the queue of the system is too long to fill it quickly")
    reading = threading.Event()
    reading.set()
    original = scanning.ignored

    def ignored(name: str) -> bool:
        assert reading.wait(DEADLINE)
        return original(name)

    monkeypatch.setattr("builder.watch.ignored", ignored)
    watched = start(root)
    reading.clear()
    for number in range(limit + 5000):  # at least one event each; some are read before the reader stands still
        save(root / f"{number % 10}.ipynb", "")
    (root / "new").mkdir()
    save(root / "new" / "a.ipynb")
    reading.set()
    assert "looking at everything" in watched.line()
    watched.full_look()
    while True:  # hints of the old events may still come
        save(root / "new" / "b.ipynb")
        call = watched.calls.get(timeout=DEADLINE)
        if call and "new/b.ipynb" in call:
            break


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
def test_a_limit_reached_while_a_folder_is_added_leads_to_polling_with_the_cure(
    root: Path, start: Start, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(builder.watch, "POLL", 0.01)
    watched = start(root)
    original = InotifyFD.add_callback

    def add_callback(self: InotifyFD, path: bytes, *arguments: Any) -> Any:
        if path.endswith(b"/new"):
            raise OSError(code, "limit reached")
        return original(self, path, *arguments)

    monkeypatch.setattr(InotifyFD, "add_callback", add_callback)
    (root / "new").mkdir()
    line = watched.line()
    assert "limit reached" in line
    assert "fs.inotify.max_user_" in line
    watched.full_look()
    watched.full_look()
    assert not readers()


LIMITED = """
import os, resource, sys
sys.path.insert(0, {here!r})
import builder.watch, builder.inotify
from pathlib import Path
from builder.hints import Stopper
builder.watch.POLL = 0.01
stop, calls = Stopper(), []
def rebuild(hints):
    calls.append(hints)
    if len(calls) == 3:
        stop.set()
{limit}
builder.watch.watch(Path({root!r}), [], rebuild, stop, lambda line: os.write(1, line.encode() + b"\\n"))
os.write(1, repr(calls).encode())
"""


def run_limited(root: Path, limit: str, *before: str) -> list[str]:
    script = textwrap.dedent(LIMITED).format(here=str(Path(__file__).parent.parent), root=str(root), limit=limit)
    return run_script(script, *before)


def run_script(script: str, *before: str) -> list[str]:
    command = [*before, sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_no_free_file_descriptor_leads_to_polling(root: Path) -> None:
    line, calls = run_limited(root, "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))")
    assert line.startswith(f"Changes in {root} are not reported (")
    assert "ulimit -n" in line
    assert calls == "[None, None, None]"


@pytest.mark.parametrize(("file", "limit"), [("watches", 5), ("instances", 0)])
def test_the_limits_of_the_system_lead_to_polling(root: Path, file: str, limit: int) -> None:
    for number in range(10):
        (root / f"d{number}").mkdir()
    inside = ["unshare", "--user", "--map-root-user"]
    setting = f"/proc/sys/user/max_inotify_{file}"
    if not shutil.which("unshare") or subprocess.run([*inside, "test", "-w", setting], check=False).returncode:
        pytest.skip("no user namespaces here")
    line, calls = run_limited(root, f"Path({setting!r}).write_text('{limit}')", *inside)
    assert f"fs.inotify.max_user_{file} (sysctl)" in line
    assert calls == "[None, None, None]"


READABLE = """
import os, sys, tempfile
sys.path.insert(0, {here!r})
from pathlib import Path
from builder.hints import Hints, Stopper
from builder.inotify import FolderTree

def until(wanted):
    while wanted:
        stop.wait(20)
        wanted -= hints.take()

if os.getuid() == 0:
    os.setuid(65534)  # root may read everything
with tempfile.TemporaryDirectory() as root:
    folders = [Path(root, "one"), Path(root, "two")]
    for folder in folders:
        folder.mkdir(0o000)
    stop = Stopper()
    hints = Hints(stop.wake, 0.01)
    tree = FolderTree(root, lambda path: False, hints, lambda: None)
    for folder in folders:
        folder.chmod(0o755)
    until({{"one", "two"}})
    for folder in folders:
        (folder / "a.ipynb").write_text("")
    until({{"one/a.ipynb", "two/a.ipynb"}})
    tree.close()
"""


def test_a_folder_that_becomes_readable_is_watched_from_then_on() -> None:
    run_script(READABLE.format(here=str(Path(__file__).parent.parent)))


# --- the parts


class Collected:
    """What a `FolderTree` hinted."""

    def __init__(self, root: Path) -> None:
        self.stop = Stopper()
        self.hints = Hints(self.stop.wake, 0.04, bound=10**6)
        self.seen: set[str] = set()
        self.tree = FolderTree(str(root), lambda _: False, self.hints, lambda: None)

    def until(self, *wanted: str) -> None:
        """Collect until every one of `wanted` was hinted."""
        deadline = time.monotonic() + DEADLINE
        while not self.seen.issuperset(wanted):
            assert time.monotonic() < deadline, f"not hinted: {set(wanted) - self.seen}"
            self.stop.wait(1.0)
            self.seen |= self.hints.take() or set()

    def __enter__(self) -> Collected:
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.close()


def tree_of(root: Path) -> Collected:
    return Collected(root)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MOVES = st.lists(st.tuples(st.sampled_from(["make", "move", "remove", "out", "in"]), PATHS, PATHS), max_size=25)


def do(root: Path, away: Path, move: str, one: str, two: str) -> None:
    """Do what is possible of one move of folders."""
    try:
        if move == "make":
            (root / one).mkdir(parents=True)
        elif move == "move":
            os.rename(root / one, root / two)
        elif move == "remove":
            shutil.rmtree(root / one)
        elif move == "out":
            os.rename(root / one, away / two.replace("/", "-"))
        else:
            os.rename(away / one.replace("/", "-"), root / two)
    except OSError:
        pass


@given(MOVES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_moves_of_folders_a_file_is_hinted_under_its_present_path(
    tmp_path: Path, moves: list[tuple[str, str, str]]
) -> None:
    base = tmp_path / str(next(_numbers))
    root, away = base / "root", base / "away"
    for path in ("a/b/c", "b/c", "c"):
        (root / path).mkdir(parents=True)
    away.mkdir()
    with tree_of(root) as collected:
        for move in moves:
            do(root, away, *move)
        save(root / "done.ipynb")
        collected.until("done.ipynb")
        collected.seen.clear()
        folders = [path for path in root.rglob("*") if path.is_dir()]
        assert kernel_watches() == len(folders) + 1
        for folder in folders:
            save(folder / "x.ipynb")
        save(root / "last.ipynb")
        wanted = {f"{folder.relative_to(root).as_posix()}/x.ipynb" for folder in folders} | {"last.ipynb"}
        collected.until(*wanted)
        assert collected.seen - {"done.ipynb"} == wanted


def kernel_watches() -> int:
    """How many folders the kernel watches for this process."""
    infos = [info.read_text() for info in Path("/proc/self/fdinfo").iterdir() if info.exists()]
    return sum(line.startswith("inotify wd:") for info in infos for line in info.splitlines())


_numbers = itertools.count()


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["writing", "written", "other"]))))
def test_hints_hand_over_every_path_once_and_are_due_within_a_second(events: list[tuple[str, How]]) -> None:
    hints = Hints(lambda: None, 0.04)
    assert hints.due() is None
    before = time.monotonic()
    for path, how in events:
        hints.add(path, how)
    if events:
        due = hints.due()
        assert due is not None
        assert before < due <= time.monotonic() + 1.0
    assert hints.take() == frozenset(path for path, _ in events)
    assert hints.due() is None
    assert hints.take() == frozenset()


def test_a_steady_stream_of_events_does_not_put_a_rebuild_off_for_long() -> None:
    hints = Hints(lambda: None, settle=10.0, longest=0.5)
    before = time.monotonic()
    for number in range(500):
        hints.add(str(number), "other")
    due = hints.due()
    assert due is not None
    assert due <= before + 0.6


@pytest.mark.parametrize(
    ("events", "waits"),
    [
        ([("a", "written")], 1),
        ([("a", "writing"), ("a", "written")], 1),
        ([("a", "other"), ("a", "written")], 1),
        ([("a", "other")], 10),
        ([("a", "written"), ("b", "other")], 10),
        ([("a", "writing")], 100),
        ([("a", "writing"), ("b", "written")], 100),
        ([("a", "writing"), ("a", "other")], 10),
    ],
)
def test_a_rebuild_waits_only_for_what_has_not_settled(events: list[tuple[str, How]], waits: int) -> None:
    hints = Hints(lambda: None, settle=100.0, longest=1000.0)
    for path, how in events:
        hints.add(path, how)
    due = hints.due()
    assert due is not None
    assert round((due - time.monotonic()) / 10) == waits


def test_a_file_that_follows_right_after_others_waits_for_more_of_them() -> None:
    hints = Hints(lambda: None, settle=100.0, longest=1000.0)
    hints.add("a", "written")
    hints.take()
    hints.add("b", "written")
    due = hints.due()
    assert due is not None
    assert round((due - time.monotonic()) / 10) == 10


def test_more_hints_than_the_bound_mean_a_look_at_everything() -> None:
    hints = Hints(lambda: None, 0.04)
    for number in range(BOUND):
        hints.add(str(number), "writing")
    hints.add("0", "written")
    hints.add("one more", "other")
    hints.add("another", "writing")
    assert hints.take() is None
    hints.add("a", "written")
    assert hints.take() == frozenset("a")


def test_a_stopper_wakes_a_wait_that_has_begun_or_is_about_to() -> None:
    stop = Stopper()
    stop.wake()
    stop.wake()
    stop.wait(NEVER)
    threading.Timer(0.01, stop.set).start()
    stop.wait(NEVER)
    assert stop.is_set()
    stop.wait(-1.0)


def test_nothing_of_watchdog_is_imported_before_a_watch_begins() -> None:
    code = "import sys, builder.watch; sys.exit(any(name.startswith('watchdog') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
