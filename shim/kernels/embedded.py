"""The kernel server of a site that names no gateway: a process of our own, started anew whenever it ends.

It serves on a socket that stays open here, so its address outlives it. It gets the token for its requests over a pipe,
where kernels cannot read it, and ends when that pipe closes: at the latest when this process is gone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from tempfile import mkdtemp

from builder.errors import ConfigError
from builder.paths import escaped, shown
from shim.kernels.host import READY
from shim.kernels.processes import end_marked

logger = logging.getLogger("shim.kernels")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two starts; they double from one failure to the next."""
HEALTHY_SECONDS = 60.0
"""A server that ran for so long is as good as new when it ends."""
BEGIN_SECONDS = 60.0
"""The longest that it may take to answer requests."""
WAIT_SECONDS = 10.0
"""How long a request waits for a server that is being started."""
STOP_SECONDS = 5.0
BACKLOG = 128
LONGEST_LINE = 500
WARNINGS_PER_MINUTE = 10

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "NBFOLIO_"


def server_environment(environ: Mapping[str, str], settings: Sequence[str]) -> dict[str, str]:
    """The environment of the server and its kernels: what a kernel needs to start, and what the settings name.

    `settings` has `NAME`, to pass a variable on, and `NAME=value`. Raises ConfigError.
    """
    from builder.environment import kernel_environment

    env = kernel_environment(environ)
    for entry in settings:
        name, given, value = entry.partition("=")
        if not _VARIABLE.fullmatch(name) or "\0" in value or name.startswith(_OURS):
            raise ConfigError(
                f"[kernels] env: {shown(name)} cannot be passed to kernels; expected NAME or NAME=value, "
                f"and no name that begins with {_OURS}"
            )
        if given:
            env[name] = value
        elif name in environ:
            env[name] = environ[name]
    return env


class EmbeddedServer:
    """The process and the thread that starts it, listens to it and starts it again."""

    def __init__(self, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        """`env` is the whole environment; `say` is told of every change in one line."""
        self._env = env
        self._say = say
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.token = secrets.token_hex(32)
        self._greet: Callable[[], None] = lambda: None
        self._failures = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kernel server", daemon=True)

    def start(self, greet: Callable[[], None]) -> None:
        """Start the process; `greet` is called each time that a new one begins to answer, about a second later."""
        self._greet = greet
        self._thread.start()

    def stop(self) -> None:
        """End the process and its kernels, by force when it does not end in time."""
        with self._lock:
            self._stopping.set()
            if self._process and self._process.stdin:
                self._process.stdin.close()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._kill()
            self._thread.join(STOP_SECONDS)
        self._socket.close()

    @property
    def up(self) -> bool:
        """Whether it runs, or is started for the first time or after a long good run."""
        return self._ready.is_set() or not self._failures

    @property
    def ready(self) -> bool:
        """Whether it has begun to answer, and is not about to end."""
        return self._ready.is_set() and not self._stopping.is_set()

    def wait(self) -> bool:
        """Wait until requests are answered, unless it just failed; whether they are."""
        return self._ready.wait(WAIT_SECONDS if self.up else 0.0)

    def kill(self) -> None:
        """End a process that does not answer any more, with its kernels; like after any other end it starts anew."""
        self._say("The kernel server hangs and is ended.")
        self._kill()

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = time.monotonic()
            why = self._live()
            self._ready.clear()
            if self._stopping.is_set():
                return
            if time.monotonic() - begun > HEALTHY_SECONDS:
                self._failures = 0
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
            self._failures = min(self._failures + 1, 20)
            self._say(f"The kernel server ended ({why}); it starts again in {pause:g} s.")
            self._stopping.wait(pause)

    def _live(self) -> str:
        """One life of the process; the answer is why it ended."""
        folder, mark = mkdtemp(prefix="nbfolio-kernels-"), secrets.token_hex(16)
        try:
            process = self._launch(folder, mark)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            return escaped(str(error.strerror))
        try:
            last = self._listen(process)
        finally:
            self._kill()
            code = process.wait()
            end_marked(mark)
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                self._process = None
            _close(process)
        return _ending(code, last)

    def _launch(self, folder: str, mark: str) -> subprocess.Popen[bytes]:
        number = self._socket.fileno()
        orders = {"token": self.token, "socket": number, "folder": folder, "mark": mark}
        with self._lock:
            # -P: a file of the folder we were started in must not stand for a module.
            process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "shim.kernels.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(self._env),
                pass_fds=(number,),
                start_new_session=True,
            )
            self._process = process
            assert process.stdin
            with suppress(OSError):  # it ended already: the end of its output says so
                process.stdin.write(json.dumps(orders).encode() + b"\n")
                process.stdin.flush()
            if self._stopping.is_set():
                process.stdin.close()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> str:
        """Read what the process says until it ends; the answer is the last of it."""
        assert process.stdout
        last, said, since = "", 0, time.monotonic()
        for line in _lines(process.stdout.fileno(), self._ready.is_set):
            if line == READY and not self._ready.is_set():
                self._ready.set()
                self._greet()
                if self._failures:
                    self._say("The kernel server runs again.")
                continue
            last = line
            if time.monotonic() - since > 60:
                said, since = 0, time.monotonic()
            said += 1
            if self._ready.is_set() and said <= WARNINGS_PER_MINUTE:
                logger.warning("The kernel server says: %s", line)
        return last

    def _kill(self) -> None:
        with self._lock:
            if self._process and self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)


def _lines(descriptor: int, ready: Callable[[], bool]) -> Iterator[str]:
    """What comes out of a pipe, line by line, until it ends or takes too long to begin; long lines are cut."""
    deadline = time.monotonic() + BEGIN_SECONDS
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    rest = b""
    while ready() or time.monotonic() < deadline:
        if not poll.poll(None if ready() else 100):
            continue
        if not (block := os.read(descriptor, 1 << 16)):
            break
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield escaped(line[:LONGEST_LINE].decode(errors="replace").strip())
        rest = rest[:LONGEST_LINE]
    if rest:
        yield escaped(rest.decode(errors="replace").strip())


def _ending(code: int, last: str) -> str:
    """Why a process ended, for a line of the log."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {last}" if last and code > 0 else how


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream:
            with suppress(OSError):  # orders that nobody read
                stream.close()
