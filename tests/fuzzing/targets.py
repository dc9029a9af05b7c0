"""All targets by name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from fuzzing import archives, configuration, kernel_messages, paths, requests, routes, uploads
from fuzzing.engine import Open, Outcome, run

TARGETS: dict[str, Open] = {
    "paths": paths.target,
    "requests": requests.target,
    "multipart": uploads.target,
    "zip": archives.target,
    "configuration": configuration.target,
    "routes": routes.target,
    "kernel-messages": kernel_messages.target,
}


def fuzz(name: str, seed: int, numbers: Iterable[int], seconds: float | None = None) -> Outcome:
    """Run one target in a folder of its own, in memory where there is such a place."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="nbfolio-fuzz-", dir=place) as folder,
        TARGETS[name](Path(folder)) as target,
    ):
        return run(target, name, seed, numbers, seconds)
