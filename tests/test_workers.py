"""Renderer processes that answer, die, hang, cannot load their code, or lose their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import cast

import psutil
import pytest
from making import code, display, markdown, notebook, stream, write
from sites import build

import builder.render
from builder.page import Body, PageMeta, PageOptions
from builder.workers import Job, Pool, Result, SparePools, StartMethod, worker_count
from builder.write import MARKER

METHODS: tuple[StartMethod, ...] = ("fork", "forkserver")
PARENT = """
import sys, json
from builder.page import PageOptions
from builder.workers import Job, Pool

def jobs():
    slow = open(sys.argv[2], "rb").read()
    for number in range(4):
        if number == 2:
            print("two workers are busy", flush=True)
        yield Job(str(number), slow, PageOptions(name="x"))

pool = Pool(4, sys.argv[1])
try:
    for job, result in pool.run(jobs()):
        print("too late", flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> StartMethod:
    """Both ways to start workers."""
    return cast(StartMethod, request.param)


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A notebook that keeps a renderer busy for seconds: much longer than it takes to stop that."""
    return as_bytes(*(code(f"for x in range({number}):\n    print(x + {number})") for number in range(10_000)))


def as_bytes(*cells: dict[str, object]) -> bytes:
    return json.dumps(notebook(*cells)).encode()


def job(path: str, data: bytes = b"") -> Job:
    """A job, for a small notebook with its path as text unless there is `data`."""
    return Job(path, data or as_bytes(markdown(f"# {path}"), code("1", stream(path))), PageOptions(name=path))


def outcomes(results: Iterable[tuple[Job, Result]]) -> dict[str, str]:
    """Path to "" or to the failure; a body must be that of its job."""
    found = {}
    for done, result in results:
        assert (result.body is None) == bool(result.failure)
        assert result.body is None or done.path in result.body.html
        found[done.path] = result.failure
    return found


def run(method: StartMethod, jobs: Iterable[Job], size: int = 2, **options: float) -> dict[str, str]:
    """What a pool of `size` makes of the jobs."""
    pool = Pool(size, method, **options)
    try:
        return outcomes(pool.run(jobs))
    finally:
        pool.close()


def workers() -> list[psutil.Process]:
    """The processes below this one that render, at the moment."""
    helpers = (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    return [process for process in psutil.Process().children(recursive=True) if process.pid not in helpers]


def test_every_job_gets_its_own_result_whatever_the_number_of_workers(method: StartMethod) -> None:
    paths = [f"page {number}" for number in range(12)]
    assert run(method, map(job, paths), size=3) == dict.fromkeys(paths, "")


def test_a_pool_is_used_again_with_the_workers_it_has(method: StartMethod) -> None:
    pool = Pool(1, method)
    try:
        outcomes(pool.run([job("a")]))
        before = workers()
        outcomes(pool.run([job("b"), job("c")]))
        assert workers() == before
        assert len(before) == 1
        assert outcomes(pool.run([])) == {}
    finally:
        pool.close()
    assert workers() == []


def test_no_more_workers_start_than_there_are_jobs(method: StartMethod) -> None:
    pool = Pool(8, method)
    outcomes(pool.run([job("a"), job("b")]))
    assert len(workers()) <= 2
    pool.close()


def test_jobs_are_taken_only_when_a_worker_is_free(method: StartMethod) -> None:
    taken = 0

    def jobs() -> Iterator[Job]:
        nonlocal taken
        for number in range(10):
            taken += 1
            yield job(f"page {number}")

    pool = Pool(2, method)
    for done, _ in enumerate(pool.run(jobs()), 1):
        assert taken <= done + 2
    pool.close()
    assert taken == 10


def test_a_worker_killed_while_it_renders_costs_one_page(method: StartMethod, slow: bytes) -> None:
    def jobs() -> Iterator[Job]:
        yield job("victim", slow)
        for worker in workers():
            worker.kill()
        yield from map(job, ("a", "b", "c"))

    found = run(method, jobs())
    assert found.pop("victim") == "the renderer process was killed (out of memory?) while it worked on this notebook"
    assert found == {"a": "", "b": "", "c": ""}


def test_a_worker_that_takes_too_long_is_stopped_and_the_rest_is_rendered(method: StartMethod, slow: bytes) -> None:
    def jobs() -> Iterator[Job]:
        yield job("hangs", slow)
        for worker in workers():
            worker.suspend()
        yield from map(job, ("a", "b", "c"))

    found = run(method, jobs(), seconds=10.0)
    assert found.pop("hangs") == "rendering took too long and was stopped"
    assert found == {"a": "", "b": "", "c": ""}
    assert workers() == []


def test_a_consumer_that_stops_early_ends_busy_workers(method: StartMethod, slow: bytes) -> None:
    pool = Pool(2, method)
    results = cast("Iterator[tuple[Job, Result]]", pool.run([job("quick"), job("slow", slow)]))
    assert next(results)[0].path == "quick"
    results.close()  # type: ignore[attr-defined]
    assert workers() == []


def test_an_exception_of_the_consumer_leaves_no_worker(slow: bytes) -> None:
    pool = Pool(2, "fork")
    with pytest.raises(ZeroDivisionError):
        for _ in pool.run(iter(lambda: job("x") if workers() else 1 / 0, None)):  # type: ignore[arg-type, return-value]
            raise AssertionError
    assert workers() == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "The notebook is not JSON"),
        (b" ", "The notebook is empty."),
        (b"[]", "The notebook is JSON but no notebook: it holds a list."),
        (b"[" * 100_000, "The notebook"),
        (b'{"nbformat": 5, "cells": []}', "The notebook is in nbformat 5"),
    ],
)
def test_what_is_no_notebook_is_a_sentence(data: bytes, sentence: str) -> None:
    failure = run("fork", [job("x", data)])["x"]
    assert failure.startswith(sentence)
    assert "\n" not in failure


def test_a_bug_of_the_renderer_is_a_sentence_and_the_worker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(builder.render, "renderer", broken)
    found = run("fork", [job("a"), job("b")], size=1)
    assert found == dict.fromkeys(
        "ab", "nbfolio could not render this notebook (ZeroDivisionError: division by zero); please report it"
    )


def test_a_body_that_cannot_be_sent_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder.render, "render", lambda job: Result(Body("\ud800", PageMeta("x"))))
    failure = run("fork", [job("a")])["a"]
    assert failure.startswith("the rendered page cannot be used (UnicodeEncodeError")


def test_a_crash_is_named_and_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder.render, "render", lambda job: os.kill(os.getpid(), signal.SIGXCPU))
    name = signal.strsignal(signal.SIGXCPU)
    assert run("fork", [job("a")]) == {"a": f"the renderer process crashed ({name}) while it worked on this notebook"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(lambda: code("x", stream("0123456789 <b>\n" * 6_700_000)), id="stream"),
        pytest.param(lambda: code("x", display({"text/html": "<p>x</p>" * 12_500_000})), id="html"),
        pytest.param(lambda: code("x", display({"image/png": "A" * 100_000_000})), id="image"),
    ],
)
def test_a_notebook_of_a_hundred_megabytes_costs_seconds_and_no_worker(cell: object) -> None:
    data = as_bytes(cell())  # type: ignore[operator]
    assert len(data) > 100_000_000
    pool = Pool(1, "fork", seconds=60)
    results = {done.path: result for done, result in pool.run([job("large", data), job("small")])}
    pool.close()
    assert [result.failure for result in results.values()] == ["", ""]
    body = results["large"].body
    assert body
    assert len(body.html) < 5_000_000


def broken_mistune(folder: Path) -> dict[str, str]:
    """An environment in which mistune is there and cannot be imported."""
    write(folder, "mistune/__init__.py", "raise ImportError('libmissing.so.1: cannot open shared object file')\n")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parent.parent}"}


def test_workers_that_cannot_load_their_code_say_so_and_are_not_started_again_and_again(tmp_path: Path) -> None:
    program = """
import sys
from builder.page import PageOptions
from builder.workers import Job, Pool
pool, processes = Pool(2, sys.argv[1]), set()
for job, result in pool.run(Job(str(number), b"{}", PageOptions(name="x")) for number in range(9)):
    processes.update(worker.process.pid for worker in pool._workers)
    print(result.failure)
pool.close()
print(len(processes))
"""
    for method in METHODS:
        command = [sys.executable, "-c", program, method]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=broken_mistune(tmp_path))
        *failures, processes = done.stdout.splitlines()
        sentence = "the renderer cannot be loaded (ImportError: libmissing.so.1: cannot open shared object file)"
        assert failures == [sentence] * 9
        assert int(processes) <= 2
        assert done.stderr == ""


def test_a_build_without_a_working_renderer_names_the_reason_for_each_page(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, f"site/{name}.ipynb", notebook())
    command = [sys.executable, "-m", "builder", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=broken_mistune(tmp_path / "lib"))
    assert done.returncode == 0
    assert done.stderr.count("the renderer cannot be loaded (ImportError: libmissing") == 3
    assert "Traceback" not in done.stderr


def busy_parent(method: str, folder: Path, slow: bytes) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A process of its own session with two busy workers, and everything that runs below it."""
    path = write(folder, "slow.ipynb", slow)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, method, str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert parent.stdout
    assert parent.stdout.readline() == "two workers are busy\n"
    below = psutil.Process(parent.pid).children(recursive=True)
    assert len(below) >= 2
    return parent, below


def test_ctrl_c_ends_the_parent_and_all_workers_without_a_word(
    method: StartMethod, tmp_path: Path, slow: bytes
) -> None:
    parent, below = busy_parent(method, tmp_path, slow)
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=30)
    assert (parent.returncode, out, err) == (130, "", "")
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_a_parent_that_is_killed_leaves_no_worker_behind(method: StartMethod, tmp_path: Path, slow: bytes) -> None:
    parent, below = busy_parent(method, tmp_path, slow)
    parent.kill()
    alive = psutil.wait_procs(below, timeout=10)[1]
    out, err = parent.communicate(timeout=30)
    assert out == ""
    # multiprocessing's own word for a process whose parent went while it was being started
    assert err == "" or err.strip().endswith("EOFError: Ran out of input")
    assert alive == []


