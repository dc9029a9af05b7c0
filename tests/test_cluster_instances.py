"""What instances on Kubernetes promise, on the stand-in of a cluster and on a real one.

Where a test steers what becomes of pods, or injects a fault, there is the stand-in alone.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

kubernetes = pytest.importorskip("kubernetes", reason="needs the official client: pip install kubernetes")

from cluster import SECONDS, Cluster, Request, cluster, until  # noqa: E402
from cluster_pods import CPUS, NO_CLASS, PULL, QUOTA  # noqa: E402
from cluster_worlds import (  # noqa: E402
    NOTHING,
    PARTS,
    WHOLE,
    World,
    becomes,
    client_of,
    gone,
    in_threads,
    standin_world,
)
from kubernetes.client import AppsV1Api, CoreV1Api  # noqa: E402

from shim.instances.backend import CREATING, NOT_FOUND, RUNNING, TERMINATING, UNANSWERED, Backend  # noqa: E402
from shim.instances.errors import (  # noqa: E402
    BackendError,
    InstanceError,
    InvalidError,
    NotYoursError,
    TakenError,
    UnavailableError,
)
from shim.instances.records import EnvironmentSpec, Instance, KernelSpec  # noqa: E402

Object = dict[str, Any]
KUBECONFIG = "NBFOLIO_TEST_KUBECONFIG"
HOW = f"needs a cluster: {KUBECONFIG}=FILE python -m pytest tests/test_cluster_instances.py (makes a namespace of its own)"
STEPS = (*PARTS, "token")
"""What is made one after the other, the token with the kind of the claim."""


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[tuple[World, Cluster]]:
    """A world whose cluster is the stand-in, and that."""
    with standin_world(tmp_path) as both:
        yield both


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace of the real cluster for this run, gone afterwards."""
    name = f"nbfolio-test-{uuid.uuid4().hex[:8]}"
    with client_of(Path(os.environ[KUBECONFIG])) as client:
        CoreV1Api(client).create_namespace({"metadata": {"name": name}})
        yield name
        CoreV1Api(client).delete_namespace(name)


