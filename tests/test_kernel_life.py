"""What a gateway is asked in the life of a kernel, and what becomes of kernels when it does not answer as it should."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import websocket
from dashboards import Answer, Shim, running, until
from gateways import Gateway, Payload, Request, Socket, recording
from making import code, markdown, notebook, write

from builder.errors import ConfigError
from shim.kernels import keeper, life, table, warm
from shim.kernels.claim import Claim
from shim.kernels.messages import Message, parse, serialise
from shim.kernels.records import Records, Remains, new_id
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


@contextmanager
def held(gateway: Gateway, method: str, pattern: str) -> Iterator[Callable[[], list[Request]]]:
    """Answer some requests only after the end of this; gives what lists them once they came."""
    before, over = len(gateway.requests), threading.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = gateway.requests[-1]
        while request.method == method and re.fullmatch(pattern, request.path) and not over.is_set():
            await asyncio.sleep(0.01)
        status, content = gateway._respond(request)
        body = json.dumps(content).encode() if content is not None else b""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writer.write(f"HTTP/1.1 {status} OK\r\nConnection: close\r\n{length}\r\n".encode() + body)
        await writer.drain()

    gateway.answer = answer
    try:
        yield lambda: [one for one in asked(gateway, method, pattern) if one in gateway.requests[before:]]
    finally:
        gateway.answer = None
        over.set()


def obeys(gateway: Gateway, most: int = 100) -> None:
    """Have it give kernels the ids that it is told, as current gateways do, and run `most` of them."""
    respond = gateway._respond

    def obeying(request: Request) -> tuple[int, Any]:
        if (request.method, request.path) != ("POST", "/api/kernels"):
            return respond(request)
        if len(gateway.kernels) >= most:
            return 403, {"message": "Resource Limit"}
        gateway.kernels[request.json["kernel_id"]] = "starting"
        return 201, gateway._model(request.json["kernel_id"])

    gateway._respond = obeying  # type: ignore[method-assign]


def runs_cells(socket: Socket, payload: Payload) -> None:
    """What a kernel says that runs a cell."""
    parent = parse(payload, True, trusted=True)
    for channel, kind, content in (
        ("shell", "execute_reply", {"status": "ok"}),
        ("iopub", "status", {"execution_state": "idle"}),
    ):
        socket.send(said_by_a_kernel(channel, kind, content, parent.header))


def said_by_a_kernel(channel: str, kind: str, content: dict[str, Any], parent: dict[str, Any]) -> Payload:
    header = {"msg_id": new_id(), "msg_type": kind, "session": "s", "username": "", "version": "5.3", "date": ""}
    return serialise(Message(channel, header, parent, {}, content), True)


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
    ids = [each.pop("kernel_id") for each in starts]
    assert starts == [{"env": {"KERNEL_ID": ids[0]}, "name": "python3"}, {"env": {"KERNEL_ID": ids[1]}}]
    assert len({*ids, kernel, other["id"]}) == 4
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
            gateway.wait(lambda: len(gateway.sockets) == before + 1)
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
    shim: Shim, gateway: Gateway, reply: tuple[int, Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "LATE_SECONDS", 0.0)
    gateway.replies["POST", "/api/kernels"] = reply
    answer = post(shim, "/api/kernels", {"path": "/x"})
    assert answer.status == status
    if status == 503:
        assert answer["retry-after"]
        assert answer.json()["queue"] == 1
    gateway.replies.clear()
    # It is healthy again after the next look.
    until(lambda: (again := post(shim, "/api/kernels", {"path": "/x"})).status == 201 and end(shim, again.json()["id"]))
    until(lambda: not remains(shim))


def remains(shim: Shim) -> list[Remains]:
    """What is recorded of kernels that are to be deleted."""
    with closing(State(shim.config.state_dir)) as state:
        return Records(state).remains()


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


def test_requests_that_a_gateway_does_not_answer_hold_some_workers_and_no_more(
    shim: Shim, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shim.live
    monkeypatch.setattr(shim.live.kernels, "_calls", threading.BoundedSemaphore(1))
    kernel = start(shim)
    (theirs,) = gateway.kernels
    with ThreadPoolExecutor(1) as pool:
        with held(gateway, "POST", ".*/interrupt") as waiting:
            first = pool.submit(post, shim, f"/api/kernels/{kernel}/interrupt")
            gateway.wait(waiting)
            for action in ("interrupt", "restart"):
                answer = post(shim, f"/api/kernels/{kernel}/{action}")
                assert (answer.status, answer.message.partition(";")[0]) == (503, "The kernel server has much to do")
                assert answer["retry-after"]
            assert end(shim, kernel) == 204
            assert shim(f"/api/kernels/{kernel}").status == 404
            # It is deleted all the same, a little later.
            gateway.wait(lambda: theirs not in gateway.kernels)
        assert first.result().status in (204, 502)


def test_a_kernel_restarts_once_at_a_time(shim: Shim, gateway: Gateway) -> None:
    kernel = start(shim)
    with ThreadPoolExecutor(1) as pool:
        with held(gateway, "POST", ".*/restart") as waiting:
            first = pool.submit(post, shim, f"/api/kernels/{kernel}/restart")
            gateway.wait(waiting)
            second = post(shim, f"/api/kernels/{kernel}/restart")
            assert (second.status, second.message) == (503, "The kernel is being restarted already; wait for that.")
        assert first.result().status == 200
    assert post(shim, f"/api/kernels/{kernel}/restart").status == 200
    assert end(shim, kernel) == 204


def test_a_kernel_whose_start_was_not_answered_is_deleted_when_it_appears(shim: Shim, gateway: Gateway) -> None:
    gateway.replies["POST", "/api/kernels"] = (504, {})
    assert post(shim, "/api/kernels", {"path": "/x"}).status == 502
    theirs = asked(gateway, "POST", "/api/kernels")[-1].json["kernel_id"]
    gateway.replies.clear()
    gateway.wait(lambda: len(asked(gateway, "DELETE", f"/api/kernels/{theirs}")) > 1)
    gateway.kernels[theirs] = "idle"
    gateway.wait(lambda: theirs not in gateway.kernels)
    until(lambda: not remains(shim))


def test_a_kernel_whose_start_was_not_answered_is_forgotten_when_it_does_not_appear(
    shim: Shim, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.replies["POST", "/api/kernels"] = (504, {})
    assert post(shim, "/api/kernels", {"path": "/x"}).status == 502
    gateway.replies.clear()
    gateway.wait(lambda: asked(gateway, "DELETE", f"/api/kernels/{remains(shim)[0].kernel}"))
    monkeypatch.setattr(life, "LATE_SECONDS", 0.0)
    until(lambda: not remains(shim))


def test_nothing_is_kept_of_a_start_that_was_refused(shim: Shim, gateway: Gateway) -> None:
    gateway.replies["POST", "/api/kernels"] = (404, {})
    assert post(shim, "/api/kernels", {"path": "/x"}).status == 502
    assert remains(shim) == []


def test_a_kernel_that_was_being_started_when_the_server_was_killed_is_deleted_by_the_next(tmp_path: Path) -> None:
    with recording() as gateway, ThreadPoolExecutor(1) as pool:
        with site(tmp_path / "killed", gateway) as shim, closing(State(shim.config.state_dir)) as state:
            with held(gateway, "POST", "/api/kernels") as waiting:
                answer = pool.submit(post, shim, "/api/kernels", {"path": "/x"})
                gateway.wait(waiting)
                # All that would be left of the server if it were killed now.
                left = state.read("SELECT * FROM kernels")
                looks = len(asked(gateway, "GET", "/api/kernelspecs"))
                gateway.wait(lambda: len(asked(gateway, "GET", "/api/kernelspecs")) > looks + 2)
                assert not asked(gateway, "DELETE", ".*"), "it is being started, and not to be deleted"
            assert answer.result().status == 201
        (request,) = asked(gateway, "POST", "/api/kernels")
        gateway.kernels[request.json["kernel_id"]] = "idle"
        with closing(State(tmp_path / "next" / "notebooks" / ".nbfolio")) as state:
            for row in left:
                state.write("INSERT INTO kernels VALUES (?, ?, ?, ?, ?)", row)
        with site(tmp_path / "next", gateway):
            gateway.wait(lambda: not gateway.kernels)


def test_a_server_that_stops_waits_for_starts_under_way_and_ends_their_kernels(tmp_path: Path) -> None:
    with recording() as gateway, ThreadPoolExecutor(2) as pool:
        obeys(gateway)
        with site(tmp_path, gateway) as shim:
            assert shim.live
            with held(gateway, "POST", "/api/kernels") as waiting:
                answer = pool.submit(post, shim, "/api/kernels", {"path": "/x"})
                gateway.wait(waiting)
                stopping = pool.submit(shim.live.keeper.stop)
                until(lambda: shim.live and shim.live.keeper._life.stopping)
            stopping.result()
            assert gateway.kernels == {}
            assert answer.result().status == 503
            with closing(State(shim.config.state_dir)) as state:
                assert (Records(state).running(), Records(state).remains()) == ([], [])


def test_of_two_servers_with_the_same_records_only_one_has_kernels(tmp_path: Path) -> None:
    with recording() as gateway:
        with site(tmp_path, gateway) as shim:
            kernel = start(shim)
            assert shim.live
            with pytest.raises(ConfigError, match=r"^Another run-shim looks after the kernels of .*; stop it first"):
                replace(shim.live, claim=Claim(shim.config.state_dir)).__enter__()
            assert shim(f"/api/kernels/{kernel}").status == 200
        with site(tmp_path, gateway) as shim:
            start(shim)


# Kernels that wait for readers


WARM = {"kernels__warm_min_free_mb": 0, "kernels__warm_paths": ["x"]}


def ready(shim: Shim, count: int = 1) -> bool:
    assert shim.live
    return shim.live.keeper._life.table.warm() == count


def test_a_kernel_that_began_anew_is_given_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "SOON_SECONDS", 0.1)
    with recording() as gateway:
        gateway.on_message = runs_cells
        with site(tmp_path, gateway, **WARM) as shim:
            until(lambda: ready(shim))
            (crashed,) = gateway.kernels
            gateway.wait(lambda: gateway.sockets[-1].pings > 2)
            assert list(gateway.kernels) == [crashed]
            news = {"execution_state": "restarting"}
            gateway.sockets[-1].send(said_by_a_kernel("iopub", "status", news, {}))
            gateway.wait(lambda: gateway.kernels and crashed not in gateway.kernels)
            until(lambda: ready(shim))
            # So is one of which nobody would hear that.
            (deaf,) = gateway.kernels
            gateway.sockets[-1].end()
            gateway.wait(lambda: gateway.kernels and deaf not in gateway.kernels)
            until(lambda: ready(shim))
            start(shim)
            # Who was given away is not listened to any more.
            gateway.wait(lambda: gateway.sockets[2].ended)


def test_a_kernel_that_says_what_nobody_can_read_does_not_keep_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "RETRY_SECONDS", 0.1)
    with recording() as gateway:
        gateway.handshake.protocol = None
        gateway.on_message = lambda socket, payload: socket.send_raw(b"\x81\x01\xff")
        with site(tmp_path, gateway, **WARM):
            gateway.wait(lambda: len(asked(gateway, "POST", "/api/kernels")) > 2)
            gateway.wait(lambda: len(asked(gateway, "DELETE", "/api/kernels/.*")) > 1)


def test_whatever_goes_wrong_while_a_kernel_is_prepared_it_does_not_keep_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "RETRY_SECONDS", 0.1)
    failures = [ZeroDivisionError("a mistake")]
    run = warm.Rehearsal.run

    def failing(self: warm.Rehearsal) -> Any:
        if failures:
            raise failures.pop()
        return run(self)

    monkeypatch.setattr(warm.Rehearsal, "run", failing)
    with recording() as gateway:
        gateway.on_message = runs_cells
        with site(tmp_path, gateway, **WARM) as shim:
            until(lambda: ready(shim))
            assert len(gateway.kernels) == 1
            assert len(asked(gateway, "DELETE", "/api/kernels/.*")) == 1


def test_a_reader_gets_the_place_of_a_warm_kernel_at_a_gateway_that_is_full(tmp_path: Path) -> None:
    with recording() as gateway:
        gateway.on_message = runs_cells
        obeys(gateway, most=1)
        with site(tmp_path, gateway, **WARM) as shim:
            until(lambda: ready(shim))
            (waiting,) = gateway.kernels
            kernel = start(shim, "/y")
            assert len(gateway.kernels) == 1 and waiting not in gateway.kernels
            answer = post(shim, "/api/kernels", {"path": "/y"})
            assert (answer.status, answer.json()["queue"]) == (503, 1)
            assert shim(f"/api/kernels/{kernel}").status == 200


def test_a_server_that_stops_ends_warm_kernels_together(tmp_path: Path) -> None:
    with recording() as gateway:
        gateway.on_message = runs_cells
        with site(tmp_path, gateway, **{**WARM, "kernels__warm_paths": ["x", "y"]}) as shim:
            until(lambda: ready(shim, 2))
            assert shim.live
            with ThreadPoolExecutor(1) as pool, held(gateway, "DELETE", "/api/kernels/.*") as waiting:
                pool.submit(shim.live.keeper.stop)
                gateway.wait(lambda: len({one.path for one in waiting()}) == 2)
                assert len(gateway.kernels) == 2
        assert gateway.kernels == {}


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
                Records(state).announce(record)
                Records(state).began(record)
        with site(tmp_path, gateway) as shim:
            with connected(shim, kernel):
                assert shim(f"/api/kernels/{kernel}").json()["connections"] == 1
            until(lambda: shim(f"/api/kernels/{lost}").status == 404)
            assert shim(f"/api/kernels/{kernel}").status == 200
        assert gateway.kernels == {}
