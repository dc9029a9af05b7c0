"""Servers and changes that are killed at any moment: every name shows one whole version, and no version is lost.

More rounds: `ROUNDS=200 pytest tests/test_shim_crash.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import psutil
import pytest
import requests
from making import write
from sites import build, urls_in
from versions import (
    MARK,
    PATIENCE,
    TREES,
    archive,
    bundle_files,
    differences,
    mark_of,
    program,
    stop,
    tree,
    until,
    version,
)  # fmt: skip

from shim.staging import STAGING, Staging

ROUNDS = int(os.environ.get("ROUNDS", "8"))
SEED = 20_262
EVENTS = frozenset({"open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir"})
"""What Python tells before it does it: the moments between two steps on the disk."""


# Changes of the source folder, killed before each of their steps


class Case(NamedTuple):
    """A change of a folder with `files`: the upload goes to `target`, `others` go."""

    files: dict[str, str]
    target: str | None
    others: list[str]

    def after(self) -> dict[str, str]:
        """The files once it is done."""
        left = {
            name: text
            for name, text in self.files.items()
            if not any(name == other or name.startswith(f"{other}/") for other in self.others)
        }
        return left | ({self.target: "new"} if self.target else {})


FOLDER = {"p/index.ipynb": "old", "p/data.csv": "data"}
CASES = {
    "new": Case({}, "deep/er/p.ipynb", []),
    "notebook over notebook": Case({"p.ipynb": "old"}, "p.ipynb", []),
    "notebook over archive": Case({"p.zip": "old"}, "p.ipynb", ["p.zip"]),
    "archive over notebook": Case({"p.ipynb": "old"}, "p.zip", ["p.ipynb"]),
    "notebook over both": Case({"p.ipynb": "old", "p.zip": "older"}, "p.ipynb", ["p.zip"]),
    "archive over folder": Case(FOLDER, "p.zip", ["p"]),
    "notebook over all": Case({"p.ipynb": "old", "p.zip": "older", **FOLDER}, "p.ipynb", ["p.zip", "p"]),
    "deletion": Case({"p.ipynb": "old"}, None, ["p.ipynb"]),
    "deletion of a folder": Case(FOLDER, None, ["p"]),
    "deletion of all": Case({"p.ipynb": "old", "p.zip": "older", **FOLDER}, None, ["p.ipynb", "p.zip", "p"]),
}


def kill_before(step: int, wanted: Callable[[str, tuple[Any, ...]], bool] = lambda event, arguments: True) -> None:
    """Let this process be killed before its next `step`-th step on the disk; there is no way back."""
    steps = count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        reading = event == "open" and not int(arguments[2] or 0) & os.O_CREAT
        if event in EVENTS and not reading and wanted(event, arguments) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def survives(step: int, act: Callable[[], None]) -> bool:
    """Do something in a process that is killed before the `step`-th step; whether it came to its end."""

    def run() -> None:
        kill_before(step)
        act()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def content(root: Path) -> dict[str, str]:
    """The files of a folder, those of the staging folder left out."""
    found = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
    return {name: text for name, text in found.items() if not name.startswith(STAGING)}


def act(root: Path, case: Case, *, undo: bool) -> None:
    """A whole change."""
    with Staging(root).change() as change:
        if case.target:
            change.upload.write_text("new")
        change.apply(case.target, case.others)
        if undo:
            change.undo()


def both(case: Case) -> dict[str, str]:
    """What may be there when a failed upload was being taken back: the old files beside the new one."""
    return case.files | case.after()


@pytest.mark.parametrize("undo", [False, True], ids=["kept", "undone"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_change_that_is_killed_anywhere_has_happened_wholly_or_not_at_all(
    tmp_path: Path, case: Case, undo: bool
) -> None:
    choice = random.Random(SEED)
    allowed = [case.files, case.after(), *([both(case)] if undo else [])]
    for step in count(1):
        root = tmp_path / str(step)
        root.mkdir()
        for name, text in case.files.items():
            write(root, name, text)
        done = survives(step, partial(act, root, case, undo=undo))
        again = choice.randrange(1, 12)
        if step % 3 == 0:  # what clears up may be killed, too
            survives(again, Staging(root).recover)
        Staging(root).recover()
        assert content(root) in allowed, f"killed before step {step}, then {again}"
        assert not (root / STAGING).exists()
        if done:
            assert content(root) == (case.files if undo else case.after())
            break
    assert step > 5, "nothing was killed"


def test_what_somebody_is_at_work_with_is_no_leftover(tmp_path: Path) -> None:
    write(tmp_path, "p.ipynb", "old")
    with Staging(tmp_path).change() as change:
        change.upload.write_text("new")
        Staging(tmp_path).recover()
        assert change.upload.exists()
        change.apply("p.ipynb", [])
    assert content(tmp_path) == {"p.ipynb": "new"}


def test_changes_that_begin_and_end_at_once_do_not_take_each_others_folder_away(tmp_path: Path) -> None:
    staging, failures = Staging(tmp_path), list[BaseException]()

    def work() -> None:
        try:
            for _ in range(300):
                with staging.change() as change:
                    change.upload.write_text("x")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not (tmp_path / STAGING).exists()


# The whole program


KILLED = (
    "sys.path.insert(0, {tests!r}); import signal, test_shim_crash as crash;"
    "signal.signal(signal.SIGUSR1, lambda *_: crash.kill_before({step}, crash.is_ours));"
    "from shim.cli import main; sys.exit(main(sys.argv[1:]))"
)
"""run-shim, killed at one of its steps after it was sent SIGUSR1."""


def is_ours(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a step has to do with staged files: an upload, a file that is replaced, a page that is published."""
    return any(".nbfolio-" in str(argument) for argument in arguments[:2])


