"""How kernels begin and end at their gateways, whoever asked for it; the record goes before the deed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from shim.kernels.gateway import GatewayError
from shim.kernels.gateways import EMBEDDED
from shim.kernels.records import Record, Records, Remains, new_id
from shim.kernels.table import Table
from shim.kernels.unpacked import working_folder
from shim.state import StateError

if TYPE_CHECKING:
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

    def launch(self, page: LivePage, program: Program) -> Record:
        """Start a kernel of a page that is nobody's yet, and not in the table.

        Raises GatewayError, StateError, NotebookError.
        """
        gateway = self.around.gateways.choose(program.kernelspec, page.path, self.table.load())
        # Others do not know our folders.
        folder = working_folder(self.around.config, page) if gateway.name == EMBEDDED else None
        kernel = gateway.start(program.kernelspec, folder)
        record = Record(new_id(), program, gateway.name, kernel, time.time(), warm=True)
        try:
            self.around.records.keep(record)
        except StateError:
            self.erase(Remains(record.id, record.gateway, record.kernel))
            raise
        return record

    def gateway(self, record: Record) -> Gateway:
        """Where a kernel runs. Raises GatewayError when the settings do not have it any more."""
        gateway = self.around.gateways.named(record.gateway)
        if gateway is None:
            raise GatewayError("The kernel server of this page is not there any more.")
        return gateway

    def end(self, kernel_id: str, reason: str) -> None:
        """End a kernel and close its connections; one that is not there is no error."""
        if kernel := self.table.remove(kernel_id):
            self.discard(kernel.record, reason)

    def discard(self, record: Record, reason: str) -> None:
        """End a kernel that is not in the table any more."""
        logger.debug("A kernel of %s ended: %s", shown_page(record.program.path), reason)
        self.around.relay.close_kernel(record.id, ENDED, reason)
        self.around.records.end(record.id)
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
                gateway.delete(remains.kernel)
            except GatewayError as error:
                level = logging.DEBUG if again else logging.WARNING
                logger.log(level, "A kernel could not be deleted yet: %s", error)
                return
        self.around.records.forget(remains.id)


def shown_page(path: str) -> str:
    """The path of a page in a line of the log."""
    return repr(path) if path else "the root page"
