"""The REST API of instances as its clients see it, over HTTP, with a cluster that tests steer behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cluster import Cluster, cluster
from dashboards import Answer, Shim, running, until

from shim.instances.opening_pages import TICKET_SECONDS

OWNER = "e9ca23d68d884d4ebb19d07889727dae"
SEED: dict[str, Any] = {
    "meta": {"name": "test-nb", "namespace": "default", "ownerId": OWNER},
    "environment": {"name": "notebook-env"},
    "spec": {"envVars": {"TEST_ENV": "test"}, "resources": "cpu=1,memory=1.0Gi"},
}
SUBMARINE_ENVIRONMENT = {
    "name": "submarine-env",
    "dockerImage": "apache/submarine:jupyter-notebook-0.6.0",
    "kernelSpec": {
        "name": "submarine_jupyter_py3",
        "channels": ["defaults"],
        "condaDependencies": [],
        "pipDependencies": [],
    },
    "description": None,
    "image": None,
}
KEYS = ["status", "code", "success", "message", "result", "attributes"]
TOKENS = [
    {"name": "ada", "value": "token-of-ada", "scopes": ["instances"], "owner": "ada"},
    {"name": "bob", "value": "token-of-bob", "scopes": ["instances"], "owner": "bob"},
    {"name": "chief", "value": "token-of-chief", "scopes": ["admin"], "owner": "chief"},
    {"name": "publisher", "value": "token-of-publisher", "scopes": ["publish"], "owner": "ada"},
]
NOTEBOOK, ENVIRONMENT = "/api/v1/notebook", "/api/v1/environment"


@pytest.fixture(scope="module")
def api_server() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@contextmanager
def site(folder: Path, api_server: Cluster, **settings: Any) -> Iterator[Shim]:
    """A server with instances in the cluster."""
    folder.mkdir(exist_ok=True)
    with running(
        folder,
        instances__backend="kubernetes",
        instances__kubeconfig=str(api_server.kubeconfig(folder)),
        instances__public_url="http://{instance}.nb.localhost",
        **settings,
    ) as shim:
        yield shim


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory, api_server: Cluster) -> Iterator[Shim]:
    """Without tokens."""
    with site(tmp_path_factory.mktemp("free"), api_server) as shim:
        shim(ENVIRONMENT, "POST", json.dumps(SUBMARINE_ENVIRONMENT).encode(), content_type="application/json")
        yield shim


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """With tokens of two owners, an administrator and somebody else."""
    with cluster() as one, site(tmp_path_factory.mktemp("closed"), one, auth__token=TOKENS) as shim:
        yield shim


@pytest.fixture
def _clean(free: Shim, api_server: Cluster) -> Iterator[None]:
    """Nothing is left of the test before."""
    yield
    api_server.mend()
    for one in listed(free):
        assert free(f"{NOTEBOOK}/{one['notebookId']}", "DELETE").status == 200
    until(lambda: not listed(free))
    api_server.behave("*", "run")


def send(shim: Shim, url: str, fields: Any, method: str = "POST", **headers: str | None) -> Answer:
    return shim(url, method, json.dumps(fields).encode(), **{"content_type": "application/json", **headers})


def spec(name: str, **changes: Any) -> dict[str, Any]:
    """A request for an instance of a name; changes are written `meta__ownerId`."""
    wanted = json.loads(json.dumps(SEED))
    wanted["meta"]["name"] = name
    for key, value in changes.items():
        table, _, field = key.partition("__")
        if value is None:
            wanted[table].pop(field, None)
        else:
            wanted[table][field] = value
    return wanted


def listed(shim: Shim, query: str = "") -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = ok(shim(f"{NOTEBOOK}{query}"))["result"]
    return result


def ok(answer: Answer) -> dict[str, Any]:
    """The envelope of an answer that is no error."""
    fields: dict[str, Any] = answer.json()
    assert list(fields) == KEYS
    assert (answer.status, fields["status"], fields["code"], fields["success"]) == (200, "OK", 200, True), answer.text
    assert answer["content-type"] == "application/json; charset=utf-8"
    assert fields["attributes"] == {}
    return fields


def refused(answer: Answer) -> tuple[int, str]:
    """Status and message of an error, whose envelope is as it should be."""
    fields = answer.json()
    assert list(fields) == KEYS, answer.text
    assert (fields["code"], fields["success"], fields["result"]) == (answer.status, False, None)
    assert re.fullmatch("[A-Z_]+", fields["status"])
    assert isinstance(fields["message"], str) and fields["message"].endswith(".")
    return answer.status, fields["message"]


def created(shim: Shim, name: str, **changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = ok(send(shim, NOTEBOOK, spec(name, **changes)))["result"]
    return result


def state(shim: Shim, notebook_id: str) -> str:
    status: str = ok(shim(f"{NOTEBOOK}/{notebook_id}"))["result"]["status"]
    return status


# The shapes of the documentation of Submarine


@pytest.mark.usefixtures("_clean")
def test_answers_have_the_shape_of_submarine_s_documentation(free: Shim, api_server: Cluster) -> None:
    api_server.behave("*", "hold")
    wanted = spec("test-nb")
    wanted["environment"]["name"] = "submarine-env"
    answer = ok(send(free, NOTEBOOK, wanted))
    made = answer["result"]
    assert re.fullmatch(r"notebook_[0-9]{13}_[0-9]{4}", made["notebookId"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["uid"])
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.000\+00:00", made["createdTime"])
    expected = {
        "notebookId": made["notebookId"],
        "name": "test-nb",
        "uid": made["uid"],
        "url": "/notebook/default/test-nb/lab",
        "status": "creating",
        "reason": "The notebook instance is creating",
        "createdTime": made["createdTime"],
        "deletedTime": None,
        "spec": {
            "meta": {"name": "test-nb", "namespace": "default", "ownerId": OWNER},
            "environment": SUBMARINE_ENVIRONMENT,
            "spec": {"envVars": {"TEST_ENV": "test"}, "resources": "cpu=1,memory=1.0Gi"},
        },
    }
    # As text: the order of keys counts, too.
    assert json.dumps(answer) == json.dumps(envelope("Create a notebook instance", expected))
    until(lambda: state(free, made["notebookId"]) == "waiting")
    expected |= {"status": "waiting", "reason": "ContainerCreating"}
    answer = ok(free(f"{NOTEBOOK}?id={OWNER}"))
    assert json.dumps(answer) == json.dumps(envelope("List all notebook instances", [expected]))
    answer = ok(free(f"{NOTEBOOK}/{made['notebookId']}"))
    assert json.dumps(answer) == json.dumps(envelope("Get the notebook instance", expected))
    answer = ok(free(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"))
    expected |= {"status": "terminating", "reason": "The notebook instance is terminating"}
    assert json.dumps(answer) == json.dumps(envelope("Delete the notebook instance", expected))


def envelope(message: str | None, result: Any) -> dict[str, Any]:
    return dict(zip(KEYS, ("OK", 200, True, message, result, {}), strict=True))


def test_what_html_would_notice_is_escaped_as_in_submarine(free: Shim) -> None:
    answer = free(f"{NOTEBOOK}/<script>&'=")
    assert answer.status == 404
    assert not set(b"<>&'=") & set(answer.body)


def test_ping_answers_pong(free: Shim) -> None:
    assert ok(free(f"{NOTEBOOK}/ping")) == envelope(None, "Pong")
    assert refused(free(f"{NOTEBOOK}/ping", "DELETE"))[0] == 405


@pytest.mark.usefixtures("_clean")
def test_yaml_says_the_same_as_json(free: Shim) -> None:
    text = """---
