"""What the stand-in of a Kubernetes API server keeps, and the rules by which it lets it change."""

from __future__ import annotations

import base64
import copy
import itertools
import random
import string
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cluster_rules import RefusedError, check, check_change, finalizers

Object = dict[str, Any]
PVC_PROTECTION = "kubernetes.io/pvc-protection"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True)
class Kind:
    """A resource that the stand-in has; all others are answered with 501."""

    api: str
    plural: str
    name: str
    namespaced: bool = True
    answers_deleted: bool = False
    """Whether a deletion at once is answered with the object, and not with a Status."""


KINDS = {
    kind.plural: kind
    for kind in (
        Kind("v1", "namespaces", "Namespace", namespaced=False),
        Kind("v1", "pods", "Pod", answers_deleted=True),
        Kind("v1", "services", "Service", answers_deleted=True),
        Kind("v1", "secrets", "Secret"),
        Kind("v1", "configmaps", "ConfigMap"),
        Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", answers_deleted=True),
        Kind("v1", "events", "Event"),
        Kind("apps/v1", "statefulsets", "StatefulSet"),
        Kind("networking.k8s.io/v1", "ingresses", "Ingress"),
    )
}


class Change(NamedTuple):
    """Something that happened to an object, in the order of all that happened."""

    version: int
    plural: str
    old: Object | None
    new: Object | None


