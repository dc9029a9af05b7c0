"""What somebody tries who wants another owner's instance, or the server's attention for ever, over HTTP."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest
from cluster import TOKEN as CLUSTER_TOKEN
from cluster import Cluster, Request, cluster
from dashboards import Answer, Shim, running, until
from itsdangerous import URLSafeTimedSerializer
from test_instances_api import (
    ENVIRONMENT,
    NOTEBOOK,
    SUBMARINE_ENVIRONMENT,
    TOKENS,
    created,
    listed,
    ok,
    refused,
    send,
    site,
    spec,
    state,
)

from builder.config import load_config
from builder.settings import Scope
from shim.instances.asked import OddError, fetch
from shim.instances.backend import Door, Observed
from shim.instances.cluster import api as cluster_api
from shim.instances.cluster.role import role
from shim.instances.culling import Culler, UnknownActivityError, ask
from shim.instances.errors import BackendError, UnavailableError
from shim.instances.instances import MOST_CHANGES_OF_OWNER
from shim.instances.local.folders import Facts, Folder
from shim.instances.local.process import Server
from shim.instances.records import EnvironmentSpec, Instance, NotebookSpec, instance_of
from shim.startup import startup_problems
from shim.tokens import Tokens

FORM = {"content_type": "application/x-www-form-urlencoded"}
SECRET = "a-value-that-only-ada-may-see"
VALUES = [str(token["value"]) for token in TOKENS]


@pytest.fixture(scope="module")
def api_server() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, api_server: Cluster) -> Iterator[Shim]:
    """A server with tokens of two owners."""
    folder = tmp_path_factory.mktemp("attacked")
    with site(folder, api_server, auth__token=TOKENS, instances__max_per_owner=3) as one:
        yield one


@pytest.fixture(scope="module")
def hers(shim: Shim) -> Iterator[dict[str, Any]]:
    """Ada's instance, which runs for all of these tests."""
    ada = shim.as_("token-of-ada")
    made = created(ada, "hers", meta__ownerId=None, spec__envVars={"PASSWORD": SECRET})
    until(lambda: state(ada, made["notebookId"]) == "running")
    yield made
    # Whatever was tried, it is as it was.
    shown = ok(ada(f"{NOTEBOOK}/{made['notebookId']}"))["result"]
    assert (shown["uid"], shown["status"]) == (made["uid"], "running")


@pytest.fixture
def his(shim: Shim) -> Iterator[dict[str, Any]]:
    """Bob's instance, which runs."""
    bob = shim.as_("token-of-bob")
    made = created(bob, "his", meta__ownerId=None)
    until(lambda: state(bob, made["notebookId"]) == "running")
    yield made
    removed(bob)


def removed(owner: Shim) -> None:
    """All instances of an owner are gone."""
    for one in listed(owner):
        owner(f"{NOTEBOOK}/{one['notebookId']}", "DELETE")
    until(lambda: not listed(owner))


def nothing_of(answer: Answer, instance: dict[str, Any]) -> None:
    """An answer tells nothing of an instance."""
    told = answer.text + "".join(f"{name}: {value}\n" for name, value in answer.headers)
    for private in (instance["notebookId"], instance["uid"], SECRET, "nb.localhost"):
        assert private not in told


