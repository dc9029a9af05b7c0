"""shim-admin notebooks: against run-shim with a cluster that tests steer, and against servers that answer wrongly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from answering import Reply, Request, answering, error
from cluster import Cluster, cluster
from dashboards import Shim, running, until
from test_admin import PROGRAM, Run, Said, run_on_terminal

from shim import notebooks_client
from shim.admin import main

TOKENS = [
    {"name": "ada", "value": "token-of-ada", "scopes": ["instances"], "owner": "ada"},
    {"name": "bob", "value": "token-of-bob", "scopes": ["instances"], "owner": "bob"},
    {"name": "publisher", "value": "token-of-publisher", "scopes": ["publish"], "owner": "ada"},
]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests."""
    for name in [*os.environ]:
        if name.startswith("NBFOLIO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOGNAME", "lovelace")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command for notebook instances in this process."""

    def run(*args: object) -> Said:
        code = main(["notebooks", *map(str, args)])
        return Said(code, *capsys.readouterr())

    return run


@contextmanager
def site(folder: Path, standin: Cluster, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Shim]:
    """A server with instances in a cluster, the one that NBFOLIO_URL names."""
    with running(
        folder,
        build=False,
        instances__backend="kubernetes",
        instances__kubeconfig=str(standin.kubeconfig(folder)),
        instances__public_url="http://{instance}.nb.localhost",
        **settings,
    ) as shim:
        monkeypatch.setenv("NBFOLIO_URL", f"http://127.0.0.1:{shim.server.port}")
        yield shim


@pytest.fixture
def standin() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.fixture
def shim(tmp_path: Path, standin: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shim]:
    """Without tokens."""
    with site(tmp_path, standin, monkeypatch) as shim:
        yield shim


def documents(run: Run) -> list[dict[str, Any]]:
    done = run("list", "--format", "json")
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


# --- a running server


def test_an_instance_is_created_listed_stopped_started_opened_and_deleted(run: Run, shim: Shim) -> None:
    page = f"http://127.0.0.1:{shim.server.port}/notebook/default/test-nb/lab\n"
    assert run("list") == (0, "", "")
    made = run("create", "test-nb", "--env", "GREETING=a=b", "--env", "EMPTY=", "--resources", "cpu=0.5,memory=512Mi")
    assert (made.code, made.out) == (0, page)
    assert made.err.splitlines()[-1] == "test-nb is running: The notebook instance is running"
    (document,) = documents(run)
    assert document["spec"] == {
        "meta": {"name": "test-nb", "namespace": "default", "ownerId": "lovelace"},
        "environment": document["spec"]["environment"] | {"name": "notebook-env"},
        "spec": {"envVars": {"GREETING": "a=b", "EMPTY": ""}, "resources": "cpu=0.5,memory=512Mi"},
    }
    columns = run("list").out.removesuffix("\n").split("\t")
    assert columns[:5] == ["test-nb", "running", "notebook-env", "cpu=0.5,memory=512Mi", "lovelace"]
    assert columns[5:] == [document["createdTime"], "The notebook instance is running"]
    assert run("stop", document["notebookId"]) == (0, "Stopped test-nb.\n", "")
    until(lambda: documents(run)[0]["status"] == "stopped")
    stopped = run("open", "test-nb", "--print")
    assert (stopped.code, stopped.out) == (2, "")
    assert "by its owner. shim-admin notebooks start test-nb runs it again." in stopped.err
    started = run("start", "TEST-NB")
    assert (started.code, started.out) == (0, page)
    opened = run("open", "test-nb", "--print")
    assert (opened.code, opened.err) == (0, ""), "nothing is said of waiting where nobody waited"
    entered = requests.get(opened.out.strip(), allow_redirects=False, timeout=60)
    address = urlsplit(entered.headers["Location"])
    assert (address.hostname or "").endswith("-test-nb.nb.localhost") and address.path == "/lab"
    assert len(parse_qs(address.query)["token"][0]) > 30
    assert run("delete", "test-nb", "--keep-volumes") == (0, "Deleted test-nb.\n", "")
    until(lambda: documents(run) == [])
    missing = (
        "shim-admin: There is no notebook instance test-nb; shim-admin notebooks list names those that there are.\n"
    )
    for command in ("start", "stop", "delete", "open"):
        assert run(command, "test-nb") == (2, "", missing)


@pytest.mark.parametrize(("option", "kept"), [(["--keep-volumes"], True), (["--no-keep-volumes"], False), ([], False)])
def test_files_stay_where_the_deletion_says_so(
    run: Run, shim: Shim, standin: Cluster, option: list[str], kept: bool
) -> None:
    assert run("create", "test-nb", "--no-wait").code == 0
    assert run("delete", "test-nb", *option).code == 0
    until(lambda: documents(run) == [])
    removed = [one for one in standin.requests if one.method == "DELETE" and "/persistentvolumeclaims/" in one.path]
    assert bool(removed) is not kept


def test_an_instance_that_cannot_run_ends_the_wait_with_its_reason(run: Run, shim: Shim, standin: Cluster) -> None:
    standin.behave("*", "imagepull")
    done = run("create", "broken")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"shim-admin: broken failed: .*ImagePullBackOff.*\.", done.err.splitlines()[-1])
    assert documents(run)[0]["status"] == "failed", "it is there to be looked at"


def starting(*args: str) -> subprocess.Popen[str]:
    """A run that goes on beside the test."""
    return subprocess.Popen(
        [*PROGRAM, "notebooks", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )  # fmt: skip


def read_to(process: subprocess.Popen[str], said: str) -> list[str]:
    """The lines of its standard error up to one with `said`."""
    assert process.stderr
    lines: list[str] = []
    while not (lines and said in lines[-1]):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    return lines


def test_every_change_on_the_way_is_a_line_of_its_own(run: Run, shim: Shim, standin: Cluster) -> None:
    standin.behave("*", "hold")
    process = starting("create", "slow")
    lines = read_to(process, "slow is waiting: ")
    standin.behave("*", "run")
    out, err = process.communicate(timeout=60)
    lines += err.splitlines(keepends=True)
    assert (process.returncode, out) == (0, f"http://127.0.0.1:{shim.server.port}/notebook/default/slow/lab\n")
    assert lines[0].startswith("slow is creating: ") and lines[-1].startswith("slow is running: ")
    assert len(set(lines)) == len(lines)


def test_ctrl_c_ends_the_waiting_and_not_the_instance(run: Run, shim: Shim, standin: Cluster) -> None:
    standin.behave("*", "hold")
    process = starting("create", "slow")
    read_to(process, "slow is waiting: ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "slow goes on starting; shim-admin notebooks list says how it is."
    assert documents(run)[0]["name"] == "slow"


def test_the_wait_ends_after_the_time_that_was_given(run: Run, shim: Shim, standin: Cluster) -> None:
    standin.behave("*", "hold")
    done = run("create", "slow", "--timeout", "1")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(
        r"shim-admin: After 1 s slow still is \w+: .*\. It goes on starting\.", done.err.splitlines()[-1]
    )
    assert len(set(done.err.splitlines())) == done.err.count("\n"), "no line for a look that shows nothing new"
    assert run("create", "other", "--no-wait").code == 0
    assert run("start", "other", "--no-wait").code == 0
    assert [one["name"] for one in documents(run)] == ["slow", "other"]


def test_what_the_server_refuses_is_said(run: Run, shim: Shim) -> None:
    for args, said in [
        (["x_y"], "meta.name has to begin with a letter "),
        (["x", "--resources", "cpu=z"], "cpu=z in spec.resources is not an amount; "),
        (["x", "--namespace", "other"], 'meta.namespace has to be "default", or left out.\n'),
        (["x", "--environment", "none"], "Environment not found. There are: notebook-env.\n"),
        (["x", "--env", "PATH=/"], "spec.envVars.PATH is reserved"),
    ]:
        done = run("create", *args)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"shim-admin: {said}") and done.err.count("\n") == 1
    assert run("create", "twin", "--no-wait").code == 0
    assert "already existed" in run("create", "twin").err


def test_without_tokens_an_instance_is_whose_the_option_or_the_login_says(
    run: Run, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("create", "one", "--owner", "babbage", "--no-wait").code == 0
    assert run("create", "two", "--no-wait").code == 0
    monkeypatch.setenv("NBFOLIO_TOKEN", "the server knows none")
    assert run("create", "three", "--no-wait").code == 0
    assert [one["spec"]["meta"]["ownerId"] for one in documents(run)] == ["babbage", "lovelace", "lovelace"]


def test_tokens_say_whose_an_instance_is_and_others_do_not_see_it(
    run: Run, tmp_path: Path, standin: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(tmp_path, standin, monkeypatch, auth__token=TOKENS):
        assert "none is given: name its file with --token-file" in run("create", "test-nb").err
        monkeypatch.setenv("NBFOLIO_TOKEN", "token-of-ada")
        assert run("create", "test-nb").code == 0
        assert documents(run)[0]["spec"]["meta"]["ownerId"] == "ada"
        opened = run("open", "test-nb", "--print").out.strip()
        assert "/notebook/default/test-nb/lab?ticket=" in opened
        entered = requests.get(opened, allow_redirects=False, timeout=60)
        assert entered.headers["Location"].startswith("http://notebook-")
        assert "meta.ownerId is somebody else" in run("create", "other", "--owner", "bob").err
        monkeypatch.setenv("NBFOLIO_TOKEN", "token-of-bob")
        assert documents(run) == []
        assert "There is no notebook instance test-nb" in run("open", "test-nb").err
        monkeypatch.setenv("NBFOLIO_TOKEN", "token-of-publisher")
        assert run("list").err == (
            "shim-admin: The token may not do that; it takes one with the scope instances. "
            "The token came from NBFOLIO_TOKEN.\n"
        )
        monkeypatch.setenv("NBFOLIO_TOKEN", "wrong")
        assert "does not accept the token from NBFOLIO_TOKEN" in run("list").err


def test_a_server_without_instances_says_why(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, build=False) as shim:
        monkeypatch.setenv("NBFOLIO_URL", f"http://127.0.0.1:{shim.server.port}")
        for args in (["list"], ["create", "x"], ["start", "x"], ["stop", "x"], ["delete", "x"], ["open", "x"]):
            assert run(*args) == (2, "", "shim-admin: This server offers no notebook instances.\n")


# --- on a terminal, in a browser


def test_a_terminal_shows_how_an_instance_starts_and_asks_before_one_is_deleted(run: Run, shim: Shim) -> None:
    made = run_on_terminal("notebooks", "create", "test-nb", pipe=True)
    assert (made.code, made.out.endswith("/notebook/default/test-nb/lab\n")) == (0, True)
    assert re.search(r"test-nb is \w+: ", made.shown) and "\x1b[2K" in made.shown, "the line is wiped"
    shown = run_on_terminal("notebooks", "list").shown
    assert all(heading in shown for heading in ("Name", "Status", "Owner", "Reason")) and "\t" not in shown
    refused = run_on_terminal("notebooks", "delete", "test-nb", typed=(b"n\n",))
    assert (
        refused.code,
        "Delete test-nb, and its files, too, unless the server keeps them? [y/N]" in refused.shown,
    ) == (
        130,
        True,
    )
    assert len(documents(run)) == 1
    assert run_on_terminal("notebooks", "delete", "test-nb", "--keep-volumes", typed=(b"y\n",)).code == 0
    until(lambda: documents(run) == [])
    assert "There are no notebook instances yet." in run_on_terminal("notebooks", "list").shown


def test_the_browser_gets_the_address_with_its_token_and_nobody_else(
    run: Run, shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("create", "test-nb").code == 0
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    process = starting("open", "test-nb")
    assert process.communicate(timeout=60) == ("Opened test-nb in the browser.\n", "")
    address = run("open", "test-nb", "--print").out
    assert (tmp_path / "opened").read_text() == address.strip()
    monkeypatch.setenv("BROWSER", str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    process = starting("open", "test-nb")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, address)
    assert err == "No browser can be opened here. Whoever has this address gets in:\n"


# --- servers that answer wrongly


def instance(**changes: Any) -> dict[str, Any]:
    """An instance as a server describes it."""
    return {
        "notebookId": "notebook_1_0001",
        "name": "test-nb",
        "uid": None,
        "url": "@evil.example/",
        "status": "running",
        "reason": "The notebook instance is running",
        "createdTime": "2026-01-01T00:00:00.000+00:00",
        "deletedTime": None,
        "spec": {
            "meta": {"name": "test-nb", "namespace": "default", "ownerId": "ada"},
            "environment": {"name": "notebook-env", "dockerImage": "x"},
            "spec": {"envVars": None, "resources": "cpu=1,memory=1Gi"},
        },
        **changes,
    }


def enveloped(result: Any, status: int = 200, message: str | None = None, **headers: str) -> Reply:
    body = {"status": "X", "code": status, "success": status < 400, "message": message, "result": result}
    return Reply(status, headers, json.dumps({**body, "attributes": {}}).encode())


class Fake:
    """A server with one instance, which answers as a test says: the last of `looks` again and again."""

    def __init__(self, *looks: Reply | dict[str, Any], door: Reply | None = None) -> None:
        self.looks = list(looks) or [instance()]
        self.door = door or Reply(303, {"Location": "/notebook/default/test-nb/lab?ticket=x"})

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/v1/notebook" and request.method == "GET":
            return enveloped([instance(status="stopped")])
        if request.path.endswith("/lab"):
            return self.door
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return look if isinstance(look, Reply) else enveloped(look)


STARTING = instance(status="creating", reason="The notebook instance is creating")
BUSY = enveloped(None, 503, "The cluster does not answer.")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly a pause between two looks."""
    monkeypatch.setattr(notebooks_client, "LONGEST_PAUSE", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("trouble", [BUSY, Reply(502, {}, b"<h1>Bad gateway</h1>"), enveloped(None, 404, "Not found.")])
def test_a_server_that_restarts_is_waited_for_and_not_for_ever(run: Run, trouble: Reply) -> None:
    with answering(Fake(STARTING, *[trouble] * 4, STARTING, *[trouble] * 4, instance())) as server:
        assert run("create", "test-nb", "--url", server.address).code == 0
    with answering(Fake(STARTING, trouble)) as server:
        done = run("create", "test-nb", "--url", server.address)
        assert (done.code, done.out) == (2, "")
        assert len([one for one in server.requests if one.method == "GET"]) == 5


@pytest.mark.usefixtures("quick")
def test_a_refusal_ends_the_wait_at_once(run: Run) -> None:
    with answering(Fake(STARTING, enveloped(None, 401, "Authentication required."))) as server:
        assert run("create", "test-nb", "--url", server.address).code == 2
        assert len([one for one in server.requests if one.method == "GET"]) == 1


@pytest.mark.usefixtures("quick")
def test_a_cluster_that_tells_late_of_a_start_is_not_taken_at_its_word(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = instance(status="stopped", reason="It was stopped by its owner")
    with answering(Fake(stopped, stopped, STARTING, instance())) as server:
        assert run("start", "test-nb", "--url", server.address).code == 0
    with answering(Fake(STARTING, stopped)) as server:
        assert "test-nb is stopped: " in run("create", "test-nb", "--url", server.address).err
    monkeypatch.setattr(notebooks_client, "LATE_SECONDS", 0)
    with answering(Fake(stopped)) as server:
        assert "test-nb is stopped: " in run("start", "test-nb", "--url", server.address).err


@pytest.mark.parametrize("status", ["terminating", "not_found"])
def test_an_instance_that_is_taken_away_is_not_waited_for(run: Run, status: str) -> None:
    with answering(Fake(instance(status=status, reason="Gone."))) as server:
        assert run("start", "test-nb", "--url", server.address) == (2, "", f"shim-admin: test-nb is {status}: Gone.\n")


def test_the_token_goes_to_the_server_alone_whatever_it_says(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFOLIO_TOKEN", "s3cret")
    with answering(lambda request: Reply(200, {}, b"")) as elsewhere:
        fake = Fake(instance(), door=Reply(303, {"Location": f"{elsewhere.address}/lab?ticket=a%20b"}))
        fake_list = enveloped([instance()])

        def respond(request: Request) -> Reply:
            return fake_list if request.path == "/api/v1/notebook" else fake(request)

        with answering(respond) as server:
            page = "/notebook/default/test-nb/lab"
            assert run("open", "test-nb", "--print", "--url", server.address).out == (
                f"{server.address}{page}?ticket=a%20b\n"
            )
            assert server.requests[-1].path == page, "not the url that the server gives"
            assert {one.headers["authorization"] for one in server.requests} == {"token s3cret"}
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("door", "said"),
    [
        (Reply(302, {"Location": "/login?next=/lab"}), "without a login before it?"),
        (Reply(302, {"Location": "http://x/lab?token=\x1b[31m"}), r"token=\x1b[31m"),
        (Reply(302), "sends the request on to nowhere"),
        (Reply(200, {}, b"<h1>Sign in</h1>"), "answers with status 200, but not as nbfolio does"),
        (error(503, "Waiting for the notebook server to answer.", Retry_After="5"), "Try again in 5 seconds."),
        (error(404, "There is no notebook instance of that name."), "There is no notebook instance of that name."),
    ],
)
def test_nothing_is_opened_when_the_server_does_not_let_in(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Reply, said: str
) -> None:
    monkeypatch.setenv("BROWSER", f"touch {tmp_path}/opened #%s")
    fake = Fake(door=door)
    with answering(lambda one: enveloped([instance()]) if one.path.endswith("/notebook") else fake(one)) as server:
        done = run("open", "test-nb", "--url", server.address)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("location", ["http://[/lab?ticket=x", "file:///etc/passwd", "", "?ticket="])
def test_an_address_that_cannot_be_read_has_no_ticket(run: Run, location: str) -> None:
    fake = Fake(door=Reply(303, {"Location": location}))
    with answering(lambda one: enveloped([instance()]) if one.path.endswith("/notebook") else fake(one)) as server:
        done = run("open", "test-nb", "--print", "--url", server.address)
        assert done.out == f"{server.address}/notebook/default/test-nb/lab\n"


OLD = "and its nbfolio new enough to have notebook instances?"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(404, "There is no such page."), OLD),
        (Reply(404, {}, b"<h1>Not found</h1>"), "answers with status 404, but not as nbfolio does"),
        (enveloped(None, 404, "This server offers no notebook instances. Ask Ada."), "instances. Ask Ada.\n"),
        (Reply(401, {}, b"Sign in"), "it must let /api through"),
        (Reply(403, {}, b"No"), "Something before the server"),
        (enveloped(None, 413, "The body of the request is longer than 9 bytes."), "longer than 9 bytes.\n"),
        (enveloped(None, 502, "The cluster refuses."), "The log of the server says more"),
        (Reply(302, {"Location": "https://sso.example/"}), "sends the request on to https://sso.example/"),
        (enveloped(None), "answers with status 200, but not as nbfolio does"),
        (enveloped({"name": "x"}), "answers with status 200, but not as nbfolio does"),
        (enveloped([{"name": "x"}]), "answers with status 200, but not as nbfolio does"),
        (Reply(200, {}, b"[" * 100_000), "answers with status 200, but not as nbfolio does"),
        (Reply(200, {}, b'{"result": "\xff'), "answers with status 200, but not as nbfolio does"),
        (Reply(200, {}, b"OK"), "answers with status 200, but not as nbfolio does"),
    ],
)
def test_wrong_answers_are_a_sentence(run: Run, reply: Reply, said: str) -> None:
    with answering(lambda request: reply) as server:
        for args in (["list"], ["create", "x"], ["delete", "x"]):
            done = run(*args, "--url", server.address)
            assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
            assert said in done.err


