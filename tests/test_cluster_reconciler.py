"""What one server does about what another one, or itself before, has left undone; and what it leaves alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="needs the official client: pip install kubernetes")

from cluster import SECONDS, Cluster, Request, until
from cluster_worlds import NOTHING, PARTS, WHOLE, World, in_threads, standin_world
from kubernetes.client import AppsV1Api, CoreV1Api, NetworkingV1Api

from shim.instances.cluster.backend import ClusterBackend
from shim.instances.cluster.making import uid_of
from shim.instances.cluster.manifests import STOPPED, UNFINISHED, labels
from shim.instances.cluster.reconciler import ABANDONED_SECONDS
from shim.instances.errors import InstanceError
from shim.instances.records import Instance

LATER = ABANDONED_SECONDS + 30


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[tuple[World, Cluster]]:
    """A world whose cluster is the stand-in, and that."""
    with standin_world(tmp_path) as both:
        yield both


def abandoned(world: World, one: Cluster, at: str, instance: Instance | None = None) -> Instance:
    """An instance whose server ceased to be when it was about to make a part of it."""
    instance = instance or world.instance()
    one.fail("POST", f"/{at}", 403, times=9)
    one.fail("PATCH", "/secrets", 403, times=9)
    with pytest.raises(InstanceError):
        world.idle_server().create(instance)
    one.mend()
    return instance


def begun(world: World, instance: Instance) -> str | None:
    """What the claim of an instance says is not finished."""
    claim = CoreV1Api(world.client).read_namespaced_secret(f"nbfolio-{instance.spec.name}", world.namespace)
    told: dict[str, str] = claim.metadata.annotations
    return told.get(UNFINISHED)


def annotate(world: World, instance: Instance, told: dict[str, str]) -> None:
    """Write into the claim of an instance."""
    core, name = CoreV1Api(world.client), f"nbfolio-{instance.spec.name}"
    core.patch_namespaced_secret(name, world.namespace, {"metadata": {"annotations": told}})


def uids(world: World) -> dict[str, list[str]]:
    """All objects that there are."""
    return {plural: [uid_of(one) for one in world.objects(plural)] for plural in PARTS}


def changes(one: Cluster) -> list[Request]:
    """The requests that came and ask for a change."""
    return [request for request in one.requests if request.method not in ("GET", "WATCH")]


def replicas(world: World, instance: Instance) -> int:
    """How many pods an instance shall have."""
    (found,) = world.of("statefulsets", instance)
    count: int = found["spec"]["replicas"]
    return count


# Creations that were broken off


@pytest.mark.parametrize("at", ["persistentvolumeclaims", "services", "ingresses", "statefulsets"])
def test_a_creation_that_never_finished_is_undone_after_a_while(standin: tuple[World, Cluster], at: str) -> None:
    world, one = standin
    instance = abandoned(world, one, at)
    before = world.has(instance)
    assert begun(world, instance) == "creation" and before["secrets"] and not before[at]
    world.idle_server().reconcile()
    # Whoever creates it may still be at work.
    assert world.has(instance) == before
    world.idle_server(LATER).reconcile()
    until(lambda: world.has(instance) == NOTHING, lambda: world.has(instance))
    assert world.has(world.idle_server().create(instance)) == WHOLE


def test_undoing_a_creation_keeps_the_files_of_the_instance_before(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    server = world.idle_server()
    made = server.create(world.instance())
    server.delete(made, keep_volume=True)
    (volume,) = world.of("persistentvolumeclaims", made)
    abandoned(world, one, "services", world.instance(made.spec.name))
    world.idle_server(LATER).reconcile()
    left = {**NOTHING, "persistentvolumeclaims": 1}
    until(lambda: world.has(made) == left, lambda: world.has(made))
    (kept,) = world.of("persistentvolumeclaims", made)
    assert uid_of(kept) == uid_of(volume) and "deletionTimestamp" not in kept["metadata"]


def test_a_creation_of_which_only_the_last_word_is_missing_is_finished(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    one.fail("PATCH", "/secrets", 403, times=9)
    made = world.idle_server().create(world.instance())
    one.mend()
    assert begun(world, made) == "creation"
    world.idle_server(LATER).reconcile()
    assert begun(world, made) is None and world.has(made) == WHOLE


# Deletions that were broken off


@pytest.mark.parametrize("at", ["ingresses", "services", "statefulsets", "secrets", "persistentvolumeclaims"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_deletion_that_was_broken_off_goes_on(standin: tuple[World, Cluster], at: str, keep: bool) -> None:
    world, one = standin
    server = world.idle_server()
    made = server.create(world.instance())
    one.fail("DELETE", f"/{at}/", 403, times=9)
    if not (keep and at == "persistentvolumeclaims"):
        with pytest.raises(InstanceError):
            server.delete(made, keep_volume=keep)
        assert begun(world, made) == ("deletion-keeping-volume" if keep else "deletion")
        assert world.has(made)[at] == WHOLE[at]
    else:
        server.delete(made, keep_volume=keep)
    one.mend()
    world.idle_server().reconcile()
    left = {**NOTHING, "persistentvolumeclaims": int(keep)}
    until(lambda: world.has(made) == left, lambda: world.has(made))


def test_an_undoing_that_was_broken_off_goes_on(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    instance = world.instance()
    one.fail("POST", "/statefulsets", 403, times=9)
    one.fail("DELETE", "/ingresses", 403, times=9)
    with pytest.raises(InstanceError):
        world.idle_server().create(instance)
    one.mend()
    assert begun(world, instance) == "undoing"
    world.idle_server().reconcile()
    until(lambda: world.has(instance) == NOTHING, lambda: world.has(instance))


def test_what_cannot_be_put_in_order_is_no_reason_to_leave_the_others(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    server = world.idle_server()
    first, second = server.create(world.instance("aaa")), server.create(world.instance("bbb"))
    one.fail("DELETE", "/ingresses/", 403, times=99)
    for made in (first, second):
        with pytest.raises(InstanceError):
            server.delete(made, keep_volume=False)
    one.mend()
    one.fail("DELETE", f"/ingresses/{first.place}", 403, times=9)
    world.idle_server().reconcile()
    until(lambda: world.has(second) == NOTHING)
    assert world.has(first) == WHOLE


# Orphans, and how many pods there shall be


def orphans(world: World, place: str) -> None:
    """Objects as a backup may bring them back: marked as ours, and nobody's."""
    core, apps, network = CoreV1Api(world.client), AppsV1Api(world.client), NetworkingV1Api(world.client)
    meta = {"name": place, "labels": labels(place)}
    ports = {"ports": [{"port": 80}]}
    backend = {"service": {"name": place, "port": {"number": 80}}}
    template = {"metadata": {"labels": labels(place)}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    spec = {"replicas": 0, "serviceName": place, "selector": {"matchLabels": labels(place)}, "template": template}
    core.create_namespaced_secret(world.namespace, {"metadata": meta, "data": {"token": "eA=="}})
    core.create_namespaced_service(world.namespace, {"metadata": meta, "spec": ports})
    apps.create_namespaced_stateful_set(world.namespace, {"metadata": meta, "spec": spec})
    ingress = {"metadata": meta, "spec": {"defaultBackend": backend}}
    network.create_namespaced_ingress(world.namespace, ingress)


def test_what_lost_its_claim_is_removed(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    server = world.idle_server()
    made = server.create(world.instance())
    before = uids(world)
    orphans(world, "notebook-1-0001-old")
    assert uids(world) != before
    server.reconcile()
    assert uids(world) == before and world.has(made) == WHOLE


def test_what_has_the_labels_and_not_the_name_is_no_orphan(standin: tuple[World, Cluster]) -> None:
    world, _ = standin
    meta = {"labels": labels("notebook-1-0001-old")}
    core = CoreV1Api(world.client)
    core.create_namespaced_service(
        world.namespace, {"metadata": {**meta, "name": "theirs"}, "spec": {"ports": [{"port": 80}]}}
    )
    other = {"name": "theirs", "labels": labels("notebook-1-0002-old")}
    core.create_namespaced_secret(world.namespace, {"metadata": other})
    before = uids(world)
    world.idle_server(LATER).reconcile()
    assert uids(world) == before


@pytest.mark.parametrize("damage", ["{", ""])
def test_what_belongs_to_a_claim_that_nobody_can_read_stays(standin: tuple[World, Cluster], damage: str) -> None:
    world, _ = standin
    server = world.idle_server()
    made = server.create(world.instance())
    annotate(world, made, {"nbfolio.org/instance": damage})
    world.idle_server(LATER).reconcile()
    assert world.has(made) == WHOLE


@pytest.mark.parametrize("stopped", [True, False])
def test_a_number_of_pods_that_does_not_fit_is_mended(standin: tuple[World, Cluster], stopped: bool) -> None:
    world, one = standin
    server = world.idle_server()
    made = server.create(world.instance())
    if not stopped:
        server.stop(made, "Stopped by user")
    one.fail("PATCH", "/statefulsets", 403, times=9)
    with pytest.raises(InstanceError):
        if stopped:
            server.stop(made, "Stopped by user")
        else:
            server.start(made)
    one.mend()
    assert replicas(world, made) == int(stopped)
    server.reconcile()
    assert replicas(world, made) == int(not stopped)


def test_mending_the_number_of_pods_does_not_undo_what_somebody_asked_for_since(
    standin: tuple[World, Cluster],
) -> None:
    world, one = standin
    server, other = world.idle_server(), world.idle_server()
    made = server.create(world.instance())
    annotate(world, made, {STOPPED: "Stopped by user"})

    def again(request: Request) -> None:
        other.stop(made, "Stopped by user")
        other.start(made)

    # Between the look at everything and the change.
    one.on("PATCH", "/statefulsets", again)
    server.reconcile()
    assert replicas(world, made) == 1


# Several servers, and what is in order


def test_what_is_in_order_is_not_changed(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    server = world.idle_server()
    server.create(world.instance())
    server.stop(server.create(world.instance()), "Stopped by user")
    before = len(changes(one))
    world.idle_server(LATER).reconcile()
    assert len(changes(one)) == before


def test_two_servers_put_the_same_in_order_at_once(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    server = world.idle_server()
    good = server.create(world.instance())
    wrong = server.create(world.instance())
    annotate(world, wrong, {STOPPED: "Stopped by user"})
    leaving = server.create(world.instance())
    one.fail("DELETE", "/ingresses", 403, times=9)
    with pytest.raises(InstanceError):
        server.delete(leaving, keep_volume=False)
    one.mend()
    undone = abandoned(world, one, "statefulsets")
    orphans(world, "notebook-1-0001-old")
    meeting = threading.Barrier(2, timeout=SECONDS)
    # Both have seen everything before either of them does anything.
    one.on("GET", "/secrets\\?", lambda request: meeting.wait(), times=2, after=True)
    both = [world.idle_server(LATER), world.idle_server(LATER)]
    assert in_threads(*(each.reconcile for each in both)) == [None, None]
    until(lambda: world.has(leaving) == world.has(undone) == NOTHING)
    assert not any("0001-old" in str(world.objects(plural)) for plural in PARTS)
    assert world.has(good) == world.has(wrong) == WHOLE
    assert (replicas(world, good), replicas(world, wrong)) == (1, 0)


@pytest.mark.parametrize("begins", ["deletion", "creation"])
def test_a_server_that_is_late_spares_what_has_the_name_since(standin: tuple[World, Cluster], begins: str) -> None:
    world, one = standin
    server, late = world.idle_server(), world.idle_server(LATER)
    if begins == "deletion":
        made = server.create(world.instance())
        annotate(world, made, {UNFINISHED: "deletion"})
    else:
        made = abandoned(world, one, "statefulsets")
    later: list[Instance] = []

    def replaced(request: Request) -> None:
        world.idle_server(LATER).reconcile()
        until(lambda: world.has(made) == NOTHING)
        later.append(server.create(world.instance(made.spec.name, owner=made.spec.owner)))

    # The late server has seen what was, and does then what is to be done about it.
    one.on("GET", "/secrets\\?", replaced, after=True)
    late.reconcile()
    (again,) = later
    assert world.has(again) == WHOLE and begun(world, again) is None
    assert all("deletionTimestamp" not in each["metadata"] for each in world.of("persistentvolumeclaims", again))


def test_looking_does_not_disturb_who_creates_at_the_same_time(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    looking = world.idle_server()
    for plural in ("secrets", "persistentvolumeclaims", "services", "ingresses", "statefulsets"):
        one.on("POST", f"/{plural}", lambda request: looking.reconcile(), times=9)
    made = world.idle_server().create(world.instance())
    assert world.has(made) == WHOLE and begun(world, made) is None


def test_a_server_does_all_this_by_itself_once_it_begins(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    undone = abandoned(world, one, "services")
    late: ClusterBackend = world.idle_server(LATER)
    late.open()
    until(lambda: world.has(undone) == NOTHING, lambda: world.has(undone))
    until(lambda: late.find(undone.id) is None)


# What is not ours


def test_foreign_objects_stay(standin: tuple[World, Cluster]) -> None:
    world, one = standin
    core, apps, network = CoreV1Api(world.client), AppsV1Api(world.client), NetworkingV1Api(world.client)
    ports = {"ports": [{"port": 80}]}
    backend = {"service": {"name": "x", "port": {"number": 80}}}
    marks = [
        {},
        {"app.kubernetes.io/managed-by": "helm", "nbfolio.org/instance": "theirs1"},
        {"app.kubernetes.io/managed-by": "nbfolio"},
        {"nbfolio.org/instance": "theirs3"},
    ]
    for number, mark in enumerate(marks):
        meta = {"name": f"theirs{number}", "labels": mark}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        spec = {"replicas": 1, "serviceName": "x", "selector": {"matchLabels": {"a": "b"}}, "template": template}
        core.create_namespaced_secret(world.namespace, {"metadata": meta})
        core.create_namespaced_secret(world.namespace, {"metadata": {"name": f"nbfolio-theirs{number}"}})
        core.create_namespaced_service(world.namespace, {"metadata": meta, "spec": ports})
        apps.create_namespaced_stateful_set(world.namespace, {"metadata": meta, "spec": spec})
        network.create_namespaced_ingress(world.namespace, {"metadata": meta, "spec": {"defaultBackend": backend}})
        volume = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        core.create_namespaced_persistent_volume_claim(world.namespace, {"metadata": meta, "spec": volume})
    before = uids(world)
    abandoned(world, one, "statefulsets")
    asked = len(changes(one))
    world.idle_server(LATER).reconcile()
    until(lambda: uids(world) == before, lambda: uids(world))
    assert not [request for request in changes(one)[asked:] if "theirs" in request.path]
