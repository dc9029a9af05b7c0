"""What is kept of kernels: a server that was killed finds those that still run, and ends what it no longer wants."""

from __future__ import annotations

import json
import logging
import secrets
import uuid
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from shim.kernels.program import Program
from shim.state import State, StateError

logger = logging.getLogger("shim.kernels")


def new_id() -> str:
    """An id that nobody can guess: where nobody logs in, it is all that keeps others out."""
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))


@dataclass(frozen=True)
class Label:
    """What a client calls the session of a kernel; the server only repeats it."""

    id: str
    """Ours."""
    path: str
    name: str
    type: str


@dataclass(frozen=True)
class Record:
    """One kernel: whose it is, what it may run, and where it runs."""

    id: str
    """Ours, and a secret where nobody logs in: whoever has it may use the kernel."""
    program: Program
    gateway: str
    kernel: str
    """What the gateway calls it; clients are never told."""
    started: float
    """Seconds since 1970."""
    owner: str = ""
    session: str = ""
    address: str = ""
    label: Label | None = None
    warm: bool = False
    """Whether it waits for its first reader."""


class Remains(NamedTuple):
    """A kernel that is to be deleted at its gateway."""

    id: str
    gateway: str
    kernel: str
    asked: float = 0.0
    """When its start was asked for, in seconds since 1970, if nobody knows what became of that."""


class Records:
    """The kernels of one server in its state; see `shim.state`. Every method may be called from any thread."""

    def __init__(self, state: State) -> None:
        self._state = state

    def announce(self, record: Record) -> None:
        """Keep of a kernel whose start is about to be asked for that it is to be deleted. Raises StateError."""
        self._state.write(
            "INSERT INTO kernels VALUES (?, ?, ?, 1, ?)",
            (record.id, record.gateway, record.kernel, json.dumps(asdict(record))),
        )

    def began(self, record: Record) -> None:
        """Keep the record of a kernel that was announced and has started. Raises StateError."""
        self._state.write(
            "UPDATE kernels SET kernel = ?, ended = 0, record = ? WHERE id = ?",
            (record.kernel, json.dumps(asdict(record)), record.id),
        )

    def keep(self, record: Record) -> None:
        """Keep what has changed in a record, unless its kernel was ended meanwhile. Raises StateError."""
        self._state.write(
            "UPDATE kernels SET record = ? WHERE id = ? AND NOT ended", (json.dumps(asdict(record)), record.id)
        )

    def end(self, kernel_id: str) -> None:
        """Keep of a kernel only that it is to be deleted."""
        self._try("UPDATE kernels SET ended = 1, record = '' WHERE id = ?", kernel_id)

    def forget(self, kernel_id: str) -> None:
        """Keep nothing of a kernel."""
        self._try("DELETE FROM kernels WHERE id = ?", kernel_id)

    def running(self) -> list[Record]:
        """All kernels that were not ended; what cannot be read counts as ended. Raises StateError."""
        rows = self._state.read("SELECT id, record FROM kernels WHERE NOT ended")
        found = []
        for kernel_id, text in rows:
            try:
                found.append(_record(json.loads(text)))
            except (ValueError, TypeError, KeyError):
                self.end(kernel_id)
        return found

    def remains(self) -> list[Remains]:
        """All kernels that were ended and are not deleted yet. Raises StateError."""
        rows = self._state.read("SELECT id, gateway, kernel, record FROM kernels WHERE ended")
        # Of those that were ended after they had begun no record is kept.
        return [
            Remains(kernel_id, gateway, kernel, json.loads(text)["started"] if text else 0.0)
            for kernel_id, gateway, kernel, text in rows
        ]

    def _try(self, sql: str, kernel_id: str) -> None:
        # The kernel ends all the same; at worst a dead record is looked at once more.
        try:
            self._state.write(sql, (kernel_id,))
        except StateError as error:
            logger.error("%s", error)


def _record(fields: dict[str, Any]) -> Record:
    program = fields.pop("program")
    program["cells"] = tuple(program["cells"])
    label = fields.pop("label")
    return Record(program=Program(**program), label=Label(**label) if label else None, **fields)