def test_a_server_that_is_away_is_said(run: Run) -> None:
    with answering(Fake()) as server:
        pass
    assert "Nothing listens at 127.0.0.1:" in run("list", "--url", server.address).err


HOSTILE = "red \x1b[31m\ttab\nline \x9b [bold]x[/bold]"


def test_text_of_the_server_cannot_steer_the_terminal(run: Run) -> None:
    shown = dict.fromkeys(("name", "status", "reason", "createdTime", "notebookId"), HOSTILE)
    spec = {
        "meta": {"namespace": HOSTILE, "ownerId": HOSTILE},
        "environment": {"name": HOSTILE},
        "spec": {"resources": HOSTILE},
    }
    evil = instance(**shown, spec=spec)

    def respond(request: Request) -> Reply:
        if request.path.endswith("/notebook") and request.method == "GET":
            return enveloped([evil])
        if request.method == "POST":
            return enveloped(evil | {"status": "failed"})
        return enveloped(None, 409, HOSTILE)

    with answering(respond) as server:
        url = ("--url", server.address)
        for args in (["list"], ["create", "x"], ["create", "x", "--no-wait"], ["delete", HOSTILE], ["start", "x"]):
            done = run(*args, *url)
            text = done.out.replace("\t", "") + done.err
            assert all(line.isprintable() for line in text.splitlines()) and text.count("\n") == 1, text
        shown_there = run_on_terminal("notebooks", "list", *url).shown
        assert "\x1b[31m" not in shown_there and "\x9b" not in shown_there and "[bold]" in shown_there


