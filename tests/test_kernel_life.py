"""What a gateway is asked in the life of a kernel, and what becomes of kernels when it does not answer as it should."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket
from dashboards import Answer, Shim, running, until
from gateways import Gateway, Request, recording
from making import code, markdown, notebook, write

from shim.kernels import keeper, table
from shim.kernels.records import Records
from shim.state import State

EVIL = {"env": {"KERNEL_X": "1"}, "kernel_id": "00000000-0000-4000-8000-00000000dead", "name": "evil", "cwd": "/"}
SECRETS = {"cookie": "a=secret-of-the-reader", "authorization": "token secret-of-the-reader"}


@contextmanager
def site(folder: Path, gateway: Gateway, **settings: Any) -> Iterator[Shim]:
    """A server whose kernels are at that gateway, and which looks after them all the time."""
    write(folder / "notebooks", "x.ipynb", notebook(markdown("# Page"), code("1 + 1")))
    write(folder / "notebooks", "y.ipynb", notebook(code("1 + 1"), kernelspec={}))
    gateway.token = "secret-of-the-gateway"
    at = {"name": "main", "url": gateway.url, "token": gateway.token}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "PROBE_SECONDS", 0.1)
        with running(folder, kernels__enabled=True, kernels__gateway=[at], **settings) as shim:
            yield shim


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with recording() as running_gateway:
        yield running_gateway


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Shim]:
    with site(tmp_path_factory.mktemp("site"), gateway, kernels__retention=1, kernels__max_per_address=20) as one:
        yield one


@pytest.fixture(autouse=True)
def _as_ever(gateway: Gateway) -> Iterator[None]:
    """Every test begins with a gateway that works and has no kernels."""
    yield
    gateway.replies.clear()
    gateway.kernels.clear()


def post(shim: Shim, url: str, fields: Any = None, **headers: str) -> Answer:
    body = json.dumps(fields or {}).encode()
    return shim(url, "POST", body, content_type="text/plain", **headers)


def start(shim: Shim, path: str = "/x") -> str:
    answer = post(shim, "/api/kernels", {"path": path})
    assert answer.status == 201, answer.text
    kernel: str = answer.json()["id"]
    return kernel


def end(shim: Shim, kernel: str) -> int:
    return shim(f"/api/kernels/{kernel}", "DELETE").status


def asked(gateway: Gateway, method: str, pattern: str) -> list[Request]:
    return [one for one in gateway.requests if one.method == method and re.fullmatch(pattern, one.path)]


def connect(shim: Shim, kernel: str, session: str = "visit") -> websocket.WebSocket:
    url = f"ws://127.0.0.1:{shim.server.port}/api/kernels/{kernel}/channels?session_id={session}"
    return websocket.create_connection(url, timeout=60, cookie="a=secret-of-the-reader", header=["X-Evil: evil"])


@contextmanager
def connected(shim: Shim, kernel: str, session: str = "visit") -> Iterator[websocket.WebSocket]:
    connection = connect(shim, kernel, session)
    with closing(connection.sock), closing(connection):
        yield connection


def closed(connection: websocket.WebSocket) -> int:
    """The code with which the server closes a connection."""
    while True:
        opcode, data = connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big")


# What the gateway is asked


def test_nothing_that_clients_send_reaches_the_gateway(shim: Shim, gateway: Gateway) -> None:
    before = len(gateway.requests)
    session = post(shim, "/api/sessions", {"path": "/x", "kernel": EVIL, **EVIL}, **SECRETS).json()
    other = post(shim, "/api/kernels", {"path": "/y", **EVIL}, **SECRETS).json()
    kernel = session["kernel"]["id"]
    for action in ("interrupt", "restart"):
        assert post(shim, f"/api/kernels/{kernel}/{action}?evil=1", EVIL, **SECRETS).status in (200, 204)
    with connected(shim, kernel, "my-session"):
        pass
    assert [end(shim, one) for one in (kernel, other["id"])] == [204, 204]
    sent = gateway.requests[before:]
    starts = [one.json for one in sent if one.method == "POST" and one.path == "/api/kernels"]
    assert starts == [{"env": {}, "name": "python3"}, {"env": {}}]
    for one in sent:
        text = (one.head + one.body).decode()
        for secret in ("secret-of-the-reader", "evil", "KERNEL_X", "dead", "my-session", kernel, "Cookie", "Origin"):
            assert secret not in text, text
        assert one.headers["authorization"] == "token secret-of-the-gateway"


def test_nothing_of_the_gateway_reaches_clients(shim: Shim, gateway: Gateway) -> None:
    answer = post(shim, "/api/kernels", {"path": "/x"})
    theirs = set(gateway.kernels)
    shown = [answer, shim(f"/api/kernels/{answer.json()['id']}"), shim("/api/kernelspecs")]
    end(shim, answer.json()["id"])
    assert len(theirs) == 1
    for one in shown:
        text = str(one.headers) + one.text
        assert not [word for word in (*theirs, str(gateway.port), "secret") if word in text]


def test_the_same_client_is_the_same_session_and_others_are_others(shim: Shim, gateway: Gateway) -> None:
    def session(kernel: str, name: str) -> str:
        before = len(gateway.sockets)
        with connected(shim, kernel, name):
            pass
        assert len(gateway.sockets) == before + 1
        return gateway.sockets[-1].request.query["session_id"][0]

    one, two = start(shim), start(shim)
    sessions = [session(one, "a"), session(one, "b"), session(two, "a"), session(one, ""), session(one, "")]
    assert len(set(sessions)) == 5
    assert session(one, "a") == sessions[0]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in sessions)
    assert [end(shim, one), end(shim, two)] == [204, 204]


# Gateways in trouble


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((500, {"message": 'Traceback File "x.py"'}), 502),
        ((403, {"message": "Forbidden"}), 502),
        ((403, {"message": "Resource Limit"}), 503),
        ((201, {"id": "../../x", "execution_state": "idle"}), 502),
        ((201, {"id": 1}), 502),
        ((201, b"[" * 5000), 502),
        ((503, {}), 502),
    ],
)
def test_a_gateway_that_starts_no_kernel_is_told_in_a_sentence(
    shim: Shim, gateway: Gateway, reply: tuple[int, Any], status: int
) -> None:
    gateway.replies["POST", "/api/kernels"] = reply
    answer = post(shim, "/api/kernels", {"path": "/x"})
    assert answer.status == status
    if status == 503:
        assert answer["retry-after"]
        assert answer.json()["queue"] == 1
    gateway.replies.clear()
    # It is healthy again after the next look.
    until(lambda: (again := post(shim, "/api/kernels", {"path": "/x"})).status == 201 and end(shim, again.json()["id"]))


def test_what_cannot_be_deleted_is_gone_for_its_reader_and_deleted_later(shim: Shim, gateway: Gateway) -> None:
    kernel = start(shim)
    (theirs,) = gateway.kernels
    gateway.replies["DELETE", f"/api/kernels/{theirs}"] = (500, {})
    assert end(shim, kernel) == 204
    assert shim(f"/api/kernels/{kernel}").status == 404
    assert theirs in gateway.kernels
    gateway.replies.clear()
    gateway.wait(lambda: theirs not in gateway.kernels)


def test_a_kernel_that_the_gateway_lost_is_noticed(shim: Shim, gateway: Gateway) -> None:
    kernel = start(shim)
    with connected(shim, kernel) as connection:
        gateway.kernels.clear()
        assert closed(connection) == 4404
    assert shim(f"/api/kernels/{kernel}").status == 404


def test_kernels_of_a_gateway_without_a_list_are_looked_at_one_by_one(shim: Shim, gateway: Gateway) -> None:
    gateway.replies["GET", "/api/kernels"] = (403, {"message": "Forbidden"})
    kernel = start(shim)
    (theirs,) = gateway.kernels
    with connected(shim, kernel) as connection:
        gateway.wait(lambda: asked(gateway, "GET", f"/api/kernels/{theirs}"))
        gateway.kernels.clear()
        assert closed(connection) == 4404


def test_kernels_of_a_gateway_that_stays_away_are_given_up(shim: Shim, gateway: Gateway) -> None:
    kernel = start(shim)
    with connected(shim, kernel) as connection:
        gateway.replies["GET", "/api/kernelspecs"] = (502, {})
        assert closed(connection) == 4404
    assert shim(f"/api/kernels/{kernel}").status == 404
    assert post(shim, "/api/kernels", {"path": "/x"}).status == 502
    gateway.replies.clear()
    # It is not forgotten that this one is to be deleted.
    gateway.wait(lambda: not gateway.kernels)
    until(lambda: (again := post(shim, "/api/kernels", {"path": "/x"})).status == 201 and end(shim, again.json()["id"]))


# The end of kernels


def test_a_kernel_that_nobody_connects_to_ends(shim: Shim, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LEAST_UNCONNECTED", 0.0)
    kernel = start(shim)
    gateway.wait(lambda: not gateway.kernels)
    assert shim(f"/api/kernels/{kernel}").status == 404


def test_a_kernel_has_a_number_of_sockets_at_most(
    shim: Shim, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.kernels.kernels.MOST_SOCKETS", 2)
    kernel = start(shim)
    with connected(shim, kernel, "a"), connected(shim, kernel, "b"):
        assert shim(f"/api/kernels/{kernel}").json()["connections"] == 2
        request = (
            f"GET /api/kernels/{kernel}/channels HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", shim.server.port)) as third:
            third.sendall(request.encode())
            assert third.recv(100).startswith(b"HTTP/1.1 503 ")
    assert end(shim, kernel) == 204


def test_a_server_that_stops_ends_its_kernels_or_leaves_that_to_the_next(tmp_path: Path) -> None:
    with recording() as gateway:
        with site(tmp_path, gateway) as shim:
            start(shim)
            stubborn = start(shim)
            _, two = gateway.kernels
            gateway.replies["DELETE", f"/api/kernels/{two}"] = (500, {})
        assert list(gateway.kernels) == [two]
        gateway.replies.clear()
        with site(tmp_path, gateway) as shim:
            assert shim(f"/api/kernels/{stubborn}").status == 404
            gateway.wait(lambda: not gateway.kernels)


def test_kernels_of_a_killed_server_are_found_again(tmp_path: Path) -> None:
    with recording() as gateway:
        with site(tmp_path, gateway) as shim:
            kernel = start(shim)
            lost = start(shim)
            # As if the server had been killed here.
            with closing(State(shim.config.state_dir)) as state:
                kept = Records(state).running()
        gateway.kernels = {kept[0].kernel: "idle"} if kept[0].id == kernel else {kept[1].kernel: "idle"}
        with closing(State(shim.config.state_dir)) as state:
            for record in kept:
                Records(state).keep(record)
        with site(tmp_path, gateway) as shim:
            with connected(shim, kernel):
                assert shim(f"/api/kernels/{kernel}").json()["connections"] == 1
            until(lambda: shim(f"/api/kernels/{lost}").status == 404)
            assert shim(f"/api/kernels/{kernel}").status == 200
        assert gateway.kernels == {}