def holds_output(worker: psutil.Process) -> bool:
    """Whether a process has the marker of an output folder open."""
    for file in Path(f"/proc/{worker.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            if file.readlink().name == MARKER:
                return True
    return False


def test_a_killed_builder_frees_its_output_at_once(tmp_path: Path, slow: bytes) -> None:
    write(tmp_path, "slow.ipynb", slow)
    command = [sys.executable, "-m", "builder", str(tmp_path), "-j", "2"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (below := psutil.Process(first.pid).children()) and first.poll() is None:
        os.sched_yield()
    while any(holds_output(worker) for worker in below):
        os.sched_yield()  # a fork has everything open until it runs its first lines
    for worker in below:
        worker.suspend()
    first.kill()
    first.wait(30)
    (tmp_path / "slow.ipynb").unlink()
    write(tmp_path, "a.ipynb", notebook())
    report = build(tmp_path)
    for worker in below:
        worker.kill()
    assert report.built == 1


def test_nothing_leaks_from_pools_that_work_lose_workers_and_are_closed(method: StartMethod) -> None:
    def once() -> int:
        def jobs() -> Iterator[Job]:
            yield from map(job, "abc")
            workers()[0].kill()
            yield job("d")

        run(method, jobs())
        assert workers() == []
        return len(os.listdir("/proc/self/fd"))

    first = once()
    assert [once() for _ in range(3)] == [first] * 3


def test_the_number_of_workers_is_the_setting_or_the_cores_that_may_be_used() -> None:
    assert worker_count(3) == 3
    assert worker_count(0) == len(os.sched_getaffinity(0))


def test_spare_pools_are_used_again_kept_up_to_a_number_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Pool] = []
    close = Pool.close
    monkeypatch.setattr(Pool, "close", lambda pool, **how: (closed.append(pool), close(pool, **how))[1])
    spares = SparePools(1)
    with spares.pool() as first, spares.pool() as second:
        pass
    assert closed == [first], "given back when there was one already"
    with spares.pool() as third:
        pass
    assert third is second
    with pytest.raises(ZeroDivisionError), spares.pool() as third:
        raise ZeroDivisionError
    assert closed == [first, second], "nobody knows in what state it is"
    with spares.pool() as late:
        spares.close()
    assert closed == [first, second, late]
