"""Runs one target for many inputs: each is made from its own number, so every finding can be made again by itself."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NamedTuple
from zlib import crc32

CPU_SECONDS = 10.0
"""More work than this for one input is a finding; processor time, so a busy machine makes none."""
MOST_FINDINGS = 20
LONGEST = 3000
"""Characters of an input in a report."""


class Target(NamedTuple):
    """Something that takes input from outside; `check` raises for whatever must not happen."""

    make: Callable[[Random], Any]
    check: Callable[[Any], None]


Open = Callable[[Path], AbstractContextManager[Target]]
"""Sets a target up; the folder is empty and its own."""


class HangError(Exception):
    """Raised where one input takes too long."""


@dataclass
class Finding:
    """One place in the code that fails, with the first input that made it."""

    number: int
    where: str
    trace: str
    shown: str
    count: int = 1


@dataclass
class Outcome:
    """What a run of one target came to."""

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    """Processor seconds of the input that took longest."""
    slowest_number: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)


def run(target: Target, name: str, seed: int, numbers: Iterable[int], seconds: float | None = None) -> Outcome:
    """Try the inputs with these numbers, for at most so many seconds."""
    outcome, random, began = Outcome(), Random(), time.perf_counter()
    base = (seed << 64) + (crc32(name.encode()) << 32)
    for number in numbers:
        random.seed(base + number)
        made: Any = None
        before = time.process_time()
        try:
            with _bounded():
                made = target.make(random)
                target.check(made)
        except Exception as error:
            _add(outcome, number, error, made)
            if len(outcome.findings) >= MOST_FINDINGS:
                break
        outcome.inputs += 1
        taken = time.process_time() - before
        if taken > outcome.slowest:
            outcome.slowest, outcome.slowest_number = taken, number
        if seconds is not None and time.perf_counter() - began > seconds:
            break
    outcome.seconds = time.perf_counter() - began
    return outcome


def _add(outcome: Outcome, number: int, error: Exception, made: Any) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
    if known := outcome.findings.get(where):
        known.count += 1
        return
    try:
        text = repr(made)
    except (ValueError, RecursionError):
        text = "cannot be shown"
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"
    trace = "".join(traceback.format_exception(error, limit=-8))[-LONGEST:]
    outcome.findings[where] = Finding(number, where, trace, shown)


@contextmanager
def _bounded() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"more than {CPU_SECONDS:.0f} seconds of processor time for one input")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
