"""WebSockets of readers whose login ends while they are open."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import gateways
import pytest
from argon2 import PasswordHasher
from dashboards import Shim, running, until
from gateways import Client, Gateway, Socket, recording
from making import code, notebook, write
from wsproto.events import Ping

from shim.kernels import connection as connection_module
from shim.kernels import live as live_module
from shim.kernels.relay import Relay
from shim.state import State, StateError

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("lovelace")
BEAT = 0.1
"""Seconds between two looks at the login, instead of half a minute."""
PROXY = {"x_forwarded_user": "eve"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with recording() as running_gateway:
        yield running_gateway


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Shim]:
    """A server where people log in, or a proxy says who they are."""
    folder = tmp_path_factory.mktemp("site")
    write(folder / "notebooks", "x.ipynb", notebook(code("1 + 1")))
    settings: dict[str, Any] = {
        "auth__user": [{"name": name, "password_hash": HASH} for name in ("ada", "bob")],
        "auth__token": [{"name": "ci", "value": "publisher", "scopes": ["publish"], "owner": "team"}],
        "auth__user_header": "X-Forwarded-User",
        "server__trusted_proxies": ["127.0.0.1"],
        "kernels__gateway": [{"name": "main", "url": gateway.url}],
        "kernels__max_per_address": 50,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "Relay", partial(Relay, idle_ping=BEAT))
        # Clients of a test wait for each other.
        patch.setattr(connection_module, "SILENT_BEATS", 1_000)
        with running(folder, kernels__enabled=True, **settings) as running_shim:
            yield running_shim


@pytest.fixture
def records(shim: Shim) -> Iterator[State]:
    """What the server remembers of logins, as another program has it open."""
    with closing(State(shim.config.state_dir)) as state:
        yield state


def log_in(shim: Shim, name: str = "ada") -> dict[str, str]:
    """The headers of somebody who has logged in."""
    body = json.dumps({"username": name, "password": "lovelace"}).encode()
    answer = shim("/login", "POST", body, content_type="application/json")
    return {"cookie": "; ".join(value.partition(";")[0] for key, value in answer.headers if key == "Set-Cookie")}


def log_out(shim: Shim, login: dict[str, str]) -> None:
    assert shim("/logout", "POST", **login).status == 204


@contextmanager
def connected(shim: Shim, gateway: Gateway, login: dict[str, str]) -> Iterator[tuple[Client, Socket]]:
    """Both ends of a WebSocket of a new kernel."""
    answer = shim("/api/kernels", "POST", b'{"path": "/x"}', content_type="text/plain", **login)
    assert answer.status == 201, answer.text
    url = f"/api/kernels/{answer.json()['id']}"
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in login.items()]
    before = len(gateway.sockets)
    with gateways.connected(shim.server.port, f"{url}/channels", *lines) as client:
        assert client.status == 101, client.answer
        yield client, gateway.socket(before)
    shim(url, "DELETE", **login)


def beats(client: Client, count: int) -> None:
    """Wait for signs of life that the server asks for, as idle pages do."""
    while count:
        event = client.event()
        assert isinstance(event, Ping)
        client.send_event(event.response())
        count -= 1


def end(client: Client) -> int | None:
    """The code with which the server closes a WebSocket, which it must after some beats; None without one."""
    for _ in range(100):
        event = client.event()
        if not isinstance(event, Ping):
            return client.closed
        client.send_event(event.response())
    raise AssertionError("it stays open")


def change(records: State, what: str, *parameters: Any) -> None:
    assert records.write(f"UPDATE sessions SET {what} WHERE user = 'ada'", parameters)


def seen(records: State) -> float:
    ((when,),) = records.read("SELECT seen FROM sessions WHERE user = 'ada'")
    return float(when)


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(records: State) -> Iterator[None]:
    yield
    records.write("DELETE FROM sessions")


ENDS: dict[str, Callable[[Shim, dict[str, str], State], object]] = {
    "logged out": lambda shim, login, records: log_out(shim, login),
    "logged in anew": lambda shim, login, records: shim(
        "/login", "POST", b'{"username": "ada", "password": "lovelace"}', content_type="application/json", **login
    ),
    "nobody came": lambda shim, login, records: change(records, "seen = 1"),
    "it was long ago": lambda shim, login, records: change(records, "began = 1"),
    "another password": lambda shim, login, records: change(records, "fingerprint = 'of another one'"),
    "no such user": lambda shim, login, records: change(records, "user = 'zoe'"),
    "revoked": lambda shim, login, records: records.write("DELETE FROM sessions WHERE user = 'ada'"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_websocket_ends_with_the_login(shim: Shim, gateway: Gateway, records: State, how: str) -> None:
    login = log_in(shim)
    with connected(shim, gateway, login) as (client, upstream):
        beats(client, 2)
        ENDS[how](shim, login, records)
        assert end(client) == 4401
        gateway.wait(lambda: upstream.ended)
        assert upstream.closed == 1001


def test_other_logins_tokens_and_people_known_to_a_proxy_keep_their_websockets(shim: Shim, gateway: Gateway) -> None:
    login = log_in(shim)
    others = [log_in(shim), log_in(shim, "bob"), {"authorization": "token publisher"}, PROXY]
    with ExitStack() as stack:
        client, _ = stack.enter_context(connected(shim, gateway, login))
        pairs = [stack.enter_context(connected(shim, gateway, other)) for other in others]
        log_out(shim, login)
        assert end(client) == 4401
        for other, _ in pairs:
            beats(other, 3)
        assert not any(upstream.ended for _, upstream in pairs)


def test_only_readers_who_do_something_stay_logged_in(shim: Shim, gateway: Gateway, records: State) -> None:
    with connected(shim, gateway, log_in(shim)) as (client, _):
        earlier = time.time() - 3600
        change(records, "seen = ?", earlier)
        beats(client, 4)
        assert seen(records) == earlier
        client.send("anything")
        until(lambda: seen(records) > earlier)
        change(records, "seen = ?", earlier)
        beats(client, 4)
        assert seen(records) == earlier


def test_a_login_that_cannot_be_checked_ends_the_websocket_and_no_others(
    shim: Shim, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, broken = State.read, threading.Event()

    def fail(state: State, sql: str, parameters: Any = ()) -> Any:
        if broken.is_set() and "FROM sessions" in sql:
            raise StateError("The records are damaged.")
        return read(state, sql, parameters)

    monkeypatch.setattr(State, "read", fail)
    login = log_in(shim)
    with (
        connected(shim, gateway, {"authorization": "token publisher"}) as (other, _),
        connected(shim, gateway, login) as (client, _),
    ):
        broken.set()
        # Without a code that says to give up: its page comes back, and is let in or not.
        assert end(client) is None
        beats(other, 3)
        broken.clear()
        with connected(shim, gateway, login) as (again, _):
            beats(again, 3)
    assert caplog.text.count("the login could not be checked") == 1
