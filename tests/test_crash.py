"""Builds that are killed, interrupted, run out of room or meet each other: what is published stays whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from making import Cell, code, display, markdown, notebook, png, png64, stream, write
from sites import build, urls_in

import builder.render
from builder.cli import main
from builder.publish import _pages_first
from builder.write import MARKER, STAGING

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("KILLS", "30"))
SEED = 20_260
TREES = ("dashboards", "dashboards-plain")


def start(*arguments: object) -> subprocess.Popen[str]:
    """`build-site` in a process of its own, able to get Ctrl-C without the tests."""
    return subprocess.Popen(
        [sys.executable, "-m", "builder", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip


def without_progress(said: str) -> str:
    """What was said, without the lines that a build on a slow machine prints every few seconds."""
    return re.sub(r"^\d+ of \d+ pages, .*\n", "", said, flags=re.MULTILINE)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and everything said but progress; never a traceback."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in out + err
    return process.returncode, without_progress(out + err)


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        try:
            process.wait(0.005)
        except subprocess.TimeoutExpired:
            continue


def tree(site: Path) -> dict[str, bytes]:
    """Every published file with its content."""
    return {
        path.relative_to(site).as_posix(): path.read_bytes()
        for path in site.rglob("*")
        if path.is_file() and path.name != MARKER
    }


# --- a site that changes


class ChangingSite:
    """Notebooks with images, links, files, a folder bundle and a ZIP bundle; each change is random and repeatable."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.names: list[str] = []
        self.ever: set[str] = {"index", "bundle", "archive"}
        self.count = 0
        for number in range(22):
            self.add(f"part{number % 4}/n{number}" if number % 5 else f"n{number}")
        self.change_bundles()
        write(folder, "index.ipynb", notebook(markdown("# Front\n\n[b](bundle) [z](archive.zip) ![](pictures/0.png)")))

    def add(self, name: str) -> None:
        self.names.append(name)
        self.ever.add(name)
        self.rewrite(name)

    def rewrite(self, name: str) -> None:
        self.count += 1
        up = "../" * name.count("/")
        links = " ".join(f"[x]({up}{other}.ipynb)" for other in self.random.sample(self.names, min(3, len(self.names))))
        number = self.random.randrange(6)
        write(self.folder, f"pictures/{number}.png", png(shade=self.random.randrange(256)))
        text = f"# Title {self.random.randrange(5)}\n\nversion {self.count} {links} ![]({up}pictures/{number}.png)"
        image = display({"image/png": png64(shade=self.random.randrange(256))})
        write(self.folder, f"{name}.ipynb", notebook(markdown(text), code("1", image, stream("x" * 3000))))

    def change_bundles(self) -> None:
        self.count += 1
        text = f"# Bundle {self.count}\n\n![](a.png) ![](new{self.count}.png)"
        shutil.rmtree(self.folder / "bundle", ignore_errors=True)
        for name in ("a", f"new{self.count}"):
            write(self.folder, f"bundle/{name}.png", png(shade=self.count % 256))
        write(self.folder, "bundle/index.ipynb", notebook(markdown(text)))
        with zipfile.ZipFile(self.folder / "archive.zip", "w") as archive:
            archive.writestr("index.ipynb", json.dumps(notebook(markdown(text))))
            archive.writestr("a.png", png())
            archive.writestr(f"new{self.count}.png", png(shade=self.count % 256))

    def change(self) -> None:
        """What people may do between two builds."""
        for name in self.random.sample(self.names, 2):
            self.names.remove(name)
            (self.folder / f"{name}.ipynb").unlink()
        for name in self.random.sample(self.names, 5):
            self.rewrite(name)
        for number in range(2):
            self.add(f"part{self.random.randrange(6)}/later{self.count}-{number}")
        if self.random.random() < 0.3:
            self.change_bundles()

    def pages(self) -> set[str]:
        """Output files of all pages and listings there ever were, in both variants."""
        paths = set(self.ever)
        for name in self.ever:
            paths.update(name.rpartition("/")[0] for _ in name)
        return {f"{variant}/{path}/index.html".replace("//", "/") for variant in TREES for path in paths | {""}}


def damage(site: Path, may_come: set[str]) -> list[str]:
    """What a reader could find broken: cut-off pages and URLs without a file.

    A link to another page is good when that page belongs to the version that was being built.
    """
    found = []
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        html = page.read_text(encoding="utf-8")
        if not html.rstrip().endswith("</html>"):
            found.append(f"{name} is cut off")
        for url in set(urls_in(html)):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or not parts.path or url.startswith("/") or parts.path.endswith(".ipynb"):
                continue
            target = os.path.normpath(page.parent / unquote(parts.path))
            if not os.path.isfile(target) and os.path.relpath(target, site) not in may_come | {"index.html"}:
                found.append(f"{name} refers to {url}")
    return found


