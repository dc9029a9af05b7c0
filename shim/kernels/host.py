"""The process that runs the kernels of a site which names no gateway; it ends when run-shim ends, however that ends.

`shim.kernels.embedded` starts it as `python -m shim.kernels.host`. One line of JSON on standard input says what to do
(`Orders`); standard input stays open from then on, and its end is the sign to kill all kernels and to end. Standard
output and standard error are one pipe: READY once requests are answered, and warnings, one line each.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass

from shim.kernels.processes import MARK, end_marked

READY = "ready"
LONGEST_ORDERS = 4096
END_SECONDS = 4.0
"""How long kernels may take to end properly."""


@dataclass(frozen=True)
class Orders:
    """What a host is told at its start."""

    token: str
    """What requests have to carry."""
    socket: int
    """File descriptor of the listening socket."""
    folder: str
    """A private folder for connection files; the host removes it at its end."""
    mark: str
    """What tells the processes of its kernels from all others."""


class Ending:
    """The end of a host: properly at first, and by force when that takes too long."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._stop: Callable[[], object] | None = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def announce(self, stop: Callable[[], object]) -> None:
        """`stop` is called in a thread when the end has come."""
        self._stop = stop

    def finish(self) -> None:
        """Kill what is left of the kernels, and end the process at once: no thread of a library may keep it."""
        end_marked(self._orders.mark)
        shutil.rmtree(self._orders.folder, ignore_errors=True)
        os._exit(0)

    def done(self) -> None:
        """All kernels ended properly."""
        self._over.set()

    def _watch(self) -> None:
        # A thread, so that whatever holds up the event loop does not hold up the end.
        while os.read(0, 1024):
            pass
        if self._stop:
            self._stop()
            self._over.wait(END_SECONDS)
        self.finish()


def _read_orders() -> Orders:
    """The first line of standard input, read so that not a byte behind it is taken."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST_ORDERS:
        if not (byte := os.read(0, 1)):
            raise SystemExit("no orders")
        line += byte
    return Orders(**json.loads(line))


def main() -> None:
    """Run kernels until standard input ends."""
    orders = _read_orders()
    ending = Ending(orders)
    # For the kernels: this process itself was started without it.
    os.environ[MARK] = orders.mark
    import builder.slow_imports  # noqa: F401 isort: skip
    from shim.kernels.jupyter_host import serve

    serve(orders, ending, lambda: print(READY, flush=True))


if __name__ == "__main__":
    main()
