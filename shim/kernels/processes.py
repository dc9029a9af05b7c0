"""Processes that belong together: they carry the same mark in their environment, whatever became of their parents."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "KERNEL_HOST_ID"
"""The variable with the mark."""

_PAUSE = 0.02


def marked(mark: str) -> list[int]:
    """The process ids that carry a mark; none on systems without /proc."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended just now, or is somebody else's
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def end_marked(mark: str, seconds: float = 2.0) -> None:
    """Kill the processes that carry a mark, and those they start meanwhile; wait up to `seconds` for their end."""
    deadline = time.monotonic() + seconds
    while pids := marked(mark):
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE)
