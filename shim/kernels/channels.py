"""What the relay needs to connect a client with a kernel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from shim.kernels.filter import Filter, Questions, Recording, Up
from shim.kernels.life import Life, shown_page
from shim.kernels.opening import Opening

if TYPE_CHECKING:
    from shim.kernels.messages import Payload
    from shim.kernels.records import Record
    from shim.metrics import Metrics


@dataclass(frozen=True)
class Handshake:
    """What a client said when it asked for a WebSocket."""

    key: str
    protocols: tuple[str, ...]
    session: str
    """What it calls itself; of two with the same name the gateway closes the first. "" for a name of our own."""
    holds: Callable[[bool], bool] | None = None
    """As in `Opening`."""


class CountingFilter(Filter):
    """Counts the messages it refuses."""

    def __init__(
        self,
        cells: Sequence[str | None],
        *,
        v1: bool,
        tracebacks: bool,
        recording: Recording | None = None,
        questions: Questions | None = None,
        metrics: Metrics,
    ) -> None:
        super().__init__(cells, v1=v1, tracebacks=tracebacks, recording=recording, questions=questions)
        self._metrics = metrics

    def up(self, payload: Payload) -> Up:
        """Judge a message of the reader."""
        up = super().up(payload)
        if up.note:
            self._metrics.kernel_message_refused()
        return up


def opening(life: Life, record: Record, handshake: Handshake) -> Opening:
    """A connection to a kernel; the table has to be told of it before it is opened. Raises GatewayError."""
    tracebacks, metrics = life.around.config.kernels.tracebacks, life.around.metrics

    def new_filter(v1: bool) -> Filter:
        return CountingFilter(
            record.program.cells,
            v1=v1,
            tracebacks=tracebacks,
            recording=life.table.recording(record.id),
            questions=life.table.questions(record.id, handshake.session),
            metrics=metrics,
        )

    def closed() -> None:
        life.table.detach(record.id)
        life.around.news.set()

    return Opening(
        kernel=record.id,
        key=handshake.key,
        protocols=handshake.protocols,
        upstream=life.gateway(record).upstream(record.kernel, upstream_session(record.id, handshake.session)),
        new_filter=new_filter,
        opened=lambda: None,
        closed=closed,
        state=lambda state: life.table.heard(record.id, state),
        label=f"a kernel of {shown_page(record.program.path)}",
        holds=handshake.holds,
    )


def upstream_session(kernel_id: str, session: str) -> str:
    """By what name a gateway knows a client: the same for the same client, so that it gets what it missed meanwhile.

    Our id goes into it, so nobody can take the place of a client of another kernel.
    """
    return sha256(f"{kernel_id} {session or secrets.token_hex(16)}".encode()).hexdigest()[:32]
