"""Open files are promised once: web server and WebSockets share what the system allows."""

from __future__ import annotations

import resource
from contextlib import closing
from pathlib import Path

import pytest

from builder.config import load_config
from shim.background import Finished
from shim.capacity import MOST_REQUESTS, MOST_WEBSOCKETS, OTHER_FILES, Capacity, capacity
from shim.kernels.live import Live
from shim.metrics import Metrics
from shim.server import Server
from shim.state import State
from shim.tokens import Tokens


def allow(patch: pytest.MonkeyPatch, files: int) -> None:
    """Let so many files be open."""
    patch.setattr(resource, "getrlimit", lambda which: (files, files))


@pytest.mark.parametrize("files", [512, 1024, 4096, 5000, 20_000, 1 << 20])
def test_no_more_files_are_promised_than_may_be_open(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    allow(monkeypatch, files)
    requests, websockets = capacity()
    assert requests > 100 and websockets > 50
    assert requests + 2 * websockets + OTHER_FILES <= files


def test_there_is_a_most_where_files_are_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    most = Capacity(MOST_REQUESTS, MOST_WEBSOCKETS)
    for files in (resource.RLIM_INFINITY, 1 << 20):
        allow(monkeypatch, files)
        assert capacity() == most


def test_few_files_are_enough_for_a_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 64)
    assert capacity() == (16, 8)


def test_the_parts_of_the_server_take_their_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = load_config(tmp_path, None, {}, {"kernels.enabled": True})
    allow(monkeypatch, OTHER_FILES + 400)
    with closing(State(config.state_dir)) as state:
        live = Live.make(config, Finished(config), state, Metrics(), Tokens(config.auth))
        assert live.relay._most == 100
    server = Server(lambda environ, start_response: [], "127.0.0.1", 0)
    assert server._server.adj.connection_limit == 200
    server.stop()
    server.run()