def assert_like_new(source: Path, scratch: Path) -> None:
    """The published files are those of a build into a new folder with no cache, byte for byte."""
    shutil.rmtree(scratch, ignore_errors=True)
    build(source, build__output=str(scratch / "site"), server__state_dir=str(scratch / "state"), build__jobs=2)
    clean, ours = tree(scratch / "site"), tree(source / "_site")
    assert ours.keys() == clean.keys(), "orphans or holes"
    assert [name for name in clean if clean[name] != ours[name]] == []


def forked(source: Path) -> multiprocessing.Process:
    """The same as `start`, without the second that a new interpreter takes to import everything."""
    builder.render.renderer()

    def run() -> None:
        os.setsid()
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        os._exit(main([str(source), "-j", "2"]))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process  # type: ignore[return-value]


def killed_after(seconds: float | None, source: Path, fork: bool) -> float | None:
    """Run a build and kill it after some seconds; how long it took when it was done before that."""
    began = time.monotonic()
    if fork:
        child = forked(source)
        child.join(seconds)
        exit_code = child.exitcode
        child.kill()
        child.join()
    else:
        process = start(source, "-j", 2)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        exit_code = process.returncode
        process.kill()
        process.communicate()
    assert exit_code in (0, None)
    return None if exit_code is None else time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_builds_killed_at_any_moment_leave_whole_pages_and_the_next_one_completes(tmp_path: Path) -> None:
    source = tmp_path / "site"
    site = ChangingSite(source, SEED)
    moments = [
        ((number + 0.5) / KILLS) ** 0.5 for number in range(KILLS)
    ]  # more towards the end, where files are written
    site.random.shuffle(moments)
    longest: dict[bool, float] = {}
    kills = 0
    while kills < KILLS:
        fork = kills % 5 > 0
        took = killed_after(longest[fork] * moments[kills] if fork in longest else None, source, fork)
        if took is None:
            kills += 1
        else:
            longest[fork] = min(longest.get(fork, took), took)
        assert damage(source / "_site", site.pages()) == [], f"seed {SEED}, kill {kills}"
        if took is None and kills in (KILLS // 2, KILLS):
            exit_code, said = finish(start(source, "-j", 2))
            assert (exit_code, "failed 0" in said) == (0, True), said
            assert_like_new(source, tmp_path / "clean")
        site.change()
    finish(start(source))
    assert build(source).built == 0
    assert not (source / "_site" / STAGING).exists()


# --- told to stop


@pytest.fixture
def slow_site(tmp_path: Path) -> Path:
    """A site that takes seconds, with pages that are done early."""
    long = [code(f"for x in range({number}):\n    print(x + {number})") for number in range(10_000)]
    write(tmp_path, "slow.ipynb", notebook(*long))
    for number in range(30):
        write(
            tmp_path,
            f"n{number}.ipynb",
            notebook(markdown(f"# {number}"), code("1", display({"image/png": png64(shade=number)}))),
        )
    return tmp_path


def some_page(site: Path) -> Callable[[], bool]:
    """Whether a page has been published."""
    return lambda: any(site.glob("dashboards/*/index.html"))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_build_that_is_told_to_stop_ends_at_once_without_a_traceback(
    slow_site: Path, number: signal.Signals, exit_code: int
) -> None:
    process = start(slow_site, "-j", 2)
    until(some_page(slow_site / "_site"), process)
    os.killpg(process.pid, number)
    code_, said = finish(process)
    assert (code_, said.strip()) == (exit_code, "")
    site = slow_site / "_site"
    assert [line for line in damage(site, set()) if "/index.html" not in line.rpartition(" refers to ")[2]] == []
    (slow_site / "slow.ipynb").unlink()
    assert build(slow_site).failed == 0
    assert_like_new(slow_site, slow_site.parent / "clean")


def test_the_second_builder_of_an_output_is_refused_and_the_first_goes_on(slow_site: Path) -> None:
    first = start(slow_site, "-j", 1)
    until(some_page(slow_site / "_site"), first)
    os.kill(first.pid, signal.SIGSTOP)
    exit_code, said = finish(start(slow_site))
    staging = (slow_site / "_site" / STAGING).is_dir()
    os.kill(first.pid, signal.SIGCONT)
    assert exit_code == 2
    assert said.startswith(f"build-site: Another builder (process {first.pid}) is writing to {slow_site / '_site'};")
    assert said.count("\n") == 1
    assert staging, "the folder that the first one works in"
    first.send_signal(signal.SIGINT)
    finish(first)
    assert finish(start(slow_site / "nowhere"))[0] == 2


# --- no room, no permission


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of a few MB in memory at `folder`."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system, and not in every container")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def large_site(tmp_path: Path) -> Path:
    """Notebooks with images that do not compress: 4 MB in all."""
    noise = random.Random(SEED)
    for number in range(40):
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><!-- {noise.randbytes(50_000).hex()} --></svg>'
        cells: list[Cell] = [
            markdown(f"# {number}\n\n[next](n{(number + 1) % 40}.ipynb)"),
            code("1", display({"image/svg+xml": svg})),
        ]
        write(tmp_path, f"source/n{number}.ipynb", notebook(*cells))
    return tmp_path / "source"