meta:
  name: From-YAML
  namespace: default
  ownerId: 12345678
environment:
  name: notebook-env
spec:
  envVars:
    SWITCH: yes
    NUMBER: 1e3
  resources: cpu=1,memory=1.0Gi
"""
    made = ok(free(NOTEBOOK, "POST", text.encode(), content_type="application/yaml"))["result"]
    assert made["name"] == "from-yaml"
    assert made["spec"]["meta"]["ownerId"] == "12345678"
    assert made["spec"]["spec"]["envVars"] == {"SWITCH": "yes", "NUMBER": "1e3"}


@pytest.mark.usefixtures("_clean")
def test_labels_are_shown_when_they_were_sent_and_bind_nothing(free: Shim, api_server: Cluster) -> None:
    made = created(free, "labelled", meta__labels={"app": "submarine-server"})
    assert made["spec"]["meta"]["labels"] == {"app": "submarine-server"}
    sets = api_server.store.all("statefulsets", "default")
    assert "submarine-server" not in json.dumps([one["spec"]["template"]["metadata"]["labels"] for one in sets])


# What is refused


@pytest.mark.parametrize(
    ("wanted", "status", "told"),
    [
        (spec(""), 400, "meta.name"),
        (spec("a_b"), 400, "meta.name"),
        (spec("a" * 64), 400, "meta.name"),
        (spec("x", meta__name=None), 400, "meta.name is required"),
        (spec("x", meta__ownerId=None), 400, "ownerId is required"),
        (spec("x", meta__namespace="kube-system"), 400, "namespace"),
        (spec("x", environment__name="nothing"), 404, "Environment not found."),
        (spec("x", environment__name=None), 400, "environment.name"),
        (spec("x", spec__resources=None), 400, "resources"),
        (spec("x", spec__resources="cpu=1"), 400, "memory"),
        (spec("x", spec__resources="cpu=1,memory=1K"), 400, "memory=1K"),
        (spec("x", spec__cpu=1), 400, "use spec.resources"),
        (spec("x", spec__envVars={"LD_PRELOAD": "x"}), 400, "LD_PRELOAD"),
        ({"meta": {"name": "x"}}, 400, "environment"),
        ([], 400, ""),
        (None, 400, ""),
    ],
)
def test_what_is_wrong_is_named(free: Shim, api_server: Cluster, wanted: Any, status: int, told: str) -> None:
    before = len([one for one in api_server.requests if one.method == "POST"])
    code, message = refused(send(free, NOTEBOOK, wanted))
    assert (code, told in message) == (status, True), message
    assert len([one for one in api_server.requests if one.method == "POST"]) == before


@pytest.mark.parametrize(
    ("method", "url", "headers", "status"),
    [
        ("GET", f"{NOTEBOOK}/notebook_1_0009", {}, 404),
        ("GET", f"{NOTEBOOK}/notebook_x_1", {}, 404),
        ("DELETE", f"{NOTEBOOK}/a%2Fb", {}, 404),
        ("DELETE", f"{NOTEBOOK}/notebook_1_0009?keepVolumes=perhaps", {}, 400),
        ("GET", "/api/v1/internal/Notebook/x", {}, 404),
        ("GET", "/api/v1", {}, 404),
        ("PUT", NOTEBOOK, {}, 405),
        ("PATCH", f"{NOTEBOOK}/x", {}, 405),
        ("POST", NOTEBOOK, {"content_type": "text/plain"}, 415),
        ("POST", NOTEBOOK, {"content_type": None}, 415),
        ("POST", NOTEBOOK, {"content_type": "application/json", "content_length": str(10**7)}, 413),
        ("POST", "/api/v1/environment", {"content_type": "application/json", "content_length": "300000"}, 413),
        ("GET", NOTEBOOK, {"host": "evil.example"}, 400),
        ("POST", NOTEBOOK, {"origin": "http://evil.example"}, 403),
        ("DELETE", f"{NOTEBOOK}/x", {"sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_every_error_is_in_the_envelope_also_for_browsers(
    free: Shim, method: str, url: str, headers: dict[str, str], status: int
) -> None:
    for accept in ("*/*", "text/html"):
        body = b" " * int(headers.get("content_length", "2")) if method == "POST" else None
        assert refused(free(url, method, body, **{"accept": accept, **headers}))[0] == status


@pytest.mark.parametrize("body", [b"", b"null", b"{", b"\xff", b"[" * 30000, b'{"meta": NaN}', b'{"a": 1, "a": 2}'])
@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
def test_bodies_that_are_no_document_are_refused(free: Shim, body: bytes, kind: str) -> None:
    assert refused(free(NOTEBOOK, "POST", body, content_type=kind))[0] == 400


@pytest.mark.usefixtures("_clean")
def test_a_name_that_is_taken_is_refused_however_it_is_written(free: Shim) -> None:
    created(free, "mine")
    message = "Invalid. Notebook with same name is already existed."
    for name in ("mine", "Mine"):
        assert refused(send(free, NOTEBOOK, spec(name, meta__ownerId="somebody-else"))) == (409, message)


@pytest.mark.usefixtures("_clean")
def test_nobody_gets_more_instances_than_the_settings_allow(free: Shim) -> None:
    for number in range(5):
        created(free, f"one-{number}")
    status, message = refused(send(free, NOTEBOOK, spec("one-more")))
    assert (status, "5 instances" in message) == (403, True)
    created(free, "of-another", meta__ownerId="another")


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize(("status", "answer"), [(500, 502), (503, 503), (403, 502)])
def test_troubles_of_the_cluster_are_not_the_client_s(
    free: Shim, api_server: Cluster, status: int, answer: int
) -> None:
    api_server.fail("POST", "secrets", status, times=20)
    code, message = refused(send(free, NOTEBOOK, spec("unlucky")))
    assert code in (answer, 503), message
    api_server.mend()
    assert listed(free) == []


def test_as_long_as_the_cluster_tells_nothing_nobody_is_told_that_there_is_nothing(tmp_path: Path) -> None:
    with cluster() as one, ExitStack() as stack:
        one.fail("GET", "secrets", 503, times=1000)
        shim = stack.enter_context(site(tmp_path / "site", one))
        for method, url in (("GET", NOTEBOOK), ("GET", f"{NOTEBOOK}/notebook_1_0001"), ("DELETE", f"{NOTEBOOK}/x")):
            answer = shim(url, method)
            assert refused(answer)[0] == 503
            assert answer["retry-after"]
        assert refused(send(shim, NOTEBOOK, spec("x")))[0] == 503
        for accept in ("text/html", "*/*"):
            assert shim("/notebook/default/x/lab", accept=accept).status == 503
        assert b'nbfolio_instances{status="running"} 0.0' in shim("/metrics").body
        one.mend()
        until(lambda: shim(NOTEBOOK).status == 200)
        assert listed(shim) == []


# Environments


def test_environments_are_added_changed_and_removed(free: Shim) -> None:
    wanted = {**SUBMARINE_ENVIRONMENT, "name": "mine"}
    made = ok(send(free, ENVIRONMENT, wanted))
    assert re.fullmatch(r"environment_[0-9]+_[0-9]{4,}", made["result"]["environmentId"])
    assert json.dumps(made["result"]["environmentSpec"]) == json.dumps(wanted)
    assert refused(send(free, ENVIRONMENT, wanted))[0] == 409
    changed = ok(send(free, f"{ENVIRONMENT}/mine", {"dockerImage": "other:1"}, "PATCH"))["result"]
    assert changed["environmentId"] == made["result"]["environmentId"]
    assert changed["environmentSpec"] == {**wanted, "dockerImage": "other:1"}
    assert ok(free(f"{ENVIRONMENT}/mine"))["result"] == changed
    assert [one["environmentSpec"]["name"] for one in ok(free(ENVIRONMENT))["result"]] == [
        "notebook-env",
        "submarine-env",
        "mine",
    ]
    assert ok(free(f"{ENVIRONMENT}/mine", "DELETE"))["result"] == changed
    assert refused(free(f"{ENVIRONMENT}/mine")) == (404, "Environment not found.")
    assert refused(free(f"{ENVIRONMENT}/notebook-env", "DELETE"))[0] == 403


@pytest.mark.usefixtures("_clean")
def test_an_instance_keeps_the_environment_it_was_created_with(free: Shim) -> None:
    ok(send(free, ENVIRONMENT, {**SUBMARINE_ENVIRONMENT, "name": "passing"}))
    made = created(free, "lasting", environment__name="passing")
    ok(free(f"{ENVIRONMENT}/passing", "DELETE"))
    assert ok(free(f"{NOTEBOOK}/{made['notebookId']}"))["result"]["spec"] == made["spec"]
    ok(free(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"))


# Owners


def test_without_a_token_nothing_is_answered(closed: Shim) -> None:
    stranger = closed.as_("")
    for method, url in (("GET", NOTEBOOK), ("POST", NOTEBOOK), ("GET", f"{NOTEBOOK}/ping"), ("GET", ENVIRONMENT)):
        answer = stranger(url, method, b"{}" if method == "POST" else None)
        assert refused(answer)[0] == 401
        assert answer["www-authenticate"]
    disguised = "OpenAPI-Generator/0.8.0/python"
    assert refused(stranger(NOTEBOOK, user_agent=disguised))[0] == 401
    assert refused(stranger(f"{NOTEBOOK};x=1"))[0] in (401, 404)
    assert refused(closed.as_("token-of-publisher")(NOTEBOOK))[0] == 403


def test_two_owners_know_nothing_of_each_other(closed: Shim) -> None:
    ada, bob, chief = (closed.as_(f"token-of-{name}") for name in ("ada", "bob", "chief"))
    of_ada = created(ada, "hers", meta__ownerId=None)
    created(bob, "his", meta__ownerId=None)
    assert of_ada["spec"]["meta"]["ownerId"] == "ada"
    assert [one["name"] for one in listed(ada)] == ["hers"]
    assert [one["name"] for one in listed(bob)] == ["his"]
    assert listed(bob, "?id=ada") == []
    assert [one["name"] for one in listed(chief)] == ["hers", "his"]
    assert [one["name"] for one in listed(chief, "?id=ada")] == ["hers"]
    where = f"{NOTEBOOK}/{of_ada['notebookId']}"
    unknown = refused(bob(f"{NOTEBOOK}/notebook_1_0001"))
    for method, url in (("GET", where), ("DELETE", where), ("POST", f"{where}/stop"), ("POST", f"{where}/start")):
        for trick in ({}, {"cookie": "nbfolio=ada; nbfolio_user=ada"}, {"x_forwarded_user": "ada"}, {"ownerid": "ada"}):
            assert refused(bob(url, method, b"" if method == "POST" else None, **trick)) == unknown
    status, message = refused(send(bob, NOTEBOOK, spec("theirs", meta__ownerId="ada")))
    assert (status, "ada" in message) == (403, False)
    until(lambda: state(ada, of_ada["notebookId"]) == "running")
    for accept in ("application/json", "text/html"):
        answer = bob("/notebook/default/hers/lab", accept=accept)
        assert (answer.status, answer["location"]) == (404, None)
    assert ok(bob(NOTEBOOK))["result"][0]["name"] == "his"
    ok(chief(where, "DELETE"))


def test_environments_are_changed_by_administrators_alone(closed: Shim) -> None:
    ada, chief = closed.as_("token-of-ada"), closed.as_("token-of-chief")
    wanted = {**SUBMARINE_ENVIRONMENT, "name": "evil"}
    assert refused(send(ada, ENVIRONMENT, wanted))[0] == 403
    assert refused(send(ada, f"{ENVIRONMENT}/notebook-env", {"dockerImage": "x"}, "PATCH"))[0] == 403
    assert refused(ada(f"{ENVIRONMENT}/notebook-env", "DELETE"))[0] == 403
    ok(send(chief, ENVIRONMENT, wanted))
    assert "evil" in [one["environmentSpec"]["name"] for one in ok(ada(ENVIRONMENT))["result"]]
    ok(chief(f"{ENVIRONMENT}/evil", "DELETE"))


def test_an_administrator_who_names_no_owner_creates_for_themself(closed: Shim) -> None:
    chief = closed.as_("token-of-chief")
    made = created(chief, "own", meta__ownerId=None)
    assert made["spec"]["meta"]["ownerId"] == "chief"
    assert created(chief, "for-bob", meta__ownerId="bob")["spec"]["meta"]["ownerId"] == "bob"
    for one in listed(chief):
        ok(chief(f"{NOTEBOOK}/{one['notebookId']}", "DELETE"))


# Opening


@pytest.fixture
def hers(closed: Shim) -> Iterator[str]:
    """Ada's instance, which runs; its address."""
    ada = closed.as_("token-of-ada")
    until(lambda: not listed(ada))
    made = created(ada, "opened", meta__ownerId=None)
    until(lambda: state(ada, made["notebookId"]) == "running")
    yield made["url"]
    ok(ada(f"{NOTEBOOK}/{made['notebookId']}", "DELETE"))


