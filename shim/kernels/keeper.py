"""Looks after kernels: ends those whose time is over, notices those that are gone, and finishes what failed before."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from shim.kernels.gateway import LOST_AFTER, GatewayError
from shim.kernels.gateways import EMBEDDED
from shim.kernels.life import STOPPING
from shim.kernels.unpacked import tidy
from shim.state import StateError

if TYPE_CHECKING:
    from shim.kernels.gateway import Gateway
    from shim.kernels.life import Life
    from shim.kernels.records import Record
    from shim.kernels.table import Kernel
    from shim.kernels.warm import WarmPool

logger = logging.getLogger("shim.kernels")

PROBE_SECONDS = 10.0
"""How often gateways are asked how they are."""
STOP_SECONDS = 5.0
"""How long starts under way may take at the end, and then the deletion of all kernels."""
AT_ONCE = 16

GONE = "The kernel ended."
LOST = "The gateway of the kernel does not answer any more."
UNPUBLISHED = "The page is not published any more."


class Keeper:
    """One thread that looks after all kernels of a site; `start` and `stop` are called once each."""

    def __init__(self, life: Life, warm: WarmPool) -> None:
        self._life = life
        self._around = life.around
        self._warm = warm
        self._next_probe = 0.0
        self._troubles: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kernel-keeper", daemon=True)

    def start(self) -> None:
        """Take over the kernels that a server before this one left, and begin."""
        try:
            for record in self._around.records.running():
                self._adopt(record)
        except StateError as error:
            logger.error("The kernels of the last run are not known: %s", error)
        self._thread.start()

    def stop(self) -> None:
        """End all kernels, in bounded time; those whose gateway does not answer stay recorded for the next start."""
        self._life.stopping = True
        self._stopping.set()
        self._around.news.set()
        self._thread.join(STOP_SECONDS)
        self._warm.stop()
        self._life.stop(STOP_SECONDS)
        calls = [partial(self._last, kernel.record) for kernel in self._life.table.kernels()]
        at_once(calls, STOP_SECONDS)

    def _last(self, record: Record) -> None:
        if record.gateway == EMBEDDED:
            # Our own server ends all of its kernels at once.
            self._life.gone(record.id, STOPPING)
        else:
            self._life.end(record.id, STOPPING)

    def _adopt(self, record: Record) -> None:
        if record.gateway == EMBEDDED:
            # It ended with the server.
            self._around.records.forget(record.id)
        elif record.warm:
            self._around.records.end(record.id)
        else:
            self._life.table.add(record, promised=False)

    def _run(self) -> None:
        self._guarded(lambda: tidy(self._around.config))
        while not self._stopping.is_set():
            self._around.news.clear()
            self._guarded(self._look)
            wait = min(self._life.table.seconds_left(), self._next_probe - time.monotonic())
            self._around.news.wait(max(wait, 0.05))

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever happens, the thread goes on; one and the same trouble is told once."""
        try:
            work()
        except Exception as error:
            if repr(error) not in self._troubles:
                self._troubles.add(repr(error))
                logger.exception("Something went wrong while kernels were looked after.")

    def _look(self) -> None:
        at_once([partial(self._life.end, *due) for due in self._life.table.due()])
        self._unpublished()
        if time.monotonic() >= self._next_probe:
            self._next_probe = time.monotonic() + PROBE_SECONDS
            self._around.gateways.probe()
            self._reconcile()
            self._finish()
        self._warm.consider()

    def _unpublished(self) -> None:
        """End the kernels of pages that are not live any more; a page that was changed keeps the kernels it had."""
        site = self._around.site
        catalog = site.catalog
        if not site.ready.is_set():
            return
        for kernel in self._life.table.kernels():
            page = catalog.get(kernel.record.program.path)
            if page is None or page.draft or page.live == "off":
                self._life.end(kernel.record.id, UNPUBLISHED)

    def _reconcile(self) -> None:
        """Notice what became of kernels at their gateways."""
        by_gateway = defaultdict(list)
        for kernel in self._life.table.kernels():
            by_gateway[kernel.record.gateway].append(kernel)
        for name, kernels in by_gateway.items():
            gateway = self._around.gateways.named(name)
            if gateway is None or gateway.failed >= LOST_AFTER:
                for kernel in kernels:
                    self._life.end(kernel.record.id, LOST)
            elif gateway.healthy:
                self._missing(gateway, kernels)

    def _missing(self, gateway: Gateway, kernels: Iterable[Kernel]) -> None:
        try:
            there = gateway.kernels()
            for kernel in kernels:
                theirs = kernel.record.kernel
                if (theirs not in there) if there is not None else (gateway.state(theirs) is None):
                    self._life.gone(kernel.record.id, GONE)
        except GatewayError as error:
            logger.debug("%s could not be asked for its kernels: %s", gateway.name, error)

    def _finish(self) -> None:
        """Delete what could not be deleted before."""
        at_once([partial(self._life.erase, remains, again=True) for remains in self._life.remains()])


def at_once(calls: Iterable[Callable[[], object]], seconds: float | None = None) -> None:
    """Make some calls, several at a time; return when all are done, or after `seconds`."""
    waiting = deque(calls)

    def work() -> None:
        while True:
            try:
                call = waiting.popleft()
            except IndexError:
                return
            try:
                call()
            except Exception:
                logger.exception("A kernel could not be ended.")

    # Not those of an executor: Python would wait for them at its end, and a gateway that hangs is no reason to.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(waiting), AT_ONCE))]
    end = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(None if end is None else max(0.0, end - time.monotonic()))
