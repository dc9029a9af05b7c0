"""Which process is the one that was started: ids are used again, so an id alone says nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shim.kernels.processes import MARK

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ENDED = (b"Z", b"X")
_STATE, _STARTED = 0, 19
"""Places in /proc/<pid>/stat behind the name, which may hold blanks and parentheses."""


@dataclass(frozen=True)
class Identity:
    """A process as no other one was or will be."""

    pid: int
    started: int
    """Ticks between the start of the system and its own."""
    boot: str
    """The run of the system."""


def identity_of(pid: int) -> Identity | None:
    """A process that runs; None when it ended, and on systems without /proc."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if fields[_STATE] not in _ENDED:
            return Identity(pid, int(fields[_STARTED]), _BOOT.read_text().strip())
    return None


def is_alive(identity: Identity) -> bool:
    """Whether this very process still runs."""
    return identity_of(identity.pid) == identity


def is_ours(identity: Identity, mark: str) -> bool:
    """Whether this very process still runs and carries the mark in its environment."""
    try:
        environ = Path(f"/proc/{identity.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    # Last, so that what was read is its own.
    return f"{MARK}={mark}".encode() in environ and is_alive(identity)
