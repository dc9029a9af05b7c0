"""The relay's event loop, and threads for what would hold it up; the end of the program waits for none of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

LOOK_UPS = 2
"""Names of gateways that are looked up at a time."""


class Threads:
    """Makes calls for an event loop, on whose thread it is to be used.

    The threads of `ThreadPoolExecutor` would be waited for when the program ends, even when they hang.
    """

    def __init__(self, most: int, name: str) -> None:
        """`most` threads, of which each starts when it is first needed."""
        self._most = most
        self._name = name
        self._started = 0
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call when a thread is free; one that is cancelled before that is left out."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        if self._started < self._most:
            self._started += 1
            Thread(target=self._work, name=f"{self._name}_{self._started}", daemon=True).start()
        return asyncio.wrap_future(future)

    def end(self) -> None:
        """Let the threads end once all calls are made."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while job := self._calls.get():
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:
                    future.set_exception(error)
            # What was passed on is not kept until the next call.
            del job, future, call


class Loop(asyncio.SelectorEventLoop):
    """An event loop that looks names up in `Threads`."""

    def __init__(self) -> None:
        self._names = Threads(LOOK_UPS, "relay-names")
        super().__init__()

    def close(self) -> None:
        """End the loop and its threads."""
        self._names.end()
        super().close()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """The addresses of a name."""
        return await self._names.run(partial(socket.getaddrinfo, host, port, family, type, proto, flags))
