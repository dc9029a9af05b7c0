"""How an instance is, from what a cluster says: contract 3.4 as a table, and evidence of any form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.instances.backend import CREATING, LONGEST_REASON, NOT_FOUND, RUNNING, TERMINATING, UNANSWERED
from shim.instances.cluster.evidence import Evidence, moment
from shim.instances.cluster.status import INSTALLING, STOPPED, observe

Object = dict[str, Any]
NOW = 1_800_000_000.0
LONG = 600.0


def time_text(ago: float) -> str:
    return datetime.fromtimestamp(NOW - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def meta(uid: str, ago: float = 60, **more: Any) -> Object:
    return {"uid": uid, "creationTimestamp": time_text(ago), **more}


SET: Object = {"metadata": meta("s")}
GOING = {"deletionTimestamp": time_text(1)}


def event(uid: str, reason: str, message: str = "m", kind: str = "Normal", ago: float = 10, version: int = 1) -> Object:
    return {
        "metadata": {"resourceVersion": str(version), "creationTimestamp": time_text(ago)},
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": time_text(ago),
    }


def pod(state: Object | None = None, *, ready: bool = False, ago: float = 60, **status: Any) -> Object:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": time_text(ago)}]
    containers = [{"name": "notebook", "state": state}] if state is not None else []
    base = {"phase": "Pending", "conditions": conditions, "containerStatuses": containers}
    return {"metadata": meta("p", ago), "status": {**base, **status}}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def found(
    one: Object | None = None,
    *events: Object,
    stateful_set: Object | None = SET,
    volume: Object | None = None,
    **more: Any,
) -> tuple[str, str]:
    base: dict[str, Any] = {
        "created": NOW - 60,
        "started": NOW - 60,
        "finished": True,
        "stopped": None,
        "deleted": False,
    }
    evidence = Evidence(**{**base, **more}, stateful_set=stateful_set, pod=one, volume=volume, events=events)
    return observe(evidence, LONG, NOW)


PENDING: Object = {"metadata": meta("v"), "status": {"phase": "Pending"}}
UP = {"running": {}}
CREATED = waiting("ContainerCreating")


def not_scheduled(reason: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes"}
    return pod(conditions=[condition])


def test_deletion_comes_before_everything() -> None:
    gone = {"metadata": meta("x", **GOING)}
    for evidence in (
        found(pod(UP, ready=True), deleted=True),
        found(pod(UP, ready=True), stateful_set=gone),
        found(gone),
        found(None, stateful_set=None, deleted=True),
        found(gone, stopped="why"),
    ):
        assert evidence == ("terminating", TERMINATING)


def test_a_stateful_set_that_is_missing_counts_after_a_while() -> None:
    assert found(stateful_set=None) == ("not_found", NOT_FOUND)
    assert found(stateful_set=None, created=NOW - 5, started=NOW - 5) == ("creating", CREATING)
    assert found(stateful_set=None, finished=False) == ("creating", CREATING)


def test_what_is_stopped_is_stopped_once_its_pod_is_gone() -> None:
    assert found(stopped="Stopped by user") == ("stopped", "Stopped by user")
    assert found(stopped="") == ("stopped", STOPPED)
    assert found(pod(UP, ready=True), stopped="Stopped by user") == ("terminating", TERMINATING)
    assert found(stopped="Stopped by user", created=0, started=0) == ("stopped", "Stopped by user")


def test_no_pod_because_of_a_quota_is_a_failure() -> None:
    quota = event("s", "FailedCreate", "exceeded quota", "Warning")
    assert found(None, quota) == ("failed", "FailedCreate: exceeded quota")
    later = event("s", "SuccessfulCreate", ago=5)
    assert found(None, quota, later) == ("creating", CREATING)
    assert found(None) == ("creating", CREATING)


@pytest.mark.parametrize(
    "stale", [event("another", "FailedCreate"), event("s", "FailedCreate", ago=120), event("", "FailedCreate")]
)
def test_events_of_others_and_of_earlier_do_not_count(stale: Object) -> None:
    assert found(None, stale) == ("creating", CREATING)


def test_a_volume_that_is_not_made_is_the_cause_of_what_waits() -> None:
    failed = event("v", "ProvisioningFailed", "no class", "Warning")
    repeated = event("v", "ExternalProvisioning", "waiting", ago=1)
    for one in (None, not_scheduled("Unschedulable")):
        assert found(one, failed, repeated, volume=PENDING) == ("waiting", "ProvisioningFailed: no class")
    bound = {**PENDING, "status": {"phase": "Bound"}}
    assert found(None, failed, volume=bound) == ("creating", CREATING)


@pytest.mark.parametrize(
    ("reason", "status"), [("Unschedulable", "waiting"), ("SchedulingGated", "waiting"), ("SchedulerError", "failed")]
)
def test_a_pod_without_a_node_says_why(reason: str, status: str) -> None:
    assert found(not_scheduled(reason)) == (status, f"{reason}: 0/3 nodes")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ("waiting", "ContainerCreating")),
        ([event("p", "Scheduled")], ("waiting", "ContainerCreating")),
        ([event("p", "Pulling", 'Pulling image "x"')], ("pulling", 'Pulling image "x"')),
        ([event("p", "Pulling", version=9), event("p", "Scheduled", version=8)], ("pulling", "m")),
        ([event("p", "Pulling", ago=9), event("p", "Pulled", ago=8)], ("waiting", "ContainerCreating")),
        ([event("p", "FailedMount", "timed out", "Warning")], ("waiting", "FailedMount: timed out")),
        ([event("p", "FailedScheduling", "0/3", "Warning")], ("waiting", "ContainerCreating")),
    ],
)
def test_the_last_event_tells_what_the_node_does(events: list[Object], expected: tuple[str, str]) -> None:
    assert found(pod(CREATED), *events) == expected


def test_initialising_is_no_warning() -> None:
    assert found(pod(waiting("PodInitializing"))) == ("creating", CREATING)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("ErrImagePull", "waiting"),
        ("ImagePullBackOff", "failed"),
        ("InvalidImageName", "failed"),
        ("ErrImageNeverPull", "failed"),
        ("CreateContainerConfigError", "failed"),
        ("CreateContainerError", "failed"),
        ("RunContainerError", "failed"),
        ("SomethingNew", "waiting"),
    ],
)
def test_what_a_container_waits_for_is_told(reason: str, status: str) -> None:
    assert found(pod(waiting(reason, "because"))) == (status, f"{reason}: because")
    assert found(pod(waiting(reason))) == (status, reason)


def test_a_crash_loop_tells_the_last_end() -> None:
    one = pod(waiting("CrashLoopBackOff"))
    one["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert found(one) == ("failed", "CrashLoopBackOff: last exit 137 (OOMKilled)")


def test_an_end_tells_reason_and_code() -> None:
    assert found(pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})) == (
        "failed",
        "OOMKilled: exit code 137",
    )
    assert found(pod({"terminated": {"exitCode": 1}})) == ("failed", "Error: exit code 1")


def test_a_pod_that_was_evicted_tells_it() -> None:
    one = pod({"terminated": {"exitCode": 137}}, phase="Failed", reason="Evicted", message="low on memory")
    assert found(one) == ("failed", "Evicted: low on memory")


def test_it_runs_once_it_is_ready() -> None:
    assert found(pod(UP, ready=True)) == ("running", RUNNING)
    assert found(pod(UP)) == ("creating", UNANSWERED)
    other = pod(UP, ready=True)
    other["status"]["containerStatuses"][0]["name"] = "sidecar"
    assert found(other) == ("creating", CREATING)


def test_packages_that_cannot_be_installed_are_a_failure() -> None:
    step = {"name": "pip-packages", "state": UP}
    assert found(pod(waiting("PodInitializing"), initContainerStatuses=[step])) == ("creating", INSTALLING)
    step = {
        **step,
        "state": waiting("CrashLoopBackOff"),
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    assert found(pod(waiting("PodInitializing"), initContainerStatuses=[step])) == (
        "failed",
        "CrashLoopBackOff: last exit 1 (Error)",
    )
    step = {"name": "pip-packages", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    assert found(pod(UP, ready=True, initContainerStatuses=[step])) == ("running", RUNNING)


def test_what_does_not_start_in_time_has_failed() -> None:
    old = {"created": NOW - 2 * LONG, "started": NOW - 2 * LONG}
    assert found(None, **old) == ("failed", f"Timed out: {CREATING}")
    assert found(pod(UP, ago=2 * LONG), **old) == ("failed", f"Timed out: {UNANSWERED}")
    # A later start, a new pod and one that was ready a moment ago have their own time.
    assert found(None, created=0, started=NOW - 5) == ("creating", CREATING)
    assert found(pod(UP, ago=5), **old) == ("creating", UNANSWERED)
    lately = pod(UP, ago=2 * LONG)
    lately["status"]["conditions"][0]["lastTransitionTime"] = time_text(5)
    assert found(lately, **old) == ("creating", UNANSWERED)
    assert found(pod(UP, ready=True, ago=2 * LONG), **old) == ("running", RUNNING)
    failed = found(pod(waiting("ImagePullBackOff", "x"), ago=2 * LONG), **old)
    assert failed == ("failed", "ImagePullBackOff: x")


def test_reasons_are_cut() -> None:
    status, reason = found(pod(waiting("ErrImagePull", "x" * 9999)))
    assert status == "waiting" and len(reason) == LONGEST_REASON
    assert len(found(pod(waiting("ErrImagePull", "x" * 9999), ago=9999), created=0, started=0)[1]) == LONGEST_REASON


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01T08:00:10+08:00", 10),
        ("1970-01-01T00:00:10", 10),
        ("", 0),
        ("now", 0),
        ("0001-01-01T00:00:00+14:00", -62135647200),
        ("9999-99-99T00:00:00Z", 0),
    ],
)
def test_times_are_read_or_nothing(written: str, expected: float) -> None:
    assert moment(written) == expected


KEYS = st.sampled_from(
    [
        *("metadata", "status", "state", "lastState", "waiting", "terminated", "running", "reason", "message", "phase"),
        *(
            "conditions",
            "containerStatuses",
            "initContainerStatuses",
            "name",
            "uid",
            "type",
            "exitCode",
            "involvedObject",
        ),
        *("creationTimestamp", "deletionTimestamp", "lastTransitionTime", "series", "lastTimestamp", "resourceVersion"),
    ]
)
WORDS = st.sampled_from(
    [
        *("notebook", "Ready", "PodScheduled", "True", "False", "Failed", "Pending", "CrashLoopBackOff", "p", "9" * 40),
        *("ContainerCreating", "FailedCreate", "Pulling", "0001-01-01T00:00:00+23:59", time_text(1), "", "²"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
ODD = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=10
)
ODD_OBJECTS = st.none() | st.dictionaries(KEYS, ODD, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    ODD_OBJECTS, ODD_OBJECTS, ODD_OBJECTS, st.lists(st.dictionaries(KEYS, ODD, max_size=6), max_size=3), st.booleans()
)
def test_evidence_of_any_form_gives_a_status(
    stateful_set: Any, one: Any, volume: Any, events: list[Any], finished: bool
) -> None:
    status, reason = found(one, *events, stateful_set=stateful_set, volume=volume, finished=finished)
    assert status in {"creating", "running", "waiting", "pulling", "failed", "terminating", "not_found"}
    assert 0 < len(reason) <= LONGEST_REASON


@settings(max_examples=60, deadline=None)
@given(ODD, ODD, st.lists(st.dictionaries(KEYS, ODD, max_size=5), max_size=3))
def test_a_pod_of_any_form_gives_a_status(containers: Any, conditions: Any, steps: list[Any]) -> None:
    status = {"containerStatuses": containers, "conditions": conditions, "initContainerStatuses": steps}
    _, reason = found({"metadata": {"uid": "p"}, "status": status}, event("p", "Pulling"))
    assert 0 < len(reason) <= LONGEST_REASON
