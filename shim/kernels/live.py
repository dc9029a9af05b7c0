"""Everything about kernels of one site, put together: made before the server listens, alive while it answers."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.capacity import capacity
from shim.kernels.callers import owner_by_token
from shim.kernels.claim import Claim
from shim.kernels.gateways import Gateways
from shim.kernels.keeper import Keeper
from shim.kernels.kernels import Kernels
from shim.kernels.life import Life, Surroundings
from shim.kernels.records import Records
from shim.kernels.relay import Relay
from shim.kernels.warm import WarmPool

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from builder.config import Config
    from shim.background import BuildState
    from shim.metrics import Metrics
    from shim.state import State
    from shim.tokens import Tokens

logger = logging.getLogger("shim.kernels")


@dataclass(frozen=True)
class Live:
    """The parts, of which routes use the first three; a context manager that starts and ends their threads."""

    kernels: Kernels
    relay: Relay
    gateways: Gateways
    keeper: Keeper
    tokens: Tokens
    started: float
    """Seconds since 1970."""
    claim: Claim

    @classmethod
    def make(cls, config: Config, site: BuildState, state: State, metrics: Metrics, tokens: Tokens) -> Live:
        """All parts of a site that has kernels; nothing runs yet."""
        gateways, relay = Gateways(config, logger.info), Relay(most=capacity().websockets)
        around = Surroundings(config, site, gateways, relay, Records(state), metrics, threading.Event())
        life = Life(around)
        table = life.table
        metrics.count_kernels(table.readers, table.warm, table.waiting, relay.count)
        keeper, claim = Keeper(life, WarmPool(life)), Claim(config.state_dir)
        return cls(Kernels(life), relay, gateways, keeper, tokens, time.time(), claim)

    @property
    def available(self) -> bool:
        """Whether pages can have kernels."""
        return self.gateways.available

    def owner(self, environ: WSGIEnvironment) -> str:
        """On whose behalf a token acts that stands for a login; "" without one."""
        return owner_by_token(environ, self.tokens)

    def __enter__(self) -> Live:
        with ExitStack() as begun:
            self.claim.take()
            begun.callback(self.claim.release)
            self.gateways.open()
            begun.callback(self.gateways.close)
            self.relay.start()
            begun.callback(self.relay.stop)
            self.keeper.start()
            begun.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # Clients are told to come back later before their kernels end.
        self.relay.stop()
        self.keeper.stop()
        self.gateways.close()
        self.claim.release()