# --- usage


@pytest.mark.parametrize(
    "args",
    [["create"], ["create", "a", "b"], ["create", "a", "--env", "X"], ["create", "a", "--env", "=x"], ["create", "a", "--timeout", "0"], ["start", "a", "--timeout", "nan"], ["stop"], ["delete"], ["open"], ["list", "a"], ["list", "--format", "xml"], ["nope"], []],
)  # fmt: skip
def test_wrong_usage_is_exit_code_3_and_asks_nobody(run: Run, args: list[str]) -> None:
    done = run(*args, *(["--url", "http://127.0.0.1:1"] if args else []))
    assert (done.code, done.out) == (3, "")
    assert "Nothing listens" not in done.err


def test_a_person_without_a_login_name_is_asked_for_the_owner(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with answering(Fake()) as server:
        done = run("create", "test-nb", "--url", server.address)
        assert (done.code, done.err) == (
            2,
            "shim-admin: The server wants to know whose the instance is; say it with --owner.\n",
        )
        assert run("create", "test-nb", "--owner", "ada", "--url", server.address).code == 0


def test_help_loads_no_http_client() -> None:
    program = (
        "import sys; from shim.admin import main; main(['notebooks', *sys.argv[1:]]);"
        "print([name for name in ('requests', 'rich', 'ssl', 'webbrowser') if name in sys.modules])"
    )
    for args in (["--help"], ["create", "--help"], ["open", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("[]\n")
