"""What all tests share: nothing a test starts may outlive it, and browser tests need a Chromium."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil
import pytest

import builder.slow_imports  # noqa: F401

GRACE_SECONDS = 5
"""How long threads and processes that were told to end may take to be gone."""


def find_chromium() -> str | None:
    """The Chromium or Chrome of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


LONGEST = (
    *(
        "live_browser",
        "kernels",
        "openapi",
        "storm",
        "shim_crash",
        "kernel_clients",
        "browser",
        "relay",
        "local_instances",
    ),
    *(
        "instances_browser",
        "instances_api",
        "kernel_attacks",
        "cluster_instances",
        "packaging",
        "crash",
        "workers",
        "proxy",
    ),
    *("execute", "embedded", "gateways", "login", "watch", "kernel_life", "kernel_limits", "kernel_routes", "admin"),
)
"""Files of tests, about in the order of how long they take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: one that starts last would be waited for alone."""
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem.removeprefix("test_"), len(place)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip browser tests where there is no browser; CI is expected to have one."""
    if item.get_closest_marker("browser") and not find_chromium():
        message = "no Chromium on PATH (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes as UTF-8; captured output with file names that are none must not end the run."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The program that tests marked `browser` start."""
    return find_chromium() or pytest.skip("no Chromium on PATH")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Fail a test that leaves threads, child processes or listening sockets behind.

    What fixtures of a wider scope started before the test is theirs to end.
    """
    threads = set(threading.enumerate())
    children = set(_children())
    listening = _listening()
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    left = [repr(thread) for thread in _running(set(threading.enumerate()) - threads, deadline)]
    _, alive = psutil.wait_procs(set(_children()) - children, timeout=max(0.0, deadline - time.monotonic()))
    left += [f"process {process.pid}: {_command(process)}" for process in alive]
    left += [f"listening socket {address}:{port}" for address, port in sorted(_listening() - listening)]
    assert not left, f"left behind by this test: {', '.join(left)}"


def _running(threads: set[threading.Thread], deadline: float) -> list[threading.Thread]:
    # Servers that fixtures keep for several tests get new requests at any time; they wait for them at their end.
    threads = {thread for thread in threads if not thread.name.startswith("stand-in")}
    for thread in threads:
        # Those that are about to start are listed, too, and cannot be waited for.
        with suppress(RuntimeError):
            thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _children(of: int | None = None) -> list[psutil.Process]:
    """All processes below this one, without the two helpers that multiprocessing keeps for as long as Python runs."""
    helpers = (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    found: list[psutil.Process] = []
    # psutil would read the state of every process of the machine, before and after each test
    for task in Path(f"/proc/{of or os.getpid()}/task").glob("*/children"):
        with suppress(OSError, psutil.NoSuchProcess):
            for pid in map(int, task.read_text().split()):
                if pid not in helpers:
                    found += [psutil.Process(pid), *_children(pid)]
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "gone by now"


def _listening() -> set[tuple[str, int]]:
    connections = psutil.Process().net_connections(kind="inet")
    return {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
