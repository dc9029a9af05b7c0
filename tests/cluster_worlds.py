"""Worlds for tests: a namespace of a cluster, the stand-in or a real one, and servers that run instances in it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
from cluster import Cluster, cluster, until
from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api, NetworkingV1Api

from builder.config import load_config
from shim.instances.backend import Backend
from shim.instances.cluster.backend import ClusterBackend
from shim.instances.errors import InstanceError
from shim.instances.records import EnvironmentSpec, Instance, NotebookSpec

Object = dict[str, Any]
PARTS = ("secrets", "persistentvolumeclaims", "services", "statefulsets", "ingresses")
"""What an instance is made of."""
NOTHING = dict.fromkeys(PARTS, 0)
WHOLE = {**dict.fromkeys(PARTS, 1), "secrets": 2}
"""How many of each kind an instance has: of Secrets its claim and its token."""
_SYSTEM = ("kubernetes", "kube-root-ca.crt")


@dataclass
class World:
    """A namespace of a cluster, and servers that run instances in it."""

    kubeconfig: Path
    namespace: str
    folder: Path
    client: ApiClient
    standin: Cluster | None = None
    opened: list[ClusterBackend] = field(default_factory=list)
    number: int = 0

    def server(self, **settings: object) -> ClusterBackend:
        """A server, begun."""
        backend = self.idle_server(**settings)
        backend.open()
        return backend

    def idle_server(self, seconds_ahead: float = 0.0, **settings: object) -> ClusterBackend:
        """A server that has not begun, and does nothing by itself; its clock may be ahead."""
        given = {
            "namespace": self.namespace,
            "backend": "kubernetes",
            "kubeconfig": str(self.kubeconfig),
            "public_url": "https://{instance}.nb.example.org",
            **settings,
        }
        config = load_config(self.folder, None, {}, {f"instances.{key}": value for key, value in given.items()})
        backend = ClusterBackend(config, lambda message: None, lambda: time.time() + seconds_ahead)
        self.opened.append(backend)
        return backend

    def instance(self, name: str = "", **spec: Any) -> Instance:
        """The record of an instance that is to be made, of a name that no other test has."""
        self.number += 1
        name, created = name or f"nb{uuid.uuid4().hex[:6]}", int(time.time())
        base = {
            "owner": "alice",
            "resources": "cpu=1,memory=1Gi",
            "environment": EnvironmentSpec("env", "quay.io/x/y:1"),
        }
        asked = NotebookSpec(name=name, namespace=self.namespace, **{**base, **spec})
        place = f"notebook-{created}-{self.number:04d}-{name}"
        return Instance(f"notebook_{created}_{self.number:04d}", place, asked, float(created))

    def objects(self, plural: str) -> list[Object]:
        """All objects of a kind that somebody made."""
        core, apps, network = CoreV1Api(self.client), AppsV1Api(self.client), NetworkingV1Api(self.client)
        listing: dict[str, Callable[[str], Any]] = {
            "secrets": core.list_namespaced_secret,
            "persistentvolumeclaims": core.list_namespaced_persistent_volume_claim,
            "services": core.list_namespaced_service,
            "pods": core.list_namespaced_pod,
            "statefulsets": apps.list_namespaced_stateful_set,
            "ingresses": network.list_namespaced_ingress,
        }
        found = self.client.sanitize_for_serialization(listing[plural](self.namespace))["items"]
        return [one for one in found if one["metadata"]["name"] not in _SYSTEM]

    def of(self, plural: str, instance: Instance) -> list[Object]:
        """The objects of a kind that an instance has."""
        marks = (instance.place, f'"{instance.spec.name}"', f"nbfolio-{instance.spec.name}")
        return [one for one in self.objects(plural) if any(mark in json.dumps(one) for mark in marks)]

    def has(self, instance: Instance) -> dict[str, int]:
        """How many objects of which kind an instance has."""
        return {plural: len(self.of(plural, instance)) for plural in PARTS}


def client_of(kubeconfig: Path) -> ApiClient:
    return kubernetes.config.new_client_from_config(str(kubeconfig))


@contextmanager
def standin_world(folder: Path) -> Iterator[tuple[World, Cluster]]:
    """A world whose cluster is the stand-in, and that."""
    with cluster() as one:
        path = one.kubeconfig(folder)
        with client_of(path) as client:
            world = World(path, "default", folder, client, one)
            yield world, one
            # A fault that a test left must not hold up the end.
            one.mend()
            for backend in world.opened:
                backend.close()


def becomes(backend: Backend, instance: Instance, status: str, reason: str | None = None) -> None:
    """Wait until an instance is as it should be."""

    def so() -> bool:
        found = backend.observe(instance)
        return found.status == status and reason in (None, found.reason)

    until(so, lambda: backend.observe(instance))


def gone(world: World, backend: Backend, instance: Instance) -> None:
    """Wait until nothing is left of an instance."""
    until(lambda: backend.find(instance.id) is None)
    until(lambda: world.has(instance) == NOTHING, lambda: world.has(instance))


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """What calls give or raise that are made at the same time."""
    results: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            results[index] = calls[index]()
        except InstanceError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