def on_routes(shim: Shim, instance: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every route of instances and environments as method and target, for an instance."""
    values = {"namespace": "default", "instance": instance["name"], "environment": "notebook-env"}
    for route in shim.app._routes.routes:  # type: ignore[attr-defined]
        if route.rule.startswith(("/api/v1", "/notebook/")):
            path = re.sub(r"<notebook:re:[^>]*\+>", instance["notebookId"], route.rule)
            yield route.method, re.sub(r"<(\w+)>", lambda match: values[match[1]], path)


# Who is not known


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"user_agent": "OpenAPI-Generator/0.8.0/python"},
        {"cookie": "token=token-of-ada; nbfolio=ada; nbfolio_user=ada; Authorization=token-of-ada"},
        {"x_forwarded_user": "ada", "remote_user": "ada", "x_forwarded_for": "127.0.0.1", "x_original_url": "/"},
        {"authorization": "Basic YWRhOnRva2VuLW9mLWFkYQ=="},
        {"authorization": "token token-of-ad"},
        {"authorization": "token token-of-ada token-of-ada"},
        {"authorization": "token token-of-ada, Bearer x"},
        {"authorization": "Bearer null"},
        {"authorization": "token " + "x" * 20000},
        {"accept": "text/html"},
    ],
)
def test_no_route_answers_somebody_without_a_token(
    shim: Shim, hers: dict[str, Any], headers: dict[str, str]
) -> None:  # 1 2
    stranger = shim.as_("")
    routes = list(on_routes(shim, hers))
    # Ten paths with two spellings each, and the methods of some.
    assert len(routes) == 28, routes
    for method, target in routes:
        kind = "application/x-www-form-urlencoded" if target.startswith("/notebook/") else "application/json"
        target += "?token=token-of-ada&id=ada&ticket=token-of-ada"
        body = json.dumps(spec("theirs")).encode() if method in ("POST", "PATCH") else None
        answer = stranger(target, method, body, **{"content_type": kind, **headers})
        assert answer.status == 401, (method, target, answer.text)
        assert answer["www-authenticate"]
        nothing_of(answer, hers)


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/notebook;x=1",
        "/api/v1//notebook",
        "//api/v1/notebook",
        "/api/v1/./notebook",
        "/dashboards/../api/v1/notebook",
        "/assets/%2e%2e/api/v1/notebook",
        "/API/v1/notebook",
        "/api/v1/notebook%00",
        "/api/v1/notebook/{id};x=1",
        "/notebook/default/hers/lab/tree",
        "/notebook/default/hers/lab%2F..%2Flab",
        "http://localhost/api/v1/notebook",
    ],
)
def test_other_spellings_of_paths_lead_nowhere(shim: Shim, hers: dict[str, Any], target: str) -> None:  # 2
    answer = shim.as_("")(target.replace("{id}", hers["notebookId"]))
    assert answer.status in (400, 401, 403, 404)
    nothing_of(answer, hers)


def test_the_server_does_not_start_open_and_keeps_no_token(tmp_path: Path) -> None:  # 4
    settings = {"instances.backend": "kubernetes", "server.host": "0.0.0.0"}
    assert startup_problems(load_config(tmp_path, None, {}, settings))
    empty = load_config(tmp_path, None, {}, {**settings, "auth.token": [{"name": "x", "scopes": ["instances"]}]})
    assert startup_problems(empty)
    known = load_config(tmp_path, None, {}, {"auth.token": TOKENS})
    assert not [value for value in VALUES if value in repr(vars(Tokens(known.auth)))]
    assert "instances" in get_args(Scope)


# Who is somebody else


@pytest.mark.parametrize(
    "which", ["{id}", "{id}/", "{ID}", "{id}%20", "%20{id}", "{id}%00", "{id}%0a", "{id};x=1", "{id}?id=ada", "hers"]
)
def test_no_spelling_of_an_id_is_good_for_another_owner(shim: Shim, hers: dict[str, Any], which: str) -> None:  # 3
    bob = shim.as_("token-of-bob")
    target = which.replace("{id}", hers["notebookId"]).replace("{ID}", hers["notebookId"].upper())
    path, _, query = target.partition("?")
    for method, action in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/start")):
        for headers in ({}, {"x_http_method_override": "DELETE"}, {"x_forwarded_user": "ada"}, {"x_owner": "ada"}):
            body = b"" if method == "POST" else None
            answer = bob(
                f"{NOTEBOOK}/{path.rstrip('/')}{action}{path[len(path.rstrip('/')) :]}?{query}", method, body, **headers
            )
            assert refused(answer) == (404, "Notebook not found.") or answer.status == 404
            nothing_of(answer, hers)


@pytest.mark.parametrize(
    "query", ["", "?id=", "?id=ada", "?id=bob&id=ada", "?id=*", "?ownerId=ada", "?id=%00", "?id=ad%61"]
)
def test_lists_hold_the_caller_s_own_alone(
    shim: Shim, hers: dict[str, Any], his: dict[str, Any], query: str
) -> None:  # 3 8
    answer = shim.as_("token-of-bob")(f"{NOTEBOOK}{query}")
    assert {one["name"] for one in ok(answer)["result"]} <= {"his"}
    assert (hers["notebookId"] in answer.text, SECRET in answer.text) == (False, False)


@pytest.mark.parametrize("owner", ["ada", "ADA", "ada ", " bob", "bob\u200b", "", "admin", ["bob"], {"bob": 1}, 7])
def test_nobody_creates_for_somebody_else(shim: Shim, owner: Any) -> None:  # 3 20
    status, message = refused(send(shim.as_("token-of-bob"), NOTEBOOK, spec("forged", meta__ownerId=owner)))
    assert status in (400, 403), message
    assert listed(shim.as_("token-of-chief"), "?id=ada") == [
        one for one in listed(shim.as_("token-of-chief")) if one["spec"]["meta"]["ownerId"] == "ada"
    ]
    assert listed(shim.as_("token-of-bob")) == []


@pytest.mark.parametrize("owner", ["", " ", "\u200b", "a\nb", " ada", "x" * 129])
def test_an_administrator_creates_for_nobody_nameless(shim: Shim, owner: str) -> None:  # 20
    assert refused(send(shim.as_("token-of-chief"), NOTEBOOK, spec("nobodys", meta__ownerId=owner)))[0] == 400


def test_a_field_that_is_sent_twice_cannot_hide_another(shim: Shim) -> None:  # 3 11
    bob, twice = shim.as_("token-of-bob"), json.dumps(spec("forged"))[:-1]
    body = f'{twice}, "meta": {{"name": "forged", "ownerId": "ada"}}}}'.encode()
    for kind in ("application/json", "application/yaml"):
        assert refused(bob(NOTEBOOK, "POST", body, content_type=kind))[0] == 400


@pytest.mark.parametrize("name", ["hers", "hers/", "%68ers", "HERS", "hers%20", "hers%00"])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_nobody_opens_or_starts_what_is_somebody_else_s(
    shim: Shim, hers: dict[str, Any], name: str, accept: str
) -> None:  # 3
    bob, slash = shim.as_("token-of-bob"), "/" * name.endswith("/")
    where = f"/notebook/default/{name.rstrip('/')}/lab{slash}"
    tries = [
        bob(where, accept=accept),
        bob(where, "POST", b"start=1", accept=accept, **FORM),
        bob(where, "POST", b"token=token-of-ada", accept=accept, **FORM),
        shim.as_("")(where, "POST", b"token=token-of-bob&start=1", accept=accept, **FORM),
        shim.as_("")(where, "POST", b"token=token-of-publisher", accept=accept, **FORM),
    ]
    for answer in tries:
        assert answer.status in (401, 404)
        assert answer["location"] is None
        assert not re.search("token=[0-9a-f]{64}", answer.text)
        nothing_of(answer, hers)


def test_a_ticket_is_no_other_one(shim: Shim, hers: dict[str, Any], his: dict[str, Any]) -> None:  # 18
    stranger = shim.as_("")
    location = stranger(his["url"], "POST", b"token=token-of-bob", **FORM)["location"] or ""
    (ticket,) = parse_qs(urlsplit(location).query)["ticket"]
    assert stranger(location).status == 302
    payload, _, signature = ticket.partition(".")
    right, wrong = Tokens(shim.config.auth).key, Tokens(load_config(shim.source, None, {}, {}).auth).key
    forged = [
        ticket,
        f"{URLSafeTimedSerializer('x').dump_payload(hers['notebookId']).decode()}.{signature}",
        f"{payload}.{signature.swapcase()}",
        str(URLSafeTimedSerializer(wrong, salt="nbfolio.open").dumps(hers["notebookId"])),
        str(URLSafeTimedSerializer(b"", salt="nbfolio.open").dumps(hers["notebookId"])),
        str(URLSafeTimedSerializer(right, salt="itsdangerous").dumps(hers["notebookId"])),
        str(URLSafeTimedSerializer(right, salt="nbfolio.open").dumps([hers["notebookId"]])),
        str(URLSafeTimedSerializer(right, salt="nbfolio.open").dumps({"admin": True})),
        "." + "A" * 20000,
    ]
    for one in forged:
        for method, body in (("GET", None), ("POST", b"start=1")):
            answer = stranger(f"{hers['url']}?ticket={quote(one, safe='')}", method, body, accept="text/html", **FORM)
            assert (answer.status, answer["location"]) == (401, None)
            nothing_of(answer, hers)
    # And a ticket is no token.
    assert refused(stranger(NOTEBOOK, authorization=f"Bearer {ticket}"))[0] == 401


def test_a_ticket_ends_with_its_instance(shim: Shim) -> None:
    ada, bob, stranger = shim.as_("token-of-ada"), shim.as_("token-of-bob"), shim.as_("")
    made = created(bob, "passing", meta__ownerId=None)
    until(lambda: state(bob, made["notebookId"]) == "running")
    ticket = stranger(made["url"], "POST", b"token=token-of-bob", **FORM)["location"] or ""
    assert stranger(ticket).status == 302
    removed(bob)
    # Another owner takes the name.
    until(lambda: send(ada, NOTEBOOK, spec("passing", meta__ownerId=None)).status == 200)
    again = next(one for one in listed(ada) if one["name"] == "passing")
    until(lambda: state(ada, again["notebookId"]) == "running")
    answer = stranger(ticket)
    assert (answer.status, answer["location"]) == (401, None)
    assert bob(made["url"]).status == 404
    ok(ada(f"{NOTEBOOK}/{again['notebookId']}", "DELETE"))


def test_kept_files_are_the_owner_s_whoever_takes_the_name(
    shim: Shim, api_server: Cluster, caplog: pytest.LogCaptureFixture
) -> None:  # 17
    ada, bob = shim.as_("token-of-ada"), shim.as_("token-of-bob")
    made = created(bob, "kept", meta__ownerId=None)
    with caplog.at_level(logging.INFO, "shim.requests"):
        ok(bob(f"{NOTEBOOK}/{made['notebookId']}?keepVolumes=true", "DELETE"))
    # Whoever runs the server sees who did it.
    (record,) = [one for one in caplog.records if getattr(one, "fields", {}).get("method") == "DELETE"]
    assert record.fields["user"] == "bob"  # type: ignore[attr-defined]
    until(lambda: not listed(bob))
    until(lambda: send(ada, NOTEBOOK, spec("kept", meta__ownerId=None)).status == 200)
    volumes = [one["metadata"]["name"] for one in api_server.store.all("persistentvolumeclaims", "default")]
    kept = [name for name in volumes if name.startswith("nbfolio-kept-")]
    assert len(set(kept)) == 2
    (claimed,) = [
        volume["persistentVolumeClaim"]["claimName"]
        for one in api_server.store.all("statefulsets", "default")
        if one["metadata"]["name"].endswith("-kept")
        for volume in one["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    owners = {
        one["metadata"]["name"]: one["metadata"]["annotations"]["nbfolio.org/owner"]
        for one in api_server.store.all("persistentvolumeclaims", "default")
    }
    assert owners[claimed] == "ada"
    again = next(one for one in listed(ada) if one["name"] == "kept")
    ok(ada(f"{NOTEBOOK}/{again['notebookId']}", "DELETE"))


# What goes into the cluster


def test_nothing_of_a_request_reaches_a_label_a_selector_or_another_variable(
    shim: Shim, api_server: Cluster, his: dict[str, Any]
) -> None:  # 5 6 7 8 10 19
    ada = shim.as_("token-of-ada")
    place = next(
        one["metadata"]["name"] for one in api_server.store.all("statefulsets") if "-his" in str(one["metadata"])
    )
    labels = {
        "app": "submarine-server",
        "statefulset": place,
        "nbfolio.org/instance": place,
        "app.kubernetes.io/managed-by": "other",
        "pod-security.kubernetes.io/enforce": "privileged",
    }
    wanted = spec(
        "greedy", meta__ownerId=None, meta__labels=labels, spec__envVars={"A": "$(JUPYTER_TOKEN)", "B": "`id`"}
    )
    wanted["environment"] |= {
        "dockerImage": "evil/image",
        "image": "evil/image",
        "kernelSpec": {"pipDependencies": ["x"]},
    }
    made = ok(send(ada, NOTEBOOK, wanted))["result"]
    objects = [
        one
        for kind in ("statefulsets", "services", "ingresses", "persistentvolumeclaims", "secrets")
        for one in api_server.store.all(kind, "default")
        if "greedy" in one["metadata"]["name"]
    ]
    assert {one["kind"] for one in objects} == {
        "StatefulSet", "Service", "Ingress", "PersistentVolumeClaim", "Secret",
    }  # fmt: skip
    by_kind = {one["kind"]: one for one in objects}
    name = by_kind["StatefulSet"]["metadata"]["name"]
    ours = {"app.kubernetes.io/name": "nbfolio-instance", "app.kubernetes.io/managed-by": "nbfolio"}
    for one in objects:
        expected = ours if one["kind"] == "PersistentVolumeClaim" else {**ours, "nbfolio.org/instance": name}
        assert one["metadata"]["labels"] == expected
    template = by_kind["StatefulSet"]["spec"]["template"]
    assert template["metadata"]["labels"] == {**ours, "nbfolio.org/instance": name}
    assert by_kind["Service"]["spec"]["selector"] == {"nbfolio.org/instance": name}
    pod = template["spec"]
    (container,) = pod["containers"]
    assert "initContainers" not in pod
    assert container["image"] == "quay.io/jupyter/base-notebook:latest"
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables == {"A": "$$(JUPYTER_TOKEN)", "B": "`id`", "HOME": "/home/jovyan", "JUPYTER_TOKEN": None}
    assert "allow_origin" not in json.dumps(container)
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    # The token is in the Secret and nowhere else.
    until(lambda: state(ada, made["notebookId"]) == "running")
    (token,) = parse_qs(urlsplit(ada(made["url"])["location"] or "").query)["token"]
    assert token not in json.dumps([one for one in objects if one["kind"] != "Secret"])
    ok(ada(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"))


RESERVED = (
    *("LD_PRELOAD", "PYTHONSTARTUP", "NB_PREFIX", "JUPYTER_TOKEN", "JUPYTER_CONFIG_DIR", "HOME", "PATH", "BASH_ENV"),
    *("KUBERNETES_SERVICE_HOST", "NBFOLIO_AUTH_API_TOKEN", "", "A=B", "A\n", "A B", "\u0391", "A\x00", "$(A)"),
)


def test_no_variable_changes_how_an_instance_starts(shim: Shim) -> None:  # 8
    for name in RESERVED:
        wanted = spec("x", meta__ownerId=None, spec__envVars={name: "x"})
        assert refused(send(shim.as_("token-of-bob"), NOTEBOOK, wanted))[0] == 400, name


SMUGGLED = {
    "dockerImage": ("x; id", "x\n", "-v", "$(id)", "../x", "a b", "x" * 600, "x@sha256:1", ""),
    "pipDependencies": ("--index-url=http://x", "-e .", "x; id", "x>y;z", "git+https://x/y", "/etc/x", "x\n-r y"),
    "condaDependencies": ("--file=x", "x y", "$(id)", "x`id`", "x\ny", "http://x/y.tar.bz2"),
    "channels": ("--x", "file:///etc", "http://x y", "https://u:p@x/y", "../x"),
    "name": ("../x", "a/b", "a b", "<script>", "x'--", "", "x" * 64),
}


@pytest.mark.parametrize("field", SMUGGLED)
def test_an_environment_holds_no_option_path_or_line_for_a_shell(shim: Shim, field: str) -> None:  # 9 10
    chief = shim.as_("token-of-chief")
    for value in SMUGGLED[field]:
        wanted: dict[str, Any] = json.loads(json.dumps({**SUBMARINE_ENVIRONMENT, "name": "bad"}))
        if field in wanted:
            wanted[field] = value
        else:
            wanted["kernelSpec"][field] = [value]
        assert refused(send(chief, ENVIRONMENT, wanted))[0] == 400, value


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [id]",
        "a: &a [x, x]\nb: [*a, *a]",
        "a: !!binary aGk=",
        "%TAG ! tag:yaml.org,2002:\n--- !x y",
        "? [a]\n: b",
        "a: 1\n---\nb: 2",
        "<<: {a: 1}\nmeta: x",
        "{" * 5000,
        "- " * 20000,
    ],
)
def test_yaml_is_nothing_but_data(shim: Shim, text: str) -> None:  # 11
    assert refused(shim.as_("token-of-bob")(NOTEBOOK, "POST", text.encode(), content_type="application/yaml"))[0] == 400


@pytest.mark.parametrize("name", ["x' OR '1'='1", "x'; DROP TABLE environments;--", "%", "_", "a%00b", "\xff"])
def test_names_are_no_sql(shim: Shim, name: str) -> None:  # 11
    chief = shim.as_("token-of-chief")
    for method in ("GET", "DELETE"):
        assert refused(chief(f"{ENVIRONMENT}/{quote(name, safe='')}", method))[0] == 404
    assert [one["environmentSpec"]["name"] for one in ok(chief(ENVIRONMENT))["result"]] == ["notebook-env"]


def test_nobody_writes_status_or_address_of_an_instance(shim: Shim, hers: dict[str, Any]) -> None:  # 12 18
    ada, told = shim.as_("token-of-ada"), {"url": "javascript:alert(1)", "status": "failed", "name": "x"}
    for kind in ("Notebook", "notebook", "custom"):
        for who in ("", "token-of-ada", "token-of-chief"):
            answer = send(shim.as_(who), f"/api/v1/internal/{kind}/{hers['notebookId']}", told)
            assert refused(answer)[0] == 404
    for method in ("PUT", "PATCH", "POST"):
        assert refused(send(ada, f"{NOTEBOOK}/{hers['notebookId']}", told, method))[0] == 405
    assert refused(send(ada, NOTEBOOK, {**spec("y", meta__ownerId=None), "url": "javascript:x"}))[0] == 400
    headers = {"x_forwarded_host": "evil.example", "x_forwarded_proto": "javascript", "forwarded": "host=evil.example"}
    answer = ada(hers["url"], **headers)
    assert re.fullmatch(
        r"http://notebook-[0-9]+-[0-9]+-hers\.nb\.localhost/lab\?token=[0-9a-f]{64}", answer["location"] or ""
    )


@pytest.mark.parametrize(
    "name", ["<svg onload=alert(1)>", '"><img src=x onerror=alert(1)>', "a%0d%0aX-Evil: 1", "{{7*7}}"]
)
def test_a_name_is_no_markup_and_no_header(shim: Shim, name: str) -> None:  # 13 18
    for who, method in (("", "GET"), ("", "POST"), ("token-of-bob", "GET")):
        body = b"token=<script>" if method == "POST" else None
        where = f"/notebook/default/{name.replace(' ', '%20')}/lab"
        answer = shim.as_(who)(where, method, body, accept="text/html", **FORM)
        assert answer.status in (401, 404)
        assert not re.search("<script|<svg o|<img|>49<", answer.text)
        assert answer["x-evil"] is None
        assert answer["x-content-type-options"] == "nosniff"


def test_the_role_allows_what_is_needed_in_one_namespace() -> None:  # 14
    text = role("notebooks")
    assert '"*"' not in text and "ClusterRole" not in text
    assert not re.search(
        "roles|pods/exec|serviceaccounts|deletecollection|update", text.split("rules:")[1].split("---")[0]
    )


def test_what_a_cluster_says_reaches_nobody_raw(shim: Shim, api_server: Cluster) -> None:  # 13
    ada = shim.as_("token-of-ada")
    said = "<script>\r\nX-Evil: 1\x1b[31m " + "a" * 5000
    for status in (500, 422):
        api_server.fail("POST", "statefulsets", status, times=20, message=said, dry=True)
        code, message = refused(answer := send(ada, NOTEBOOK, spec("unlucky", meta__ownerId=None)))
        api_server.mend()
        assert code in (400, 502, 503)
        assert len(message) <= 520 and message.isprintable()
        assert "<" not in answer.text
        assert answer["x-content-type-options"] == "nosniff"
    api_server.fail("POST", "secrets", 403, times=20, message="User system:serviceaccount:nb:nbfolio cannot create")
    code, message = refused(send(ada, NOTEBOOK, spec("unlucky", meta__ownerId=None)))
    api_server.mend()
    assert (code, "system:" in message) == (502, False)


def test_records_that_cannot_be_kept_are_told_without_a_path(tmp_path: Path, api_server: Cluster) -> None:  # 13
    (tmp_path / "kept").mkdir()
    with site(tmp_path / "kept", api_server, auth__token=TOKENS) as shim:
        with closing(sqlite3.connect(shim.config.state_dir / "state.db")) as database:
            database.execute("DROP TABLE environments")
        # `check` of the helpers looks for paths in answers of all kinds.
        status, message = refused(shim.as_("token-of-ada")(ENVIRONMENT))
        assert (status, "/" in message, "state.db" in message) == (507, False, False)


def test_tokens_are_in_no_answer_and_in_no_line_of_the_log(
    shim: Shim, hers: dict[str, Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:  # 5 8 13
    ada = shim.as_("token-of-ada")
    with caplog.at_level(logging.DEBUG):
        opened = ada(hers["url"])
        (token,) = parse_qs(urlsplit(opened["location"] or "").query)["token"]
        form = shim.as_("")(hers["url"], "POST", b"token=token-of-ada", **FORM)
        ticket = (form["location"] or "").partition("ticket=")[2]
        shim.as_("")(f"{hers['url']}?ticket={ticket}")
        made = created(ada, "logged", meta__ownerId=None, spec__envVars={"PASSWORD": SECRET})
        answers = [
            *(
                ada(f"{NOTEBOOK}/{one}", accept=accept)
                for one in ("", hers["notebookId"], "x")
                for accept in ("*/*", "text/html")
            ),
            ada(made["url"], accept="text/html"),
            shim("/metrics"),
            shim("/openapi.json"),
            shim.as_("")(hers["url"], accept="text/html"),
            ada(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"),
        ]
    told = "".join(answer.text + repr(answer.headers) for answer in [*answers, form])
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records if record.name.startswith("shim"))
    logged += "".join(capfd.readouterr())
    assert logged
    for private in (token, CLUSTER_TOKEN, *VALUES):
        assert private not in told.replace("ticket=", "")
        assert private not in logged
    for private in (ticket, SECRET):
        assert private not in logged
    assert opened.body == b""


# Other sites


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}])
def test_pages_of_other_sites_change_nothing(shim: Shim, hers: dict[str, Any], headers: dict[str, str]) -> None:  # 16
    ada = shim.as_("token-of-ada")
    for method, target in on_routes(shim, hers):
        if method in ("POST", "PATCH", "DELETE"):
            answer = ada(target, method, None if method == "DELETE" else b"start=1", **headers, **FORM)
            assert answer.status == 403
    for answer in (ada(NOTEBOOK, **headers), ada(NOTEBOOK, "OPTIONS", **headers), ada(hers["url"], **headers)):
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]
        assert answer["set-cookie"] is None


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None]
)
def test_what_a_form_can_send_creates_nothing(shim: Shim, kind: str | None) -> None:  # 16
    body = json.dumps(spec("forged", meta__ownerId=None)).encode()
    assert refused(shim.as_("token-of-bob")(NOTEBOOK, "POST", body, content_type=kind))[0] == 415


# What is exhausted


def test_owners_who_hurry_get_no_more_instances(shim: Shim) -> None:  # 15
    bob = shim.as_("token-of-bob")
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda number: send(bob, NOTEBOOK, spec(f"many-{number}", meta__ownerId=None)), range(10))
        )
    assert {answer.status for answer in answers} <= {200, 403, 503}
    assert len(listed(bob)) == [answer.status for answer in answers].count(200) <= 3
    removed(bob)


@pytest.mark.parametrize(("content_type", "size"), [("application/json", 300_000), ("application/yaml", 300_000)])
def test_bodies_are_bounded(shim: Shim, content_type: str, size: int) -> None:  # 15
    bob = shim.as_("token-of-bob")
    assert refused(bob(NOTEBOOK, "POST", b"{" + b" " * size, content_type=content_type))[0] == 413
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    assert refused(bob(NOTEBOOK, "POST", deep, content_type=content_type))[0] == 400
    assert shim.as_("")("/notebook/default/hers/lab", "POST", b"token=" + b"x" * 20000, **FORM).status == 413


def test_a_cluster_that_keeps_everybody_waiting_holds_few_workers(
    shim: Shim, hers: dict[str, Any], api_server: Cluster
) -> None:  # 15
    ada, go_on, held = shim.as_("token-of-ada"), threading.Event(), threading.Semaphore(0)

    def hold(request: Request) -> None:
        held.release()
        go_on.wait(60)

    api_server.on("GET", "secrets/nbfolio-hers", hold, times=1000)
    where = f"{NOTEBOOK}/{hers['notebookId']}/start"
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(ada, where, "POST", b"") for _ in range(40)]
        try:
            for _ in range(MOST_CHANGES_OF_OWNER):
                assert held.acquire(timeout=30)
            # All others are told at once, and whoever reads does not notice.
            until(lambda: sum(one.done() for one in waiting) >= 40 - MOST_CHANGES_OF_OWNER)
            assert shim("/dashboards/").status == 200
            assert listed(shim.as_("token-of-bob")) == []
            for answer in (one.result() for one in waiting if one.done()):
                assert (refused(answer)[0], answer["retry-after"]) == (503, "5")
        finally:
            go_on.set()
            api_server.mend()
        assert sorted(one.result().status for one in waiting)[:1] == [200]
    ok(ada(where, "POST", b""))


def test_a_damaged_record_hides_no_other(shim: Shim, hers: dict[str, Any], api_server: Cluster) -> None:  # 13
    ada = shim.as_("token-of-ada")
    (good,) = [
        one["metadata"]["annotations"]["nbfolio.org/instance"]
        for one in api_server.store.all("secrets", "default")
        if one["metadata"]["name"] == "nbfolio-hers"
    ]
    damages: list[Callable[[dict[str, Any]], Any]] = [
        lambda record: record.update(created="yesterday"),
        lambda record: record.update(created=1e300),
        lambda record: record.update(id=["x"]),
        lambda record: record.update(place="x\r\nX-Evil: 1"),
        lambda record: record.update(place="evil.example/#"),
        lambda record: record["spec"].update(owner={"ada": 1}),
        lambda record: record["spec"].update(env_vars=[1]),
        lambda record: record["spec"].update(name="../x"),
        lambda record: record.clear(),
    ]
    names = []
    for number, damage in enumerate(damages):
        record = json.loads(good)
        damage(record)
        names.append(f"nbfolio-damaged-{number}")
        with pytest.raises(ValueError, match=r"a name is none|no time of ours|Expected|missing|out of range"):
            instance_of(json.dumps(record))
        meta = {
            "name": names[-1],
            "labels": {"app.kubernetes.io/managed-by": "nbfolio"},
            "annotations": {"nbfolio.org/instance": json.dumps(record)},
        }
        api_server.store.create("secrets", "default", {"metadata": meta, "type": "Opaque", "data": {}})
    # What is created now is known after the damaged ones are.
    made = created(ada, "after", meta__ownerId=None)
    until(lambda: state(ada, made["notebookId"]) == "running")
    assert [one["name"] for one in listed(ada)] == ["hers", "after"]
    assert shim("/metrics").status == 200
    for name in names:
        api_server.store.delete("secrets", "default", name, {})
    ok(ada(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"))


# Servers that want to keep whoever asks


@contextmanager
def hostile(how: str) -> Iterator[str]:
    """A server that answers in a bad way, until whoever asked has gone."""
    over = threading.Event()
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    bomb = packer.compress(b" " * (16 << 20)) + packer.flush() if how == "is a bomb" else b""

    def drip(connection: socket.socket, piece: bytes) -> None:
        while not over.wait(0.02):
            connection.sendall(piece)

    def answer(connection: socket.socket) -> None:
        connection.settimeout(10)
        connection.recv(9999)
        head = b"HTTP/1.1 200 OK\r\n"
        if how == "drips a header":
            connection.sendall(head + b"X: ")
            drip(connection, b"a")
        elif how == "drips headers":
            connection.sendall(head)
            drip(connection, b"X: 1\r\n")
        elif how == "drips":
            connection.sendall(head + b"Content-Length: 100000\r\n\r\n")
            drip(connection, b" ")
        elif how == "is silent":
            over.wait(60)
        elif how == "is endless":
            connection.sendall(head + b"\r\n")
            while not over.is_set():
                connection.sendall(b" " * 65536)
        elif how == "is a bomb":
            connection.sendall(head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        else:
            body = {
                "is deep": b'{"last_activity":"2020-01-01T00:00:00Z","x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
                "is ancient": b'{"last_activity":"0001-01-01T00:00:00+14:00"}',
            }[how]
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                answer(connection)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


HOSTILE = ["drips a header", "drips headers", "drips", "is silent", "is endless", "is a bomb"]


@pytest.mark.parametrize("how", HOSTILE)
def test_a_server_that_does_not_come_to_an_end_is_left(how: str) -> None:  # 15
    with hostile(how) as url, pytest.raises((OSError, OddError)) if how != "is a bomb" else nullcontext():
        _, body = fetch(f"{url}/api/status", {}, seconds=0.3, longest=1 << 20)
        # A bomb stays what it is: small, and no JSON.
        assert 0 < len(body) < 1 << 18


@pytest.mark.parametrize("how", [*HOSTILE, "is deep", "is ancient"])
def test_one_hostile_instance_keeps_no_other_from_being_stopped(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # 15
    monkeypatch.setattr("shim.instances.culling.ANSWER_SECONDS", 0.3)
    with hostile(how) as bad:
        if how != "is ancient":
            with pytest.raises(UnknownActivityError):
                ask(Door(bad, "its-token"))
        backend = Two(bad)
        culler = Culler(backend, 60)  # type: ignore[arg-type]
        culler.look()
    assert backend.asked == ["bad", "good"]
    assert "its-token" not in caplog.text


class Two:
    """A backend with two instances that run; the first is hostile, the second cannot be reached."""

    def __init__(self, bad: str) -> None:
        self.bad = bad
        self.asked: list[str] = []

    def all(self) -> list[Instance]:
        return [
            Instance(f"notebook_1_{name}", name, NotebookSpec(name, "default", "ada", EnvironmentSpec("e"), ""), 0.0)
            for name in ("bad", "good")
        ]

    def observe(self, instance: Instance) -> Observed:
        return Observed("running", "")

    def inner_door(self, instance: Instance) -> Door:
        self.asked.append(instance.place)
        if instance.place == "good":
            raise UnavailableError("It is away.")
        return Door(self.bad, "its-token")


@pytest.mark.parametrize("how", ["drips", "is silent", "is endless", "is a bomb"])
def test_a_hostile_api_server_holds_nobody_for_long(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_api, "CALL_SECONDS", 0.4)
    monkeypatch.setattr(cluster_api, "MOST_BYTES", 1 << 20)
    with cluster() as one, hostile(how) as url:
        file = Path(one.kubeconfig(tmp_path))
        file.write_text(file.read_text().replace(one.url, url))
        settings = load_config(tmp_path, None, {}, {"instances.kubeconfig": str(file)}).instances
        api = cluster_api.Api(settings, tmp_path)
        with pytest.raises((UnavailableError, BackendError)):
            api.list(cluster_api.SECRETS, "")
        api.close()
        api.disconnect()


# This machine


def test_the_last_words_of_a_server_tell_no_path_and_no_token(tmp_path: Path) -> None:  # 13
    folder = Folder(tmp_path / "with blank", "notebook_1_0001")
    folder.path.mkdir(parents=True)
    facts = Facts.new(())
    lines = [
        f"ImportError: {os.__file__}: cannot map",
        f'File "{folder.files}/x.py", line 3',
        f"OSError: [Errno 2] no such file: '{folder.log}'",
        f"http://127.0.0.1:1/lab?token={facts.token}",
    ]
    for line in lines:
        folder.log.write_text(f"before\n{line}\n")
        said = Server(folder, facts, None)._last_line()
        assert said
        for private in (str(tmp_path), facts.token, str(Path(os.__file__).parent)):
            assert private not in said, said


def test_tokens_of_local_instances_are_in_no_process_list_and_in_no_file_for_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # 5 8 13
    settings: dict[str, Any] = {"instances__backend": "local", "auth__token": TOKENS}
    folder = tmp_path / "site"
    folder.mkdir()
    with caplog.at_level(logging.DEBUG), running(folder, **settings) as shim:
        ada, bob = shim.as_("token-of-ada"), shim.as_("token-of-bob")
        made = created(ada, "here", meta__ownerId=None, spec__envVars={"PASSWORD": SECRET})
        where = f"{NOTEBOOK}/{made['notebookId']}"
        until(lambda: state(ada, made["notebookId"]) == "running")
        location = ada(made["url"])["location"] or ""
        (token,) = parse_qs(urlsplit(location).query)["token"]
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        assert [command for command in commands if "jupyterlab" in command]
        for private in (token, SECRET, *VALUES):
            assert private not in repr(commands)
        environ = b"".join(_environ(pid) for pid in psutil.pids() if _is_jupyterlab(pid))
        assert environ
        for private in (token, *VALUES):
            assert private.encode() not in environ
        inside = shim.config.state_dir / "instances" / made["notebookId"]
        for path in (shim.config.state_dir, inside.parent, inside, inside / "files", inside / "facts.json"):
            assert path.stat().st_mode & 0o077 == 0, path
        # The same as in a cluster.
        for method, target in (
            ("GET", where),
            ("DELETE", where),
            ("POST", f"{where}/stop"),
            ("POST", f"{where}/start"),
        ):
            assert refused(bob(target, method, b"" if method == "POST" else None)) == (404, "Notebook not found.")
        assert (bob(made["url"]).status, listed(bob)) == (404, [])
        for one in ("", "nonsense", *VALUES):
            assert _lab(location, one) == 403
        assert _lab(location, token) == 200
        ok(ada(where, "DELETE"))
        assert token not in caplog.text
        assert SECRET not in caplog.text


def _is_jupyterlab(pid: int) -> bool:
    try:
        return "jupyterlab" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _lab(location: str, token: str) -> int:
    """What the API of an instance answers to a token."""
    parts = urlsplit(location)
    headers = {"Authorization": f"token {token}"} if token else {}
    return fetch(f"{parts.scheme}://{parts.netloc}/api/contents", headers, seconds=10, longest=1 << 20)[0]
