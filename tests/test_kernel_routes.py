"""The REST API of kernels: what clients of Jupyter send and get, who may do what, and what is refused."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from argon2 import PasswordHasher
from dashboards import Answer, Shim, running
from making import code, markdown, notebook, write

from shim.kernels.bodies import LONGEST_BODY

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("lovelace")
EVIL = {"env": {"KERNEL_X": "1"}, "kernel_id": "00000000-0000-4000-8000-000000000000", "name": "evil", "cwd": "/"}


def write_site(folder: Path) -> None:
    """A folder with pages of all sorts."""
    for path in ("x", "deep/er/y", "with space", "100%", "é", "index"):
        write(folder, f"{path}.ipynb", notebook(markdown("# Page"), code("1 + 1")))
    write(folder, "bundle/index.ipynb", notebook(markdown("# Bundle"), code("1")))
    write(folder, "off.ipynb", notebook(code("1"), nbfolio={"live": "off"}))
    write(folder, "draft.ipynb", notebook(code("1"), nbfolio={"draft": True}))
    write(folder, "alien.ipynb", notebook(code("1"), kernelspec={"name": "klingon", "display_name": "K"}))
    write(folder, "file.txt", "no notebook")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server with kernels, open to all."""
    folder = tmp_path_factory.mktemp("open")
    write_site(folder / "notebooks")
    with running(folder, kernels__enabled=True, auth__api_token="s3cret") as running_shim:
        yield running_shim.as_("")


def send(shim: Shim, url: str, fields: Any = None, method: str = "POST", **headers: str | None) -> Answer:
    """A request as Jupyter's clients send it: JSON that says it is text."""
    body = fields if isinstance(fields, bytes) else b"" if fields is None else json.dumps(fields).encode()
    return shim(url, method, body, **{"content_type": "text/plain;charset=UTF-8", **headers})


def start(shim: Shim, path: str = "/x", **headers: str | None) -> dict[str, Any]:
    """The model of a new kernel."""
    answer = send(shim, "/api/kernels", {"path": path}, **headers)
    assert answer.status == 201, answer.text
    model: dict[str, Any] = answer.json()
    return model