def test_whoever_shows_a_token_is_led_to_the_instance_s_own_origin(closed: Shim, hers: str) -> None:
    for where in (hers, f"{hers}/"):
        answer = closed.as_("token-of-ada")(where)
        assert answer.status == 302
        location = urlsplit(answer["location"] or "")
        assert re.fullmatch(r"notebook-[0-9]+-[0-9]{4}-opened\.nb\.localhost", location.netloc)
        assert location.path == "/lab"
        assert re.fullmatch("[0-9a-f]{64}", parse_qs(location.query)["token"][0])
        assert (answer["cache-control"], answer["referrer-policy"]) == ("no-store", "no-referrer")


def test_a_browser_without_a_token_is_asked_for_it_once(closed: Shim, hers: str) -> None:
    stranger = closed.as_("")
    asks = stranger(hers, accept="text/html")
    assert (asks.status, 'name="token"' in asks.text) == (401, True)
    # Nobody learns from the page which names there are.
    other = stranger(hers.replace("opened", "nobody"), accept="text/html")
    assert (other.status, other.text.replace("nobody", "opened")) == (401, asks.text)
    form = {"content_type": "application/x-www-form-urlencoded", "accept": "text/html"}
    for wrong in (b"token=nonsense", b"token=token-of-publisher", b"token=token-of-bob", b"", b"token="):
        answer = stranger(hers, "POST", wrong, **form)
        assert (answer.status, answer["location"]) == (401, None)
        assert 'role="alert"' in answer.text
    answer = stranger(hers, "POST", b"token=token-of-ada", **form)
    assert answer.status == 303
    ticket = answer["location"] or ""
    assert ticket.startswith(f"{hers}?ticket=")
    assert "token-of-ada" not in ticket
    assert stranger(ticket, accept="text/html").status == 302


