"""The objects of an instance, as Kubernetes wants them: from its record and the settings, without asking anybody."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from shim.instances.cluster.packages import install_steps
from shim.instances.records import instance_of, to_text

if TYPE_CHECKING:
    from builder.settings import Instances as Settings
    from shim.instances.records import Instance

Object = dict[str, Any]
"""A Kubernetes object, as JSON has it."""

PORT = 8888
HOME = "/home/jovyan"
"""Where the volume of an instance is; images of the Jupyter project run as its owner."""
CONTAINER = "notebook"
MANAGED = {"app.kubernetes.io/managed-by": "nbfolio"}
"""The label of all that is ours; by it things are found again."""
MINE = ",".join(f"{key}={value}" for key, value in MANAGED.items())
"""The same as a label selector."""
PLACE = "nbfolio.org/instance"
"""As a label the place of the instance, as an annotation of its claim the record."""
STOPPED = "nbfolio.org/stopped"
"""Annotation of a claim: why its instance shall not run."""
STARTED = "nbfolio.org/started"
"""Annotation of a claim: when it was started the last time, in seconds since 1970."""
UNFINISHED = "nbfolio.org/unfinished"
"""Annotation of a claim: what was begun and has not ended, one of `Unfinished`."""
MADE = "nbfolio.org/made"
"""Annotation of a claim: a number that nobody else has, by which whoever made it knows it again."""
OWNER = "nbfolio.org/owner"
NAME = "nbfolio.org/name"
MADE_FOR = "nbfolio.org/made-for"
"""Annotation of a volume: the uid of the claim that it was made for; later ones may use it again."""
USER_LABELS = "nbfolio.org/label."
"""What begins the annotations that stand for the labels of users."""

Unfinished = Literal["creation", "undoing", "deletion", "deletion-keeping-volume"]


def labels(place: str) -> dict[str, str]:
    """What the objects of an instance are found by; only ours, for those of users could select for other Services."""
    return {"app.kubernetes.io/name": "nbfolio-instance", **MANAGED, PLACE: place}


def claim_name(name: str) -> str:
    """The name of the Secret that takes the name of an instance, which is unique in a namespace by that."""
    return f"nbfolio-{name}"


def volume_name(instance: Instance) -> str:
    """The name of the volume with the files of an instance; the same for another one of its owner with its name."""
    return f"nbfolio-{instance.spec.name}-{sha256(instance.spec.owner.encode()).hexdigest()[:8]}"


def claim(instance: Instance, namespace: str, mark: str) -> Object:
    """The Secret that is made first and deleted last: name and record of an instance; a Secret for its variables.

    No pod may refer to it: its name is free for others while the pod of the instance before may still be there.
    """
    told = {PLACE: to_text(instance), UNFINISHED: "creation", MADE: mark}
    meta = {"name": claim_name(instance.spec.name), "namespace": namespace, "labels": labels(instance.place)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "annotations": told}, "type": "Opaque"}


def record_of(found: Object) -> Instance | None:
    """The record that a claim holds, with its uid and whether it is stopped; None for what is no claim, or damaged."""
    try:
        meta = found["metadata"]
        record = _record(meta["annotations"][PLACE], meta["uid"], meta["annotations"].get(STOPPED))
        return record if meta["name"] == claim_name(record.spec.name) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@lru_cache(maxsize=4096)
def _record(text: str, uid: str, stopped: str | None) -> Instance:
    # Whoever looks for one instance looks at all of them.
    return replace(instance_of(text), uid=uid, stopped=stopped)


def token(instance: Instance, settings: Settings, value: str) -> Object:
    """The Secret with the token of an instance, of a name that no other instance ever has."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(instance, settings),
        "type": "Opaque",
        "data": {"token": base64.b64encode(value.encode()).decode()},
    }


def token_of(found: Object) -> str:
    """The token that such a Secret holds; "" where that cannot be read."""
    try:
        return base64.b64decode(found["data"]["token"], validate=True).decode()
    except (ValueError, TypeError, KeyError):
        return ""


def volume(instance: Instance, settings: Settings) -> Object:
    """The PersistentVolumeClaim with the files of an instance; nothing of it depends on the instance's place."""
    told = {OWNER: instance.spec.owner, NAME: instance.spec.name, MADE_FOR: instance.uid}
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": settings.storage}}}
    if settings.storage_class:
        spec["storageClassName"] = settings.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": volume_name(instance),
            "namespace": settings.namespace,
            "labels": {"app.kubernetes.io/name": "nbfolio-instance", **MANAGED},
            "annotations": told,
        },
        "spec": spec,
    }


