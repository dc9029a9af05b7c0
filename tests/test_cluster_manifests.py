"""The objects that instances are made of on Kubernetes, and the role that makes them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.settings import Instances as Settings
from shim.instances.cluster import manifests
from shim.instances.cluster.packages import CONDA_SCRIPT, PIP_SCRIPT
from shim.instances.cluster.role import role
from shim.instances.instances import place_of
from shim.instances.records import EnvironmentSpec, Instance, KernelSpec, NotebookSpec

Object = dict[str, Any]
SETTINGS = Settings(public_url="https://{instance}.nb.example.org", namespace="books")
RESOURCES = {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}
PACKAGES = KernelSpec("my kernel", ("conda-forge",), ("scipy",), ("numpy==2", "$(id)"))


def instance(name: str = "test-nb", owner: str = "ada", kernel: KernelSpec | None = None, **spec: Any) -> Instance:
    asked = NotebookSpec(name, "books", owner, EnvironmentSpec("e", "quay.io/x/y:1", kernel), "cpu=1", **spec)
    instance_id = "notebook_1626160071451_0001"
    return Instance(instance_id, place_of(instance_id, name), asked, 1626160071.0, "11111111-aaaa")


def objects(one: Instance, site: Settings = SETTINGS) -> list[Object]:
    return [
        manifests.claim(one, site.namespace, "mark"),
        manifests.token(one, site, "secret"),
        manifests.volume(one, site),
        manifests.service(one, site),
        manifests.ingress(one, site),
        manifests.stateful_set(one, site, RESOURCES),
    ]


def pod_of(one: Instance, site: Settings = SETTINGS) -> Object:
    pod: Object = manifests.stateful_set(one, site, RESOURCES)["spec"]["template"]["spec"]
    return pod


def containers(pod: Object) -> Iterator[Object]:
    yield from pod["containers"]
    yield from pod.get("initContainers", ())


@pytest.mark.parametrize("rich", [False, True])
def test_all_objects_are_valid_for_the_oldest_and_the_newest_version(rich: bool) -> None:
    validating = pytest.importorskip("kubernetes_validate", reason="needs: pip install kubernetes-validate")
    site = Settings(public_url="http://{instance}.nb.example.org:8080")
    one = instance()
    if rich:
        site = Settings(
            public_url="https://{instance}.nb.example.org",
            storage_class="fast",
            ingress_class="nginx",
            tls_secret="wild",
        )
        one = instance(kernel=PACKAGES, env_vars={"A": "$(B)", "C": ""}, labels={"app": "submarine server!"})
    for body in [*objects(one, site), *yaml.safe_load_all(role("books"))]:
        for version in ("1.25", validating.latest_version()):
            assert validating.validate(body, version, strict=True)


LABEL = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(LABEL, st.text(), st.dictionaries(st.text(min_size=1), st.text(), max_size=3))
def test_names_and_labels_fit_whatever_people_write(name: str, owner: str, written: dict[str, str]) -> None:
    one = instance(name, owner, labels=written)
    for body in objects(one):
        meta = body["metadata"]
        limit = 52 if body["kind"] in ("StatefulSet", "Service", "Ingress") else 253
        assert len(meta["name"]) <= limit
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", meta["name"])
        for value in meta["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)
        for key in (*meta["annotations"], *meta["labels"]):
            assert re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", key)
        json.dumps(body)


def test_labels_of_users_become_annotations() -> None:
    body = manifests.stateful_set(instance(labels={"app": "submarine-server"}), SETTINGS, RESOURCES)
    for meta in (body["metadata"], body["spec"]["template"]["metadata"]):
        assert set(meta["labels"]) == {
            "app.kubernetes.io/name",
            "app.kubernetes.io/managed-by",
            "nbfolio.org/instance",
        }
        assert "app=submarine-server" in meta["annotations"].values()
    assert body["spec"]["selector"] == {"matchLabels": {"nbfolio.org/instance": instance().place}}


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_volumes_of_different_owners_have_different_names(one: str, other: str) -> None:
    names = {manifests.volume_name(instance(owner=owner)) for owner in (one, other)}
    assert len(names) == len({one, other})


def test_a_volume_does_not_depend_on_the_place_of_its_instance() -> None:
    one = instance()
    assert manifests.volume(one, SETTINGS) == manifests.volume(replace(one, id="x", place="y"), SETTINGS)


def test_a_claim_gives_back_the_record_and_a_token_the_token() -> None:
    one = instance(kernel=PACKAGES, env_vars={"A": "ü"}, labels={"b": "c"})
    body, token = manifests.claim(replace(one, uid=""), "books", "mark"), manifests.token(one, SETTINGS, "secret")
    body["metadata"]["uid"] = one.uid
    assert manifests.record_of(body) == one
    assert (manifests.token_of(body), manifests.token_of(token)) == ("", "secret")
    assert manifests.record_of(token | {"metadata": token["metadata"] | {"uid": "1"}}) is None
    body["metadata"]["annotations"][manifests.STOPPED] = "Stopped by user"
    assert manifests.record_of(body) == replace(one, stopped="Stopped by user")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"metadata": None},
        {"metadata": {"uid": "1", "annotations": None}},
        {"metadata": {"uid": "1", "annotations": {manifests.PLACE: "[]"}}},
        {"metadata": {"uid": "1", "annotations": {manifests.PLACE: '{"spec": 1}'}}},
        {"metadata": {"uid": "1", "annotations": {manifests.PLACE: "{"}}},
        {"data": {"token": "%"}},
        {"data": {"token": None}},
        {"data": []},
    ],
)
def test_what_is_no_claim_has_no_record_and_no_token(odd: Object) -> None:
    assert manifests.record_of(odd) is None
    assert manifests.token_of(odd) == ""


def test_a_pod_can_do_little() -> None:
    pod = pod_of(instance(kernel=PACKAGES))
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"] == {
        "runAsUser": 1000,
        "runAsGroup": 100,
        "runAsNonRoot": True,
        "fsGroup": 100,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"] == "1Gi"


def test_graphics_processors_are_for_the_notebook_alone() -> None:
    main, *steps = containers(pod_of(instance(kernel=PACKAGES)))
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert steps and all("nvidia.com/gpu" not in step["resources"]["limits"] for step in steps)


def test_shared_memory_is_no_more_than_memory() -> None:
    shared = next(one for one in pod_of(instance())["volumes"] if one["name"] == "shm")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_the_token_comes_from_its_secret_and_nobody_can_set_another() -> None:
    hostile = {"JUPYTER_TOKEN": "mine", "HOME": "/", "OK": "yes"}
    variables = pod_of(instance(env_vars=hostile))["containers"][0]["env"]
    assert [one["name"] for one in variables] == ["OK", "HOME", "JUPYTER_TOKEN"]
    assert variables[-1]["valueFrom"] == {"secretKeyRef": {"name": instance().place, "key": "token"}}
    assert "secret" not in json.dumps([body for body in objects(instance()) if body["kind"] != "Secret"]).replace(
        "secretKeyRef", ""
    )


def expanded(text: str) -> str:
    """What Kubernetes makes of a value: $(NAME) is replaced, $$ is one."""
    return re.sub(r"\$\$|\$\(([^()]*)\)", lambda found: "$" if found[0] == "$$" else "REPLACED", text)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="$()A b", max_size=12))
def test_values_reach_the_container_as_they_were_written(value: str) -> None:
    (variable, *_) = pod_of(instance(env_vars={"A": value}))["containers"][0]["env"]
    assert expanded(variable["value"]) == value


def test_a_start_has_as_long_as_the_settings_say() -> None:
    probe = pod_of(instance(), Settings(public_url=SETTINGS.public_url, start_minutes=3))["containers"][0][
        "startupProbe"
    ]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 180


def test_an_ingress_has_the_host_of_the_public_url_and_tls_for_https() -> None:
    spec = manifests.ingress(instance(), SETTINGS)["spec"]
    host = f"{instance().place}.nb.example.org"
    assert spec["rules"][0]["host"] == host and spec["tls"] == [{"hosts": [host]}]
    plain = manifests.ingress(instance(), Settings(public_url="http://{instance}.nb.example.org:8080"))["spec"]
    assert plain["rules"][0]["host"] == host and "tls" not in plain


def test_packages_are_arguments_and_never_part_of_a_script(tmp_path: Path) -> None:
    hostile = "x; touch ran $(touch ran) `touch ran` \" ' && touch ran"
    kernel = KernelSpec(hostile, (hostile,), (hostile, "--prefix=/"), (hostile, "-r/etc/passwd"))
    conda, pip = pod_of(instance(kernel=kernel))["initContainers"]
    assert conda["command"] == ["sh", "-c", CONDA_SCRIPT, "sh"] and pip["command"] == ["sh", "-c", PIP_SCRIPT, "sh"]
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir()
    for tool in ("python", "conda"):
        (tools / tool).write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$HOME/asked"\n')
        (tools / tool).chmod(0o755)
    home.mkdir()
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(home)}
    for _ in range(2):
        command = [*pip["command"], *map(expanded, pip["args"])]
        subprocess.run(command, env=environment, cwd=home, check=True, timeout=20)
    asked = (home / "asked").read_text().split("\0")[:-1]
    # Once, though it ran twice: the mark was there.
    assert asked[:3] == ["-m", "pip", "install"] and asked[-3:] == ["--", hostile, "-r/etc/passwd"]
    assert asked.count("install") == 1
    assert not (home / "ran").exists()


def test_without_packages_nothing_is_prepared() -> None:
    for kernel in (None, KernelSpec("k"), KernelSpec("k", ("c",))):
        assert "initContainers" not in pod_of(instance(kernel=kernel))


def test_the_role_allows_what_is_needed_in_one_namespace_and_no_more() -> None:
    account, allowed, binding = yaml.safe_load_all(role("1e3"))
    assert [one["kind"] for one in (account, allowed, binding)] == ["ServiceAccount", "Role", "RoleBinding"]
    assert {one["metadata"]["namespace"] for one in (account, allowed, binding)} == {"1e3"}
    assert not [rule for rule in allowed["rules"] if "*" in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]]
    rights = {resource: set(rule["verbs"]) for rule in allowed["rules"] for resource in rule["resources"]}
    assert set(rights) == {
        *("secrets", "persistentvolumeclaims", "services", "statefulsets", "ingresses", "pods", "events")
    }
    assert rights["pods"] == rights["events"] == {"get", "list", "watch"}
    assert not any("deletecollection" in verbs or "update" in verbs for verbs in rights.values())
    assert binding["subjects"][0]["namespace"] == "1e3"
