"""Everybody at once: uploads, deletions, rebuilds, hand edits and readers, against the real program.

Every version of every dashboard has a mark of its own, which stands in all of its parts. So each answer tells which
version it shows, and the answers of the API tell which versions it may show.

A longer storm: `STORM_SECONDS=300 pytest tests/test_storm.py`, or `python tests/test_storm.py SECONDS SEED`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

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

from shim.staging import STAGING

SECONDS = float(os.environ.get("STORM_SECONDS", "8"))
SEED = 20_261
WRITERS = READERS = 8
MEMORY = 700 << 20
"""Bytes for the server with its renderers."""

STEADY = [f"steady/s{number}" for number in range(4)]
"""Never touched."""
KEPT = [f"kept/k{number}" for number in range(4)]
"""Only overwritten, through the API: never absent."""
FREE = [*(f"n{number}" for number in range(4)), "deep/er/n4"]
"""Uploaded and deleted through the API, by all writers."""
CLASHING = ["clash", "clash/leaf", "clash/leaf/tip"]
"""Names below each other: what one may be depends on the others."""
SHARED = ["shared/a", "shared/b"]
"""Changed through the API and by hand."""
HAND_KEPT = ["hand/renamed", "hand/in-place", "hand/bundle", "hand/archive"]
"""Only overwritten, by hand."""
HAND_FREE = ["hand/now-and-then", "moving/one/m", "moving/two/m"]
"""Come and go by hand."""
NEVER_ABSENT = frozenset([*STEADY, *KEPT, *HAND_KEPT])


class Event(NamedTuple):
    """Something that was done to a name, or seen of it: `mark` is the version, "" is none."""

    start: float
    end: float
    mark: str


@dataclass
class Chronicle:
    """What was done and seen; all threads write to it."""

    promised: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    """Changes that the API acknowledged."""
    by_hand: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    """Changes that nobody acknowledged."""
    seen: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    existed: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    """Moments at which the API said that there is some version."""
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def contradictions(self) -> Iterator[str]:
        """What was seen, and cannot have been there at that time."""
        for name, sights in self.seen.items():
            origins: dict[str, list[Event]] = defaultdict(list)
            for change in [*self.promised[name], *self.by_hand[name]]:
                origins[change.mark].append(change)
            for sight in sights:
                if not any(self._may_show(name, origin, sight) for origin in origins[sight.mark]):
                    yield f"{name}: {sight.mark or 'absence'} was seen at {sight.start:.3f} - {sight.end:.3f}; {self._around(name, sight)}"
        for name, sights in self.existed.items():
            uploads = [change for change in [*self.promised[name], *self.by_hand[name]] if change.mark]
            for sight in sights:
                if not any(self._may_show(name, origin, sight) for origin in uploads):
                    yield f"{name}: some version was there at {sight.start:.3f}; {self._around(name, sight)}"

    def _may_show(self, name: str, origin: Event, sight: Event) -> bool:
        """Whether a change had begun, and no acknowledged one had certainly taken its place."""
        return origin.start < sight.end and not any(
            later.start > origin.end and later.end < sight.start for later in self.promised[name]
        )

    def _around(self, name: str, sight: Event) -> str:
        near = [
            f"{who} {change.mark or 'removal'} {change.start:.3f} - {change.end:.3f}"
            for who, changes in (("promised", self.promised[name]), ("by hand", self.by_hand[name]))
            for change in changes
            if change.mark == sight.mark or abs(change.end - sight.start) < 0.5
        ]
        return ", ".join(near[-12:]) or "nobody did anything then"


class Storm:
    """One storm over one folder."""

    def __init__(self, source: Path, seed: int) -> None:
        self.source = source
        self.seed = seed
        self.chronicle = Chronicle()
        self.over = threading.Event()
        self.address = ""
        self._numbers = count(1)

    def mark(self, name: str) -> str:
        """A mark for a new version."""
        return mark_of(name, next(self._numbers))

    def prepare(self) -> None:
        """What lies there before."""
        for name in [*STEADY, *KEPT, *SHARED, "hand/renamed", "hand/in-place", "hand/now-and-then"]:
            mark = self.mark(name)
            write(self.source, f"{name}.ipynb", version(mark))
            self.chronicle.by_hand[name].append(Event(0.0, 0.0, mark))
        for name in ("moving/one/m",):
            mark = self.mark(name)
            write(self.source, f"{name}.ipynb", version(mark, "[d](data.txt)"))
            write(self.source, "moving/one/data.txt", b"x" * 1000)
            for place in ("moving/one/m", "moving/two/m"):
                self.chronicle.by_hand[place].append(Event(0.0, 0.0, mark))
        write(self.source, "moving/stays.ipynb", version(self.mark("stays")))
        for name, data in bundle_files(mark := self.mark("hand/bundle")).items():
            write(self.source, f"hand/bundle/{name}", data)
        self.chronicle.by_hand["hand/bundle"].append(Event(0.0, 0.0, mark))
        write(self.source, "hand/archive.zip", archive(mark := self.mark("hand/archive")))
        self.chronicle.by_hand["hand/archive"].append(Event(0.0, 0.0, mark))
        for name in [*FREE, *CLASHING, *HAND_FREE]:
            self.chronicle.by_hand[name].append(Event(0.0, 0.0, ""))

    def run(self, address: str, seconds: float) -> None:
        """Let everybody loose for a while."""
        self.address = address
        self.over.clear()
        roles: list[Callable[[random.Random], None]] = [
            *[Writer(self).act] * WRITERS,
            *[Reader(self).act] * READERS,
            Hand(self).act,
        ]
        threads = [
            threading.Thread(target=self._repeat, args=(role, random.Random(f"{self.seed}-{number}")))
            for number, role in enumerate(roles)
        ]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.problem("a thread hangs")

    def _repeat(self, act: Callable[[random.Random], None], choice: random.Random) -> None:
        try:
            while not self.over.is_set():
                act(choice)
        except Exception as error:
            self.problem(f"{type(error).__name__}: {error}")

    def problem(self, what: str) -> None:
        """Note that something is wrong; a few such are enough."""
        self.chronicle.problems.append(f"{time.monotonic():.3f} {what}")
        if len(self.chronicle.problems) > 20:
            self.over.set()


class Client:
    """Somebody with a connection to the server in each thread."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.chronicle = storm.chronicle
        self._local = threading.local()

    def ask(self, method: str, path: str, **options: object) -> tuple[requests.Response, float, float]:
        """The answer to a request, when it was sent, and when it was there; an error of the server is a problem."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        start = time.monotonic()
        url = urljoin(self.storm.address, path)
        answer = self._local.session.request(method, url, timeout=PATIENCE, allow_redirects=False, **options)
        self.chronicle.counts[f"{method} {answer.status_code}"] += 1
        if answer.status_code >= 500 and not (answer.status_code == 503 and answer.headers.get("Retry-After")):
            self.storm.problem(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer, start, time.monotonic()

    def look(self, name: str, tree: str = TREES[0]) -> str:
        """Read a page with all it shows; its mark, "" when there is none."""
        path = f"/{tree}/{name}/"
        answer, start, end = self.ask("GET", path)
        if answer.status_code == 503:
            return ""
        if answer.status_code == 404:
            self.chronicle.seen[name].append(Event(start, end, ""))
            return ""
        marks = set(MARK.findall(answer.text))
        if name in CLASHING:  # a plain folder shows its pages, and a page those below it
            if " ends." not in answer.text:
                self.chronicle.seen[name].append(Event(start, end, ""))
                return ""
            marks = set(re.findall(rf"({MARK.pattern}) ends\.", answer.text))
        whole = answer.status_code == 200 and answer.text.rstrip().endswith("</html>")
        if (
            not whole
            or len(marks) != 1
            or not all(f"{mark} {part}" in answer.text for mark in marks for part in ("begins", "ends"))
        ):
            self.storm.problem(f"{path}: not one whole version: {answer.status_code} {sorted(marks)}")
            return ""
        (mark,) = marks
        self.chronicle.seen[name].append(Event(start, end, mark))
        for url in sorted(set(urls_in(answer.text))):
            if problem := self._missing(path, url, mark):
                self._excuse(name, path, answer, problem)
        return mark

    def _missing(self, path: str, url: str, mark: str) -> str:
        """What is wrong with a file that a page shows; "" for nothing, or for what is no file of it."""
        target = urlsplit(urljoin(path, url)).path
        own = mark in target
        if not (own or target.startswith("/media/") or target.endswith((".txt", ".png"))):
            return ""
        answer, _, _ = self.ask("GET", target)
        marks = set(MARK.findall(answer.content.decode("latin-1")))
        if answer.status_code == 200 and (marks == {mark} or (target.endswith("same.txt") and len(marks) == 1)):
            return ""
        if answer.status_code == 200 and target.endswith("data.txt") and len(answer.content) == 1000:
            return ""
        return f"{target} is {answer.status_code} {sorted(marks)}"

    def _excuse(self, name: str, path: str, shown: requests.Response, problem: str) -> None:
        """Files may go when their page has changed, or gone and come back: a folder that moves, an upload taken back."""
        answer, _, _ = self.ask("GET", path)
        came_back = name in HAND_FREE + SHARED and answer.headers.get("ETag") != shown.headers["ETag"]
        if answer.status_code == 200 and not came_back and MARK.findall(answer.text) == MARK.findall(shown.text):
            self.storm.problem(f"{path} shows {MARK.findall(shown.text)[:1]}, but {problem}")


class Writer(Client):
    """Publishes, deletes and rebuilds through the API."""

    def act(self, choice: random.Random) -> None:
        """One thing."""
        names = choice.choice([KEPT, FREE, FREE, FREE, SHARED, CLASHING])
        name = choice.choice(names)
        (action,) = choice.choices(
            [self.upload, self.delete, self.break_rules, self.rebuild, self.rebuild_all, self.list],
            [60, 0 if name in NEVER_ABSENT else 18, 5, 8, 3, 4],
        )
        action(name, choice)

    def upload(self, name: str, choice: random.Random) -> None:
        mark = self.storm.mark(name)
        is_zip = choice.random() < 0.4
        content = archive(mark) if is_zip else version(mark)
        only_new = choice.random() < 0.1
        answer, start, end = self.ask(
            "POST",
            f"/_api/notebooks/{name}",
            files={"file": ("x.zip" if is_zip else "x.ipynb", content)},
            headers={"If-None-Match": "*"} if only_new else {},
        )
        if answer.status_code == 201:
            self.chronicle.promised[name].append(Event(start, end, mark))
            for tree in TREES:
                self.look(name, tree)
        elif answer.status_code == 412 and only_new:
            self.chronicle.existed[name].append(Event(start, end, ""))
        elif answer.status_code == 503 or (answer.status_code in (409, 422) and name in CLASHING + SHARED):
            self.chronicle.counts[answer.json()["message"][:60]] += 1
            if name in SHARED:  # published, and removed by hand before it was acknowledged
                self.chronicle.by_hand[name].append(Event(start, end, mark))
        else:
            self.storm.problem(f"upload of {mark} to {name}: {answer.status_code} {answer.text[:300]}")

    def delete(self, name: str, choice: random.Random) -> None:
        answer, start, end = self.ask("DELETE", f"/_api/notebooks/{name}")
        if answer.status_code == 204:
            self.chronicle.promised[name].append(Event(start, end, ""))
            self.look(name, choice.choice(TREES))
        elif answer.status_code == 404:
            self.chronicle.seen[name].append(Event(start, end, ""))
        elif not (answer.status_code == 503 or (answer.status_code == 400 and name in CLASHING)):
            self.storm.problem(f"deletion of {name}: {answer.status_code} {answer.text[:300]}")

    def break_rules(self, name: str, choice: random.Random) -> None:
        """What cannot be published changes nothing: its mark has no origin."""
        mark = self.storm.mark(name)
        broken = choice.choice([version(mark)[:-40], archive(mark)[:-40], b"{}", b"PK"])
        file = choice.choice(["x.zip", "x.ipynb"])
        answer, _, _ = self.ask("POST", f"/_api/notebooks/{name}", files={"file": (file, broken)})
        if answer.status_code not in (422, 503) and not (name in CLASHING and answer.status_code == 409):
            self.storm.problem(f"upload of nonsense to {name}: {answer.status_code} {answer.text[:300]}")

    def rebuild(self, name: str, choice: random.Random) -> None:
        name = choice.choice([name, *STEADY, *HAND_KEPT])
        answer, _, _ = self.ask("DELETE", f"/_api/cache/{name}")
        if answer.status_code not in (200, 503):
            self.storm.problem(f"rebuild of {name}: {answer.status_code} {answer.text[:300]}")

    def rebuild_all(self, name: str, choice: random.Random) -> None:
        answer, _, _ = self.ask("DELETE", "/_api/cache")
        if answer.status_code not in (200, 503):
            self.storm.problem(f"rebuild: {answer.status_code} {answer.text[:300]}")

    def list(self, name: str, choice: random.Random) -> None:
        answer, start, end = self.ask("GET", "/_api/notebooks")
        if answer.status_code == 503:
            return
        found = {one["path"]: one for one in answer.json()["notebooks"]}
        for kept in NEVER_ABSENT - found.keys():
            self.storm.problem(f"{kept} is not in the list of dashboards")
        for free in FREE:
            if free not in found:
                self.chronicle.seen[free].append(Event(start, end, ""))
            elif marks := MARK.findall(found[free]["title"]):
                self.chronicle.seen[free].append(Event(start, end, marks[0]))


class Reader(Client):
    """Reads pages, listings and everything they show."""

    def act(self, choice: random.Random) -> None:
        """One page or listing, then a breath: readers alone would keep the machine busy."""
        self.storm.over.wait(choice.random() * 0.03)
        if choice.random() < 0.2:
            self.read_listing(choice)
            return
        name = choice.choice([*STEADY, *KEPT, *KEPT, *FREE, *CLASHING, *SHARED, *HAND_KEPT, *HAND_FREE])
        mark = self.look(name, choice.choice(TREES))
        if not mark and name in NEVER_ABSENT:
            self.storm.problem(f"{name} is absent or broken")

    def read_listing(self, choice: random.Random) -> None:
        tree = choice.choice(TREES)
        folder, names = choice.choice(
            [("", []), ("steady", STEADY), ("kept", KEPT), ("hand", HAND_KEPT), ("shared", []), ("moving", [])]
        )
        path = f"/{tree}/{folder}/".replace("//", "/") if folder or choice.random() < 0.7 else "/"
        answer, _, _ = self.ask("GET", path)
        if answer.status_code != 200 or not answer.text.rstrip().endswith("</html>"):
            if folder not in ("shared",) or answer.status_code != 404:
                self.storm.problem(f"{path}: {answer.status_code}")
            return
        links = {urlsplit(urljoin(path, url)).path for url in urls_in(answer.text)}
        for name in names:
            if not any(link.endswith(f"/{name}/index.html") for link in links):
                self.storm.problem(f"{path} does not list {name}")
        pages = sorted(link for link in links if link.endswith("/index.html"))
        if pages:
            self.follow(path, choice.choice(pages))

    def follow(self, listing: str, link: str) -> None:
        """What is listed is there, or is not listed any more."""
        for _ in range(4):
            if self.ask("GET", link)[0].status_code != 404:
                return
            again, _, _ = self.ask("GET", listing)
            if link not in {urlsplit(urljoin(listing, url)).path for url in urls_in(again.text)}:
                return
        self.storm.problem(f"{listing} lists {link}, which is not there")


class Hand(Client):
    """Works in the folder itself."""

    def act(self, choice: random.Random) -> None:
        """One thing, then a rest."""
        action = choice.choice(
            [
                self.rename,
                self.write_in_place,
                self.come_or_go,
                self.move,
                self.change_bundle,
                self.change_archive,
                self.share,
            ]
        )
        self.chronicle.counts[action.__name__] += 1
        action(choice)
        self.storm.over.wait(choice.random() * 0.06)

    def note(self, name: str, start: float, mark: str) -> None:
        self.chronicle.by_hand[name].append(Event(start, time.monotonic(), mark))

    @contextmanager
    def changing(self, name: str, mark: str) -> Iterator[None]:
        """Note a change before it can be seen."""
        changes = self.chronicle.by_hand[name]
        changes.append(Event(time.monotonic(), float("inf"), mark))
        place = len(changes) - 1
        yield
        changes[place] = changes[place]._replace(end=time.monotonic())

    def put(self, file: str, content: bytes) -> None:
        path = self.storm.source / file
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(content)
        os.replace(temporary, path)

    def rename(self, choice: random.Random) -> None:
        mark = self.storm.mark("hand/renamed")
        with self.changing("hand/renamed", mark):
            self.put("hand/renamed.ipynb", version(mark))

    def write_in_place(self, choice: random.Random) -> None:
        mark = self.storm.mark("hand/in-place")
        content = version(mark)
        with self.changing("hand/in-place", mark), (self.storm.source / "hand/in-place.ipynb").open("wb") as file:
            for part in (content[:100], content[100:300], content[300:]):
                file.write(part)
                file.flush()
                self.storm.over.wait(choice.random() * 0.01)

    def come_or_go(self, choice: random.Random) -> None:
        name = "hand/now-and-then"
        path = self.storm.source / f"{name}.ipynb"
        if path.exists():
            with self.changing(name, ""):
                path.unlink()
        else:
            mark = self.storm.mark(name)
            with self.changing(name, mark):
                path.write_bytes(version(mark))

    def move(self, choice: random.Random) -> None:
        one, two = self.storm.source / "moving/one", self.storm.source / "moving/two"
        os.rename(*((one, two) if one.exists() else (two, one)))

    def change_bundle(self, choice: random.Random) -> None:
        mark = self.storm.mark("hand/bundle")
        folder = self.storm.source / "hand/bundle"
        before = [path for path in folder.iterdir() if re.search(r"-v\w+q\d+q", path.name)]
        with self.changing("hand/bundle", mark):
            for name, data in bundle_files(mark).items():
                self.put(f"hand/bundle/{name}", data)
            for path in before:
                path.unlink()

    def change_archive(self, choice: random.Random) -> None:
        mark = self.storm.mark("hand/archive")
        content = archive(mark)
        with self.changing("hand/archive", mark):
            if choice.random() < 0.5:
                self.put("hand/archive.zip", content)
                return
            with (self.storm.source / "hand/archive.zip").open("wb") as file:
                for part in (content[:500], content[500:]):
                    file.write(part)
                    file.flush()
                    self.storm.over.wait(choice.random() * 0.01)

    def share(self, choice: random.Random) -> None:
        name = choice.choice(SHARED)
        if choice.random() < 0.3:
            with self.changing(name, ""):
                for suffix in (".ipynb", ".zip"):
                    (self.storm.source / f"{name}{suffix}").unlink(missing_ok=True)
        else:
            mark = self.storm.mark(name)
            with self.changing(name, mark):
                if choice.random() < 0.5:
                    self.put(f"{name}.ipynb", version(mark))
                else:
                    self.put(f"{name}.zip", archive(mark))


# The whole of it


def memory(process: psutil.Popen) -> int:
    """Bytes that a program and its children hold, shared ones counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total


