"""Whether a server offers instances, and everything about them put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.instances.culling import Culler
from shim.instances.environments import Environments
from shim.instances.instances import Instances
from shim.startup import is_loopback

if TYPE_CHECKING:
    from builder.config import Config
    from shim.instances.backend import Backend
    from shim.state import State

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Offer:
    """The parts, of which routes use the first; a context manager that starts and ends their threads."""

    instances: Instances
    backend: Backend
    culler: Culler | None

    def __enter__(self) -> Offer:
        self.backend.open()
        if self.culler:
            self.culler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.culler:
            self.culler.stop()
        self.backend.close()


def make_offer(config: Config, state: State, say: Callable[[str], None]) -> Offer | str:
    """The instances that the settings ask for, or a sentence why there are none."""
    settings = config.instances
    backend = _backend(config, state, say)
    if isinstance(backend, str):
        return backend
    environments = Environments(state, settings.environment)
    culler = Culler(backend, settings.idle_minutes) if settings.idle_minutes else None
    return Offer(Instances(settings, backend, environments), backend, culler)


def wants_cluster(config: Config, environ: Mapping[str, str] = os.environ, account: Path = _ACCOUNT) -> bool:
    """Whether instances run on Kubernetes: as the settings say, or because this server does or knows a cluster."""
    settings = config.instances
    if settings.backend == "auto":
        return bool(settings.kubeconfig) or ("KUBERNETES_SERVICE_HOST" in environ and account.exists())
    return settings.backend == "kubernetes"


def _backend(config: Config, state: State, say: Callable[[str], None]) -> Backend | str:
    # Imported here: either needs libraries of its own.
    if wants_cluster(config):
        from shim.instances.cluster.backend import ClusterBackend, available

        return available(config) or ClusterBackend(config, say)
    if not is_loopback(config.server.host):
        return (
            f"Instances of this machine are reached on this machine alone, and server.host is {config.server.host}; "
            "others need Kubernetes (instances.backend) and instances.public_url."
        )
    from shim.instances.local.backend import LocalBackend

    return LocalBackend.available() or LocalBackend(config, state, say)
