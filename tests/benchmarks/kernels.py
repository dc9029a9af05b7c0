"""What `run-shim` costs in front of a kernel gateway, against that gateway asked without it.

    python tests/benchmarks/kernels.py [--rounds N] [--starts N] [--connections N] [--quick]

A Kernel Gateway, a run-shim that sends readers to it, and a run-shim with a kernel server of its own run as processes
of their own. One and the same client asks all of them, in turns A B, B A, each for the same cells: the gateway gets
the source, run-shim the number of the cell. A round is the median of some questions; what counts are the ratios, round
by round, because the speed of a machine drifts. CPU is that of the run-shim process alone.

Idle connections are counted at a gateway that does nothing, because no real one has kernels enough for 1,000; what a
connection costs the Kernel Gateway itself is measured with fewer, to one kernel. Where acknowledgements are late, as
systems have them, the gateway's use of Nagle's algorithm costs some 40 ms, which run-shim knows to avoid; the client
acknowledges at once in all other lines.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import NamedTuple

# First: it makes the modules of the project and of its tests known.
from kernel_servers import (
    PAGES,
    PLOT,
    SECONDS,
    SMALL_OUTPUTS,
    Client,
    Server,
    idle_gateway,
    kernel_gateway,
    run_shim,
)
from making import code, notebook

from shim.kernels.table import MOST_SOCKETS

GATEWAY_CONNECTIONS = 50
"""To one kernel of the Kernel Gateway; each has five sockets to the kernel there."""


class Measure(NamedTuple):
    """Something that is asked of one server, in seconds."""

    server: Server
    take: Callable[[], float]
    asks: int = 1
    """Questions in one round."""


class Taken(NamedTuple):
    """One measure after all rounds."""

    rounds: list[float]
    cpu: float
    """Seconds for each question."""


def alternate(rounds: int, *measures: Measure) -> list[Taken]:
    """Take measures in turns, every other round the other way round."""
    seconds: list[list[float]] = [[] for _ in measures]
    cpu = [0.0 for _ in measures]
    for number in range(rounds):
        for place in range(len(measures)) if number % 2 == 0 else reversed(range(len(measures))):
            server, take, asks = measures[place]
            before = server.cpu
            seconds[place].append(statistics.median(take() for _ in range(asks)))
            cpu[place] += server.cpu - before
    return [Taken(taken, cpu[place] / rounds / measures[place].asks) for place, taken in enumerate(seconds)]


def row(name: str, bare: Taken, shim: Taken) -> str:
    """A line of the table."""
    cells = []
    for taken in bare.rounds, shim.rounds:
        low, median, high = (1e3 * figure for figure in (min(taken), statistics.median(taken), max(taken)))
        digits = 2 if median < 20 else 0
        cells.append(f"{median:,.{digits}f} [{low:,.{digits}f}-{high:,.{digits}f}]")
    pairs = [through / without for without, through in zip(bare.rounds, shim.rounds, strict=True)]
    more = 1e3 * statistics.median(b - a for a, b in zip(bare.rounds, shim.rounds, strict=True))
    ratio = f"{statistics.median(pairs):.3g}x [{min(pairs):.3g}-{max(pairs):.3g}]"
    return f"| {name} | {' | '.join(cells)} | {ratio} | {more:+,.2f} | {shim.cpu * 1e3:.2f} |"


@contextmanager
def both(bare: Server, shim: Server, kernels: tuple[str, str], **how: bool) -> Iterator[list[tuple[Server, Client]]]:
    """A client of each."""
    with bare.connected(kernels[0], **how) as without, shim.connected(kernels[1], **how) as through:
        yield [(bare, without), (shim, through)]


def information(rounds: int, asks: int, clients: list[tuple[Server, Client]]) -> list[Taken]:
    """The time of kernel_info; a first round does not count."""
    measures = [Measure(server, client.information, asks) for server, client in clients]
    alternate(1, *measures)
    return alternate(rounds, *measures)


def talk(bare: Server, shim: Server, rounds: int, asks: int) -> Iterator[str]:
    """Lines about kernels that run."""
    with bare.kernel("talk") as theirs, shim.kernel("talk") as ours:
        kernels = theirs, ours
        with both(bare, shim, kernels, acknowledges=False) as clients:
            yield row("kernel_info, late acknowledgements", *information(rounds, asks, clients))
        with both(bare, shim, kernels, v1=False) as clients:
            yield row("kernel_info, default framing", *information(rounds, asks, clients))
        with both(bare, shim, kernels) as clients:
            yield row("kernel_info", *information(rounds, asks, clients))
            echoes = [
                Measure(server, partial(client.echo, client.open_echo(server)), asks) for server, client in clients
            ]
            yield row("echo of a widget's message", *alternate(rounds, *echoes))
            for name, index, count in (
                ("display of 10 MB", 1, 1),
                (f"{SMALL_OUTPUTS:,} small outputs", 2, SMALL_OUTPUTS),
            ):
                cells = [
                    Measure(server, partial(client.run, server, "talk", index, count=count))
                    for server, client in clients
                ]
                yield row(name, *alternate(rounds, *cells))


def first_output(server: Server, page: str) -> tuple[float, int]:
    """Seconds from asking for a kernel to the output of the page's first cell, and the process that made it."""
    began = time.perf_counter()
    with server.kernel(page) as kernel, server.connected(kernel) as client:
        opened = time.perf_counter() - began
        seconds = client.run(server, "cold", 0)
        assert client.last
        return opened + seconds, int(client.last.content["data"]["text/plain"])