def test_a_ticket_is_good_for_its_instance_and_for_a_while(
    closed: Shim, hers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = closed.as_("")
    form = {"content_type": "application/x-www-form-urlencoded"}
    ticket = stranger(hers, "POST", b"token=token-of-ada", **form)["location"] or ""
    assert stranger(ticket).status == 302
    for forged in (ticket[:-1], f"{ticket}x", f"{hers}?ticket=", f"{hers}?ticket={'x' * 5000}"):
        assert stranger(forged, accept="text/html").status == 401
        assert stranger(forged).status == 401
    ada = closed.as_("token-of-ada")
    other = created(ada, "second", meta__ownerId=None)
    until(lambda: state(ada, other["notebookId"]) == "running")
    assert stranger(ticket.replace("opened", "second")).status == 401
    ok(ada(f"{NOTEBOOK}/{other['notebookId']}", "DELETE"))
    import itsdangerous.timed

    now = itsdangerous.timed.time.time
    monkeypatch.setattr(itsdangerous.timed.time, "time", lambda: now() + TICKET_SECONDS + 2)
    assert stranger(ticket).status == 401


def test_logins_of_readers_open_no_instance(tmp_path: Path) -> None:
    with (
        cluster() as one,
        site(
            tmp_path / "site",
            one,
            auth__token=TOKENS,
            auth__user_header="X-Forwarded-User",
            server__trusted_proxies=["127.0.0.1"],
        ) as shim,
    ):
        ada = shim.as_("token-of-ada")
        made = created(ada, "opened", meta__ownerId=None)
        until(lambda: state(ada, made["notebookId"]) == "running")
        reader = shim.as_("")
        assert reader("/dashboards/", x_forwarded_user="ada").status == 200
        assert reader(made["url"], x_forwarded_user="ada").status == 401
        assert refused(reader(NOTEBOOK, x_forwarded_user="ada"))[0] == 401
        # And whoever has a token need not log in.
        assert ada(made["url"]).status == 302


@pytest.mark.usefixtures("_clean")
def test_the_page_waits_while_an_instance_starts_and_says_why_it_does_not_run(free: Shim, api_server: Cluster) -> None:
    api_server.behave("*", "hold")
    made = created(free, "slow")
    until(lambda: state(free, made["notebookId"]) == "waiting")
    page = free(made["url"], accept="text/html")
    assert (page.status, 'http-equiv="refresh"' in page.text, "ContainerCreating" in page.text) == (200, True, True)
    program = free(made["url"])
    assert (program.status, program["retry-after"]) == (503, "5")
    api_server.behave("*", "imagepull")
    made = created(free, "broken")
    until(lambda: state(free, made["notebookId"]) == "failed")
    page = free(made["url"], accept="text/html")
    assert (page.status, 'http-equiv="refresh"' in page.text, "ImagePullBackOff" in page.text) == (200, False, True)
    assert free(made["url"]).status == 409


@pytest.mark.usefixtures("_clean")
def test_a_stopped_instance_is_started_by_the_button_of_its_page(free: Shim) -> None:
    made = created(free, "sleeper")
    where = f"{NOTEBOOK}/{made['notebookId']}"
    until(lambda: state(free, made["notebookId"]) == "running")
    assert ok(free(f"{where}/stop", "POST", b""))["message"] == "Stop the notebook instance"
    until(lambda: state(free, made["notebookId"]) == "stopped")
    page = free(made["url"], accept="text/html")
    assert (page.status, 'name="start"' in page.text) == (200, True)
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert free(made["url"], "POST", b"start=1", origin="http://evil.example", **form).status == 403
    answer = free(made["url"], "POST", b"start=1", **form)
    assert (answer.status, answer["location"]) == (303, made["url"])
    until(lambda: state(free, made["notebookId"]) == "running")


def test_a_dashboard_may_be_called_notebook(free: Shim) -> None:
    assert free("/notebook/default/nothing/lab").status == 404
    assert (
        free.upload("notebook/report", b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}').status
        == 201
    )
    assert free("/notebook/report").status == 302
    assert free.delete("notebook/report").status == 204


# Clients


PYTHON = Path(sys.prefix) / "submarine/bin/python"
CLIENT = """
import json, sys, time
from submarine.client import ApiException
from submarine.client.api.notebook_client import NotebookClient
from submarine.client.models.environment_spec import EnvironmentSpec
from submarine.client.models.notebook_meta import NotebookMeta
from submarine.client.models.notebook_pod_spec import NotebookPodSpec
from submarine.client.models.notebook_spec import NotebookSpec

host, token, owner = sys.argv[1:]
client = NotebookClient(host=host)
if token:
    client.notebook_api.api_client.set_default_header("Authorization", f"Bearer {token}")
meta = NotebookMeta(name="by-client", namespace="default", owner_id=owner)
spec = NotebookSpec(
    meta=meta,
    environment=EnvironmentSpec(name="notebook-env"),
    spec=NotebookPodSpec(env_vars={"TEST_ENV": "test", "NUMBER": 1}, resources="cpu=1,memory=1.0Gi"),
)
made = client.create_notebook(spec)
got = client.get_notebook(made["notebookId"])
mine = client.list_notebooks(owner)
gone = client.delete_notebook(made["notebookId"])
for wrong in (lambda: client.get_notebook("notebook_1_0001"), lambda: client.create_notebook(NotebookSpec())):
    try:
        wrong()
    except ApiException as error:
        print(json.dumps([error.status, json.loads(error.body)["message"]]))
print(json.dumps([made["status"], got["name"], [one["name"] for one in mine], gone["status"]]))
"""


@pytest.mark.usefixtures("_clean")
@pytest.mark.skipif(not PYTHON.exists() and not os.environ.get("CI"), reason="make installs Submarine's client")
@pytest.mark.parametrize("token", ["", "token-of-ada"])
def test_the_client_of_submarine_works_unchanged(free: Shim, closed: Shim, token: str) -> None:
    shim = closed if token else free
    arguments = [f"http://127.0.0.1:{shim.server.port}", token, "ada"]
    done = subprocess.run([PYTHON, "-c", CLIENT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    unknown, wrong, worked = map(json.loads, done.stdout.splitlines())
    assert unknown == [404, "Notebook not found."]
    assert wrong[0] == 400
    assert worked == ["creating", "by-client", ["by-client"], "terminating"]


# Servers without


def test_a_server_that_others_reach_says_why_it_has_no_instances(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    settings = {"instances__backend": "local", "server__host": "0.0.0.0", "auth__api_token": "secret"}
    with running(folder, **settings, server__allowed_hosts=["localhost"]) as shim:
        status, message = refused(shim(NOTEBOOK))
        assert (status, "server.host is 0.0.0.0" in message) == (404, True)
    with running(folder) as shim:
        assert refused(shim(f"{NOTEBOOK}/ping")) == (404, "This server offers no notebook instances.")
