"""Renderer processes: bytes go in, bytes come out; a worker that dies or hangs costs its one page."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Literal, cast

import msgspec
from msgspec import Struct

from builder.page import Body, Media, PageOptions

StartMethod = Literal["fork", "forkserver"]

RENDER_SECONDS = 120.0
"""The longest that one notebook may take to render, execution apart."""


class Execution(Struct, frozen=True):
    """How to run a notebook before it is rendered."""

    mode: Literal["missing", "always"]
    folder: str
    """Where the kernel starts: the notebook's folder, or, for a ZIP bundle, the archive."""
    cell_timeout: int
    notebook_timeout: int


class Job(Struct, frozen=True):
    """One notebook to render."""

    path: str
    data: bytes
    options: PageOptions
    execution: Execution | None = None


class Result(Struct, frozen=True):
    """What became of a job: a body with its images, or the sentence that says why not."""

    body: Body | None
    media: tuple[Media, ...] = ()
    failure: str = ""


class _Worker:
    """A process and our end of the pipe to it."""

    def __init__(self, context: BaseContext, others: Iterable[Connection]) -> None:
        self.connection, theirs = context.Pipe()
        closing = [self.connection, *others] if context.get_start_method() == "fork" else []
        target = context.Process(target=_work, args=(theirs, closing), daemon=True)  # type: ignore[attr-defined]
        self.process = cast(BaseProcess, target)
        with _interrupts_later():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.deadline = 0.0

    def give(self, job: Job, seconds: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + seconds
        with suppress(OSError):  # a worker that is gone is noticed when its answer is read
            self.connection.send_bytes(msgspec.msgpack.encode(job))

    def stop(self, *, kill: bool = False) -> None:
        self.connection.close()
        if kill:
            self.process.kill()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class Pool:
    """Up to `size` workers; `fork` only where no thread runs, `forkserver` everywhere else."""

    def __init__(self, size: int, method: StartMethod, seconds: float = RENDER_SECONDS) -> None:
        self._size = max(1, size)
        self._seconds = seconds
        self._context: BaseContext = multiprocessing.get_context(method)
        self._workers: list[_Worker] = []
        self._decode = msgspec.msgpack.Decoder(Result).decode
        if method == "forkserver":
            self._context.set_forkserver_preload(["builder.render"])

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Render all jobs and give back each as it is done; jobs are taken from the iterable when a worker is free."""
        waiting = iter(jobs)
        try:
            busy = self._feed(waiting, [])
            while busy:
                for worker in self._ready(busy):
                    job = worker.job
                    assert job
                    result = self._collect(worker)
                    busy = self._feed(waiting, [other for other in busy if other is not worker])
                    yield job, result
        except BaseException:
            self.close(kill=True)
            raise

    def close(self, *, kill: bool = False) -> None:
        """Stop all workers; without `kill` each ends by itself as soon as its pipe closes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.stop(kill=kill)

    def _feed(self, waiting: Iterator[Job], busy: list[_Worker]) -> list[_Worker]:
        """Give jobs to free workers, starting workers only as far as there are jobs."""
        while len(busy) < self._size and (job := next(waiting, None)) is not None:
            worker = next((worker for worker in self._workers if worker.job is None), None) or self._start()
            worker.give(job, self._seconds + (job.execution.notebook_timeout if job.execution else 0))
            busy.append(worker)
        return busy

    def _start(self) -> _Worker:
        worker = _Worker(self._context, [other.connection for other in self._workers])
        self._workers.append(worker)
        return worker

    def _ready(self, busy: list[_Worker]) -> list[_Worker]:
        """The workers that answered, died, or are over their time."""
        now = time.monotonic()
        answered = wait([worker.connection for worker in busy], timeout=max(0.0, min(w.deadline for w in busy) - now))
        if answered:
            return [worker for worker in busy if worker.connection in answered]
        return [worker for worker in busy if worker.deadline <= time.monotonic()]

    def _collect(self, worker: _Worker) -> Result:
        try:
            if worker.connection.poll(0):
                result = self._decode(worker.connection.recv_bytes())
                worker.job = None
                return result
            failure = "rendering took too long and was stopped"
        except (EOFError, OSError):
            worker.process.join(1)
            failure = f"the renderer process {_ending(worker.process.exitcode)} while it worked on this notebook"
        self._workers.remove(worker)
        worker.stop(kill=True)
        return Result(None, failure=failure)


class SparePools:
    """Pools of one worker each for threads that render a single notebook beside others; at most `most` are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[Pool] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def pool(self) -> Iterator[Pool]:
        """A pool for one thread, which must run it to its end."""
        with self._lock:
            pool = self._free.pop() if self._free else Pool(1, "forkserver")
        try:
            yield pool
        except BaseException:
            pool.close(kill=True)
            raise
        with self._lock:
            if not self._closed and len(self._free) < self._most:
                self._free.append(pool)
                return
        pool.close()

    def close(self) -> None:
        """Stop the workers that wait; those at work stop when they are given back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for pool in free:
            pool.close()


def worker_count(setting: int) -> int:
    """The number of workers for `build.jobs`: 0 means one for each core this process may use."""
    return setting or len(os.sched_getaffinity(0))


def _ending(code: int | None) -> str:
    """How a process that should have gone on came to its end, from its exit code."""
    if code == -signal.SIGKILL:
        return "was killed (out of memory?)"
    if code is not None and code < 0:
        return f"crashed ({signal.strsignal(-code)})"
    return "ended"


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back while a process starts: a fork must not be hit by it before it can say what it does then."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _work(connection: Connection, inherited: list[Connection]) -> None:
    """A worker's whole life; it ends when the other end of its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for other in inherited:
        other.close()
    threading.Thread(target=_end_with, args=(connection.fileno(),), daemon=True).start()
    answer = _renderer()
    decode = msgspec.msgpack.Decoder(Job).decode
    with suppress(EOFError, OSError):
        while True:
            connection.send_bytes(answer(decode(connection.recv_bytes())))


def _end_with(descriptor: int) -> None:
    """End this process, whatever it is doing, when nobody holds the other end of its pipe any more."""
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-ups are always reported
    poll.poll()
    os._exit(0)


def _renderer() -> Callable[[Job], bytes]:
    """From a job to its encoded result; when the code for that cannot be loaded, each result says so."""
    encode = msgspec.msgpack.Encoder().encode
    try:
        from builder.render import render
    except Exception as error:
        broken = encode(Result(None, failure=f"the renderer cannot be loaded ({type(error).__name__}: {error})"))
        return lambda job: broken

    def answer(job: Job) -> bytes:
        try:
            return encode(render(job))
        except Exception as error:  # what a page is made of cannot be sent: too large, or no text
            return encode(Result(None, failure=f"the rendered page cannot be used ({type(error).__name__}: {error})"))

    return answer
