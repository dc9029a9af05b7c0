"""How many connections there may be at a time: each is an open file, and the system allows only so many."""

from __future__ import annotations

import resource
from typing import NamedTuple

OTHER_FILES = 256
"""Open files that connections leave to everything else."""
MOST_REQUESTS = 2000
MOST_WEBSOCKETS = 10_000


class Capacity(NamedTuple):
    """Connections that the open files of this process are enough for, all at the same time."""

    requests: int
    """Connections of clients of the web server; one file each."""
    websockets: int
    """WebSockets of kernels; two files each, for the client and for the gateway."""


def capacity() -> Capacity:
    """What there may be under the limit that holds now; requests get half of it, as far as they need that."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Capacity(MOST_REQUESTS, MOST_WEBSOCKETS)
    files = max(soft - OTHER_FILES, soft // 2)
    requests = min(MOST_REQUESTS, files // 2)
    return Capacity(requests, min(MOST_WEBSOCKETS, (files - requests) // 2))