class Store:
    """All objects under one resourceVersion; whatever changes wakes who waits on `changed`. From any thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 1000
        self.compacted = 0
        self.seconds_back = 0.0
        """How far the times that are written lie in the past."""
        self.history: list[Change] = []
        self._objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in KINDS}
        self._addresses = itertools.count(10)

    def now(self) -> str:
        """The time as it is written into objects."""
        return datetime.fromtimestamp(time.time() - self.seconds_back, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        """An object, not to be changed, or None."""
        return self._objects[plural].get((namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """An object, not to be changed; 404 when it is not there."""
        found = self.find(plural, namespace, name)
        if found is None:
            group = KINDS[plural].api.rpartition("/")[0].removesuffix("/")
            raise RefusedError(404, "NotFound", f'{plural}{"." + group if group else ""} "{name}" not found')
        return found

    def all(self, plural: str, namespace: str = "") -> list[Object]:
        """The objects of a kind, by namespace and name; none of them to be changed."""
        found = sorted(self._objects[plural].items())
        return [one for (of, _), one in found if not namespace or of == namespace]

    def create(self, plural: str, namespace: str, body: Object, dry: bool = False) -> Object:
        """Create an object."""
        kind, new = KINDS[plural], copy.deepcopy(body)
        meta = new["metadata"] = {**(new.get("metadata") or {})}
        if meta.get("resourceVersion"):
            raise RefusedError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(random.choices(string.ascii_lowercase, k=5))
        if meta.setdefault("namespace", namespace) != namespace:
            raise RefusedError(400, "BadRequest", "the namespace of the provided object does not match the request")
        with self.changed:
            self._check_namespace(kind, namespace)
            if not kind.namespaced:
                del meta["namespace"]
            new.update(apiVersion=kind.api, kind=kind.name)
            new.pop("status", None)
            check(kind.name, new)
            there = self.find(plural, namespace, meta["name"])
            if there is not None:
                going = "object is being deleted: " if "deletionTimestamp" in there["metadata"] else ""
                raise RefusedError(409, "AlreadyExists", f'{going}{plural} "{meta["name"]}" already exists')
            for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
                meta.pop(key, None)
            meta.update(uid=str(uuid.uuid4()), creationTimestamp=self.now())
            self._complete(kind, new)
            if not dry:
                self._put(plural, None, new)
            return new

    def replace(self, plural: str, namespace: str, name: str, body: Object, dry: bool = False) -> Object:
        """Replace an object whole."""
        return self._change(plural, namespace, name, lambda old: copy.deepcopy(body), dry)

    def patch(self, plural: str, namespace: str, name: str, patch: Object, dry: bool = False) -> Object:
        """Merge something into an object."""
        return self._change(plural, namespace, name, lambda old: merged(old, patch), dry)

    def set_status(self, plural: str, old: Object, status: Object, spec: Object | None = None) -> Object:
        """What controllers write; no change when it is so already."""
        with self.changed:
            if old["status"] == status and old["spec"].items() >= (spec or {}).items():
                return old
            meta = dict(old["metadata"])
            return self._put(
                plural, old, old | {"metadata": meta, "spec": old["spec"] | (spec or {}), "status": status}
            )

    def delete(self, plural: str, namespace: str, name: str, options: Object, dry: bool = False) -> Object:
        """Delete an object, or mark it as being deleted where something holds it."""
        with self.changed:
            old = self.get(plural, namespace, name)
            for key, wanted in (options.get("preconditions") or {}).items():
                if wanted is not None and wanted != old["metadata"][key]:
                    told = (
                        f"the {key.upper()} in the precondition ({wanted}) does not match the {key.upper()} in record"
                    )
                    raise RefusedError(409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": {told}')
            new = copy.deepcopy(old)
            if options.get("propagationPolicy") == "Foreground" and FOREGROUND not in finalizers(new):
                new["metadata"]["finalizers"] = [*finalizers(new), FOREGROUND]
            held = _runs(plural, new) and options.get("gracePeriodSeconds") != 0
            if held or finalizers(new) or plural == "namespaces":
                if "deletionTimestamp" not in new["metadata"]:
                    new["metadata"] |= {
                        "deletionTimestamp": self.now(),
                        "deletionGracePeriodSeconds": 30 if held else 0,
                    }
                    if plural == "namespaces":
                        new["status"] = {"phase": "Terminating"}
                if not dry and new != old:
                    return self._put(plural, old, new)
            elif not dry:
                self.remove(plural, new)
            return new

    def remove(self, plural: str, old: Object) -> None:
        """Take an object away."""
        with self.changed:
            self._put(plural, old, None)

    def since(self, place: int, plural: str, namespace: str) -> tuple[list[Change], int]:
        """What happened to a kind since a place in the history, and the place up to which that is."""
        with self.changed:
            changes = [one for one in self.history[place:] if one.plural == plural]
            return [one for one in changes if not namespace or _of(one) == namespace], len(self.history)

    def _change(self, plural: str, namespace: str, name: str, make: Callable[[Object], Object], dry: bool) -> Object:
        with self.changed:
            old = self.get(plural, namespace, name)
            new = make(old)
            before, meta = old["metadata"], new.get("metadata") or {}
            for key in ("uid", "resourceVersion"):
                if meta.get(key) and meta[key] != before[key]:
                    told = "the object has been modified; please apply your changes to the latest version and try again"
                    raise RefusedError(409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": {told}')
            if meta.get("name") != name or meta.get("namespace", namespace) != namespace:
                raise RefusedError(400, "BadRequest", "the name of the object does not match the name on the URL")
            fixed = ("uid", "resourceVersion", "creationTimestamp", "namespace", "generation")
            kept = {key: before[key] for key in (*fixed, *_DELETION) if key in before}
            new["metadata"] = {key: value for key, value in meta.items() if key not in _DELETION} | kept
            new |= {"apiVersion": old["apiVersion"], "kind": old["kind"]} | _part(old, "status")
            self._complete(KINDS[plural], new)
            check(old["kind"], new)
            check_change(old, new)
            if new == old or dry:
                return new
            if "deletionTimestamp" in before and not finalizers(new) and not _runs(plural, new):
                self.remove(plural, old)
                return new
            if new.get("spec") != old.get("spec") and "generation" in before:
                new["metadata"]["generation"] = before["generation"] + 1
            return self._put(plural, old, new)

    def _put(self, plural: str, old: Object | None, new: Object | None) -> Object:
        self.version += 1
        one = new if new is not None else copy.deepcopy(old)
        assert one is not None
        one["metadata"]["resourceVersion"] = str(self.version)
        key = (one["metadata"].get("namespace", ""), one["metadata"]["name"])
        if new is None:
            del self._objects[plural][key]
        else:
            self._objects[plural][key] = new
        self.history.append(Change(self.version, plural, old if new is not None else one, new))
        self.changed.notify_all()
        return one

    def _check_namespace(self, kind: Kind, namespace: str) -> None:
        if kind.namespaced:
            home = self.get("namespaces", "", namespace)
            if "deletionTimestamp" in home["metadata"]:
                raise RefusedError(403, "Forbidden", f"namespace {namespace} is being terminated")

    def _complete(self, kind: Kind, new: Object) -> None:
        """What the server itself writes into an object where it was not said."""
        spec = new.setdefault("spec", {}) if kind.name in _DEFAULTS or kind.name == "Namespace" else {}
        for key, value in _DEFAULTS.get(kind.name, {}).items():
            spec.setdefault(key, copy.deepcopy(value))
        meta = new["metadata"]
        if kind.name in ("StatefulSet", "Ingress", "Pod"):
            meta.setdefault("generation", 1)
        if kind.name == "Service":
            spec.setdefault("clusterIP", f"10.96.0.{next(self._addresses)}")
        if kind.name == "PersistentVolumeClaim" and "status" not in new:
            meta["finalizers"] = sorted({*finalizers(new), PVC_PROTECTION})
        if kind.name == "Secret":
            new.setdefault("type", "Opaque")
            texts = (new.pop("stringData", None) or {}).items()
            plain = {key: base64.b64encode(text.encode()).decode() for key, text in texts}
            if plain:
                new["data"] = {**(new.get("data") or {}), **plain}
        first = {"Namespace": "Active", "Pod": "Pending", "PersistentVolumeClaim": "Pending"}.get(kind.name)
        if "status" not in new and (first or spec):
            new["status"] = {"phase": first} if first else {"replicas": 0} if kind.name == "StatefulSet" else {}


_DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")
_DEFAULTS: dict[str, Object] = {
    "StatefulSet": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    },
    "Service": {"type": "ClusterIP", "sessionAffinity": "None"},
    "PersistentVolumeClaim": {"volumeMode": "Filesystem", "storageClassName": "standard"},
    "Pod": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30},
    "Ingress": {},
}


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new


def owners(one: Object) -> Iterator[Object]:
    """The owner references of an object."""
    yield from one["metadata"].get("ownerReferences") or ()


def _runs(plural: str, one: Object) -> bool:
    return plural == "pods" and bool(one["spec"].get("nodeName"))


def _part(old: Object, key: str) -> Object:
    return {key: copy.deepcopy(old[key])} if key in old else {}


def _of(change: Change) -> str:
    one = change.new if change.new is not None else change.old
    assert one is not None
    return str(one["metadata"].get("namespace", ""))
