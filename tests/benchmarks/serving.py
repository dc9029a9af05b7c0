"""How many published pages a second `run-shim` serves, against Bottle's `static_file` behind waitress as it comes.

    python tests/benchmarks/serving.py [--seconds S] [--rounds N] [--connections N]

Three servers run as processes of their own, with the same settings of waitress: run-shim, Bottle's `static_file`, and
an application that gives the page from memory, to see what answering costs without any file. They are asked in turns,
A B C A B C, over connections that stay open (waitress as it comes would close them after a 304; here it does not); each
answer is read to its end. What counts are the ratios, round by round, because the speed of a machine drifts. CPU
microseconds for each request are the server's own; they say more than requests per second where others share the
machine.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"1 KB": ("small", 1 << 10), "40 KB": ("large", 40 << 10)}
SERVERS = ("run-shim", "static_file", "memory")
ACCEPTS = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n"
)
GZIP = b"Accept-Encoding: gzip, deflate, br, zstd\r\n"


class Round(NamedTuple):
    """One server asked for some seconds."""

    rate: float
    """Requests per second."""
    cpu: float
    """CPU seconds of the server for each request."""


class Connection:
    """One connection that stays open and asks for the same thing again and again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answered = 0
        self._request = request
        self._received = 0
        self._expected = len(answer(self.socket, request))

    def ask(self) -> None:
        """Send the request."""
        self.socket.sendall(self._request)

    def read(self) -> None:
        """Take what came; the whole answer is followed by the next request."""
        received = len(self.socket.recv(1 << 20))
        if not received:
            raise SystemExit("A server closed a connection that should stay open.")
        self._received += received
        if self._received == self._expected:
            self._received = 0
            self.answered += 1
            self.ask()


