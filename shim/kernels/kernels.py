"""Kernels of pages, for the readers of those: start one, find it again, interrupt it, end it, talk to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import ChangedError
from shim.identity import wants_logins
from shim.kernels.channels import Handshake, opening
from shim.kernels.errors import (
    BusyError,
    NotLiveError,
    NotReadyError,
    OccupiedError,
    SocketsError,
    StalePageError,
    UnknownKernelError,
    UnknownPageError,
)
from shim.kernels.gateway import GatewayBusyError, GatewayError
from shim.kernels.life import STOPPING, Life
from shim.kernels.parameters import with_parameters
from shim.kernels.program import Program, read_program
from shim.kernels.records import Label, Record
from shim.kernels.table import MOST_SOCKETS, Kernel
from shim.state import StateError

if TYPE_CHECKING:
    import socket

    from builder.catalog import LivePage
    from shim.kernels.callers import Caller

MOST_CALLS = 8
"""Requests of readers that wait for gateways at a time, besides starts: each holds a worker of the web server."""
CHANGED = "The page was updated; reload it."
DELETED = "The kernel was deleted."
GONE = "There is no such kernel; it may have ended."


@dataclass(frozen=True)
class Wanted:
    """What a client asks for."""

    paths: tuple[str, ...]
    """The pages it can mean, the likeliest first."""
    query: str = ""
    """That of the page's address, with parameters of the notebook."""
    version: str = ""
    """Of the page that it shows; "" when it does not say."""
    label: Label | None = None
    """For a session: what the client calls it."""


