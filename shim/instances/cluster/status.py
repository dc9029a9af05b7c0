"""How an instance is, from what the cluster knows of it: the first line that applies, in `observe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.instances.backend import (
    CREATING,
    LONGEST_REASON,
    NOT_FOUND,
    RUNNING,
    TERMINATING,
    UNANSWERED,
    Observed,
    Status,
)
from shim.instances.cluster.evidence import condition, events_of, going, made, moment, number, part, parts, text
from shim.instances.cluster.manifests import CONTAINER

if TYPE_CHECKING:
    from shim.instances.cluster.evidence import Evidence, Object

GRACE_SECONDS = 30.0
"""How long the StatefulSet of a new instance may be unknown here."""
INSTALLING = "The packages of the environment are being installed"
STOPPED = "The notebook instance is stopped"
HOPELESS = frozenset(
    {
        *("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Why a container waits where waiting seldom helps; it still counts as running again when it does."""
_ON_THE_WAY = ("creating", "waiting", "pulling")


def observe(evidence: Evidence, start_seconds: float, now: float) -> Observed:
    """How an instance is at a time; whatever the evidence looks like, this raises nothing."""
    found = _observe(evidence, now)
    if found.status in _ON_THE_WAY and now - _waiting_since(evidence) > start_seconds:
        found = Observed("failed", f"Timed out: {found.reason}")
    return Observed(found.status, found.reason[:LONGEST_REASON])


def _observe(evidence: Evidence, now: float) -> Observed:
    stateful_set, pod = evidence.stateful_set, evidence.pod
    if evidence.deleted or going(stateful_set) or going(pod):
        return Observed("terminating", TERMINATING)
    if stateful_set is None:
        missing = evidence.finished and now - max(evidence.created, evidence.started) > GRACE_SECONDS
        return Observed("not_found", NOT_FOUND) if missing else Observed("creating", CREATING)
    if evidence.stopped is not None:
        return Observed("stopped", evidence.stopped or STOPPED) if pod is None else Observed("terminating", TERMINATING)
    if pod is None:
        return _refused(evidence) or _no_volume(evidence) or Observed("creating", CREATING)
    return _ended(pod) or _no_volume(evidence) or _unscheduled(pod) or _containers(evidence, pod)


def _waiting_since(evidence: Evidence) -> float:
    """Since when the pod is not ready: a new one, or one that was."""
    begun = [evidence.created, evidence.started]
    if evidence.pod is not None:
        begun += [made(evidence.pod), moment(text(condition(evidence.pod, "Ready"), "lastTransitionTime"))]
    return max(begun)


def _refused(evidence: Evidence) -> Observed | None:
    """No pod, because of a quota, a limit or a policy."""
    last = next(iter(events_of(evidence.stateful_set, evidence.events)), None)
    return _told("failed", last) if last and text(last, "reason") == "FailedCreate" else None


def _no_volume(evidence: Evidence) -> Observed | None:
    if text(part(evidence.volume, "status"), "phase") != "Pending":
        return None
    # A provisioner repeats meanwhile that it is at work.
    events = events_of(evidence.volume, evidence.events)
    why = [one for one in events if text(one, "reason") in ("ProvisioningFailed", "FailedBinding")]
    return _told("waiting", why[0]) if why else None


def _ended(pod: Object) -> Observed | None:
    """The whole pod is over: evicted, or its node is lost."""
    status = part(pod, "status")
    if text(status, "phase") != "Failed" or not text(status, "reason"):
        return None
    return _told("failed", status)


def _unscheduled(pod: Object) -> Observed | None:
    found = condition(pod, "PodScheduled")
    if found.get("status") != "False":
        return None
    return _told("failed" if text(found, "reason") == "SchedulerError" else "waiting", found)


def _containers(evidence: Evidence, pod: Object) -> Observed:
    status = part(pod, "status")
    for step in parts(status, "initContainerStatuses"):
        ended = part(step, "state", "terminated")
        if not ended or number(ended, "exitCode"):
            return _container(evidence, pod, step, Observed("creating", INSTALLING))
    main = next((one for one in parts(status, "containerStatuses") if one.get("name") == CONTAINER), {})
    ready = condition(pod, "Ready").get("status") == "True"
    up = Observed("running", RUNNING) if ready else Observed("creating", UNANSWERED)
    return _container(evidence, pod, main, up)


def _container(evidence: Evidence, pod: Object, container: Object, up: Observed) -> Observed:
    """How a container is; `up` when it runs."""
    state = part(container, "state")
    if isinstance(state.get("waiting"), dict):
        return _waiting(evidence, pod, container, part(state, "waiting"))
    if isinstance(state.get("terminated"), dict):
        ended = part(state, "terminated")
        return Observed("failed", f"{text(ended, 'reason') or 'Error'}: exit code {number(ended, 'exitCode')}")
    if isinstance(state.get("running"), dict):
        return up
    return Observed("creating", CREATING)


def _waiting(evidence: Evidence, pod: Object, container: Object, waiting: Object) -> Observed:
    reason = text(waiting, "reason")
    if reason in ("", "ContainerCreating", "PodInitializing"):
        return _preparing(evidence, pod, reason)
    if reason == "CrashLoopBackOff":
        last = part(container, "lastState", "terminated")
        cause = text(last, "reason") or "Error"
        return Observed("failed", f"CrashLoopBackOff: last exit {number(last, 'exitCode')} ({cause})")
    return _told("failed" if reason in HOPELESS else "waiting", waiting)


def _preparing(evidence: Evidence, pod: Object, reason: str) -> Observed:
    """The last event tells whether the node pulls the image, or cannot do what it has to."""
    last = next(iter(events_of(pod, evidence.events)), {})
    if text(last, "reason") == "Pulling":
        return Observed("pulling", text(last, "message") or CREATING)
    # What kept the scheduler from it is over once a container waits.
    if text(last, "type") == "Warning" and text(last, "reason") != "FailedScheduling":
        return _told("waiting", last)
    return Observed("waiting", reason) if reason == "ContainerCreating" else Observed("creating", CREATING)


def _told(status: Status, one: Object) -> Observed:
    """A status with the reason and the message of whatever tells it."""
    said = ": ".join(filter(None, (text(one, "reason"), text(one, "message"))))
    return Observed(status, said or (CREATING if status in _ON_THE_WAY else "Error"))
