"""Kernels that wait for readers with their cells run: which pages have some, and the thread that prepares them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import NbfolioError
from shim.kernels.gateway import GatewayError
from shim.kernels.patterns import matches_any
from shim.kernels.program import read_program
from shim.kernels.rehearsal import Rehearsal

if TYPE_CHECKING:
    from builder.catalog import LivePage
    from builder.settings import Kernels as Settings
    from shim.kernels.life import Life
    from shim.kernels.records import Record

logger = logging.getLogger("shim.kernels")

RETRY_SECONDS = 300.0
"""How long a page whose kernel could not be prepared is left alone, unless it changes."""
SOON_SECONDS = 15.0
"""The same when it was not the page's fault."""
MEMORY = Path("/proc/meminfo")


class WarmPool:
    """Keeps kernels ready; the thread that prepares them, one after the other, lives only while there is work."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._around = life.around
        self._settings: Settings = life.around.config.kernels
        self._failed: dict[tuple[str, str], float] = {}
        """Pages and versions to be left alone until a time."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._rehearsed: tuple[str, Rehearsal] | None = None
        """The kernel whose cells are being run."""
        self._kept: dict[str, Rehearsal] = {}
        """Of those whose cells were run, to notice when they begin anew."""

    def consider(self) -> None:
        """End what is warm for nothing, and begin to prepare what is missing; called by one thread alone."""
        site = self._around.site
        if not site.ready.is_set() or self._stopping.is_set():
            return
        pages = {page.path: page for page, _ in wanted(site.catalog, self._settings)}
        for kernel in self._life.table.kernels():
            program = kernel.record.program
            page = pages.get(program.path)
            if kernel.record.warm and (page is None or page.version != program.version):
                self._give_up(kernel.record.id, "The page has changed.")
        self._abort_if_gone()
        self._look_at_kept()
        if (self._thread is None or not self._thread.is_alive()) and self._next():
            self._thread = threading.Thread(target=self._fill, name="warm-kernels", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Prepare no more; what is ready has to be ended by others."""
        self._stopping.set()
        if now := self._rehearsed:
            now[1].abort()
        if self._thread:
            self._thread.join(timeout)
        for rehearsal in list(self._kept.values()):
            rehearsal.close()

    def _abort_if_gone(self) -> None:
        if (now := self._rehearsed) and self._life.table.get(now[0]) is None:
            now[1].abort()

    def _fill(self) -> None:
        while not self._stopping.is_set() and (page := self._next()):
            key = page.path, page.version
            try:
                self._prepare(page)
                self._failed.pop(key, None)
            except GatewayError as error:
                # Tried often, but told once.
                level = logging.DEBUG if key in self._failed or self._stopping.is_set() else logging.WARNING
                self._failed[key] = time.monotonic() + SOON_SECONDS
                logger.log(level, "No kernel of %r is kept ready: %s", page.path, error)
            except NbfolioError as error:
                self._failed[key] = time.monotonic() + RETRY_SECONDS
                level = logging.DEBUG if self._stopping.is_set() else logging.WARNING
                logger.log(level, "No kernel of %r is kept ready: %s", page.path, error)
            except Exception:
                self._failed[key] = time.monotonic() + RETRY_SECONDS
                logger.exception("No kernel of %r is kept ready.", page.path)

    def _prepare(self, page: LivePage) -> None:
        record = self._life.launch(page, read_program(self._around.config, page), for_reader=False)
        if self._stopping.is_set() or not self._life.table.add_warm(record):
            self._life.discard(record, "There is no room for it.")
            return
        try:
            self._rehearse(record)
        except Exception:
            if self._life.table.get(record.id) is None:
                # It was given up for a reader.
                return
            self._life.end(record.id, "Its cells could not be run ahead.")
            raise

    def _rehearse(self, record: Record) -> None:
        upstream = self._life.gateway(record).upstream(record.kernel, secrets.token_hex(16))
        rehearsal = Rehearsal(upstream, record.program.cells, tracebacks=self._settings.tracebacks)
        self._rehearsed = record.id, rehearsal
        ready = False
        try:
            if not self._stopping.is_set():
                ready = self._life.table.rehearsed(record.id, rehearsal.run())
        finally:
            self._rehearsed = None
            if ready:
                self._kept[record.id] = rehearsal
            else:
                rehearsal.close()

    def _look_at_kept(self) -> None:
        """End the kernels that began anew, for nothing of what they said holds any more; forget those given away."""
        for kernel_id, rehearsal in list(self._kept.items()):
            kernel = self._life.table.get(kernel_id)
            is_current = kernel is not None and rehearsal.is_current()
            if kernel and kernel.record.warm and is_current:
                continue
            del self._kept[kernel_id]
            rehearsal.close()
            if kernel and not is_current:
                # A reader may have got it a moment ago.
                self._life.table.restarted(kernel_id)
                self._give_up(kernel_id, "It began anew.")

    def _give_up(self, kernel_id: str, reason: str) -> None:
        """End a kernel unless it was given away, and leave its page alone for a moment."""
        if kernel := self._life.table.take_out_warm(kernel_id):
            program = kernel.record.program
            self._failed[program.path, program.version] = time.monotonic() + SOON_SECONDS
            self._life.discard(kernel.record, reason)

    def _next(self) -> LivePage | None:
        """The page for which a kernel should be prepared now."""
        if not self._life.table.has_room_for_warm() or free_megabytes() < self._settings.warm_min_free_mb:
            return None
        kernels = [kernel.record for kernel in self._life.table.kernels() if kernel.record.warm]
        if len(kernels) >= self._settings.warm_total:
            return None
        there = Counter(record.program.path for record in kernels)
        now = time.monotonic()
        missing = (
            page
            for page, count in wanted(self._around.site.catalog, self._settings)
            if there[page.path] < count and self._failed.get((page.path, page.version), 0.0) <= now
        )
        # Every page gets its first before any gets another one.
        return min(missing, key=lambda page: there[page.path], default=None)


def wanted(catalog: Mapping[str, LivePage], settings: Settings) -> Iterator[tuple[LivePage, int]]:
    """The pages that should have warm kernels and how many: as notebooks say, else one where the settings ask."""
    for page in catalog.values():
        count = page.warm or matches_any(settings.warm_paths, page.path)
        if count and page.published and not page.draft and page.live != "off" and not page.failure:
            yield page, int(count)


def free_megabytes() -> float:
    """Memory that can be had without swapping; without limit where the system does not say."""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return float("inf")