class Kernels:
    """All kernels of a site and the ways to use them; knows nothing of HTTP. Methods may be called from any thread.

    Nothing that clients send reaches a gateway: starts are made of the notebook, all else of our own record.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._table = life.table
        self._around = life.around
        self._owned = wants_logins(life.around.config)
        self._calls = threading.BoundedSemaphore(MOST_CALLS)

    def start(self, caller: Caller, wanted: Wanted) -> Kernel:
        """A kernel of a page for a caller, a warm one if there is one.

        Raises UnknownPageError, NotLiveError, StalePageError, ParameterError, NotebookError, BusyError, NotReadyError,
        GatewayError, StateError.
        """
        page = self._page(wanted)
        if place := self._table.admit(caller):
            self._around.metrics.kernel_start("busy")
            raise _busy(place)
        try:
            return self._promised(caller, wanted, page)
        except GatewayBusyError:
            self._around.metrics.kernel_start("busy")
            raise _busy(self._table.wait(caller)) from None
        except (GatewayError, StateError):
            self._around.metrics.kernel_start("failed")
            raise

    def kernel(self, caller: Caller, kernel_id: str) -> Kernel:
        """The kernel of an id. Raises UnknownKernelError, also for that of somebody else."""
        return self._checked(caller, self._table.get(kernel_id))

    def kernels(self, caller: Caller) -> list[Kernel]:
        """The kernels that were started under the same login or token, or in the same visit of a page."""
        return [kernel for kernel in self._table.kernels() if not kernel.record.warm and self._shows(caller, kernel)]

    def session(self, caller: Caller, session_id: str) -> Kernel:
        """The kernel of a session. Raises UnknownKernelError."""
        found = (one for one in self._table.kernels() if one.record.label and one.record.label.id == session_id)
        return self._checked(caller, next(found, None))

    def rename(self, caller: Caller, session_id: str, **names: str) -> Kernel:
        """Change the path, name or type by which a client knows a session. Raises UnknownKernelError, StateError."""
        record = self.session(caller, session_id).record
        assert record.label
        record = replace(record, label=replace(record.label, **names))
        self._around.records.keep(record)
        self._table.relabel(record)
        return self.kernel(caller, record.id)

    def interrupt(self, caller: Caller, kernel_id: str) -> None:
        """Interrupt what a kernel does. Raises UnknownKernelError, OccupiedError, GatewayError."""
        record = self.kernel(caller, kernel_id).record
        with self._call():
            self._life.gateway(record).interrupt(record.kernel)

    def restart(self, caller: Caller, kernel_id: str) -> Kernel:
        """Begin a kernel anew, with the same cells. Raises UnknownKernelError, OccupiedError, GatewayError."""
        record = self.kernel(caller, kernel_id).record
        with self._call():
            if not self._table.begin_restart(record.id):
                raise OccupiedError("The kernel is being restarted already; wait for that.")
            try:
                self._life.gateway(record).restart(record.kernel)
            finally:
                self._table.end_restart(record.id)
        return self.kernel(caller, kernel_id)

    def delete(self, caller: Caller, kernel_id: str) -> None:
        """End a kernel. Raises UnknownKernelError; a gateway that does not answer is asked again later."""
        record = self.kernel(caller, kernel_id).record
        try:
            with self._call():
                self._life.end(record.id, DELETED)
        except OccupiedError:
            self._life.end(record.id, DELETED, later=True)

    def opening(self, caller: Caller, kernel_id: str, handshake: Handshake) -> Callable[[socket.socket], None]:
        """What takes over the connection of a client that may talk to a kernel.

        Raises UnknownKernelError, SocketsError, GatewayError.
        """
        kernel = self.kernel(caller, kernel_id)
        if self._life.stopping or kernel.sockets >= MOST_SOCKETS or not self._around.relay.has_room():
            raise SocketsError("There are too many connections; try again later.")
        opened = opening(self._life, kernel.record, handshake)

        def take_over(connection: socket.socket) -> None:
            if self._table.attach(kernel_id):
                self._around.relay.open(connection, opened)
            else:
                connection.close()

        return take_over

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Around what a gateway is asked for a reader. Raises OccupiedError."""
        if not self._calls.acquire(blocking=False):
            raise OccupiedError("The kernel server has much to do; try again later.")
        try:
            yield
        finally:
            self._calls.release()

    def _page(self, wanted: Wanted) -> LivePage:
        site = self._around.site
        catalog = site.catalog
        page = next((page for path in wanted.paths if (page := catalog.get(path))), None)
        if page is None or not (page.published or page.draft):
            if not site.ready.is_set():
                raise NotReadyError("The site is being built.")
            raise UnknownPageError("There is no notebook of that path.")
        if page.draft or page.live == "off":
            raise NotLiveError("This page has no live cells.")
        if wanted.version not in ("", page.version):
            raise StalePageError(CHANGED)
        return page

    def _promised(self, caller: Caller, wanted: Wanted, page: LivePage) -> Kernel:
        """The kernel for a caller whom the table let in."""

        def claimed(record: Record) -> Record:
            return replace(
                record,
                owner=caller.owner,
                session=caller.session,
                address=caller.address,
                label=wanted.label,
                started=time.time(),
                warm=False,
            )

        try:
            program = self._program(page, wanted.query)
            warm = self._table.take(program, claimed)
            record = warm.record if warm else claimed(self._new(page, program))
        except BaseException:
            self._table.release(caller.address)
            raise
        if not warm:
            self._table.add(record, promised=True)
        self._around.metrics.kernel_start("warm" if warm else "ok")
        return self._kept(record)

    def _new(self, page: LivePage, program: Program) -> Record:
        if surplus := self._table.surplus():
            self._life.discard(surplus.record, "Its place is needed.")
        return self._life.launch(page, program, for_reader=True)

    def _kept(self, record: Record) -> Kernel:
        """Keep whose a kernel is; and end it if the server has begun to stop meanwhile."""
        try:
            self._around.records.keep(record)
        except StateError:
            self._life.end(record.id, "It could not be recorded.")
            raise
        self._around.news.set()
        if self._life.stopping:
            self._life.end(record.id, STOPPING)
        kernel = self._table.get(record.id)
        if kernel is None:
            raise NotReadyError(STOPPING)
        return kernel

    def _program(self, page: LivePage, query: str) -> Program:
        try:
            return with_parameters(read_program(self._around.config, page), query)
        except ChangedError as error:
            raise StalePageError(str(error)) from None

    def _checked(self, caller: Caller, kernel: Kernel | None) -> Kernel:
        if kernel is None or kernel.record.warm or (self._owned and kernel.record.owner != caller.owner):
            raise UnknownKernelError(GONE)
        return kernel

    def _shows(self, caller: Caller, kernel: Kernel) -> bool:
        owner, session = kernel.record.owner, kernel.record.session
        if self._owned:
            return owner == caller.owner
        return bool((owner and owner == caller.owner) or (session and session == caller.session))


def _busy(place: int) -> BusyError:
    return BusyError("All kernels are in use; you are in the line for the next one.", place)
