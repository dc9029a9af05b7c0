"""The stand-in of a Kubernetes API server does what a real one does, as seen by the official client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

kubernetes = pytest.importorskip("kubernetes", reason="needs the official client: pip install kubernetes")

from cluster import SECONDS, TOKEN, Cluster, cluster  # noqa: E402
from cluster import until as wait_until  # noqa: E402
from cluster_pods import LIVES  # noqa: E402
from kubernetes.client import ApiClient, AppsV1Api, Configuration, CoreV1Api, NetworkingV1Api  # noqa: E402
from kubernetes.client.rest import ApiException  # noqa: E402
from kubernetes.watch import Watch  # noqa: E402

NS = "default"


@pytest.fixture
def standin() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.fixture
def client(standin: Cluster, tmp_path: Path) -> Iterator[ApiClient]:
    configuration = Configuration()
    configuration.retries = False
    kubernetes.config.load_kube_config(str(standin.kubeconfig(tmp_path)), client_configuration=configuration)
    one = ApiClient(configuration)
    yield one
    one.close()


@pytest.fixture
def core(client: ApiClient) -> CoreV1Api:
    return CoreV1Api(client)


@pytest.fixture
def apps(client: ApiClient) -> AppsV1Api:
    return AppsV1Api(client)


def secret(name: str = "one", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "stringData": {"token": "x"}}


def claim(name: str = "files") -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


def stateful_set(name: str = "nb", **annotations: str) -> dict[str, Any]:
    container = {"name": "notebook", "image": "x", "resources": {"limits": {"cpu": "1"}}}
    container["volumeMounts"] = [{"name": "files", "mountPath": "/files"}]
    pod = {"containers": [container], "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": "files"}}]}
    labels = {"app": name}
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "serviceName": name, "template": template}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    """The Status with which a call is refused."""
    with pytest.raises(ApiException) as caught:
        call()
    status: dict[str, Any] = json.loads(caught.value.body)
    assert status["kind"] == "Status" and status["code"] == caught.value.status
    return status


def until(call: Callable[[], Any]) -> Any:
    """What a call gives as soon as that is true; what is not there yet is waited for."""

    def there() -> Any:
        try:
            return call()
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    return wait_until(there)


def gone(call: Callable[[], Any]) -> None:
    """Wait until a call is answered with 404."""

    def missing() -> bool:
        try:
            call()
        except ApiException as error:
            return bool(error.status == 404)
        return False

    until(missing)


def test_without_its_token_nobody_gets_an_answer(standin: Cluster, tmp_path: Path) -> None:
    with kubernetes.config.new_client_from_config(str(standin.kubeconfig(tmp_path, token="other"))) as other:
        assert refused(lambda: CoreV1Api(other).list_namespaced_pod(NS))["code"] == 401
    assert standin.requests == []


def test_what_it_does_not_know_it_refuses_loudly(core: CoreV1Api, apps: AppsV1Api, client: ApiClient) -> None:
    core.create_namespaced_secret(NS, secret())
    listed = {"metadata": {"ownerReferences": []}}
    for call in (
        lambda: core.list_node(),
        lambda: apps.list_namespaced_deployment(NS),
        lambda: core.list_namespaced_pod(NS, limit=5),
        lambda: core.read_namespaced_pod_log("x", NS),
        lambda: core.delete_collection_namespaced_secret(NS),
        lambda: core.patch_namespaced_secret("one", NS, listed),
        lambda: core.delete_namespaced_secret("one", NS, propagation_policy="Orphan"),
        lambda: apps.patch_namespaced_stateful_set_scale("x", NS, {"spec": {"replicas": 0}}),
    ):
        assert refused(call)["code"] == 501


def test_a_name_is_taken_once(core: CoreV1Api) -> None:
    core.create_namespaced_secret(NS, secret())
    assert refused(lambda: core.create_namespaced_secret(NS, secret()))["reason"] == "AlreadyExists"
    assert refused(lambda: core.create_namespaced_secret(NS, secret(), dry_run="All"))["code"] == 409


def test_what_is_not_there_is_404(core: CoreV1Api) -> None:
    assert refused(lambda: core.read_namespaced_secret("one", NS))["reason"] == "NotFound"
    assert refused(lambda: core.create_namespaced_secret("nowhere", secret()))["code"] == 404
    assert core.list_namespaced_secret("nowhere").items == []


def test_a_stale_write_and_a_wrong_precondition_are_conflicts(core: CoreV1Api) -> None:
    old = core.create_namespaced_secret(NS, secret())
    core.patch_namespaced_secret("one", NS, {"metadata": {"annotations": {"a": "b"}}})
    stale = {"metadata": {"resourceVersion": old.metadata.resource_version, "annotations": {"a": "c"}}}
    other = {"preconditions": {"uid": "other"}}
    assert refused(lambda: core.replace_namespaced_secret("one", NS, old))["reason"] == "Conflict"
    assert refused(lambda: core.patch_namespaced_secret("one", NS, stale))["code"] == 409
    assert refused(lambda: core.delete_namespaced_secret("one", NS, body=other))["code"] == 409
    core.delete_namespaced_secret("one", NS, body={"preconditions": {"uid": old.metadata.uid}})
    gone(lambda: core.read_namespaced_secret("one", NS))


def test_a_patch_that_changes_nothing_keeps_the_version_and_null_removes(core: CoreV1Api) -> None:
    first = core.create_namespaced_secret(NS, secret(annotations={"a": "b"}))
    same = core.patch_namespaced_secret("one", NS, {"metadata": {"annotations": {"a": "b"}}})
    assert same.metadata.resource_version == first.metadata.resource_version
    less = core.patch_namespaced_secret("one", NS, {"metadata": {"annotations": {"a": None, "c": "d"}}})
    assert less.metadata.annotations == {"c": "d"} and less.data == {"token": "eA=="}
    assert int(less.metadata.resource_version) > int(first.metadata.resource_version)


def test_a_dry_run_checks_and_changes_nothing(core: CoreV1Api, standin: Cluster) -> None:
    before = standin.store.version
    assert core.create_namespaced_secret(NS, secret(), dry_run="All").metadata.uid
    assert refused(lambda: core.create_namespaced_secret(NS, secret("No"), dry_run="All"))["code"] == 422
    assert (standin.store.version, core.list_namespaced_secret(NS).items) == (before, [])
    core.create_namespaced_secret(NS, secret())
    core.delete_namespaced_secret("one", NS, dry_run="All")
    core.delete_namespaced_secret("one", NS, body={"dryRun": ["All"]})
    core.patch_namespaced_secret("one", NS, {"metadata": {"labels": {"a": "b"}}}, dry_run="All")
    assert core.read_namespaced_secret("one", NS).metadata.labels is None


def test_bad_names_labels_and_annotations_are_invalid(core: CoreV1Api) -> None:
    for body in (
        secret("Upper"),
        secret("a" * 254),
        secret("a_b"),
        secret(labels={"a": "not a label"}),
        secret(labels={"a": "a" * 64}),
        secret(labels={"a/b/c": "x"}),
        secret(annotations={"a b": "x"}),
        secret(annotations={"a": "x" * 262144}),
    ):
        status = refused(lambda body=body: core.create_namespaced_secret(NS, body))
        assert (status["code"], status["reason"]) == (422, "Invalid"), str(body)[:100]


def test_bad_pods_and_claims_are_refused(core: CoreV1Api, apps: AppsV1Api, client: ApiClient) -> None:
    for resources in ({"limits": {"cpu": "1 core"}}, {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}):
        body = stateful_set()
        body["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
        assert refused(lambda body=body: apps.create_namespaced_stateful_set(NS, body))["code"] in (400, 422)
    body = stateful_set()
    body["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert refused(lambda: apps.create_namespaced_stateful_set(NS, body))["code"] == 422
    body = claim()
    body["spec"]["resources"]["requests"]["storage"] = 5
    path = f"/api/v1/namespaces/{NS}/persistentvolumeclaims"
    with urllib3.PoolManager() as pool:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = pool.request("POST", client.configuration.host + path, json=body, headers=headers)
    assert answer.status == 400


def test_selectors_of_stateful_sets_do_not_change(apps: AppsV1Api) -> None:
    made = apps.create_namespaced_stateful_set(NS, stateful_set())
    patch = {"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}}
    assert refused(lambda: apps.patch_namespaced_stateful_set("nb", NS, patch))["code"] == 422
    assert apps.patch_namespaced_stateful_set("nb", NS, {"spec": {"replicas": 0}}).metadata.generation == 2
    again = apps.patch_namespaced_stateful_set("nb", NS, {"metadata": {"annotations": {"a": "b"}}})
    assert again.metadata.generation == 2 and again.metadata.uid == made.metadata.uid


def test_label_selectors(core: CoreV1Api) -> None:
    for name, labels in {"a": {"app": "x", "tier": "web"}, "b": {"app": "x"}, "c": {}}.items():
        core.create_namespaced_secret(NS, secret(name, labels=labels))
    for selector, names in {
        "": "abc",
        "app=x": "ab",
        "app==x,tier!=web": "b",
        "app": "ab",
        "!app": "c",
        "tier in (web, db)": "a",
        "tier notin (web)": "bc",
    }.items():
        found = core.list_namespaced_secret(NS, label_selector=selector).items
        assert "".join(one.metadata.name for one in found) == names, selector


def test_field_selectors(core: CoreV1Api, apps: AppsV1Api) -> None:
    for name in ("a", "b"):
        apps.create_namespaced_stateful_set(NS, stateful_set(name))
    until(lambda: core.read_namespaced_pod("b-0", NS).status.phase == "Running")
    assert [one.metadata.name for one in core.list_namespaced_pod(NS, field_selector="metadata.name=a-0").items] == [
        "a-0"
    ]
    pod = core.read_namespaced_pod("a-0", NS)
    events = core.list_namespaced_event(NS, field_selector=f"involvedObject.uid={pod.metadata.uid}").items
    assert {"Scheduled", "Pulling"} <= {one.reason for one in events}
    assert {one.involved_object.name for one in events} == {"a-0"}
    assert refused(lambda: core.list_namespaced_pod(NS, field_selector="spec.image=x"))["code"] == 400


def test_a_list_at_a_future_version_times_out(core: CoreV1Api, standin: Cluster) -> None:
    standin.future_seconds = 0.05
    assert refused(lambda: core.list_namespaced_secret(NS, resource_version="99999999"))["code"] == 504


def test_finalizers_hold_a_deletion(core: CoreV1Api) -> None:
    core.create_namespaced_secret(NS, secret(finalizers=["example.org/hold"]))
    core.delete_namespaced_secret("one", NS)
    held = core.read_namespaced_secret("one", NS)
    assert (
        held.metadata.deletion_timestamp and refused(lambda: core.create_namespaced_secret(NS, secret()))["code"] == 409
    )
    core.patch_namespaced_secret("one", NS, {"metadata": {"finalizers": None}})
    gone(lambda: core.read_namespaced_secret("one", NS))


def test_what_an_owner_leaves_is_collected(core: CoreV1Api, apps: AppsV1Api) -> None:
    owner = apps.create_namespaced_stateful_set(NS, stateful_set())
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nb", "uid": owner.metadata.uid}
    core.create_namespaced_secret(NS, secret(ownerReferences=[reference]))
    until(lambda: core.read_namespaced_pod("nb-0", NS))
    apps.delete_namespaced_stateful_set("nb", NS)
    gone(lambda: core.read_namespaced_secret("one", NS))
    gone(lambda: core.read_namespaced_pod("nb-0", NS))


def test_foreground_deletion_removes_dependants_first(core: CoreV1Api, apps: AppsV1Api, standin: Cluster) -> None:
    standin.behave("nb", "stuck")
    apps.create_namespaced_stateful_set(NS, stateful_set())
    until(lambda: core.read_namespaced_pod("nb-0", NS).status.phase == "Running")
    apps.delete_namespaced_stateful_set("nb", NS, propagation_policy="Foreground")
    until(lambda: core.read_namespaced_pod("nb-0", NS).metadata.deletion_timestamp)
    assert apps.read_namespaced_stateful_set("nb", NS).metadata.finalizers == ["foregroundDeletion"]
    standin.behave("nb", "run")
    gone(lambda: apps.read_namespaced_stateful_set("nb", NS))


def test_a_claim_in_use_stays_until_its_pod_is_gone(core: CoreV1Api, apps: AppsV1Api) -> None:
    assert core.create_namespaced_persistent_volume_claim(NS, claim()).status.phase == "Pending"
    apps.create_namespaced_stateful_set(NS, stateful_set())
    until(lambda: core.read_namespaced_persistent_volume_claim("files", NS).status.phase == "Bound")
    core.delete_namespaced_persistent_volume_claim("files", NS)
    held = core.read_namespaced_persistent_volume_claim("files", NS)
    assert held.metadata.deletion_timestamp and held.metadata.finalizers == ["kubernetes.io/pvc-protection"]
    apps.patch_namespaced_stateful_set("nb", NS, {"spec": {"replicas": 0}})
    gone(lambda: core.read_namespaced_persistent_volume_claim("files", NS))


def test_a_claim_outlives_its_stateful_set(core: CoreV1Api, apps: AppsV1Api) -> None:
    core.create_namespaced_persistent_volume_claim(NS, claim())
    apps.create_namespaced_stateful_set(NS, stateful_set())
    until(lambda: core.read_namespaced_pod("nb-0", NS))
    apps.delete_namespaced_stateful_set("nb", NS)
    gone(lambda: core.read_namespaced_pod("nb-0", NS))
    assert core.read_namespaced_persistent_volume_claim("files", NS).metadata.deletion_timestamp is None


def test_a_deleted_pod_of_a_stateful_set_comes_back_as_another(core: CoreV1Api, apps: AppsV1Api) -> None:
    apps.create_namespaced_stateful_set(NS, stateful_set())
    first = until(lambda: core.read_namespaced_pod("nb-0", NS))
    until(lambda: apps.read_namespaced_stateful_set("nb", NS).status.ready_replicas == 1)
    core.delete_namespaced_pod("nb-0", NS)
    until(lambda: core.read_namespaced_pod("nb-0", NS).metadata.uid != first.metadata.uid)


def test_a_namespace_goes_with_all_that_is_in_it(core: CoreV1Api, apps: AppsV1Api) -> None:
    core.create_namespace({"metadata": {"name": "run"}})
    core.create_namespaced_persistent_volume_claim("run", claim())
    apps.create_namespaced_stateful_set("run", stateful_set())
    until(lambda: core.read_namespaced_pod("nb-0", "run"))
    core.delete_namespace("run")
    gone(lambda: core.read_namespace("run"))
    assert core.list_namespaced_persistent_volume_claim("run").items == []


def test_pods_become_what_a_test_says(core: CoreV1Api, apps: AppsV1Api) -> None:
    core.create_namespaced_persistent_volume_claim(NS, claim())
    for what in LIVES:
        apps.create_namespaced_stateful_set(NS, stateful_set(what, **{"test.nbfolio.org/do": what}))

    def seen_of(pod: Any) -> str:
        """What the container does, or why the pod has no node."""
        states = [one.state.to_dict() for one in pod.status.container_statuses or ()]
        unscheduled = [one.reason or "" for one in pod.status.conditions or () if one.type == "PodScheduled"]
        return "".join(key for state in states for key, value in state.items() if value) or "".join(unscheduled)

    wanted = {
        f"{what}-0": life.unscheduled[0] if life.unscheduled else next(iter(life.state)) for what, life in LIVES.items()
    }
    until(lambda: {one.metadata.name: seen_of(one) for one in core.list_namespaced_pod(NS).items} == wanted)
    told = {told.reason for life in LIVES.values() for told in life.told}
    until(lambda: {one.reason for one in core.list_namespaced_event(NS).items} >= told)


def test_a_quota_refuses_pods_and_says_so(core: CoreV1Api, apps: AppsV1Api, standin: Cluster) -> None:
    standin.behave("nb", "quota")
    made = apps.create_namespaced_stateful_set(NS, stateful_set())
    (event,) = until(lambda: core.list_namespaced_event(NS, field_selector="reason=FailedCreate").items)
    assert event.involved_object.uid == made.metadata.uid and "exceeded quota" in event.message
    standin.behave("nb", "run")
    until(lambda: core.read_namespaced_pod("nb-0", NS))


def test_a_name_too_long_for_the_labels_of_its_pods_gets_none(core: CoreV1Api, apps: AppsV1Api) -> None:
    apps.create_namespaced_stateful_set(NS, stateful_set("a" * 53))
    until(lambda: core.list_namespaced_event(NS, field_selector="reason=FailedCreate").items)
    assert core.list_namespaced_pod(NS).items == []


def seen(core: CoreV1Api, version: str, **how: Any) -> list[tuple[str, str]]:
    """What a watch over secrets says from a version on, for as long as it takes."""
    with_timeout = {"timeout_seconds": 1, **how}
    stream = Watch().stream(core.list_namespaced_secret, NS, resource_version=version, **with_timeout)
    return [(event["type"], event["raw_object"]["metadata"].get("name", "")) for event in stream]


def test_a_watch_resumes_where_it_was(core: CoreV1Api) -> None:
    core.create_namespaced_secret(NS, secret("a"))
    version = core.list_namespaced_secret(NS).metadata.resource_version
    core.create_namespaced_secret(NS, secret("b"))
    core.patch_namespaced_secret("a", NS, {"metadata": {"labels": {"x": "y"}}})
    core.delete_namespaced_secret("b", NS)
    assert seen(core, version) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


def test_what_leaves_a_selector_is_seen_as_deleted(core: CoreV1Api) -> None:
    version = core.list_namespaced_secret(NS).metadata.resource_version
    core.create_namespaced_secret(NS, secret("a", labels={"x": "y"}))
    core.patch_namespaced_secret("a", NS, {"metadata": {"labels": {"x": "z"}}})
    core.patch_namespaced_secret("a", NS, {"metadata": {"labels": {"x": "y"}}})
    events = seen(core, version, label_selector="x=y", allow_watch_bookmarks=True)
    assert events == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("BOOKMARK", "")]


def test_a_watch_of_what_was_compacted_ends_with_410(core: CoreV1Api, standin: Cluster) -> None:
    version = core.list_namespaced_secret(NS).metadata.resource_version
    standin.compact()
    with pytest.raises(ApiException) as caught:
        seen(core, version)
    assert caught.value.status == 410
    assert seen(core, core.list_namespaced_secret(NS).metadata.resource_version) == []


def test_watches_see_what_happens_and_can_be_dropped(core: CoreV1Api, standin: Cluster) -> None:
    found: list[str] = []
    first, over = threading.Event(), threading.Event()

    def look() -> None:
        response = core.list_namespaced_secret(NS, watch=True, timeout_seconds=SECONDS, _preload_content=False)
        try:
            for data in response.stream(amt=None):
                found.append(data.decode())
                first.set()
        except urllib3.exceptions.HTTPError:
            found.append("dropped")
        response.release_conn()
        over.set()

    thread = threading.Thread(target=look)
    thread.start()
    until(lambda: standin.watches)
    core.create_namespaced_secret(NS, secret())
    assert first.wait(SECONDS) and standin.drop_watches() == 1 and over.wait(SECONDS)
    thread.join()
    assert json.loads(found[0])["type"] == "ADDED" and found[1:] == ["dropped"]


def test_faults_come_as_often_as_they_are_asked_for(core: CoreV1Api, standin: Cluster) -> None:
    standin.fail("GET", "/secrets", 503, times=2)
    assert [refused(lambda: core.list_namespaced_secret(NS))["code"] for _ in range(2)] == [503, 503]
    standin.fail("GET", "/secrets", 429, retry_after=7)
    with pytest.raises(ApiException) as caught:
        core.list_namespaced_secret(NS)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "7")
    assert core.list_namespaced_secret(NS).items == []


def test_an_answer_can_get_lost_after_the_deed(core: CoreV1Api, standin: Cluster) -> None:
    standin.fail("POST", "/secrets", None, after=True)
    with pytest.raises(urllib3.exceptions.HTTPError):
        core.create_namespaced_secret(NS, secret())
    assert core.read_namespaced_secret("one", NS)
    standin.fail("DELETE", "/secrets", None)
    with pytest.raises(urllib3.exceptions.HTTPError):
        core.delete_namespaced_secret("one", NS)
    assert core.read_namespaced_secret("one", NS)


def test_a_request_can_be_held_until_another_was_done(core: CoreV1Api, standin: Cluster) -> None:
    came, go, codes = threading.Event(), threading.Event(), list[int]()
    standin.on("POST", "/secrets", lambda request: (came.set(), go.wait(SECONDS))[0])

    def create() -> None:
        codes.append(refused(lambda: core.create_namespaced_secret(NS, secret()))["code"])

    thread = threading.Thread(target=create)
    thread.start()
    assert came.wait(SECONDS)
    core.create_namespaced_secret(NS, secret())
    go.set()
    thread.join()
    assert codes == [409]
    assert [request.method for request in standin.requests] == ["POST", "POST"]


def test_latency_delays_answers_and_not_the_end(standin: Cluster, core: CoreV1Api) -> None:
    standin.latency(SECONDS)
    with pytest.raises(urllib3.exceptions.HTTPError):
        core.list_namespaced_secret(NS, _request_timeout=0.1)


def test_services_and_ingresses_are_checked(core: CoreV1Api, client: ApiClient) -> None:
    network = NetworkingV1Api(client)
    body = {"metadata": {"name": "nb"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "nb"}}}
    assert core.create_namespaced_service(NS, body).spec.cluster_ip
    body["metadata"]["name"] = "1nb"
    assert refused(lambda: core.create_namespaced_service(NS, body))["code"] == 422
    backend = {"service": {"name": "nb", "port": {"number": 80}}}
    rule = {"host": "Nb.example.org", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {"metadata": {"name": "nb"}, "spec": {"rules": [rule]}}
    assert refused(lambda: network.create_namespaced_ingress(NS, ingress))["code"] == 422
    rule["host"] = "nb.example.org"
    assert network.create_namespaced_ingress(NS, ingress).metadata.uid