@pytest.fixture(params=["standin", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world on each kind of cluster."""
    if request.param == "standin":
        yield request.getfixturevalue("standin")[0]
        return
    if not os.environ.get(KUBECONFIG):
        pytest.skip(HOW)
    path = Path(os.environ[KUBECONFIG])
    with client_of(path) as client:
        one = World(path, request.getfixturevalue("namespace"), tmp_path, client)
        yield one
        for backend in one.opened:
            for instance in backend.all():
                backend.delete(instance, keep_volume=False)
            backend.close()


# What is made


def test_an_instance_is_made_of_six_objects_that_are_marked_as_ours(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    assert world.has(made) == WHOLE
    assert made.uid and backend.find(made.id) == made
    for plural in PARTS:
        for one in world.of(plural, made):
            marks = one["metadata"]["labels"]
            assert marks["app.kubernetes.io/managed-by"] == "nbfolio"
            assert marks.get("nbfolio.org/instance", made.place) == made.place
    claim, token = world.of("secrets", made)
    assert (claim["metadata"]["name"], token["metadata"]["name"]) == (f"nbfolio-{made.spec.name}", made.place)
    assert (claim["type"], token["type"]) == ("Opaque", "Opaque")
    (owner,) = token["metadata"]["ownerReferences"]
    assert (owner["name"], owner["uid"]) == (claim["metadata"]["name"], made.uid)
    assert backend.all() == [made]
    for plural in ("services", "statefulsets", "ingresses"):
        assert world.of(plural, made)[0]["metadata"]["name"] == made.place


def test_its_pod_can_do_no_more_than_it_has_to(world: World) -> None:
    made = world.server().create(
        world.instance(environment=EnvironmentSpec("e", "x", KernelSpec("k", (), (), ("numpy",))))
    )
    pod = world.of("statefulsets", made)[0]["spec"]["template"]["spec"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {key for key, value in pod.items() if value}
    containers = [*pod["containers"], *pod["initContainers"]]
    assert len(containers) == 2
    for container in containers:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"].get("privileged")
        for part in ("requests", "limits"):
            assert container["resources"][part] == {"cpu": "1", "memory": "1Gi"}


def test_its_token_is_in_a_secret_of_its_own_alone(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    claim, secret = world.of("secrets", made)
    (container,) = world.of("statefulsets", made)[0]["spec"]["template"]["spec"]["containers"]
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert len(token) >= 32
    references = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]
    assert references == [{"name": secret["metadata"]["name"], "key": "token"}]
    elsewhere = [json.dumps(one) for plural in PARTS[1:] for one in world.objects(plural)]
    elsewhere += [json.dumps(claim), json.dumps(secret["metadata"]), repr(made)]
    assert not any(token in text for text in elsewhere) and not claim.get("data")
    other = backend.create(world.instance())
    assert base64.b64decode(world.of("secrets", other)[1]["data"]["token"]).decode() != token


def test_the_pod_of_an_instance_before_reaches_no_token_of_a_later_one(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, made = running(world)
    # Its container may crash and be started again, with whatever its manifest then refers to.
    one.behave(made.place, "stuck")
    backend.delete(made, keep_volume=False)
    later = backend.create(world.instance(made.spec.name, owner="bob"))
    becomes(backend, later, "running")
    pods = {pod["metadata"]["name"]: json.dumps(pod["spec"]) for pod in world.objects("pods")}

    def reached(instance: Instance) -> list[str]:
        names = [secret["metadata"]["name"] for secret in world.objects("secrets")]
        return [name for name in names if f'"{name}"' in pods[f"{instance.place}-0"]]

    assert reached(made) == [] and reached(later) == [later.place]
    one.behave(made.place, "run")
    until(lambda: len(world.objects("pods")) == 1)


def test_a_token_that_was_not_made_for_the_instance_opens_no_door(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    core = CoreV1Api(world.client)
    backend, made = running(world)
    core.delete_namespaced_secret(made.place, world.namespace)
    until(lambda: _refused(lambda: backend.door(made)))
    foreign = {"metadata": {"name": made.place, "labels": {"app.kubernetes.io/managed-by": "nbfolio"}}}
    core.create_namespaced_secret(world.namespace, {**foreign, "data": {"token": "dGhlaXJz"}})
    later = world.server()
    for each in (later.door, later.inner_door):
        assert "token" in str(_refused(lambda each=each: each(made)))


def _refused(call: Callable[[], object]) -> UnavailableError | None:
    try:
        call()
    except UnavailableError as error:
        return error
    return None


def test_what_people_wrote_is_in_annotations_and_variables_alone(world: World) -> None:
    hostile = {"app": "submarine-server", "nbfolio.org/instance": "other", "app.kubernetes.io/managed-by": "me"}
    spec = {"owner": "Älice <a@b>\n", "labels": hostile, "env_vars": {"A": "$(HOME) ü", "B": ""}}
    backend = world.server()
    made = backend.create(world.instance(**spec))
    assert backend.find(made.id) == made
    stateful_set = world.of("statefulsets", made)[0]
    for meta in (stateful_set["metadata"], stateful_set["spec"]["template"]["metadata"]):
        assert set(meta["labels"]) == {
            "app.kubernetes.io/name",
            "app.kubernetes.io/managed-by",
            "nbfolio.org/instance",
        }
        assert meta["labels"]["nbfolio.org/instance"] == made.place
        assert "Älice <a@b>\n" in meta["annotations"].values()
    variables = {
        one["name"]: one.get("value", "") for one in stateful_set["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert variables["A"] == "$$(HOME) ü" and variables["B"] == ""


def test_only_its_own_pod_answers_for_it(world: World) -> None:
    backend = world.server()
    made, other = backend.create(world.instance()), backend.create(world.instance())
    (service,), (ingress,) = world.of("services", made), world.of("ingresses", made)
    selector = service["spec"]["selector"]
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in world.objects("statefulsets")]
    assert sum(selector.items() <= marks.items() for marks in labels) == 1
    assert selector.items() <= world.of("statefulsets", made)[0]["spec"]["template"]["metadata"]["labels"].items()
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == f"{made.place}.nb.example.org"
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == made.place
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
    assert other.place not in json.dumps([service, ingress])


def test_settings_reach_the_objects(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    settings = {"storage": "3Gi", "storage_class": "fast", "ingress_class": "nginx", "tls_secret": "wildcard"}
    made = world.server(**settings).create(world.instance(resources="cpu=2,memory=1Gi,gpu=1"))
    (volume,), (ingress,) = world.of("persistentvolumeclaims", made), world.of("ingresses", made)
    assert (
        volume["spec"]["resources"]["requests"] == {"storage": "3Gi"} and volume["spec"]["storageClassName"] == "fast"
    )
    assert ingress["spec"]["ingressClassName"] == "nginx" and ingress["spec"]["tls"][0]["secretName"] == "wildcard"
    (container,) = world.of("statefulsets", made)[0]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_doors_lead_to_its_own_origin_with_its_token(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    backend = world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running", RUNNING)
    _, secret = world.of("secrets", made)
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert backend.door(made) == (f"https://{made.place}.nb.example.org", token)
    assert backend.inner_door(made).token == token and not backend.inner_door(made).url.endswith("/")


def test_manifests_are_valid_for_the_oldest_and_the_newest_cluster(standin: tuple[World, Cluster]) -> None:
    validating = pytest.importorskip("kubernetes_validate", reason="needs: pip install kubernetes-validate")
    world, one = standin
    kernel = KernelSpec("k", ("conda-forge",), ("scipy",), ("numpy==2",))
    environment = EnvironmentSpec("e", "quay.io/x/y@sha256:" + "0" * 64, kernel)
    settings = {"storage_class": "fast", "ingress_class": "nginx", "tls_secret": "wildcard"}
    asked = {"environment": environment, "env_vars": {"A": "b"}, "labels": {"team": "x"}}
    world.server(**settings).create(world.instance(**asked, resources="cpu=500m,memory=1Gi,gpu=1"))
    bodies = [request.body for request in one.requests if request.method == "POST" and not request.dry]
    assert len(bodies) == sum(WHOLE.values())
    for body in bodies:
        for version in ("1.29", validating.latest_version()):
            validating.validate(body, version, strict=True)
        with pytest.raises(validating.ValidationError):
            validating.validate({**body, "metdata": {}}, "1.29", strict=True)


# How it is


def test_a_new_instance_comes_to_run(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    instance = world.instance()
    one.behave(instance.place, "nothing")
    made = backend.create(instance)
    assert backend.observe(made) == ("creating", CREATING)
    one.behave(instance.place, "hold")
    becomes(backend, made, "waiting", "ContainerCreating")
    one.behave(instance.place, "run")
    becomes(backend, made, "running", RUNNING)


@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [
        ("nothing", "creating", CREATING),
        (
            "quota",
            "failed",
            f'FailedCreate: create Pod {{}}-0 in StatefulSet {{}} failed error: pods "{{}}-0" is forbidden: {QUOTA}',
        ),
        ("volume", "waiting", f"ProvisioningFailed: {NO_CLASS}"),
        ("unschedulable", "waiting", f"Unschedulable: {CPUS}"),
        ("gated", "waiting", "SchedulingGated: Scheduling is blocked due to non-empty scheduling gates"),
        ("schedulererror", "failed", "SchedulerError: selected node is gone"),
        ("pulling", "pulling", 'Pulling image "x"'),
        ("mount", "waiting", "FailedMount: MountVolume.SetUp failed for volume x: timed out"),
        ("attach", "waiting", "FailedAttachVolume: Multi-Attach error for volume x"),
        ("hold", "waiting", "ContainerCreating"),
        ("initializing", "creating", CREATING),
        ("errimagepull", "waiting", f"ErrImagePull: {PULL}"),
        ("imagepull", "failed", f'ImagePullBackOff: Back-off pulling image "x": {PULL}'),
        ("imagename", "failed", 'InvalidImageName: Failed to apply default image tag "x y"'),
        ("imagenever", "failed", 'ErrImageNeverPull: Container image "x" is not present'),
        ("config", "failed", 'CreateContainerConfigError: secret "x" not found'),
        ("container", "failed", "CreateContainerError: context deadline exceeded"),
        ("runerror", "failed", "RunContainerError: exec: jupyter: not found"),
        ("crash", "failed", "CrashLoopBackOff: last exit 1 (Error)"),
        ("oom", "failed", "CrashLoopBackOff: last exit 137 (OOMKilled)"),
        ("killed", "failed", "OOMKilled: exit code 137"),
        ("fail", "failed", "Error: exit code 1"),
        ("succeed", "failed", "Completed: exit code 0"),
        ("evict", "failed", "Evicted: The node was low on memory."),
        ("run", "running", RUNNING),
        ("notready", "creating", UNANSWERED),
    ],
)
def test_what_the_cluster_says_becomes_status_and_reason(
    standin: tuple[World, Cluster], what: str, status: str, reason: str
) -> None:
    world, one = standin
    backend = world.server()
    instance = world.instance()
    one.behave(instance.place, what)
    made = backend.create(instance)
    becomes(backend, made, status, reason.replace("{}", made.place))


@pytest.mark.parametrize("what", ["imagepull", "crash", "quota"])
def test_what_failed_and_recovers_runs(standin: tuple[World, Cluster], what: str) -> None:
    world, one = standin
    backend = world.server()
    instance = world.instance()
    one.behave(instance.place, what)
    made = backend.create(instance)
    becomes(backend, made, "failed")
    one.behave(instance.place, "run")
    becomes(backend, made, "running", RUNNING)


@pytest.mark.parametrize(("what", "reason"), [("unschedulable", f"Unschedulable: {CPUS}"), ("nothing", CREATING)])
def test_what_does_not_start_in_time_has_failed(standin: tuple[World, Cluster], what: str, reason: str) -> None:
    world, one = standin
    backend = world.server(start_minutes=2)
    one.store.seconds_back = 121
    instance = replace(world.instance(), created=float(int(time.time()) - 121))
    one.behave(instance.place, what)
    made = backend.create(instance)
    becomes(backend, made, "failed", f"Timed out: {reason}")
    one.behave(instance.place, "run")
    becomes(backend, made, "running", RUNNING)


def test_an_instance_whose_pod_comes_anew_runs_again(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    (first,) = world.objects("pods")
    one.behave(made.place, "unschedulable")
    CoreV1Api(world.client).delete_namespaced_pod(f"{made.place}-0", world.namespace)
    becomes(backend, made, "waiting")
    one.behave(made.place, "run")
    becomes(backend, made, "running")
    assert world.objects("pods")[0]["metadata"]["uid"] != first["metadata"]["uid"]


def test_an_instance_of_which_somebody_removed_the_stateful_set_is_not_found(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    one.store.seconds_back = 60
    made = backend.create(replace(world.instance(), created=float(int(time.time()) - 60)))
    becomes(backend, made, "running")
    AppsV1Api(world.client).delete_namespaced_stateful_set(made.place, world.namespace)
    becomes(backend, made, "not_found", NOT_FOUND)
    backend.delete(made, keep_volume=False)
    gone(world, backend, made)


# Nothing is left of what failed


def fail_at(one: Cluster, step: str, status: int | None, times: int = 1, **how: Any) -> None:
    """Let the creation of a part of the next instance fail."""
    if step == "token":
        one.on("POST", "/secrets", lambda request: one.fail("POST", "/secrets", status, times, **how), after=True)
    else:
        one.fail("POST", f"/{step}", status, times, **how)


@pytest.mark.parametrize("step", STEPS)
def test_what_cannot_be_made_whole_is_not_made(standin: tuple[World, Cluster], step: str) -> None:
    world, one = standin
    backend = world.server()
    instance = world.instance()
    for status, message, error in (
        (409, "exists", InstanceError),
        (422, "spec.x: Invalid value", InvalidError),
        (403, f"forbidden: {QUOTA}", NotYoursError),
        (403, "cannot create", BackendError),
        (500, "etcd is away", UnavailableError),
    ):
        fail_at(one, step, status, times=9, message=message)
        with pytest.raises(error) as caught:
            backend.create(instance)
        assert len(str(caught.value)) < 1000
        gone(world, backend, instance)
        one.mend()
    assert world.has(backend.create(instance)) == WHOLE


def test_what_was_made_goes_in_reverse(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    one.fail("POST", "/ingresses|/statefulsets", 422, times=9)
    with pytest.raises(InvalidError):
        world.server().create(world.instance())
    done = [request for request in one.requests if not request.dry]
    made = [request.path.rsplit("/", 1)[-1] for request in done if request.method == "POST"]
    undone = [request.path.rsplit("/", 2)[-2] for request in done if request.method == "DELETE"]
    assert undone == list(reversed(made[:-1])) and made[0] == undone[-1] == "secrets"


def test_an_answer_that_got_lost_leaves_all_or_nothing(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    for step in STEPS:
        instance = world.instance()
        fail_at(one, step, None, after=True)
        try:
            made = backend.create(instance)
        except UnavailableError:
            gone(world, backend, instance)
        else:
            assert world.has(made) == WHOLE
            becomes(backend, made, "running")


def test_nothing_is_made_when_the_dry_run_fails(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    instance = world.instance()
    one.fail("POST", "/statefulsets.*dryRun=All", 422, dry=True, message="spec: Invalid value")
    with pytest.raises(InvalidError, match="spec: Invalid value"):
        backend.create(instance)
    gone(world, backend, instance)
    made = {request.path.rsplit("/", 1)[-1] for request in one.requests if request.method == "POST" and not request.dry}
    assert made <= {"secrets"}


# Names


def test_a_name_is_in_use_once(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    before = world.objects("statefulsets")
    for again in (made, world.instance(made.spec.name), world.instance(made.spec.name, owner="bob")):
        with pytest.raises(TakenError):
            backend.create(again)
    assert world.has(made) == WHOLE and len(world.objects("statefulsets")) == len(before)
    assert backend.find(made.id) == made


def test_of_two_servers_that_take_a_name_at_once_one_gets_it(world: World) -> None:
    first, second = world.server(), world.server()
    one = world.instance()
    other = world.instance(one.spec.name, owner="bob")
    results = in_threads(lambda: first.create(one), lambda: second.create(other))
    assert sorted(type(result).__name__ for result in results) == ["Instance", "TakenError"]
    (made,) = (result for result in results if isinstance(result, Instance))
    assert world.has(made) == WHOLE
    for backend in (first, second):
        until(lambda backend=backend: [found for found in backend.all() if found.spec.name == one.spec.name] == [made])


def test_a_loser_of_a_race_removes_nothing_of_the_winner(standin: tuple[World, Cluster]) -> None:
    world, cluster = standin
    first, second = world.server(), world.server()
    one = world.instance()
    came, go = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        came.set()
        assert go.wait(SECONDS)

    cluster.on("POST", "/secrets", hold)

    def win() -> Instance:
        assert came.wait(SECONDS)
        made = second.create(world.instance(one.spec.name, owner="bob"))
        go.set()
        return made

    lost, made = in_threads(lambda: first.create(one), win)
    assert isinstance(lost, TakenError) and isinstance(made, Instance)
    assert world.has(made) == WHOLE
    becomes(first, made, "running")


def test_the_name_of_what_is_gone_is_free_again(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    backend.delete(made, keep_volume=False)
    gone(world, backend, made)
    again = backend.create(world.instance(made.spec.name))
    assert again.uid != made.uid and world.has(again) == WHOLE


# Delete, stop and start


def test_deleting_twice_is_no_error(world: World) -> None:
    backend, other = world.server(), world.server()
    made = backend.create(world.instance())
    backend.delete(made, keep_volume=False)
    for one in (backend, other):
        one.delete(made, keep_volume=False)
    gone(world, backend, made)
    backend.delete(made, keep_volume=False)
    until(lambda: other.find(made.id) is None)
    assert backend.observe(made).status in ("terminating", "not_found")


@pytest.mark.parametrize("keep", [True, False])
def test_the_volume_stays_where_that_is_asked_for(world: World, keep: bool) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    (volume,) = world.of("persistentvolumeclaims", made)
    backend.delete(made, keep_volume=keep)
    left = {**NOTHING, "persistentvolumeclaims": int(keep)}
    until(lambda: world.has(made) == left, lambda: world.has(made))
    if keep:
        (kept,) = world.of("persistentvolumeclaims", made)
        assert kept["metadata"]["uid"] == volume["metadata"]["uid"]
        assert "deletionTimestamp" not in kept["metadata"]


def test_what_is_being_deleted_is_terminating_until_it_is_gone(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, other = world.server(), world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    one.behave(made.place, "stuck")
    backend.delete(made, keep_volume=False)
    assert backend.observe(made) == ("terminating", TERMINATING)
    one.behave(made.place, "run")
    gone(world, backend, made)
    until(lambda: other.find(made.id) is None)


def test_a_deletion_that_the_cluster_breaks_off_can_be_done_again(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    made = backend.create(world.instance())
    one.fail("DELETE", "/ingresses", 403, times=99)
    with pytest.raises(BackendError):
        backend.delete(made, keep_volume=False)
    one.mend()
    backend.delete(made, keep_volume=False)
    gone(world, backend, made)


def test_deleting_does_not_reach_a_later_instance_of_the_name(world: World) -> None:
    backend, stale = world.server(), world.server()
    made = backend.create(world.instance())
    backend.delete(made, keep_volume=False)
    gone(world, backend, made)
    again = backend.create(world.instance(made.spec.name))
    for one in (backend, stale):
        one.delete(made, keep_volume=False)
    assert world.has(again) == WHOLE
    until(lambda: stale.find(again.id) == again)


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("DELETE", "secrets/nbfolio-"),
        ("DELETE", "secrets/notebook-"),
        ("DELETE", "persistentvolumeclaims/"),
        ("GET", "persistentvolumeclaims/"),
    ],
)
def test_a_deletion_that_comes_late_spares_what_has_the_name_since(
    standin: tuple[World, Cluster], method: str, what: str
) -> None:
    world, one = standin
    backend, other = world.server(), world.server()
    made = backend.create(world.instance())
    came, go = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        came.set()
        go.wait(SECONDS)

    one.on(method, f"/{what}", hold)

    def replaced() -> Instance:
        assert came.wait(SECONDS)
        other.delete(made, keep_volume=False)
        until(lambda: world.has(made) == NOTHING)
        again = other.create(world.instance(made.spec.name))
        go.set()
        return again

    _, again = in_threads(lambda: backend.delete(made, keep_volume=False), replaced)
    assert isinstance(again, Instance)
    assert world.has(again) == WHOLE
    assert all("deletionTimestamp" not in each["metadata"] for each in world.of("persistentvolumeclaims", again))
    until(lambda: backend.find(again.id) == again)


def test_stopping_keeps_the_files_and_says_why(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    (volume,) = world.of("persistentvolumeclaims", made)
    backend.stop(made, "Stopped by user")
    becomes(backend, made, "stopped", "Stopped by user")
    assert world.of("statefulsets", made)[0]["spec"]["replicas"] == 0
    backend.close()
    later = world.server()
    found = until(lambda: later.find(made.id))
    assert found == replace(made, stopped="Stopped by user")
    becomes(later, found, "stopped", "Stopped by user")
    later.start(found)
    assert world.of("statefulsets", made)[0]["spec"]["replicas"] == 1
    until(lambda: later.find(made.id) == made)
    until(lambda: later.observe(made).status not in ("stopped", "terminating"))
    assert world.of("persistentvolumeclaims", made)[0]["metadata"]["uid"] == volume["metadata"]["uid"]


def test_stopping_what_is_stopped_and_starting_what_runs_changes_nothing(world: World) -> None:
    backend = world.server()
    made = backend.create(world.instance())
    backend.start(made)
    assert world.of("statefulsets", made)[0]["spec"]["replicas"] == 1
    backend.stop(made, "Stopped by user")
    backend.stop(made, "Idle for 5 minutes")
    assert world.of("statefulsets", made)[0]["spec"]["replicas"] == 0
    becomes(backend, made, "stopped", "Stopped by user")


def test_a_stopped_instance_runs_again(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    backend = world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    backend.stop(made, "Stopped by user")
    becomes(backend, made, "stopped")
    backend.start(made)
    becomes(backend, made, "running", RUNNING)


# Several servers, restarts and what is not ours


def test_a_restart_finds_everything(world: World) -> None:
    backend = world.server()
    labels, variables = {"team": "ü"}, {"A": "b\n"}
    kernel = KernelSpec("k", ("c",), ("d",), ("e",))
    environment = EnvironmentSpec("e", "quay.io/x/y:1", kernel, "what for", "old")
    made = [
        backend.create(world.instance(labels=labels, env_vars=variables, environment=environment)),
        backend.create(world.instance(owner="bob")),
    ]
    backend.close()
    later = world.server()
    mine = {one.id for one in made}
    until(lambda: [one for one in later.all() if one.id in mine] == made, later.all)


def test_two_servers_see_the_same(world: World) -> None:
    first, second = world.server(), world.server()
    made = first.create(world.instance())
    assert until(lambda: second.find(made.id)) == made
    second.stop(made, "Stopped by user")
    until(lambda: (found := first.find(made.id)) and found.stopped == "Stopped by user")
    becomes(first, made, "stopped", "Stopped by user")
    first.delete(made, keep_volume=False)
    gone(world, second, made)


def test_what_others_own_is_never_touched(world: World) -> None:
    core, apps = CoreV1Api(world.client), AppsV1Api(world.client)
    backend = world.server()
    instance = world.instance()
    name, place = instance.spec.name, instance.place
    ours = {"app.kubernetes.io/managed-by": "nbfolio"}
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "serviceName": "x", "template": template}
    core.create_namespaced_secret(world.namespace, {"metadata": {"name": f"nbfolio-{name}-x", "labels": labels}})
    core.create_namespaced_secret(world.namespace, {"metadata": {"name": f"nbfolio-x-{name}", "labels": ours}})
    apps.create_namespaced_stateful_set(
        world.namespace, {"metadata": {"name": f"{place}-x", "labels": labels}, "spec": spec}
    )
    ports = {"ports": [{"port": 80}]}
    core.create_namespaced_service(
        world.namespace, {"metadata": {"name": f"{place}-x"[-60:], "labels": ours}, "spec": ports}
    )
    before = {plural: world.of(plural, instance) for plural in PARTS}
    made = backend.create(instance)
    backend.stop(made, "Stopped by user")
    backend.start(made)
    backend.delete(made, keep_volume=False)
    later = world.server()
    until(lambda: backend.find(made.id) is None and later.find(made.id) is None)

    def left() -> dict[str, list[tuple[str, str]]]:
        found = {plural: world.of(plural, instance) for plural in PARTS}
        return {key: [(one["metadata"]["uid"], str(one.get("data"))) for one in value] for key, value in found.items()}

    wanted = {key: [(one["metadata"]["uid"], str(one.get("data"))) for one in value] for key, value in before.items()}
    until(lambda: left() == wanted, left)
    assert [one for one in later.all() if name in one.spec.name] == []


@pytest.mark.parametrize("part", ["claim", "token", "service"])
def test_a_name_that_others_use_is_left_to_them(world: World, part: str) -> None:
    core = CoreV1Api(world.client)
    backend = world.server()
    instance = world.instance()
    if part != "service":
        name = f"nbfolio-{instance.spec.name}" if part == "claim" else instance.place
        core.create_namespaced_secret(world.namespace, {"metadata": {"name": name}})
    else:
        core.create_namespaced_service(
            world.namespace, {"metadata": {"name": instance.place}, "spec": {"ports": [{"port": 80}]}}
        )
    with pytest.raises(InstanceError):
        backend.create(instance)
    left = {**NOTHING, "services" if part == "service" else "secrets": 1}
    until(lambda: world.has(instance) == left, lambda: world.has(instance))
    backend.delete(instance, keep_volume=False)
    assert world.has(instance) == left


def test_records_that_nobody_can_read_are_passed_over(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    core = CoreV1Api(world.client)
    ours = {"app.kubernetes.io/managed-by": "nbfolio"}
    for number, text in enumerate(["", "[]", "{", '{"spec": {}}', "null"]):
        meta = {"name": f"nbfolio-odd{number}", "labels": ours, "annotations": {"nbfolio.org/instance": text}}
        core.create_namespaced_secret(world.namespace, {"metadata": meta})
    backend = world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    assert backend.all() == [made]
    assert len(world.objects("secrets")) == 7


def test_a_copy_of_a_claim_is_no_second_instance(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    made = world.server().create(world.instance())
    copy = world.of("secrets", made)[0]["metadata"]
    meta = {"name": "copy", "labels": copy["labels"], "annotations": copy["annotations"]}
    CoreV1Api(world.client).create_namespaced_secret(world.namespace, {"metadata": meta})
    assert world.server().all() == [made]


# A cluster that is troubled


def still_sees(world: World, one: Cluster, backend: Backend, made: Instance) -> None:
    """What happens in the cluster from now on is seen."""
    for what, status in (("unschedulable", "waiting"), ("run", "running"), ("imagepull", "failed")):
        one.behave(made.place, what)
        becomes(backend, made, status)
    other = world.server().create(world.instance())
    until(lambda: backend.find(other.id) == other)


def running(world: World, **settings: object) -> tuple[Backend, Instance]:
    """A server with an instance that runs."""
    backend = world.server(**settings)
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    return backend, made


def test_a_dropped_watch_resumes_where_it_was(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, made = running(world)
    before = len(one.requests)
    assert one.drop_watches() >= 3
    still_sees(world, one, backend, made)
    resumed = [request for request in one.requests[before:] if request.method == "WATCH"]
    assert resumed and all(int(request.query["resourceVersion"]) > 1000 for request in resumed)


def test_a_version_that_the_cluster_forgot_is_listed_anew(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, made = running(world)
    other = world.server()
    hold = threading.Event()
    # what happens while nobody watches is seen by listing alone
    one.on("WATCH", "", lambda request: hold.wait(SECONDS) and None, times=99)
    one.drop_watches()
    one.behave(made.place, "unschedulable")
    until(lambda: world.objects("pods")[0]["status"]["phase"] == "Pending")
    one.compact()
    hold.set()
    for watching in (backend, other):
        becomes(watching, made, "waiting", f"Unschedulable: {CPUS}")
    one.mend()
    still_sees(world, one, backend, made)


def test_what_was_deleted_while_nobody_watched_is_forgotten(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, made = running(world)
    other = world.server()
    hold = threading.Event()
    one.on("WATCH", "", lambda request: hold.wait(SECONDS) and None, times=99)
    one.drop_watches()
    other.delete(made, keep_volume=False)
    until(lambda: world.has(made) == NOTHING)
    one.compact()
    hold.set()
    until(lambda: backend.find(made.id) is None and other.find(made.id) is None)


@pytest.mark.parametrize("status", [410, 429, 500, 503])
def test_a_watch_that_is_refused_is_tried_again(standin: tuple[World, Cluster], status: int) -> None:
    world, one = standin
    backend, made = running(world)
    one.fail("WATCH", "", status, times=4, retry_after=1 if status == 429 else None)
    one.drop_watches()
    still_sees(world, one, backend, made)


def test_a_list_that_is_refused_is_tried_again(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    made = running(world)[1]
    one.fail("GET", "/(secrets|pods|statefulsets|events|persistentvolumeclaims)", 500, times=6)
    later = world.server()
    until(lambda: later.find(made.id))
    becomes(later, made, "running")


def test_a_server_leaves_a_busy_cluster_alone_for_as_long_as_it_says(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, _ = running(world)
    times: list[float] = []
    one.on("POST", "/secrets", lambda request: times.append(time.monotonic()), times=9)
    one.fail("POST", "/secrets", 429, retry_after=1)
    made = backend.create(world.instance())
    assert world.has(made) == WHOLE
    # The claim is asked for twice, the token once.
    assert len(times) == 3 and times[1] - times[0] >= 1


def test_troubles_that_pass_are_not_seen_by_who_creates(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    one.fail("POST", "", 503, times=2)
    one.fail("PATCH", "", 409, times=1)
    one.fail("PATCH", "", 500, times=1)
    one.latency(0.02)
    backend = world.server()
    made = backend.create(world.instance())
    becomes(backend, made, "running")
    assert world.has(made) == WHOLE


def test_a_cluster_that_is_away_is_waited_for(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    one.fail("GET", "", None, times=12)
    one.fail("WATCH", "", None, times=4)
    backend = world.server()
    made = until(lambda: _try(lambda: backend.create(world.instance())))
    becomes(backend, made, "running")


def _try(call: Callable[[], Instance]) -> Instance | None:
    try:
        return call()
    except UnavailableError:
        return None


def test_without_a_cluster_it_opens_and_says_so(tmp_path: Path) -> None:
    with cluster() as one:
        path = one.kubeconfig(tmp_path)
    with client_of(path) as client:
        world = World(path, "default", tmp_path, client)
        backend = world.server()
        try:
            # Not that there are none: nobody knows.
            with pytest.raises(UnavailableError, match="not told yet"):
                backend.all()
            with pytest.raises(UnavailableError, match="not told yet"):
                backend.find("notebook_1_0001")
            with pytest.raises(UnavailableError):
                backend.create(world.instance())
        finally:
            backend.close()


def test_wrong_credentials_are_the_servers_matter(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    (world.folder / "other").mkdir()
    path = one.kubeconfig(world.folder / "other", token="wrong")
    backend = world.server(kubeconfig=str(path))
    with pytest.raises(BackendError) as caught:
        backend.create(world.instance())
    assert str(path) not in str(caught.value) and "wrong" not in str(caught.value)


def test_closing_ends_watches_soon(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, _ = running(world)
    until(lambda: len(one.watches) >= 3)
    backend.close()
    until(lambda: not one.watches)
    backend.close()


def test_closing_does_not_wait_for_a_cluster_that_hangs(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend, _ = running(world)
    came, go = threading.Event(), threading.Event()

    def hang(request: Request) -> None:
        came.set()
        go.wait(SECONDS)

    for method in ("GET", "WATCH"):
        one.on(method, "", hang, times=99)
    one.drop_watches()
    assert came.wait(SECONDS)
    closing = threading.Thread(target=backend.close)
    closing.start()
    closing.join(SECONDS / 2)
    ended = not closing.is_alive()
    go.set()
    closing.join()
    assert ended


# Many


def test_of_200_instances_looking_costs_no_request(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    backend = world.server()
    one.behave("*", "atonce")
    first = replace(world.instance("name0001"), id="notebook_1_0001", place="notebook-1-0001-name0001")
    made = backend.create(first)
    parts = [(plural, one) for plural in PARTS for one in world.of(plural, made)]
    backend.close()
    with one.store.changed:
        for number in range(2, 201):
            uid = made.uid
            for plural, part in parts:
                text = json.dumps(part).replace(made.uid, "UID").replace("0001", f"{number:04d}")
                body = json.loads(text.replace("UID", uid))
                del body["metadata"]["resourceVersion"], body["metadata"]["uid"]
                created = one.store.create(plural, world.namespace, body)
                uid = (
                    created["metadata"]["uid"]
                    if "ownerReferences" not in body["metadata"] and plural == "secrets"
                    else uid
                )
    until(lambda: sum(pod["status"]["phase"] == "Running" for pod in one.store.all("pods")) == 200)
    backend = world.server()
    assert len(backend.all()) == 200
    until(lambda: all(backend.observe(each).status == "running" for each in backend.all()))
    before = _asked(one)
    assert before > 0
    for each in backend.all():
        assert backend.observe(each) == ("running", RUNNING)
        if each.id.endswith("7"):
            assert backend.find(each.id) == each
    # a server puts things in order now and then: some lists, however many instances there are
    assert _asked(one) - before < 10
    assert len([request for request in one.requests if request.method == "WATCH"]) < 20


def _asked(one: Cluster) -> int:
    """How many requests came, without those of watches, which go on by themselves."""
    return len([request for request in one.requests if request.method != "WATCH"])