def service(instance: Instance, settings: Settings) -> Object:
    """The Service by which the Ingress and this server reach an instance."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(instance, settings),
        "spec": {
            "type": "ClusterIP",
            "selector": {PLACE: instance.place},
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def public_url(instance: Instance, settings: Settings) -> str:
    """Where browsers reach an instance, without a final slash."""
    return settings.public_url.replace("{instance}", instance.place).rstrip("/")


def ingress(instance: Instance, settings: Settings) -> Object:
    """The Ingress that leads the host of an instance to it."""
    parts = urlsplit(public_url(instance, settings))
    backend = {"service": {"name": instance.place, "port": {"number": PORT}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: Object = {"rules": [{"host": parts.hostname, "http": {"paths": [path]}}]}
    if settings.ingress_class:
        spec["ingressClassName"] = settings.ingress_class
    if parts.scheme == "https":
        secret = {"secretName": settings.tls_secret} if settings.tls_secret else {}
        spec["tls"] = [{"hosts": [parts.hostname], **secret}]
    meta = _meta(instance, settings)
    # Others do not know it; without it nginx refuses to save a notebook of more than a megabyte.
    meta["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] = "0"
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}


def stateful_set(instance: Instance, settings: Settings, resources: dict[str, str]) -> Object:
    """The StatefulSet that runs the one pod of an instance; `resources` are what it gets, by their names."""
    meta = _meta(instance, settings)
    pod = {"labels": meta["labels"], "annotations": dict(meta["annotations"])}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "serviceName": instance.place,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {PLACE: instance.place}},
            "template": {"metadata": pod, "spec": _pod(instance, settings, resources)},
        },
    }


def literal(text: str) -> str:
    """A text as it has to stand in variables and arguments, where Kubernetes would replace $(NAME)."""
    return text.replace("$", "$$")


def _meta(instance: Instance, settings: Settings) -> Object:
    told = {OWNER: instance.spec.owner, NAME: instance.spec.name}
    told |= {f"{USER_LABELS}{number}": f"{key}={value}" for number, (key, value) in _user_labels(instance)}
    meta: Object = {"name": instance.place, "namespace": settings.namespace, "labels": labels(instance.place)}
    # The cluster itself removes what is left when the claim is gone.
    owner = {"apiVersion": "v1", "kind": "Secret", "name": claim_name(instance.spec.name), "uid": instance.uid}
    return {**meta, "annotations": told, "ownerReferences": [owner]}


def _user_labels(instance: Instance) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(sorted((instance.spec.labels or {}).items()), 1))


def _pod(instance: Instance, settings: Settings, resources: dict[str, str]) -> Object:
    image, memory = instance.spec.environment.docker_image, resources.get("memory")
    shared: Object = {"medium": "Memory", **({"sizeLimit": memory} if memory else {})}
    mounts = [{"name": "home", "mountPath": HOME}]
    locked = {"allowPrivilegeEscalation": False, "privileged": False, "capabilities": {"drop": ["ALL"]}}
    common: Object = {"image": image, "workingDir": HOME, "securityContext": locked}
    # A quota may ask for limits of every container; graphics processors are of no use to those that prepare.
    modest = {key: value for key, value in resources.items() if "/" not in key}
    steps = [
        {**common, **step, "env": _home(), "volumeMounts": mounts, "resources": _both(modest)}
        for step in install_steps(instance.spec.environment)
    ]
    main: Object = {
        **common,
        "name": CONTAINER,
        "command": ["jupyter", "lab"],
        "args": ["--ip=0.0.0.0", f"--port={PORT}", "--no-browser", *_server_options()],
        "env": _variables(instance),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _both(resources),
        "volumeMounts": [*mounts, {"name": "shm", "mountPath": "/dev/shm"}],
        "startupProbe": {**_probe(), "failureThreshold": settings.start_minutes * 60 // _PROBE_SECONDS},
        "readinessProbe": {**_probe(), "failureThreshold": 3},
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 100,
            "runAsNonRoot": True,
            "fsGroup": 100,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": steps} if steps else {}),
        "containers": [main],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": volume_name(instance)}},
            {"name": "shm", "emptyDir": shared},
        ],
    }


_PROBE_SECONDS = 5


def _probe() -> Object:
    # The one address of a Jupyter server that answers without its token.
    asked = {"path": "/api", "port": PORT, "scheme": "HTTP"}
    return {"httpGet": asked, "periodSeconds": _PROBE_SECONDS, "timeoutSeconds": _PROBE_SECONDS}


def _server_options() -> list[str]:
    # The host is that of the Ingress, or the address of the pod when Kubernetes asks how it is.
    return ["--ServerApp.allow_remote_access=True", f"--ServerApp.root_dir={HOME}"]


def _home() -> list[Object]:
    return [{"name": "HOME", "value": HOME}]


def _variables(instance: Instance) -> list[Object]:
    secret = {"name": instance.place, "key": "token"}
    ours = [*_home(), {"name": "JUPYTER_TOKEN", "valueFrom": {"secretKeyRef": secret}}]
    reserved = {variable["name"] for variable in ours}
    theirs = (instance.spec.env_vars or {}).items()
    return [*({"name": key, "value": literal(value)} for key, value in theirs if key not in reserved), *ours]


def _both(resources: dict[str, str]) -> Object:
    return {"requests": dict(resources), "limits": dict(resources)}