def websocket(shim: Shim, url: str, **headers: str) -> int:
    """The status of the answer to a request for a WebSocket."""
    sent = {
        "Host": shim.host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x" * 22 + "==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-").title(): value for name, value in headers.items()},
    }
    head = "\r\n".join([f"GET {url} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""])
    with socket.create_connection(("127.0.0.1", shim.server.port), timeout=60) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(100)
    return int(answer.split()[1])


def version_of(shim: Shim, path: str) -> str:
    found = re.search(r'data-version="([0-9a-f]{16})"', shim.page(path).text)
    assert found
    return found[1]


@pytest.fixture
def kernel(shim: Shim) -> Iterator[dict[str, Any]]:
    """A kernel that ends with the test."""
    model = start(shim)
    yield model
    shim(f"/api/kernels/{model['id']}", "DELETE")


# To have a kernel


def test_a_kernel_is_started_found_interrupted_restarted_and_ended(shim: Shim) -> None:
    answer = send(shim, "/api/kernels", {"path": "/dashboards/x/", **EVIL})
    assert answer.status == 201
    model = answer.json()
    assert list(model) == ["id", "name", "last_activity", "execution_state", "connections"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", model["id"])
    assert model["id"] != EVIL["kernel_id"]
    assert (model["name"], model["connections"]) == ("python3", 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", model["last_activity"])
    url = f"/api/kernels/{model['id']}"
    assert answer["location"] == url
    for slash in ("", "/"):
        assert shim(url + slash).json()["id"] == model["id"]
        assert send(shim, f"{url}/interrupt{slash}").status == 204
    assert send(shim, f"{url}/restart").json()["id"] == model["id"]
    assert shim(url, "DELETE").status == 204
    assert websocket(shim, f"{url}/channels") == 404
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/interrupt"), ("POST", "/restart")):
        assert shim(url + end, method).status == 404


FORMS = {
    "x": ["/x", "/x/", "/dashboards/x", "/dashboards-plain/x/", "x.ipynb", "/x/index.html", "//x", "x/index.ipynb"],
    "deep/er/y": ["/dashboards/deep/er/y/", "/dashboards/deep%2Fer%2fy"],
    "with space": ["/dashboards/with%20space/", "with space.ipynb"],
    "100%": ["/100%25/", "100%.ipynb"],
    "é": ["/%C3%A9/", "é"],
    "": ["/", "/dashboards/", "/index.html", "index.ipynb"],
    "bundle": ["/bundle", "/dashboards/bundle/index.html", "bundle/index.ipynb"],
}


@pytest.mark.parametrize("path", FORMS)
def test_pages_are_known_by_every_form_of_their_path(shim: Shim, path: str) -> None:
    # A version that is none: all but the start itself is done.
    for form in FORMS[path]:
        stale = {"x_nbfolio_page_version": "0" * 16}
        assert send(shim, "/api/kernels", {"path": form}, **stale).status == 409, form
        assert send(shim, "/api/sessions", {"notebook": {"path": form}}, **stale).status == 409, form
        header = form.encode().decode("latin-1")
        assert send(shim, "/api/kernels", None, x_jupyter_notebook_path=header, **stale).status == 409, form


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (None, 400),
        ({}, 400),
        ({"path": ""}, 400),
        ({"path": 1}, 400),
        ({"path": ["x"]}, 400),
        ({"path": "/dashboards/../x"}, 400),
        ({"path": "/%2e%2e/x"}, 400),
        ({"path": "/a%00b"}, 400),
        ({"path": "a\\b"}, 400),
        ({"path": "a" * 5000}, 400),
        ({"path": "\ud800"}, 400),
        ({"path": "/x", "query": 1}, 400),
        ([], 400),
        (b"{", 400),
        (b'{"path": "/x"', 400),
        (b"\xff", 400),
        (b"[" * 30000, 400),
        ({"path": "/x", "pad": "x" * LONGEST_BODY}, 413),
        ({"path": "/off"}, 403),
        ({"path": "/draft"}, 403),
        ({"path": "/nope"}, 404),
        ({"path": "/file.txt"}, 404),
        ({"path": "/deep"}, 404),
        ({"path": "/alien"}, 502),
    ],
)
def test_what_cannot_be_started_is_refused(shim: Shim, fields: Any, status: int) -> None:
    for url in ("/api/kernels", "/api/sessions/"):
        assert send(shim, url, fields).status == status
    assert not shim.live or not shim.live.kernels._table.kernels()


def test_a_page_that_is_not_the_current_one_gets_no_kernel(shim: Shim) -> None:
    assert send(shim, "/api/kernels", {"path": "/x"}, x_nbfolio_page_version="1" * 16).status == 409
    answer = send(shim, "/api/kernels", {"path": "/x"}, x_nbfolio_page_version=version_of(shim, "x"))
    assert answer.status == 201
    assert shim(f"/api/kernels/{answer.json()['id']}", "DELETE").status == 204


@pytest.mark.parametrize("session", ["a" * 65, "a b", "a/b", "é", "a\tb"])
def test_session_ids_that_are_none_are_refused(shim: Shim, session: str) -> None:
    assert send(shim, "/api/kernels", {"path": "/x"}, x_jupyter_session_id=session).status == 400
    assert shim(f"/api/kernels?session_id={quote(session)}").status == 400


# Sessions


def test_a_session_is_started_found_renamed_and_ended(shim: Shim) -> None:
    visit = {"x_jupyter_session_id": "visit-1"}
    fields = {"path": "/dashboards/x/", "name": "mine", "type": "console", "kernel": {"name": "evil", "id": "x"}}
    answer = send(shim, "/api/sessions", fields, **visit)
    assert answer.status == 201
    session = answer.json()
    assert list(session) == ["id", "path", "name", "type", "kernel", "notebook"]
    assert (session["path"], session["name"], session["type"]) == ("/dashboards/x/", "mine", "console")
    assert session["kernel"]["name"] == "python3"
    url = f"/api/sessions/{session['id']}"
    assert answer["location"] == url
    assert shim(url).json()["id"] == session["id"]
    assert [one["id"] for one in shim("/api/sessions", **visit).json()] == [session["id"]]
    assert [one["id"] for one in shim("/api/kernels", **visit).json()] == [session["kernel"]["id"]]
    renamed = send(shim, url, {"name": "other", "kernel": {"id": "x"}}, "PATCH").json()
    assert (renamed["name"], renamed["path"]) == ("other", "/dashboards/x/")
    assert renamed["kernel"]["id"] == session["kernel"]["id"]
    assert shim(url, "DELETE").status == 204
    assert shim(f"/api/kernels/{session['kernel']['id']}").status == 404
    for method in ("GET", "PATCH", "DELETE"):
        assert send(shim, url, {}, method).status == 404


def test_lists_show_what_was_started_in_the_same_visit_or_with_the_same_token_and_nothing_else(shim: Shim) -> None:
    one = start(shim, x_jupyter_session_id="visit-1")["id"]
    two = start(shim, x_jupyter_session_id="visit-2", authorization="Bearer garbage")["id"]
    three = start(shim, authorization="Bearer s3cret")["id"]
    four = start(shim)["id"]

    def listed(query: str = "", **headers: str) -> list[str]:
        found = [model["id"] for model in shim(f"/api/kernels{query}", **headers).json()]
        assert shim(f"/api/status{query}", **headers).json()["kernels"] == len(found)
        assert shim(f"/api/sessions{query}", **headers).json() == []
        return found

    try:
        assert listed() == []
        assert listed(authorization="Bearer garbage") == []
        assert listed(x_jupyter_session_id="visit-1") == [one]
        assert listed("?session_id=visit-2") == [two]
        assert listed(authorization="token s3cret") == [three]
        # The id alone is what it takes to use one.
        assert shim(f"/api/kernels/{four}").status == 200
    finally:
        for kernel in (one, two, three, four):
            assert shim(f"/api/kernels/{kernel}", "DELETE").status == 204


# The rest of the API


def test_facts_about_the_server_are_those_of_its_kernels(shim: Shim, kernel: dict[str, Any]) -> None:
    assert list(shim("/api").json()) == ["version"]
    assert shim("/api/me").json()["identity"]["username"] == "reader"
    status = shim("/api/status").json()
    assert {name: status[name] for name in ("connections", "kernels")} == {"connections": 0, "kernels": 0}
    specs = shim("/api/kernelspecs/").json()
    assert specs["default"] == "python3"
    assert specs["kernelspecs"]["python3"]["spec"]["argv"] == []
    assert specs["kernelspecs"]["python3"]["spec"]["env"] == {}
    assert specs["kernelspecs"]["python3"]["spec"]["language"] == "python"


@pytest.mark.parametrize(
    "target",
    [
        "/api/contents/x.ipynb",
        "/api/terminals",
        "/api/kernels/a/b",
        "/api/kernels/a/channels/b",
        "/api/kernelspecs/python3",
        "/api/config",
        "/api/sessions/a/b",
        "/api/spec.yaml",
        "/api//kernels",
        "/api/%2e%2e/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_nothing_else_is_below_the_api(shim: Shim, target: str, method: str) -> None:
    assert shim(target, method).status == 403


@pytest.mark.parametrize("target", ["/api/kernels", "/api/kernels/a", "/api/sessions/a"])
def test_other_methods_of_what_is_there_are_refused(shim: Shim, target: str) -> None:
    assert shim(target, "PUT").status == 405


def test_the_address_of_a_websocket_is_no_page(shim: Shim, kernel: dict[str, Any]) -> None:
    answer = shim(f"/api/kernels/{kernel['id']}/channels")
    assert answer.status == 426
    assert "WebSockets" in answer.message


def test_pages_say_that_they_can_have_kernels_and_other_files_do_not(shim: Shim) -> None:
    page = shim("/dashboards/x/", "HEAD")
    assert page["nbfolio-kernels"] == "available"
    assert shim("/dashboards/x/", if_none_match=page["etag"])["nbfolio-kernels"] == "available"
    assert shim("/robots.txt")["nbfolio-kernels"] is None
    asset = re.search(r"assets/[\w.-]+", shim.page("x").text)
    assert asset
    assert shim(f"/{asset[0]}")["nbfolio-kernels"] is None


def test_pages_of_other_sites_can_neither_start_kernels_nor_open_websockets(shim: Shim, kernel: dict[str, Any]) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}):
        assert send(shim, "/api/kernels", {"path": "/x"}, **headers).status == 403
        assert websocket(shim, f"/api/kernels/{kernel['id']}/channels", **headers) == 403


def test_a_server_without_kernels_says_so(tmp_path: Path) -> None:
    write_site(tmp_path / "notebooks")
    with running(tmp_path, kernels__enabled=False) as shim:
        for method, url in (("POST", "/api/kernels"), ("GET", "/api/kernels"), ("GET", "/api/kernels/a/channels")):
            answer = shim(url, method)
            assert (answer.status, answer.message) == (403, "This server has no kernels.")
        assert shim("/dashboards/x/")["nbfolio-kernels"] is None


# With logins


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server below a prefix where people log in."""
    folder = tmp_path_factory.mktemp("closed")
    write_site(folder / "notebooks")
    settings = {
        "auth__user": [{"name": name, "password_hash": HASH} for name in ("ada", "bob")],
        "auth__token": [
            {"name": "ci", "value": "publisher", "scopes": ["publish"], "owner": "team"},
            {"name": "cache", "value": "cleaner", "scopes": ["cache"]},
        ],
        "site__base_url": "/db",
    }
    with running(folder, kernels__enabled=True, **settings) as running_shim:
        yield running_shim


def log_in(shim: Shim, name: str) -> dict[str, str]:
    """The headers of somebody who has logged in."""
    body = json.dumps({"username": name, "password": "lovelace"}).encode()
    answer = shim("/db/login", "POST", body, content_type="application/json")
    cookies = [value.partition(";")[0] for key, value in answer.headers if key.lower() == "set-cookie"]
    return {"cookie": "; ".join(cookies)}


def test_only_the_owner_of_a_kernel_may_use_it(closed: Shim) -> None:
    ada, bob, ci = log_in(closed, "ada"), log_in(closed, "bob"), {"authorization": "token publisher"}
    visit = {"x_jupyter_session_id": "visit-1"}
    answer = send(closed, "/db/api/sessions", {"path": "/db/dashboards/x/"}, **ada, **visit)
    assert answer.status == 201
    session = answer.json()
    assert answer["location"] == f"/db/api/sessions/{session['id']}"
    kernel = f"/db/api/kernels/{session['kernel']['id']}"
    for other in (bob, ci):
        assert closed("/db/api/kernels", **other, **visit).json() == []
        assert websocket(closed, f"{kernel}/channels", **other) == 404
        for method, url in (
            ("GET", kernel),
            ("DELETE", kernel),
            ("POST", f"{kernel}/interrupt"),
            ("POST", f"{kernel}/restart"),
            ("GET", f"/db/api/sessions/{session['id']}"),
            ("PATCH", f"/db/api/sessions/{session['id']}"),
            ("DELETE", f"/db/api/sessions/{session['id']}"),
        ):
            assert closed(url, method, **other).status == 404
    assert [one["id"] for one in closed("/db/api/kernels", **ada).json()] == [session["kernel"]["id"]]
    assert closed(kernel, "DELETE", **ada).status == 204


def test_strangers_get_nothing(closed: Shim) -> None:
    for headers in ({}, {"authorization": "token garbage"}, {"authorization": "token cleaner"}):
        for url in (
            "/db/api/kernels",
            "/db/api/kernelspecs",
            "/db/api/me",
            "/db/api/nope",
            "/db/api/kernels/x/channels",
        ):
            assert closed(url, **headers).status == 401
        assert send(closed, "/db/api/kernels", {"path": "/x"}, **headers).status == 401
    assert websocket(closed, "/db/api/kernels/x/channels") == 401
    assert websocket(closed, "/db/api/kernels/x/channels?token=garbage") == 401


def test_a_token_that_may_publish_stands_for_a_login(closed: Shim) -> None:
    ci = {"authorization": "Bearer publisher"}
    assert closed("/db/api/me", **ci).json()["identity"]["username"] == "team"
    assert closed("/db/dashboards/x/", **ci).status == 401
    kernel = send(closed, "/db/api/kernels", {"path": "/x"}, **ci).json()
    url = f"/db/api/kernels/{kernel['id']}"
    assert closed(url).status == 401
    # Programs cannot set headers of WebSockets everywhere, so there the address may have the token; nowhere else.
    assert closed(f"{url}?token=publisher").status == 401
    assert websocket(closed, f"{url}x/channels?token=publisher") == 404
    assert closed(url, "DELETE", **ci).status == 204


def test_the_caller_is_who_logged_in(closed: Shim) -> None:
    assert closed("/db/api/me", **log_in(closed, "ada")).json()["identity"]["username"] == "ada"
