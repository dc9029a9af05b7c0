"""How kernels begin and end at their gateways, whoever asked for it; the record goes before the deed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Condition, Event
from typing import TYPE_CHECKING

from shim.kernels.errors import NotReadyError
from shim.kernels.gateway import GatewayError, GatewayFullError, UnansweredStartError
from shim.kernels.gateways import EMBEDDED
from shim.kernels.records import Record, Records, Remains, new_id
from shim.kernels.table import Table
from shim.kernels.unpacked import working_folder
from shim.state import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from builder.catalog import LivePage
    from builder.config import Config
    from shim.background import BuildState
    from shim.kernels.gateway import Gateway
    from shim.kernels.gateways import Gateways
    from shim.kernels.program import Program
    from shim.kernels.relay import Relay
    from shim.metrics import Metrics

logger = logging.getLogger("shim.kernels")

ENDED = 4404
"""Close code of WebSockets whose kernel is gone for good."""
STOPPING = "The server is about to stop."
LATE_SECONDS = 600.0
"""How long a kernel whose start was not answered may still appear at its gateway."""
FULL_SECONDS = 15.0
"""How long no kernels are kept ready at a gateway that had no room for a reader's."""


@dataclass(frozen=True)
class Surroundings:
    """What kernels need of the rest of the server."""

    config: Config
    site: BuildState
    gateways: Gateways
    relay: Relay
    records: Records
    metrics: Metrics
    news: Event
    """Set when somebody should look after the kernels."""


class Life:
    """The kernels that run, with the means to start and end them. Methods may be called from any thread."""

    def __init__(self, around: Surroundings) -> None:
        self.table = Table(around.config.kernels)
        self.around = around
        self.stopping = False
        """Whether no kernel may start any more."""
        self._starts: set[str] = set()
        """Our ids of the kernels that are being started."""
        self._started = Condition()
        self._full_until: dict[str, float] = {}
        """By gateway, on the monotonic clock."""

    def launch(self, page: LivePage, program: Program, *, for_reader: bool) -> Record:
        """Start a kernel of a page that is nobody's yet, and not in the table; a reader waits for it, or nobody does.

        Raises NotReadyError, GatewayError, StateError, NotebookError.
        """
        gateway = self.around.gateways.choose(program.kernelspec, page.path, self.table.load())
        if not for_reader and time.monotonic() < self._full_until.get(gateway.name, 0.0):
            raise GatewayFullError("The gateway is full.")
        # Others do not know our folders.
        folder = working_folder(self.around.config, page) if gateway.name == EMBEDDED else None
        record = Record(new_id(), program, gateway.name, new_id(), time.time(), warm=True)
        with self._under_way(record.id):
            # However this ends, the kernel is known: to be deleted, until it is known to run.
            self.around.records.announce(record)
            record = replace(record, kernel=self._start(gateway, record, folder, for_reader))
            try:
                self.around.records.began(record)
            except StateError:
                self.erase(Remains(record.id, record.gateway, record.kernel))
                raise
            if self.stopping:
                self.discard(record, STOPPING)
                raise NotReadyError(STOPPING)
        return record

    def stop(self, seconds: float) -> None:
        """Start no kernel any more, and wait for those that are being started; what is left is for the next server."""
        with self._started:
            self.stopping = True
            self._started.wait_for(lambda: not self._starts, seconds)

    def remains(self) -> list[Remains]:
        """The kernels to be deleted at their gateways, without those that are being started. Raises StateError."""
        with self._started:
            return [remains for remains in self.around.records.remains() if remains.id not in self._starts]

    def gateway(self, record: Record) -> Gateway:
        """Where a kernel runs. Raises GatewayError when the settings do not have it any more."""
        gateway = self.around.gateways.named(record.gateway)
        if gateway is None:
            raise GatewayError("The kernel server of this page is not there any more.")
        return gateway

    def end(self, kernel_id: str, reason: str, *, later: bool = False) -> None:
        """End a kernel and close its connections; one that is not there is no error.

        `later`: it is deleted at its gateway as what could not be deleted at once is.
        """
        if kernel := self.table.remove(kernel_id):
            self.discard(kernel.record, reason, later=later)

    def discard(self, record: Record, reason: str, *, later: bool = False) -> None:
        """End a kernel that is not in the table any more."""
        logger.debug("A kernel of %s ended: %s", shown_page(record.program.path), reason)
        self.around.relay.close_kernel(record.id, ENDED, reason)
        self.around.records.end(record.id)
        if not later:
            self.erase(Remains(record.id, record.gateway, record.kernel))
        self.around.news.set()

    def gone(self, kernel_id: str, reason: str) -> None:
        """Forget a kernel that its gateway does not have any more."""
        if self.table.remove(kernel_id):
            self.around.relay.close_kernel(kernel_id, ENDED, reason)
            self.around.records.forget(kernel_id)
            self.around.news.set()

    def erase(self, remains: Remains, *, again: bool = False) -> None:
        """Delete a kernel at its gateway; if that cannot be done now it stays recorded for another time."""
        gateway = self.around.gateways.named(remains.gateway)
        if gateway:
            if not gateway.healthy:
                return
            try:
                was_there = gateway.delete(remains.kernel)
            except GatewayError as error:
                level = logging.DEBUG if again else logging.WARNING
                logger.log(level, "A kernel could not be deleted yet: %s", error)
                return
            if not was_there and time.time() < remains.asked + LATE_SECONDS:
                return
        self.around.records.forget(remains.id)

    def _start(self, gateway: Gateway, record: Record, folder: Path | None, for_reader: bool) -> str:
        """Have a kernel that was announced started; what its gateway calls it."""
        try:
            try:
                return gateway.start(record.program.kernelspec, folder, record.kernel)
            except GatewayFullError:
                self._full_until[gateway.name] = time.monotonic() + FULL_SECONDS
                spare = self.table.take_out_warm(at=gateway.name) if for_reader else None
                if spare is None:
                    raise
                self.discard(spare.record, "Its place is needed.")
                return gateway.start(record.program.kernelspec, folder, record.kernel)
        except UnansweredStartError:
            raise
        except GatewayError:
            self.around.records.forget(record.id)
            raise

    @contextmanager
    def _under_way(self, kernel_id: str) -> Iterator[None]:
        with self._started:
            if self.stopping:
                raise NotReadyError(STOPPING)
            self._starts.add(kernel_id)
        try:
            yield
        finally:
            with self._started:
                self._starts.discard(kernel_id)
                self._started.notify_all()


def shown_page(path: str) -> str:
    """The path of a page in a line of the log."""
    return repr(path) if path else "the root page"