def cold_output(server: Server) -> float:
    """The same, as a number alone, where the kernel has to be started."""
    return first_output(server, "cold")[0]


def warm_output(server: Server, ready: Path) -> float:
    """The same where a kernel has run the cells ahead, which then are in the file `ready` with their process."""
    known = processes(ready)
    while True:
        seconds, made_by = first_output(server, "warm")
        await_another(ready, known)
        if made_by in known:
            return seconds
        known = processes(ready)


def processes(ready: Path) -> set[int]:
    """Those that have run all cells of the warm page."""
    return set(map(int, ready.read_text().split())) if ready.exists() else set()


def await_another(ready: Path, known: set[int]) -> None:
    """Wait until another kernel has run ahead, so that nothing else is done meanwhile."""
    end = time.monotonic() + SECONDS
    while processes(ready) <= known:
        if time.monotonic() > end:
            raise SystemExit("No kernel was kept ready.")
        time.sleep(0.1)
    # What was run has yet to be put down by run-shim.
    time.sleep(0.5)


def starts(bare: Server, shim: Server, own: Server, ready: Path, rounds: int) -> Iterator[str]:
    """Lines about readers who open a page."""
    await_another(ready, set())
    measures = [Measure(server, partial(cold_output, server)) for server in (bare, shim, own)]
    measures.append(Measure(shim, partial(warm_output, shim, ready)))
    alternate(1, *measures)  # Files are in memory then, and the fonts of plots known.
    without, *through = alternate(rounds, *measures)
    names = "cold", "cold, kernel server of its own", "warm"
    for name, taken in zip(names, through, strict=True):
        yield row(f"first output, {name}", without, taken)


class Idle(NamedTuple):
    """What idle connections cost a process."""

    connections: int
    memory: tuple[int, int]
    """Bytes with one connection, and with all."""
    threads: tuple[int, int]

    def row(self, name: str) -> str:
        """A line of the table."""
        before, after = (each / (1 << 20) for each in self.memory)
        each = (self.memory[1] - self.memory[0]) / 1024 / (self.connections - 1)
        threads = f"{self.threads[0]} and {self.threads[1]}"
        return f"| {name} | {self.connections:,} | {before:.1f} MB | {after:.1f} MB | {each:.1f} KB | {threads} |"


def idle(server: Server, connections: int, per_kernel: int) -> Idle:
    """Open connections that say something once and then nothing more."""
    with ExitStack() as stack:
        kernels = [stack.enter_context(server.kernel("talk")) for _ in range(ceil(connections / per_kernel))]

        def connect(number: int) -> tuple[int, int]:
            stack.enter_context(server.connected(kernels[number // per_kernel])).information()
            return server.process.memory_info().rss, server.process.num_threads()

        seen = [connect(number) for number in range(connections)]
        (memory_before, threads_before), (memory, threads) = seen[0], seen[-1]
        return Idle(connections, (memory_before, memory), (threads_before, threads))


def idles(bare: Server, folder: Path, connections: int) -> Iterator[str]:
    """Lines about connections that are not used."""
    with idle_gateway() as port, run_shim(folder, {"talk": notebook(code("1"))}, f"http://127.0.0.1:{port}") as shim:
        yield idle(shim, connections, MOST_SOCKETS).row("run-shim")
    few = min(connections, GATEWAY_CONNECTIONS)
    yield idle(bare, few, few).row("Kernel Gateway")


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--asks", type=int, default=30, help="questions in one round")
    parser.add_argument("--starts", type=int, default=5, help="rounds in which kernels are started")
    parser.add_argument("--connections", type=int, default=1000, help="idle ones")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that everything works")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.asks, arguments.starts, arguments.connections = 2, 10, 1, 100
    report(arguments)


def report(arguments: argparse.Namespace) -> None:
    """Start the servers and print what they take."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Servers take over the limit; each connection is two open files there.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="nbfolio-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        ready = folder / "ready"
        note = f"with open({str(ready)!r}, 'a') as ready: print(os.getpid(), file=ready)"
        pages = {page: notebook(*map(code, cells)) for page, cells in PAGES.items()}
        warm = notebook(code(PLOT), code(note), nbfolio={"warm": 1})
        bare = stack.enter_context(kernel_gateway())
        address = f"http://127.0.0.1:{bare.port}"
        shim = stack.enter_context(run_shim(folder / "gateway", {**pages, "warm": warm}, address, bare.token))
        own = stack.enter_context(run_shim(folder / "own", pages))
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"Kernel Gateway {version('jupyter-kernel-gateway')}, Python {sys.version.split()[0]}, ", end="")
        print(f"{os.cpu_count()} cores, load {load}\n")
        print("| ms, median [range] | Kernel Gateway | through run-shim | ratio | more ms | CPU ms of run-shim |")
        print("|---|---|---|---|---|---|", flush=True)
        for line in starts(bare, shim, own, ready, arguments.starts):
            print(line, flush=True)
        for line in talk(bare, shim, arguments.rounds, arguments.asks):
            print(line, flush=True)
        print("\n| idle connections | number | memory with one | with all | each | threads with one and all |")
        print("|---|---|---|---|---|---|", flush=True)
        for line in idles(bare, folder / "idle", arguments.connections):
            print(line, flush=True)
        print(f"\nload at the end {', '.join(f'{each:.1f}' for each in os.getloadavg())}")


if __name__ == "__main__":
    main()
