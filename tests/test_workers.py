"""Renderer processes that answer, die, hang, cannot start, or lose their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest
from making import code, display, markdown, notebook, png64, stream

from builder.page import PageOptions
from builder.workers import Job, Pool, Result, StartMethod, worker_count

METHODS: tuple[StartMethod, ...] = ("fork", "forkserver")
SLOW = "a *b " * 400_000
"""Markdown that keeps a renderer busy for much longer than a test needs to stop it."""


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> StartMethod:
    """Both ways to start workers."""
    return cast(StartMethod, request.param)


def job(path: str, data: bytes | None = None) -> Job:
    """A job for a small notebook with its path as text."""
    return Job(path, notebook_bytes(path) if data is None else data, PageOptions(name=path))


def notebook_bytes(text: str) -> bytes:
    return json.dumps(notebook(markdown(f"# {text}"), code("1", stream(text)))).encode()


def bodies(results: Iterator[tuple[Job, Result]]) -> dict[str, str]:
    """Path to HTML, or to the failure."""
    return {done.path: result.body.html if result.body else f"failed: {result.failure}" for done, result in results}


def children() -> set[int]:
    """The worker processes there are now: children of this process and of its fork server, without the servers."""
    from multiprocessing import forkserver, resource_tracker

    helpers = (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    return {process.pid for process in psutil.Process().children(recursive=True) if process.pid not in helpers}


class stopped:  # noqa: N801
    """A pool in which every worker is held with SIGSTOP as soon as it has a job, so that what happens then is no race."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