@pytest.mark.parametrize("full", ["output", "state"])
def test_a_full_disk_is_a_sentence_and_the_next_run_with_room_completes(
    large_site: Path, tmp_path: Path, full: str
) -> None:
    disk = tmp_path / "disk"
    output = disk / "site" if full == "output" else tmp_path / "site"
    state = disk / "state" if full == "state" else tmp_path / "state"
    settings = write(tmp_path, "settings.toml", f'[build]\noutput = "{output}"\n[server]\nstate_dir = "{state}"\n')
    with mounted(disk, "size=3m"):
        for _ in range(2):  # the second run must not take what the first one left for damage
            exit_code, said = finish(start(large_site, "-c", settings, "-j", 2))
            assert exit_code == 2, said
            assert re.search("no space left|No space left|disk is full", said)
            assert len([line for line in said.splitlines() if line]) == 1, said
            pages = {f"{variant}/n{number}/index.html" for variant in TREES for number in range(40)}
            listings = {f"{variant}/index.html" for variant in TREES}
            assert damage(output, pages | listings) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        exit_code, said = finish(start(large_site, "-c", settings, "-j", 2))
        assert exit_code == 0, said
        build(
            large_site, build__output=str(tmp_path / "clean"), server__state_dir=str(tmp_path / "other"), build__jobs=2
        )
        assert tree(output) == tree(tmp_path / "clean")
        assert build(large_site, build__output=str(output), server__state_dir=str(state)).built == 0


def test_a_full_disk_does_not_stop_a_run_without_work(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=32m"):
        write(disk, "source/a.ipynb", notebook(markdown("# A")))
        assert finish(start(disk / "source"))[0] == 0
        with pytest.raises(OSError, match="No space left"), open(disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        exit_code, said = finish(start(disk / "source"))
        write(disk / "source", "b.ipynb", b"")
        published = damage(disk / "source/_site", set())
    assert (exit_code, published) in [(0, []), (2, [])], said


@pytest.mark.parametrize("place", ["output", "state"])
def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path: Path, place: str) -> None:
    write(tmp_path, "source/a.ipynb", notebook(markdown("# A")))
    closed = tmp_path / "closed"
    option = f'[build]\noutput = "{closed if place == "output" else tmp_path / "site"}"\n'
    option += f'[server]\nstate_dir = "{closed if place == "state" else tmp_path / "state"}"\n'
    settings = write(tmp_path, "settings.toml", option)
    if os.geteuid() == 0:
        with mounted(closed, "ro,size=1m"):
            exit_code, said = finish(start(tmp_path / "source", "-c", settings))
    else:
        closed.mkdir(0o555)
        exit_code, said = finish(start(tmp_path / "source", "-c", settings))
    assert exit_code == 2
    assert said.startswith("build-site: ")
    assert str(closed) in said
    assert said.count("\n") == 1


def test_a_file_of_a_page_that_cannot_be_read_costs_that_page_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("[data](data.csv)")))
    write(tmp_path, "b.ipynb", notebook(markdown("# B")))
    data = write(tmp_path, "data.csv", "1")
    data.chmod(0)
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if without and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv (util-linux)")
    command = [*without, sys.executable, "-m", "builder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        without_progress(done.stderr)
        == "failed: a: the file 'data.csv' of this page cannot be read: Permission denied\n"
    )
    assert (tmp_path / "_site/dashboards/b/index.html").exists()


def test_a_page_is_removed_before_what_it_shows() -> None:
    names = ["media/a.png", "dashboards/b/help.html", "dashboards/b/a.png", "dashboards/b/index.html", "assets/x.css"]
    assert sorted(names, key=_pages_first)[:2] == ["dashboards/b/index.html", "dashboards/b/help.html"]
