"""The controllers, the scheduler and the kubelet of the stand-in: what becomes of objects by itself."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from typing import Any, NamedTuple

from cluster_objects import FOREGROUND, PVC_PROTECTION, Object, Store, owners
from cluster_rules import RefusedError, finalizers

DO = "test.nbfolio.org/do"
"""Annotation of a pod template that says what becomes of its pods, where `Cluster.behave` did not."""
NODE = "node-1"
QUOTA = "exceeded quota: team, requested: requests.cpu=2, used: requests.cpu=4, limited: requests.cpu=4"
CPUS = (
    "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found."
)
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
NO_CLASS = 'storageclass.storage.k8s.io "fast" not found'
PULL = 'failed to pull and unpack image "x": not found'


class Told(NamedTuple):
    """An event."""

    type: str
    reason: str
    message: str
    of: str = "pod"
    """Or `set`, or `claim`."""


class Life(NamedTuple):
    """How a pod is, and what is told of it on the way there."""

    state: Object
    """State of its container."""
    told: tuple[Told, ...] = ()
    ready: bool = False
    last: Object | None = None
    """State of its container before a restart."""
    phase: str = "Pending"
    unscheduled: tuple[str, str] | None = None
    """Reason and message, for as long as it has no node."""
    reason: str = ""
    """Of the pod itself, with its message."""
    message: str = ""
    before: tuple[str, ...] = ()
    """How it was on the way there."""


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that waits."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def ended(code: int, reason: str) -> Object:
    """The state of a container that ended."""
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    return {"terminated": {"exitCode": code, "reason": reason, "containerID": "containerd://1", **times}}


CREATING = waiting("ContainerCreating")
GOING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
BACK_OFF = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=notebook pod=x")
SCHEDULED = Told("Normal", "Scheduled", f"Successfully assigned to {NODE}")
RESTARTING = Told("Warning", "BackOff", "Back-off restarting failed container notebook in pod x")
PULLING = Told("Normal", "Pulling", 'Pulling image "x"')
STARTED = (Told("Normal", "Pulled", 'Successfully pulled image "x"'), Told("Normal", "Started", "Started container"))
FAILED_PULL = Told("Warning", "Failed", f'Failed to pull image "x": {PULL}')
LIVES: dict[str, Life] = {
    "hold": Life(CREATING, (SCHEDULED,)),
    "pulling": Life(CREATING, (PULLING,), before=("hold",)),
    "notready": Life(GOING, STARTED, phase="Running", before=("hold", "pulling")),
    "run": Life(GOING, phase="Running", ready=True, before=("hold", "pulling", "notready")),
    "atonce": Life(GOING, phase="Running", ready=True),
    "stuck": Life(GOING, phase="Running", ready=True, before=("hold",)),
    "fail": Life(ended(1, "Error"), phase="Running", before=("hold", "notready")),
    "succeed": Life(ended(0, "Completed"), phase="Running", before=("hold", "notready")),
    "killed": Life(ended(137, "OOMKilled"), phase="Running", before=("hold", "notready")),
    "crash": Life(BACK_OFF, (RESTARTING,), last=ended(1, "Error"), phase="Running", before=("hold", "fail")),
    "oom": Life(BACK_OFF, (RESTARTING,), last=ended(137, "OOMKilled"), phase="Running", before=("hold", "killed")),
    "errimagepull": Life(waiting("ErrImagePull", PULL), (FAILED_PULL,), before=("hold", "pulling")),
    "imagepull": Life(
        waiting("ImagePullBackOff", f'Back-off pulling image "x": {PULL}'),
        (Told("Normal", "BackOff", 'Back-off pulling image "x"'),),
        before=("hold", "pulling", "errimagepull"),
    ),
    "imagename": Life(waiting("InvalidImageName", 'Failed to apply default image tag "x y"'), before=("hold",)),
    "imagenever": Life(waiting("ErrImageNeverPull", 'Container image "x" is not present'), before=("hold",)),
    "config": Life(waiting("CreateContainerConfigError", 'secret "x" not found'), before=("hold",)),
    "container": Life(waiting("CreateContainerError", "context deadline exceeded"), before=("hold", "pulling")),
    "runerror": Life(waiting("RunContainerError", "exec: jupyter: not found"), before=("hold", "pulling")),
    "initializing": Life(waiting("PodInitializing"), (SCHEDULED,)),
    "mount": Life(
        CREATING,
        (Told("Warning", "FailedMount", "MountVolume.SetUp failed for volume x: timed out"),),
        before=("hold",),
    ),
    "attach": Life(
        CREATING,
        (Told("Warning", "FailedAttachVolume", "Multi-Attach error for volume x"),),
        before=("hold",),
    ),
    "evict": Life(
        ended(137, "Error"), phase="Failed", reason="Evicted", message="The node was low on memory.", before=("run",)
    ),
    "unschedulable": Life({}, (Told("Warning", "FailedScheduling", CPUS),), unscheduled=("Unschedulable", CPUS)),
    "gated": Life({}, unscheduled=("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")),
    "schedulererror": Life({}, unscheduled=("SchedulerError", "selected node is gone")),
    "volume": Life(
        {},
        (Told("Warning", "ProvisioningFailed", NO_CLASS, "claim"), Told("Warning", "FailedScheduling", UNBOUND)),
        unscheduled=("Unschedulable", UNBOUND),
    ),
}
NO_POD = ("quota", "nothing")
"""Beside them: the pod is refused, or whoever creates pods is away."""


def pod_status(pod: Object, life: Life, now: str) -> Object:
    """The status of a pod."""
    if life.unscheduled:
        reason, message = life.unscheduled
        condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        return {"phase": "Pending", "conditions": [condition | {"lastTransitionTime": now}], "qosClass": "Burstable"}
    ready = {"Initialized": True, "Ready": life.ready, "ContainersReady": life.ready, "PodScheduled": True}
    conditions: list[Object] = [
        {"type": key, "status": str(value), "lastTransitionTime": now}
        | ({} if value else {"reason": "ContainersNotReady", "message": "containers with unready status: [notebook]"})
        for key, value in ready.items()
    ]
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": life.ready,
            "started": "running" in life.state,
            "restartCount": 2 if life.last else 0,
            "state": life.state,
            "lastState": life.last or {},
        }
        for container in pod["spec"]["containers"]
    ]
    done = {"ready": True, "started": False, "restartCount": 0, "imageID": "", "lastState": {}}
    steps = [
        {"name": one["name"], "image": one["image"], **done, "state": ended(0, "Completed")}
        for one in pod["spec"].get("initContainers") or ()
    ]
    more: Object = {"reason": life.reason, "message": life.message} if life.reason else {}
    if steps:
        more["initContainerStatuses"] = steps
    if life.phase == "Running":
        more |= {"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}
    base = {"phase": life.phase, "hostIP": "192.168.0.1", "startTime": now, "qosClass": "Burstable"}
    return {**base, "conditions": conditions, "containerStatuses": containers, **more}


class Controllers:
    """A thread in which objects come to be as they were asked to, until `end`."""

    def __init__(self, store: Store) -> None:
        self.behaviours: dict[str, str] = {}
        """By name of a StatefulSet or of a pod without one."""
        self._store = store
        self._done: dict[str, str] = {}
        """What was done with a pod, or with a StatefulSet without one, by uid."""
        self._woken = True
        self._ended = False
        self._seen = -1
        self._thread = threading.Thread(target=self._run, name="stand-in controllers")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Cease."""
        with self._store.changed:
            self._ended = True
            self._store.changed.notify_all()
        self._thread.join()

    def behave(self, name: str, what: str) -> None:
        """Say what becomes of pods."""
        if what not in LIVES and what not in NO_POD:
            raise ValueError(what)
        with self._store.changed:
            self.behaviours[name] = what
            self._woken = True
            self._store.changed.notify_all()

    def _run(self) -> None:
        changed = self._store.changed
        with changed:
            while not self._ended:
                if not self._woken and self._seen == self._store.version:
                    changed.wait()
                    continue
                self._woken, self._seen = False, self._store.version
                for step in (self._collect, self._sets, self._pods, self._claims, self._namespaces):
                    step()

    def _collect(self) -> None:
        kinds = ("statefulsets", "pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "ingresses")
        all_objects = [(plural, one) for plural in kinds for one in self._store.all(plural)]
        there = {one["metadata"]["uid"]: one for _, one in all_objects}
        blocked: set[str] = set()
        for plural, one in all_objects:
            parents = [there.get(reference["uid"]) for reference in owners(one)]
            leaving = [parent for parent in parents if parent and FOREGROUND in finalizers(parent)]
            blocked.update(parent["metadata"]["uid"] for parent in leaving)
            if parents and (leaving or not any(parents)) and "deletionTimestamp" not in one["metadata"]:
                self._store.delete(plural, one["metadata"]["namespace"], one["metadata"]["name"], {})
        for plural, one in all_objects:
            if FOREGROUND in finalizers(one) and one["metadata"]["uid"] not in blocked:
                self._release(plural, one, FOREGROUND)

    def _release(self, plural: str, one: Object, finalizer: str) -> None:
        meta = one["metadata"]
        left = [name for name in finalizers(one) if name != finalizer]
        self._store.patch(plural, meta["namespace"], meta["name"], {"metadata": {"finalizers": left or None}})

    def _sets(self) -> None:
        for one in self._store.all("statefulsets"):
            meta, spec = one["metadata"], one["spec"]
            namespace, name = meta["namespace"], f"{meta['name']}-0"
            pod = self._store.find("pods", namespace, name)
            mine = pod is not None and any(owner["uid"] == meta["uid"] for owner in owners(pod))
            if "deletionTimestamp" not in meta:
                if spec["replicas"] and pod is None:
                    self._create_pod(one, name)
                elif not spec["replicas"] and pod is not None and mine and "deletionTimestamp" not in pod["metadata"]:
                    self._store.delete("pods", namespace, name, {})
                    self._tell(one, Told("Normal", "SuccessfulDelete", f"delete Pod {name} successful"))
            pod = self._store.find("pods", namespace, name)
            count = int(pod is not None)
            ready = int(bool(pod and pod["status"].get("containerStatuses", [{}])[0].get("ready")))
            status = {"observedGeneration": meta["generation"], "replicas": count, "availableReplicas": ready}
            status |= {"currentReplicas": count, "updatedReplicas": count, "collisionCount": 0}
            self._store.set_status("statefulsets", one, status | ({"readyReplicas": ready} if ready else {}))

    def _create_pod(self, one: Object, name: str) -> None:
        meta, template = one["metadata"], one["spec"]["template"]
        described = template.get("metadata") or {}
        do = self._does(meta["name"], described)
        if do == "nothing" or self._done.get(meta["uid"]) == do:
            return
        revision = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        labels = {"controller-revision-hash": f"{meta['name']}-{revision}", "apps.kubernetes.io/pod-index": "0"}
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"]}
        pod = {
            "metadata": {
                "name": name,
                "labels": {**described.get("labels", {}), **labels, "statefulset.kubernetes.io/pod-name": name},
                "annotations": described.get("annotations", {}),
                "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
            },
            "spec": {**template["spec"], "hostname": name, "subdomain": one["spec"].get("serviceName", "")},
        }
        failed = f"create Pod {name} in StatefulSet {meta['name']} failed error: "
        try:
            if do == "quota":
                raise RefusedError(403, "Forbidden", f'pods "{name}" is forbidden: {QUOTA}')
            self._store.create("pods", meta["namespace"], pod)
        except RefusedError as refused:
            self._done[meta["uid"]] = do
            self._tell(one, Told("Warning", "FailedCreate", f"{failed}{refused}", "set"))
            return
        self._done.pop(meta["uid"], None)
        self._tell(one, Told("Normal", "SuccessfulCreate", f"create Pod {name} in StatefulSet successful"))

    def _does(self, name: str, described: Object) -> str:
        annotated = (described.get("annotations") or {}).get(DO, "run")
        return self.behaviours.get(name) or self.behaviours.get("*") or annotated

    def _pods(self) -> None:
        for pod in self._store.all("pods"):
            meta = pod["metadata"]
            do = self._does(next((owner["name"] for owner in owners(pod)), meta["name"]), meta)
            if "deletionTimestamp" in meta:
                if do != "stuck" and not finalizers(pod):
                    self._store.remove("pods", pod)
            elif do in LIVES and self._done.get(meta["uid"]) != do:
                before = LIVES[do].before if meta["uid"] not in self._done else ()
                self._done[meta["uid"]] = do
                for step in (*before, do):
                    pod = self._live(pod, LIVES[step])

    def _live(self, pod: Object, life: Life) -> Object:
        claims = [
            claim
            for volume in pod["spec"].get("volumes") or ()
            if (wanted := (volume.get("persistentVolumeClaim") or {}).get("claimName"))
            and (claim := self._store.find("persistentvolumeclaims", pod["metadata"]["namespace"], wanted))
        ]
        for claim in claims if not life.unscheduled else ():
            bound = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"]}
            volume = {"volumeName": f"pvc-{claim['metadata']['uid']}"}
            self._store.set_status("persistentvolumeclaims", claim, bound, volume)
        for told in life.told:
            for about in claims if told.of == "claim" else [pod]:
                self._tell(about, told)
        spec = {} if life.unscheduled else {"nodeName": NODE}
        return self._store.set_status("pods", pod, pod_status(pod, life, self._store.now()), spec)

    def _claims(self) -> None:
        used = {
            (pod["metadata"]["namespace"], (volume.get("persistentVolumeClaim") or {}).get("claimName"))
            for pod in self._store.all("pods")
            for volume in pod["spec"].get("volumes") or ()
        }
        for claim in self._store.all("persistentvolumeclaims"):
            meta = claim["metadata"]
            free = (meta["namespace"], meta["name"]) not in used
            if "deletionTimestamp" in meta and free and PVC_PROTECTION in finalizers(claim):
                self._release("persistentvolumeclaims", claim, PVC_PROTECTION)

    def _namespaces(self) -> None:
        for one in self._store.all("namespaces"):
            if "deletionTimestamp" in one["metadata"]:
                name, left = one["metadata"]["name"], 0
                for plural in ("statefulsets", "pods", "ingresses", "services", "secrets", "configmaps", "events"):
                    left += self._empty(plural, name)
                if not left + self._empty("persistentvolumeclaims", name) and not finalizers(one):
                    self._store.remove("namespaces", one)

    def _empty(self, plural: str, namespace: str) -> int:
        for one in self._store.all(plural, namespace):
            if "deletionTimestamp" not in one["metadata"]:
                self._store.delete(plural, namespace, one["metadata"]["name"], {})
        return len(self._store.all(plural, namespace))

    def _tell(self, about: Object, told: Told) -> None:
        meta, now = about["metadata"], self._store.now()
        source = {"Pod": "kubelet", "StatefulSet": "statefulset-controller"}.get(
            about["kind"], "persistentvolume-controller"
        )
        event: dict[str, Any] = {
            "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "type": told.type,
            "reason": told.reason,
            "message": told.message,
            "source": {"component": source},
            "reportingComponent": source,
            "reportingInstance": NODE if about["kind"] == "Pod" else "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "eventTime": None,
            "count": 1,
        }
        self._store.create("events", meta["namespace"], event)