@dataclass
class Dashboard:
    """One name: the version that was acknowledged last, "" for none, and the one that was under way at the end."""

    name: str
    mark: str = ""
    pending: str | None = None


@dataclass
class Round:
    """What happens between two starts."""

    source: Path
    choice: random.Random
    numbers: Iterator[int]
    counts: dict[str, int] = field(default_factory=dict)

    def work(self, address: str, dashboard: Dashboard, choice: random.Random) -> None:
        """Change one dashboard again and again, until nobody answers any more."""
        with suppress(requests.RequestException), requests.Session() as session:
            while True:
                self.change(session, address, dashboard, choice)

    def change(self, session: requests.Session, address: str, dashboard: Dashboard, choice: random.Random) -> None:
        """Publish or delete it."""
        url = urljoin(address, f"/_api/notebooks/{dashboard.name}")
        if dashboard.mark and choice.random() < 0.3:
            dashboard.pending = ""
            answer = session.delete(url, timeout=PATIENCE)
        else:
            mark = dashboard.pending = mark_of(dashboard.name, next(self.numbers))
            file = choice.choice([("x.ipynb", version(mark)), ("x.zip", archive(mark))])
            answer = session.post(url, files={"file": file}, timeout=PATIENCE)
        # The program may come to its end before it is asked: then it stops, and says so.
        if answer.status_code != 503:
            assert answer.status_code == (201 if dashboard.pending else 204), answer.text
            dashboard.mark = dashboard.pending
            self.counts[str(answer.status_code)] = self.counts.get(str(answer.status_code), 0) + 1
        dashboard.pending = None

    def drop_folders(self, dashboards: list[Dashboard]) -> None:
        """Somebody puts a folder bundle where nothing is, while no program runs."""
        for dashboard in dashboards:
            if not dashboard.mark and self.choice.random() < 0.7:
                dashboard.mark = mark_of(dashboard.name, next(self.numbers))
                for name, data in bundle_files(dashboard.mark).items():
                    write(self.source, f"{dashboard.name}/{name}", data)


