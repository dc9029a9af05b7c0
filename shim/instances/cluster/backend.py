"""Instances on Kubernetes, as `shim.instances.backend` wants them; all that is true of them is in the cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shim.instances.backend import NOT_FOUND, TERMINATING, Door, Observed
from shim.instances.cluster import manifests
from shim.instances.cluster.api import EVENTS, PODS, SECRETS, STATEFUL_SETS, VOLUMES, Api, Kind
from shim.instances.cluster.evidence import Evidence, Object, made, part, text
from shim.instances.cluster.making import Making, owned, uid_of
from shim.instances.cluster.manifests import MINE, STARTED, STOPPED, UNFINISHED, claim_name, record_of
from shim.instances.cluster.reconciler import Reconciler
from shim.instances.cluster.status import observe
from shim.instances.cluster.watch import Health, Store, Watcher, stop_all
from shim.instances.errors import UnavailableError, UnknownError
from shim.instances.resources import read_resources

if TYPE_CHECKING:
    from builder.config import Config
    from shim.instances.records import Instance

OPEN_SECONDS = 5.0
"""How long `open` waits for what the cluster has; what comes later is not lost."""
MISSING = "Notebook not found."
UNTOLD = "The cluster has not told yet which instances there are; try again later."
_EVENTFUL = frozenset({"Pod", "StatefulSet", "PersistentVolumeClaim"})
_ACCOUNT = "KUBERNETES_SERVICE_HOST"


def available(config: Config, environ: Mapping[str, str] = os.environ) -> str:
    """Why instances cannot run on Kubernetes, in a sentence; "" when they can be tried to."""
    settings = config.instances
    if not settings.public_url:
        return "Instances on Kubernetes need instances.public_url, an address with {instance} in its host name."
    if find_spec("kubernetes") is None:
        return "Instances on Kubernetes need the Python client: pip install 'nbfolio[kubernetes]'."
    if settings.kubeconfig:
        known = os.path.exists(_folder(config) / os.path.expanduser(settings.kubeconfig))
        return "" if known else "The file that instances.kubeconfig names is not there."
    usual = environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    if _ACCOUNT in environ or any(os.path.exists(one) for one in usual.split(os.pathsep) if one):
        return ""
    return "Nothing says how the cluster is reached: this is no pod, and there is no kubeconfig."


class ClusterBackend:
    """See `shim.instances.backend.Backend`; nothing is kept here that another server could not know as well."""

    def __init__(self, config: Config, say: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._settings = config.instances
        self._clock = clock
        self._api = Api(config.instances, _folder(config))
        self._stores = {kind: Store() for kind in (SECRETS, STATEFUL_SETS, PODS, VOLUMES)}
        self._stores[EVENTS] = Store(lambda one: text(part(one, "involvedObject"), "uid"))
        self._making = Making(self._api, config.instances, self._seen, self._gone)
        self._reconciler = Reconciler(self._api, self._making, clock)
        health = Health(say)
        self._watchers = [
            Watcher(self._api, kind, "" if kind is EVENTS else MINE, store, health, _KEEP.get(kind, _anything))
            for kind, store in self._stores.items()
        ]

    def open(self) -> None:
        """Begin to watch, and wait a while for what there is."""
        for watcher in self._watchers:
            watcher.start()
        deadline = time.monotonic() + OPEN_SECONDS
        for watcher in self._watchers:
            watcher.known.wait(max(deadline - time.monotonic(), 0.0))
        self._reconciler.start()

    def close(self) -> None:
        """Cease to watch; instances go on."""
        self._api.close()
        stop_all(self._watchers)
        self._reconciler.stop()
        self._api.disconnect()

    def reconcile(self) -> None:
        """Finish what was broken off, now; the backend does it by itself every minute."""
        self._reconciler.reconcile()

    def all(self) -> list[Instance]:
        """All instances, the oldest first; those that are being deleted, too. Raises UnavailableError."""
        if not all(one.listed for one in self._watchers if one.kind is SECRETS):
            raise UnavailableError(UNTOLD)
        found = filter(None, map(record_of, self._stores[SECRETS].all()))
        return sorted(found, key=lambda one: (one.created, one.id))

    def find(self, instance_id: str) -> Instance | None:
        """The instance of an id. Raises UnavailableError."""
        return next((one for one in self.all() if one.id == instance_id), None)

    def create(self, instance: Instance) -> Instance:
        """Create the objects of an instance, or none."""
        asked = read_resources(instance.spec.resources, self._settings)
        amounts = {"cpu": asked.cpu_quantity, "memory": asked.memory_quantity}
        return self._making.create(instance, amounts | {key: str(number) for key, number in asked.gpus})

    def observe(self, instance: Instance) -> Observed:
        """How an instance is, as far as the cluster has told."""
        claim, pod = self._known(instance), self._stores[PODS].get(f"{instance.place}-0")
        if claim is None:
            return Observed("not_found", NOT_FOUND) if pod is None else Observed("terminating", TERMINATING)
        told, created = part(claim, "metadata", "annotations"), made(claim)
        stateful_set = self._stores[STATEFUL_SETS].get(instance.place)
        volume = self._stores[VOLUMES].get(manifests.volume_name(instance))
        events = (event for one in (stateful_set, pod, volume) for event in self._stores[EVENTS].grouped(uid_of(one)))
        begun, stopped = text(told, UNFINISHED), told.get(STOPPED)
        evidence = Evidence(
            created=created,
            started=max(created, _seconds(text(told, STARTED))),
            finished=begun == "",
            stopped=stopped if isinstance(stopped, str) else None,
            deleted=begun not in ("", "creation"),
            stateful_set=stateful_set,
            pod=pod,
            volume=volume,
            events=tuple(events),
        )
        return observe(evidence, self._settings.start_minutes * 60, self._clock())

    def stop(self, instance: Instance, why: str) -> None:
        """Let no pod run; the volume stays. Raises UnknownError."""
        self._change(instance, lambda told: {} if STOPPED in told else {STOPPED: why})
        self._making.scale(instance, 0)

    def start(self, instance: Instance) -> None:
        """Let its pod run again. Raises UnknownError."""
        now = str(int(self._clock()))
        self._change(instance, lambda told: {STOPPED: None, STARTED: now} if STOPPED in told else {})
        self._making.scale(instance, 1)

    def delete(self, instance: Instance, *, keep_volume: bool) -> None:
        """Delete its objects; once that has begun it goes on by itself."""
        self._making.delete(instance, "deletion-keeping-volume" if keep_volume else "deletion")

    def door(self, instance: Instance) -> Door:
        """Its public address."""
        return Door(manifests.public_url(instance, self._settings), self._token(instance))

    def inner_door(self, instance: Instance) -> Door:
        """Its Service when this server runs in the cluster, else its public address."""
        if not self._api.inside:
            return self.door(instance)
        url = f"http://{instance.place}.{self._settings.namespace}.svc:{manifests.PORT}"
        return Door(url, self._token(instance))

    def _change(self, instance: Instance, change: Callable[[Object], dict[str, str | None]]) -> None:
        if self._making.change(instance, change) is None:
            raise UnknownError(MISSING)

    def _known(self, instance: Instance) -> Object | None:
        """The claim of an instance; another one that has its name is none."""
        claim = self._stores[SECRETS].get(claim_name(instance.spec.name))
        return claim if claim is not None and uid_of(claim) == instance.uid else None

    def _token(self, instance: Instance) -> str:
        if self._known(instance) is None:
            raise UnknownError(MISSING)
        found = self._stores[SECRETS].get(instance.place)
        token = manifests.token_of(found) if found is not None and owned(found, instance) else ""
        if not token:
            # Without one the server behind the door would be open, or closed to everybody.
            raise UnavailableError("The token of the instance cannot be read; delete it and create it anew.")
        return token

    def _seen(self, kind: Kind, one: Object) -> None:
        if kind in self._stores:
            self._stores[kind].put(one, own=True)

    def _gone(self, kind: Kind, one: Object) -> None:
        if kind in self._stores:
            self._stores[kind].drop(one)


def _folder(config: Config) -> Path:
    return config.file.parent if config.file else Path.cwd()


def _anything(one: Object) -> bool:
    return True


def _tells_of_instances(event: Object) -> bool:
    return text(part(event, "involvedObject"), "kind") in _EVENTFUL


_KEEP = {EVENTS: _tells_of_instances}


def _seconds(written: str) -> float:
    return float(written) if written.isascii() and written.isdigit() and len(written) < 15 else 0.0