def answer(connection: socket.socket, request: bytes) -> bytes:
    """One answer, head and body; later ones have the same length."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 20)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 304 ")) or b"connection: close" in head.lower():
        raise SystemExit(f"A server answered {head!r}.")
    length = int(header(head, b"content-length") or 0) if b" 200 " in head[:16] else 0
    while len(body) < length:
        body += connection.recv(1 << 20)
    return head + b"\r\n\r\n" + body


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header, empty when it is not there."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), b"")


def drive(process: psutil.Process, port: int, request: bytes, connections: int, seconds: float) -> Round:
    """Ask one server over several connections at once."""
    with selectors.EpollSelector() as selector:
        opened = [Connection(port, request) for _ in range(connections)]
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.ask()
        before, started = cpu_seconds(process), time.perf_counter()
        counted = -sum(connection.answered for connection in opened)
        while (wall := time.perf_counter() - started) < seconds:
            for key, _ in selector.select():
                key.data.read()
        counted += sum(connection.answered for connection in opened)
        spent = cpu_seconds(process) - before
        for connection in opened:
            connection.socket.close()
    return Round(counted / wall, spent / counted)


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def make_site(source: Path) -> None:
    """Two pages as `build-site` would have left them, compressible like pages are."""
    words = "".join(f"<p>Paragraph {number:05} has a few words of its own.</p>\n" for number in range(2000)).encode()
    for folder, size in PAGES.values():
        page = source / "_site" / "dashboards" / folder
        page.mkdir(parents=True)
        (page / "index.html").write_bytes((b"<!doctype html><title>Page</title>\n" + words)[:size])


def bottle_application(output: Path) -> WSGIApplication:
    """The application that is measured against: nothing but `static_file`."""
    from bottle import Bottle, HTTPResponse, static_file  # type: ignore[import-untyped]

    app = Bottle()

    @app.get("/<path:path>")  # type: ignore[untyped-decorator]
    def page(path: str) -> HTTPResponse:
        return static_file(f"{path}index.html", root=str(output))

    application: WSGIApplication = app
    return application


def memory_application(output: Path) -> WSGIApplication:
    """Pages from memory, with four headers."""
    folder = output / "dashboards"
    pages = {f"/dashboards/{name}/": (folder / name / "index.html").read_bytes() for name, _ in PAGES.values()}

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        body = pages[environ["PATH_INFO"]]
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body))), ("ETag", '"1"')]
        if "HTTP_IF_NONE_MATCH" in environ:
            start_response("304 Not Modified", [("ETag", '"1"')])
            return []
        start_response("200 OK", headers)
        return [body]

    return application


def serve(kind: str, output: Path) -> None:
    """Be one of the servers that are measured against, until the process is ended."""
    from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
    from waitress.server import create_server  # type: ignore[import-untyped]
    from waitress.task import WSGITask  # type: ignore[import-untyped]

    from shim.server import LIMITS, THREADS

    class Task(WSGITask):  # type: ignore[misc]
        def set_close_on_finish(self) -> None:
            if self.has_body:
                super().set_close_on_finish()

    class Channel(HTTPChannel):  # type: ignore[misc]
        task_class = Task

    application = bottle_application(output) if kind == "static_file" else memory_application(output)
    settings = {"threads": THREADS, "ident": None, "log_socket_errors": False, "asyncore_use_poll": True, **LIMITS}
    server = create_server(application, host="127.0.0.1", port=0, **settings)
    server.channel_class = Channel
    print(f"http://127.0.0.1:{server.effective_port}/", flush=True)
    server.run()


@contextmanager
def running(kind: str, source: Path) -> Iterator[tuple[psutil.Process, int]]:
    """A server's process and port."""
    if kind == "run-shim":
        command = [sys.executable, "-m", "shim", str(source), "--no-build", "--port", "0"]
    else:
        command = [sys.executable, str(Path(__file__)), "--serve", kind, str(source / "_site")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**environment, "PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            assert process.stdout
            if not (port := urlsplit(process.stdout.readline()).port):
                raise SystemExit(f"{kind} did not start.")
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()


def cases() -> Iterator[tuple[str, str, bytes, bool]]:
    """What is asked for: its name, the path, more headers, and whether it is asked with the page's entity tag."""
    for name, (folder, _) in PAGES.items():
        path = f"/dashboards/{folder}/"
        yield f"{name}, plain", path, b"", False
        yield f"{name}, gzip accepted", path, GZIP, False
        yield f"{name}, If-None-Match", path, GZIP, True


def requests(path: str, more: bytes, conditional: bool, port: int) -> bytes:
    """The bytes of one request to one server."""
    lines = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%b%b" % (path.encode(), port, ACCEPTS, more)
    if conditional:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = answer(connection, lines + b"\r\n").partition(b"\r\n\r\n")[0]
        lines += b"If-None-Match: %b\r\n" % header(head, b"etag")
    return lines + b"\r\n"


def row(name: str, rounds: dict[str, list[Round]]) -> str:
    """A line of the table."""
    cells = [name]
    for server in SERVERS:
        rates = sorted(each.rate for each in rounds[server])
        cpu = statistics.median(each.cpu for each in rounds[server])
        cells.append(f"{statistics.median(rates):,.0f} [{rates[0]:,.0f}-{rates[-1]:,.0f}], {cpu * 1e6:.0f} µs")
    pairs = [mine.rate / other.rate for mine, other in zip(rounds["run-shim"], rounds["static_file"], strict=True)]
    cpu_pairs = [other.cpu / mine.cpu for mine, other in zip(rounds["run-shim"], rounds["static_file"], strict=True)]
    ratio = f"{statistics.median(pairs):.2f}x [{min(pairs):.2f}-{max(pairs):.2f}]"
    return f"| {' | '.join(cells)} | {ratio}, CPU {statistics.median(cpu_pairs):.2f}x |"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], Path(arguments.serve[1]))
        return
    with tempfile.TemporaryDirectory(prefix="nbfolio-bench-") as name, ExitStack() as stack:
        source = Path(name)
        make_site(source)
        servers = {kind: stack.enter_context(running(kind, source)) for kind in SERVERS}
        print(f"{arguments.connections} connections, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
        print(
            "| requests/s, median [range], CPU each | run-shim | static_file | from memory | run-shim : static_file |"
        )
        print("|---|---|---|---|---|")
        for what, path, more, conditional in cases():
            rounds: dict[str, list[Round]] = {kind: [] for kind in SERVERS}
            asked = {kind: requests(path, more, conditional, port) for kind, (_, port) in servers.items()}
            for _ in range(arguments.rounds):
                for kind, (process, port) in servers.items():
                    rounds[kind].append(drive(process, port, asked[kind], arguments.connections, arguments.seconds))
            print(row(what, rounds), flush=True)


if __name__ == "__main__":
    main()
