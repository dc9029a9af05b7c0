"""What an instance on this machine may use; the launcher of its server sets it, and all its processes inherit it.

Memory is RLIMIT_DATA: what a process has of its own and may write (heap, stacks, anonymous memory). RLIMIT_AS would
also count what libraries map and only reserve, which is many times what they use, so that sound programs would fail. It
is a limit of one process: an instance with three kernels may use three times as much. Processors are an affinity, which
stops nobody who sets another one on purpose. Control groups have neither gap, and only administrators may make them.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal

HAS_AFFINITY = hasattr(os, "sched_setaffinity")
HAS_DATA_LIMIT = sys.platform == "linux"
"""Elsewhere RLIMIT_DATA knows the heap alone, which no allocator of today uses."""


@dataclass(frozen=True)
class Limits:
    """The limits of each process of an instance."""

    memory: int
    """Bytes; 0: no limit."""
    cores: tuple[int, ...]
    """Numbers of processors; none: all."""


def cores_for(cpu: Decimal, available: Collection[int], used: Iterable[int]) -> tuple[int, ...]:
    """The processors for an instance that asked for `cpu`, rounded up: the least used ones; none when it is all."""
    count = math.ceil(cpu)
    if count >= len(available):
        return ()
    uses = Counter(used)
    return tuple(sorted(sorted(available, key=lambda core: (uses[core], core))[:count]))


def available_cores() -> frozenset[int]:
    """The processors that this process may use; none where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if HAS_AFFINITY else frozenset()


def apply(limits: Limits) -> None:
    """Limit this process and all that it starts. Raises OSError or ValueError."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory and HAS_DATA_LIMIT:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        memory = limits.memory if most == resource.RLIM_INFINITY else min(limits.memory, most)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # Processors may have been taken away since they were chosen.
    if cores := set(limits.cores) & available_cores():
        os.sched_setaffinity(0, cores)


def what_is_limited() -> str:
    """What is limited on this system and what is not, for the log."""
    limited = [
        *(["memory for each of their processes"] if HAS_DATA_LIMIT else []),
        *(["processors in whole ones"] if HAS_AFFINITY else []),
    ]
    free = [
        *([] if HAS_DATA_LIMIT else ["memory"]),
        *([] if HAS_AFFINITY else ["processors"]),
        *(["the memory of all their processes together"] if HAS_DATA_LIMIT else []),
        "disk space",
    ]
    begin = (
        f"Notebook instances run on this machine with limits on {' and '.join(limited)}"
        if limited
        else ("Notebook instances run on this machine without limits")
    )
    return f"{begin}; nothing limits {', '.join(free[:-1])} and {free[-1]}."
