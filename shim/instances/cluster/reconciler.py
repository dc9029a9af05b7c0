"""Finishes what was broken off, every minute: by this server, by one before it, or by another one beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from shim.instances.cluster.api import INGRESSES, SECRETS, SERVICES, STATEFUL_SETS
from shim.instances.cluster.evidence import Object, going, made, part, text
from shim.instances.cluster.manifests import MINE, PLACE, UNFINISHED, record_of
from shim.instances.errors import InstanceError

if TYPE_CHECKING:
    from shim.instances.cluster.api import Api
    from shim.instances.cluster.making import Making

logger = logging.getLogger("shim.instances")

PERIOD_SECONDS = 60.0
ABANDONED_SECONDS = 300.0
"""How long a creation may take; afterwards whoever began it is gone."""
STOP_SECONDS = 2.0


class Reconciler:
    """One thread; `start` and `stop` are called once each."""

    def __init__(self, api: Api, making: Making, clock: Callable[[], float]) -> None:
        self._api, self._making, self._clock = api, making, clock
        self._stopping = threading.Event()
        self._troubles: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="cluster-reconciler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, in bounded time."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.reconcile()
            except Exception as error:
                self._tell(error)
            self._stopping.wait(PERIOD_SECONDS)

    def reconcile(self) -> None:
        """One look at everything. Raises UnavailableError, BackendError."""
        # Claims come last: then each of the others has its claim among them, or has lost it.
        kinds = (INGRESSES, SERVICES, STATEFUL_SETS, SECRETS)
        listed = {kind: self._api.list(kind, MINE)["items"] for kind in kinds}
        # What is named after its place belongs to a claim; claims themselves are the other Secrets.
        others = {kind: {_place(one): one for one in found if _is_part(one)} for kind, found in listed.items()}
        claims = [one for one in listed[SECRETS] if not _is_part(one)]
        claimed = {_place(claim) for claim in claims}
        for kind, found in others.items():
            for place, one in found.items():
                if place not in claimed and not going(one):
                    self._guarded(lambda kind=kind, one=one: self._making.remove_one(kind, one))  # type: ignore[misc]
        for claim in claims:
            if not going(claim):
                stateful_set = others[STATEFUL_SETS].get(_place(claim))
                self._guarded(lambda claim=claim, one=stateful_set: self._mend(claim, one))  # type: ignore[misc]

    def _mend(self, claim: Object, stateful_set: Object | None) -> None:
        instance, begun = record_of(claim), text(part(claim, "metadata", "annotations"), UNFINISHED)
        if instance is None:
            logger.warning("What is in Secret %s cannot be read.", text(part(claim, "metadata"), "name"))
        elif begun == "creation":
            if stateful_set is not None:
                self._making.finish(instance)
            elif self._clock() - made(claim) > ABANDONED_SECONDS:
                self._making.delete(instance, "undoing")
        elif begun:
            self._making.remove(instance, begun)
        elif stateful_set is not None and not going(stateful_set):
            wanted = 1 if instance.stopped is None else 0
            if part(stateful_set, "spec").get("replicas") != wanted:
                version = text(part(stateful_set, "metadata"), "resourceVersion")
                self._making.scale(instance, wanted, version)

    def _guarded(self, work: Callable[[], None]) -> None:
        """What cannot be done for one is no reason to leave the others."""
        try:
            work()
        except InstanceError as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """One and the same trouble is told once."""
        if str(error) not in self._troubles and not self._stopping.is_set():
            self._troubles.add(str(error))
            expected = isinstance(error, InstanceError)
            logger.warning("Instances could not be put in order: %s", error, exc_info=None if expected else error)


def _place(one: Object) -> str:
    return text(part(one, "metadata", "labels"), PLACE)


def _is_part(one: Object) -> bool:
    """Whether it is one of the objects that an instance is made of beside its claim, and no other one so labelled."""
    return text(part(one, "metadata"), "name") == _place(one)
