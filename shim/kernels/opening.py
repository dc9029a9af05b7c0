"""What the relay has to know of a client and a kernel that are to talk with each other."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shim.kernels.filter import Filter


@dataclass(frozen=True)
class Upstream:
    """The WebSocket of a kernel at its gateway."""

    url: str
    """ws or wss, with the query."""
    headers: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Opening:
    """Everything to know about one client; all functions but `holds` run on the relay's thread and must not block."""

    kernel: str
    """Groups connections."""
    key: str
    """Of the client's handshake."""
    protocols: tuple[str, ...]
    """Sub-protocols that the client knows."""
    upstream: Upstream
    new_filter: Callable[[bool], Filter]
    """Called once the gateway has answered, with whether it speaks framing v1."""
    opened: Callable[[], None]
    closed: Callable[[], None]
    """Called once for every opening that was given to `Relay.open`, whatever happened."""
    state: Callable[[str], None]
    """Called with each execution state of the kernel, and with "" when the client said something to it."""
    label: str = ""
    """What the log calls it."""
    holds: Callable[[bool], bool] | None = None
    """Whether the client is still logged in, called now and then with whether it sent something since the last time;
    None for one that cannot be logged out."""
