"""What passes between a client and a kernel: messages through the filter, in order, no faster than they are taken."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from shim.kernels.codes import Code
from shim.kernels.disclosure import COMMS, PASSING, QUESTION, is_rewritten, may_hold_traceback
from shim.kernels.messages import MessageError, glance
from shim.kernels.side import Side

if TYPE_CHECKING:
    from shim.kernels.filter import Down, Filter, Up
    from shim.kernels.loop import Threads
    from shim.kernels.messages import Payload

T = TypeVar("T")
BIG = 256 << 10
"""Bytes from which on a message is judged by another thread, so that it keeps nobody else waiting."""
SLOW_SECONDS = 30.0
"""For which a client may leave more than `HIGH_WATER` unread; what waits gives it `SLOW_PACE` bytes' time on top.

Meanwhile the gateway keeps what the kernel says, without any bound.
"""
SLOW_PACE = 32 << 10

logger = logging.getLogger("shim.kernels")


class Means(NamedTuple):
    """What an exchange needs beside the two sides and the filter."""

    v1: bool
    """Whether framing v1 is spoken."""
    up: Threads
    """Judge big messages of clients."""
    down: Threads
    """Judge big messages of kernels, if they have to be read."""
    state: Callable[[str], None]
    """Told of the kernel's states, and "" when the client said something to it."""
    remark: Callable[[str], None]
    """Told why a message was refused."""
    end: Callable[[int, str], None]
    """Closes both sides, with the code and reason for the client."""


class Exchange:
    """Passes messages on until it is stopped; used by one thread."""

    __slots__ = ("_client", "_filter", "_gateway", "_means", "_patience", "_steps", "_stopped", "_verdict")

    def __init__(self, client: Side, gateway: Side, judge: Filter, means: Means) -> None:
        self._client = client
        self._gateway = gateway
        self._filter = judge
        self._means = means
        # What is to be done, in the order in which it came from either side; kept only while a big one is judged.
        self._steps: deque[Callable[[], None]] | None = None
        self._verdict: asyncio.Future[Any] | None = None
        self._stopped = False
        self._patience: asyncio.TimerHandle | None = None

    def received(self, side: Side, payload: Payload) -> None:
        """Pass a message on."""
        if side is self._client:
            self.do(partial(self._judge_up, payload))
        else:
            self.do(partial(self._judge_down, payload))

    def do(self, step: Callable[[], None]) -> None:
        """Do something once all that came before it is done."""
        if self._verdict is None:
            self._try(step)
        elif self._steps is None:
            self._steps = deque([step])
        else:
            self._steps.append(step)

    def regulate(self) -> None:
        """Decide who is read: nobody while a big message is judged, the gateway as long as the client can take it all.

        A client waits for both, because it gets answers of our own too.
        """
        if not self._stopped:
            waits = self._verdict is not None or self._client.is_full
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
        if self._verdict:
            self._verdict.cancel()
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

    def _judge_up(self, payload: Payload) -> None:
        if self._stopped:
            return
        if len(payload) > BIG:
            self._judge_aside(self._means.up, partial(self._filter.up, payload), self._pass_up)
        else:
            self._pass_up(self._filter.up(payload))

    def _judge_down(self, payload: Payload) -> None:
        if self._stopped:
            return
        if len(payload) > BIG and not (self._means.v1 and _passes_unread(payload)):
            self._judge_aside(self._means.down, partial(self._filter.down, payload), self._pass_down)
        else:
            self._pass_down(self._filter.down(payload))

    def _judge_aside(self, threads: Threads, judge: Callable[[], T], act: Callable[[T], None]) -> None:
        self._verdict = threads.run(judge)
        self.regulate()
        self._verdict.add_done_callback(partial(self._judged, act))

    def _judged(self, act: Callable[[T], None], verdict: asyncio.Future[T]) -> None:
        self._verdict = None
        if not verdict.cancelled():
            self._try(lambda: act(verdict.result()))
        while self._steps and self._verdict is None:
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
        if down.answer is not None:
            self._gateway.send(down.answer)
        if down.forward is not None:
            self._client.send(down.forward)
        if down.state:
            self._means.state(down.state)


def _passes_unread(payload: Payload) -> bool:
    """Whether a kernel's message in framing v1 passes as it is, so that judging it takes no time."""
    try:
        seen = glance(payload, True)
    except MessageError:
        return False
    kind = seen.channel, seen.kind
    if kind in COMMS:
        return not may_hold_traceback(payload)
    return kind in PASSING and kind != QUESTION and not is_rewritten(kind)