def missing(counts: Counter[str]) -> list[str]:
    """What a storm has to have seen, and this one has not."""
    needed = ("POST 201", "POST 422", "DELETE 204", "DELETE 200", "GET 200")
    return [one for one in needed if not counts[one]]


def storm_over(folder: Path, seconds: float, seed: int) -> tuple[list[str], Counter[str]]:
    """Let a storm loose on a new site; what was wrong, and how often what happened."""
    storm = Storm(folder / "source", seed)
    storm.prepare()
    problems = storm.chronicle.problems
    with program(storm.source, folder / "site", folder / "log") as (process, address):
        until(lambda: requests.get(f"{address}readyz", timeout=PATIENCE).status_code == 200, "the first build")
        storm.run(address, seconds)
        # A slow machine has seen too little of it.
        for _ in range(4):
            if problems or not missing(storm.chronicle.counts):
                break
            storm.run(address, seconds)
        storm.chronicle.counts["MB"] = memory(process) >> 20
        if memory(process) > MEMORY:
            problems.append(f"{memory(process) >> 20} MB of memory")
        if process.num_threads() > 40 or process.num_fds() > 100:
            problems.append(f"{process.num_threads()} threads, {process.num_fds()} open files")
        left = [path.name for path in storm.source.rglob(f"{STAGING}/*")]
        problems += [f"left in the staging folder: {left}"] * bool(left)
        build(storm.source, build__output=str(folder / "clean"), server__state_dir=str(folder / "state"), build__jobs=2)
        clean = tree(folder / "clean")
        try:
            until(lambda: not differences(tree(folder / "site"), clean), "")
        except AssertionError:
            problems.append(f"folder and site do not agree: {differences(tree(folder / 'site'), clean)[:20]}")
        stop(process)
    problems += storm.chronicle.contradictions()
    said = (folder / "log").read_text()
    problems += ["the log has a traceback"] * ("Traceback" in said)
    return problems, storm.chronicle.counts


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_whatever_happens_at_once_promises_hold_and_pages_are_whole(tmp_path: Path) -> None:
    problems, counts = storm_over(tmp_path, SECONDS, SEED)
    assert not problems, f"seed {SEED}, {dict(counts)}: " + "\n".join(problems[:20])
    assert not missing(counts), f"a storm without these shows nothing: {dict(counts)}"


def main(arguments: Sequence[str]) -> int:
    """A storm of so many seconds with a seed; the folder stays when something was wrong."""
    seconds, seed = float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else SEED
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    problems, counts = storm_over(folder, seconds, seed)
    print(json.dumps(counts, indent=1, sort_keys=True))
    print("\n".join(problems) or "nothing wrong")
    if problems:
        print(f"see {folder}")
    else:
        shutil.rmtree(folder)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
