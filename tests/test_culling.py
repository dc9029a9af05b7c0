"""Which instances count as idle, and that nothing else does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.instances.backend import Door, Observed
from shim.instances.culling import Culler, Kernel, ServerStatus, last_used
from shim.instances.records import EnvironmentSpec, Instance, NotebookSpec

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=5)


def at(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize("state", ["busy", "starting", "restarting"])
def test_a_kernel_that_computes_is_in_use(state: str) -> None:
    assert last_used(ServerStatus(EARLIER), [Kernel(EARLIER, "idle"), Kernel(EARLIER, state)], NOW) == NOW


def test_a_page_that_is_connected_is_in_use() -> None:
    assert last_used(ServerStatus(EARLIER), [Kernel(EARLIER, "idle", 1)], NOW) == NOW
    assert last_used(ServerStatus(EARLIER, 1), [], NOW) == NOW


@given(st.lists(st.datetimes(), max_size=5))
def test_else_the_last_thing_that_was_done_counts(moments: list[datetime]) -> None:
    used = last_used(ServerStatus(EARLIER), [Kernel(moment, "idle") for moment in moments], NOW)
    assert used == max([EARLIER, *(moment.replace(tzinfo=UTC) for moment in moments)])


class Jupyter:
    """What an instance answers, as a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/api/status": (200, {"last_activity": at(5), "connections": 0, "kernels": 0, "started": at(6)}),
            "/api/kernels": (200, []),
        }
        self.asked: list[str] = []


@contextmanager
def answering(jupyter: Jupyter) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            jupyter.asked.append(f"{self.path} {self.headers.get('Authorization')}")
            status, content = jupyter.answers[self.path.partition("?")[0]]
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class OneInstance:
    """A backend whose one instance runs at an address."""

    def __init__(self, url: str) -> None:
        spec = NotebookSpec("x", "default", "ada", EnvironmentSpec("e", "i"), "cpu=1,memory=1Gi")
        self.instance = Instance("notebook_1_0001", "notebook-1-0001-x", spec, 0.0)
        self.url = url
        self.stopped: list[str] = []

    def all(self) -> list[Instance]:
        return [self.instance]

    def observe(self, instance: Instance) -> Observed:
        return Observed("stopped" if self.stopped else "running", "")

    def inner_door(self, instance: Instance) -> Door:
        return Door(self.url, "its-token")

    def stop(self, instance: Instance, why: str) -> None:
        self.stopped.append(why)


def looked(jupyter: Jupyter, hours_seen: float = 2.0) -> list[str]:
    """Why the instance was stopped by a culler that has seen it for some hours and allows one."""
    with answering(jupyter) as url:
        backend, clock = OneInstance(url), [datetime.now(UTC).timestamp() - 3600 * hours_seen]
        culler = Culler(backend, 60, lambda: clock[0])  # type: ignore[arg-type]
        culler.look()
        assert not backend.stopped
        clock[0] += 3600 * hours_seen
        culler.look()
    return backend.stopped


def test_an_instance_that_nobody_uses_is_stopped_and_the_question_is_no_use() -> None:
    jupyter = Jupyter()
    assert looked(jupyter) == ["It was idle for 60 minutes"]
    assert {one.partition(" ")[2] for one in jupyter.asked} == {"token its-token"}
    assert all("no_track_activity=1" in one for one in jupyter.asked)


def test_an_instance_that_just_started_is_not_idle() -> None:
    assert looked(Jupyter(), 0.5) == []


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/kernels", (200, [{"last_activity": at(5), "execution_state": "busy"}])),
        ("/api/kernels", (200, [{"last_activity": at(0.1), "execution_state": "idle"}])),
        ("/api/kernels", (200, [{"last_activity": at(5), "execution_state": "idle", "connections": 1}])),
        ("/api/status", (200, {"last_activity": at(0.5)})),
    ],
)
def test_an_instance_in_use_is_left_alone(path: str, answer: tuple[int, Any]) -> None:
    jupyter = Jupyter()
    jupyter.answers[path] = answer
    assert looked(jupyter) == []


@pytest.mark.parametrize("path", ["/api/kernels", "/api/status"])
@pytest.mark.parametrize(
    "answer", [(403, {}), (500, b"x"), (302, {}), (200, b"nonsense"), (200, {}), (200, b"[" * 9**6)]
)
def test_an_instance_that_does_not_say_what_goes_on_is_left_alone(
    path: str, answer: tuple[int, Any], caplog: pytest.LogCaptureFixture
) -> None:
    jupyter = Jupyter()
    jupyter.answers[path] = answer
    with caplog.at_level(logging.WARNING, "shim.instances"):
        assert looked(jupyter) == []
    assert "'notebook-1-0001-x' does not say what goes on in it" in caplog.text
    assert "its-token" not in caplog.text


def test_an_instance_that_cannot_be_reached_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with answering(Jupyter()) as url:
        pass
    backend = OneInstance(url)
    clock = [0.0]
    culler = Culler(backend, 60, lambda: clock[0])  # type: ignore[arg-type]
    culler.look()
    clock[0] = 10**6
    culler.look()
    assert backend.stopped == []
    assert "does not say what goes on in it" in caplog.text
