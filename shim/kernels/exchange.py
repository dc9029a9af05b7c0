"""What passes between a client and a kernel: messages through the filter, in order, no faster than they are taken."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from shim.kernels.codes import Code
from shim.kernels.side import Side

if TYPE_CHECKING:
    from shim.kernels.filter import Down, Filter, Up
    from shim.kernels.messages import Payload

T = TypeVar("T")
BIG = 256 << 10
"""Bytes from which on a message is read by another thread, so that it keeps nobody else waiting."""
SLOW_SECONDS = 30.0
"""For which a client may leave more than `HIGH_WATER` unread; what waits gives it `SLOW_PACE` bytes' time on top.

Meanwhile the gateway keeps what the kernel says, without any bound.
"""
SLOW_PACE = 32 << 10

logger = logging.getLogger("shim.kernels")


class Means(NamedTuple):
    """What an exchange needs beside the two sides and the filter."""

    executor: Executor
    """Reads big messages."""
    state: Callable[[str], None]
    """Told of the kernel's states, and "" when the client said something to it."""
    remark: Callable[[str], None]
    """Told why a message was refused."""
    end: Callable[[int, str], None]
    """Closes both sides, with the code and reason for the client."""


class Exchange:
    """Passes messages on until it is stopped; used by one thread."""

    __slots__ = ("_busy", "_client", "_filter", "_gateway", "_means", "_patience", "_steps", "_stopped")

    def __init__(self, client: Side, gateway: Side, judge: Filter, means: Means) -> None:
        self._client = client
        self._gateway = gateway
        self._filter = judge
        self._means = means
        # What is to be done, in the order in which it came from either side; kept only while a big message is read.
        self._steps: deque[Callable[[], None]] | None = None
        self._busy = False
        self._stopped = False
        self._patience: asyncio.TimerHandle | None = None

    def received(self, side: Side, payload: Payload) -> None:
        """Pass a message on."""
        if side is self._client:
            self.do(partial(self._judge, self._filter.up, payload, self._pass_up))
        else:
            self.do(partial(self._judge, self._filter.down, payload, self._pass_down))

    def do(self, step: Callable[[], None]) -> None:
        """Do something once all that came before it is done."""
        if not self._busy:
            self._try(step)
        elif self._steps is None:
            self._steps = deque([step])
        else:
            self._steps.append(step)

    def regulate(self) -> None:
        """Decide who is read: nobody while a big message is, the gateway as long as the client can take it all.

        A client waits for both, because it gets answers of our own too.
        """
        if not self._stopped:
            waits = self._busy or self._client.is_full
            self._gateway.read(not waits)
            self._client.read(not (waits or self._gateway.is_full))

    def crowded(self, side: Side) -> None:
        """A side takes less than the other one sends, or has caught up."""
        if side is self._client:
            self._lose_patience()
            if side.is_full and side.transport and not self._stopped:
                wait = SLOW_SECONDS + side.transport.get_write_buffer_size() / SLOW_PACE
                loop = asyncio.get_running_loop()
                self._patience = loop.call_later(wait, self._means.end, Code.TOO_SLOW, "too slow")
        self.regulate()

    def stop(self) -> None:
        """Pass nothing on any more, and read what the client still sends to its end."""
        self._stopped = True
        self._lose_patience()
        self._client.read(True)

    def _lose_patience(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            logger.exception("a message could not be relayed")
            self._means.end(Code.LOST, "something went wrong")

    def _judge(self, judge: Callable[[Payload], T], payload: Payload, act: Callable[[T], None]) -> None:
        if self._stopped:
            return
        if len(payload) <= BIG:
            act(judge(payload))
            return
        verdict = asyncio.get_running_loop().run_in_executor(self._means.executor, judge, payload)
        self._busy = True
        self.regulate()
        verdict.add_done_callback(partial(self._judged, act))

    def _judged(self, act: Callable[[T], None], verdict: asyncio.Future[T]) -> None:
        self._busy = False
        if not verdict.cancelled():
            self._try(lambda: act(verdict.result()))
        while self._steps and not self._busy:
            self._try(self._steps.popleft())
        if not self._steps:
            self._steps = None
        self.regulate()

    def _pass_up(self, up: Up) -> None:
        if self._stopped:
            return
        if up.forward is not None:
            self._gateway.send(up.forward)
            self._means.state("")
        for answer in up.answers:
            self._client.send(answer)
        if up.note:
            self._means.remark(up.note)

    def _pass_down(self, down: Down) -> None:
        if self._stopped:
            return
        if down.forward is not None:
            self._client.send(down.forward)
        if down.state:
            self._means.state(down.state)