def shown(address: str, name: str) -> str:
    """The one version that both pages of a name show with all they refer to; "" for none."""
    marks = []
    for variant in TREES:
        url = urljoin(address, f"/{variant}/{name}/")
        answer = requests.get(url, timeout=PATIENCE)
        if answer.status_code == 404:
            marks.append("")
            continue
        assert answer.status_code == 200 and answer.text.rstrip().endswith("</html>")
        (mark,) = set(MARK.findall(answer.text))
        marks.append(mark)
        for link in set(urls_in(answer.text)):
            if mark in link or "/media/" in link or link == "same.txt":
                file = requests.get(urljoin(url, link), timeout=PATIENCE)
                assert (file.status_code, set(MARK.findall(file.content.decode("latin-1")))) == (200, {mark}), link
    assert marks[0] == marks[1]
    return marks[0]


def is_ready(address: str) -> bool:
    """Whether the first build is done."""
    return requests.get(f"{address}readyz", timeout=PATIENCE).ok


def has_ended(leader: int) -> bool:
    """Whether nothing of a program lives any more."""
    return not session_of(leader)


def forms(source: Path, name: str) -> list[str]:
    """What makes a dashboard in the source folder."""
    found = [f"{name}.ipynb", f"{name}.zip", f"{name}/index.ipynb"]
    return [file for file in found if (source / file).exists()]


def session_of(leader: int) -> list[psutil.Process]:
    """The processes that a program and its children started, as long as they live."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_a_server_that_is_killed_keeps_its_promises_and_shows_whole_versions(tmp_path: Path) -> None:
    source, output, log = tmp_path / "source", tmp_path / "site", tmp_path / "log"
    write(source, "steady.ipynb", version("vsteadyq1q"))
    dashboards = [Dashboard("a"), Dashboard("b/b"), Dashboard("c")]
    choice = random.Random(SEED)
    this = Round(source, choice, count(1))
    # A slow machine is killed before it has changed anything; then there are more rounds.
    for number in range(5 * ROUNDS + 1):
        told = f"seed {SEED}, round {number}"
        by_step = choice.random() < 0.7
        step, patience = choice.randrange(1, 60), choice.random()
        with program(source, output, log, KILLED.format(tests=str(Path(__file__).parent), step=step)) as (
            process, address,
        ):  # fmt: skip
            until(partial(is_ready, address), told)
            assert shown(address, "steady") == "vsteadyq1q"
            for dashboard in dashboards:
                mark = shown(address, dashboard.name)
                assert mark in (dashboard.mark, dashboard.pending), f"{told}: {dashboard} shows {mark!r}"
                dashboard.mark, dashboard.pending = mark, None
                assert len(forms(source, dashboard.name)) == bool(mark), told
            assert not list(source.rglob(f"{STAGING}/*")), told
            if number == 5 * ROUNDS or (number >= ROUNDS and {"201", "204"} <= this.counts.keys()):
                stop(process)
                break
            threads = [
                threading.Thread(target=this.work, args=(address, dashboard, random.Random(f"{SEED}-{number}-{index}")))
                for index, dashboard in enumerate(dashboards)
            ]
            for thread in threads:
                thread.start()
            if by_step:
                process.send_signal(signal.SIGUSR1)
                process.wait(PATIENCE)
            else:
                with suppress(psutil.TimeoutExpired):
                    process.wait(patience)
                process.kill()
            for thread in threads:
                thread.join()
        this.drop_folders([dashboard for dashboard in dashboards if dashboard.pending is None])
        until(partial(has_ended, process.pid), f"{told}: processes outlive their program")
    assert this.counts.get("201") and this.counts.get("204"), "nothing was changed"
    assert "Traceback" not in log.read_text()
    build(source, build__output=str(tmp_path / "clean"), server__state_dir=str(tmp_path / "state"), build__jobs=2)
    assert differences(tree(output), tree(tmp_path / "clean")) == []
