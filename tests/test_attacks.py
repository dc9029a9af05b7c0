"""What attackers tried with success: each test fails for as long as its hole is open."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from argon2 import PasswordHasher
from dashboards import BOUNDARY, Part, Shim, exchange, form, page_of, parsed, running, zipped
from making import write

from builder.config import Config, load_config
from builder.errors import UnsafePathError
from builder.settings import User
from shim.accounts import Accounts
from shim.app import Parts, create_app, parts_of
from shim.background import Finished
from shim.metrics import Metrics
from shim.names import dashboard_name
from shim.server import THREADS, Server
from shim.state import State

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from builder.bodies import Candidate
    from builder.report import PageReport

PATIENCE = 10
"""Seconds after which a server that does not answer a reader counts as stopped; one that works takes milliseconds."""
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
QUICK_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("right")


@contextmanager
def serving(app: WSGIApplication) -> Iterator[Server]:
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)


def is_answered(port: int, request: bytes) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        try:
            return connection.recv(64).startswith(b"HTTP/1.1 200")
        except TimeoutError:
            return False


class Stuck(Finished):
    """A builder that is busy with something long."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.free = threading.Event()
        self.entered = threading.Semaphore(0)

    def try_out(self, candidate: Candidate) -> str:
        self._wait()
        return "is not tried out here"

    def rebuild(self, path: str | None) -> None:
        self._wait()

    def refresh(self, hints: Iterable[str]) -> dict[str, PageReport]:
        return {}

    def _wait(self) -> None:
        self.entered.release()
        assert self.free.wait(60)


def built_of(folder: Path, **overrides: Any) -> Config:
    write(folder, "a.ipynb", page_of("# A"))
    return load_config(folder, None, {}, {name.replace("__", "."): value for name, value in overrides.items()})


# Workers belong to readers


def test_clients_that_ask_for_much_and_read_nothing_hold_no_worker(tmp_path: Path) -> None:
    """Waitress lets a worker wait where more than 16 MB are unsent; for such a client it would wait forever."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(32 << 20)
    asked = threading.Semaphore(0)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
        asked.release()
        start_response("200 OK", [("Content-Length", str(32 << 20))])
        content: Iterable[bytes] = environ["wsgi.file_wrapper"](large.open("rb"))
        return content

    with serving(app) as server, ExitStack() as stack:
        for _ in range(THREADS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        # A server that answers one request of a connection after the other never gets to the second ones.
        for number in range(2 * THREADS):
            if not asked.acquire(timeout=PATIENCE if number < THREADS else 1):
                break
        assert is_answered(server.port, HEALTH)


def flooded(app: WSGIApplication, stuck: Stuck, request: bytes, working: int) -> bool:
    """Whether a reader is answered while twice as many such requests wait as there are workers."""
    with serving(app) as server, ThreadPoolExecutor(2 * THREADS) as pool:
        waiting = [pool.submit(exchange, server.port, request) for _ in range(2 * THREADS)]
        try:
            for _ in range(working):
                assert stuck.entered.acquire(timeout=PATIENCE)
            return is_answered(server.port, HEALTH)
        finally:
            stuck.free.set()
            for one in waiting:
                one.result(60)


def test_many_who_clear_the_cache_leave_workers_for_readers(tmp_path: Path) -> None:
    config = built_of(tmp_path)
    stuck = Stuck(config)
    app = create_app(parts_of(config, stuck, Metrics()))
    request = b"DELETE /_api/cache HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert flooded(app, stuck, request, working=1)


def test_uploads_that_wait_for_others_leave_workers_for_readers(tmp_path: Path) -> None:
    config = built_of(tmp_path)
    stuck = Stuck(config)
    app = create_app(parts_of(config, stuck, Metrics()))
    body = form(Part("file", page_of("# B"), "b.ipynb"))
    head = (
        "POST /_api/notebooks/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert flooded(app, stuck, head.encode() + body, working=1)


class Watched(Accounts):
    """Accounts whose passwords nobody can check before `free` is set."""

    def __init__(self, users: Iterable[User]) -> None:
        super().__init__(users, at_once=1, patience=60)
        self._turns.acquire()
        self.asked = threading.Semaphore(0)

    def free(self) -> None:
        self._turns.release()

    def check(self, name: str, password: str) -> bool:
        self.asked.release()
        return super().check(name, password)


@contextmanager
def with_logins(folder: Path) -> Iterator[tuple[Parts, Watched]]:
    """The parts of a site with one user, whose password is quick to check once it can be checked."""
    user = User(name="ada", password_hash=QUICK_HASH)
    config = built_of(folder)
    config = msgspec.structs.replace(config, auth=msgspec.structs.replace(config.auth, user=(user,)))
    watched = Watched([user])
    with closing(State(config.state_dir)) as state:
        parts = parts_of(config, Finished(config), Metrics(), state)
        assert parts.logins
        yield replace(parts, logins=replace(parts.logins, accounts=watched)), watched


def test_strangers_who_try_passwords_leave_workers_for_readers(tmp_path: Path) -> None:
    with with_logins(tmp_path) as (parts, accounts), serving(create_app(parts)) as server:
        requests = []
        for number in range(2 * THREADS):
            # Different names: of one the throttle would let in ten.
            body = json.dumps({"username": f"ada{number}", "password": "wrong"})
            head = "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
            requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        with ThreadPoolExecutor(len(requests)) as pool:
            waiting = [pool.submit(exchange, server.port, request) for request in requests]
            try:
                for number in range(THREADS):
                    if not accounts.asked.acquire(timeout=1 if number else PATIENCE):
                        break
                assert is_answered(server.port, HEALTH)
            finally:
                accounts.free()
                for one in waiting:
                    one.result(60)


# What strangers must not learn


@pytest.mark.parametrize(
    "name", ["metrics/sales", "login/sales", "logout/sales", "healthz/sales", "openapi.json/sales"]
)
def test_strangers_do_not_learn_which_pages_there_are_below_names_of_open_routes(tmp_path: Path, name: str) -> None:
    with with_logins(tmp_path) as (parts, _):
        write(parts.config.output, f"dashboards/{name}/index.html", b"<!doctype html>")
        answers = []
        with serving(create_app(parts)) as server:
            for path in (name, f"{name}-not"):
                request = f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                answers.append(parsed(exchange(server.port, request.encode())).status)
        assert answers[0] == answers[1]


def test_entity_tags_show_no_inode_numbers(tmp_path: Path) -> None:
    config = built_of(tmp_path)
    page = write(config.output, "dashboards/a/index.html", b"<!doctype html>")
    with serving(create_app(parts_of(config, Finished(config), Metrics()))) as server:
        request = b"GET /dashboards/a/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        headers = parsed(exchange(server.port, request)).headers
    etag = next(value for name, value in headers if name.lower() == "etag")
    numbers = {int(word[0], 16) for word in re.finditer("[0-9a-f]+", etag)}
    assert page.stat().st_ino not in numbers
    assert page.stat().st_ctime_ns not in numbers


# The API is open to this machine alone


@pytest.mark.parametrize("mark", ["X-Forwarded-For: 192.0.2.7", "Via: 1.1 proxy", "Forwarded: for=192.0.2.7"])
def test_without_tokens_requests_of_a_proxy_change_nothing(tmp_path: Path, mark: str) -> None:
    config = built_of(tmp_path)
    with serving(create_app(parts_of(config, Finished(config), Metrics()))) as server:
        head = f"DELETE /_api/cache HTTP/1.1\r\nHost: localhost\r\n{mark}\r\nConnection: close\r\n\r\n"
        assert parsed(exchange(server.port, head.encode())).status in (401, 403)


# Uploads


@pytest.mark.parametrize("name", ["site.toml/x", "folder.toml/x", "a/folder.toml/x"])
def test_no_upload_makes_a_folder_with_the_name_of_a_settings_file(name: str) -> None:
    """The next start would end with "site.toml: Is a directory"."""
    with pytest.raises(UnsafePathError):
        dashboard_name(name)


@pytest.mark.parametrize("setting", ["build__output", "server__state_dir"])
@pytest.mark.parametrize("how", ["delete", "replace"])
def test_a_bundle_around_the_site_or_its_records_is_not_taken_away(tmp_path: Path, setting: str, how: str) -> None:
    inside = tmp_path / "notebooks" / "reports"
    overrides: dict[str, Any] = {setting: inside / "inner"}
    write(inside, "index.ipynb", page_of("# Reports"))
    with running(tmp_path, **overrides) as shim:
        kept = (shim.config.output, shim.config.state_dir)
        before = [path.stat().st_ino for path in kept]
        answer = shim.delete("reports") if how == "delete" else shim.upload("reports", page_of("# New"))
        assert answer.status in (400, 409)
        assert [path.exists() and path.stat().st_ino for path in kept] == before


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    with running(tmp_path_factory.mktemp("small"), server__max_upload_mb=1) as shim:
        yield shim


def test_the_notebook_in_a_zip_is_no_larger_than_one_that_is_uploaded_as_it_is(small: Shim) -> None:
    """Otherwise 1 MB of ZIP becomes 500 MB that are read, copied, sent to a renderer and parsed."""
    content = zipped(("index.ipynb", page_of("".join(f"{number:x}" for number in range(5000)) * 200)))
    assert len(content) < 1 << 20
    assert small.upload("large", content).status == 422


# Framing


@pytest.mark.parametrize("length", ["", "Content-Length: 5\r\n"])
def test_a_body_in_chunks_is_no_further_request_when_the_version_knows_no_chunks(tmp_path: Path, length: str) -> None:
    """RFC 9112, section 6.1: such a message has faulty framing; nothing after it may be believed."""
    config = built_of(tmp_path)
    hidden = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head = (
        f"POST /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n{length}Transfer-Encoding: chunked\r\n\r\n"
    )
    with serving(create_app(parts_of(config, Finished(config), Metrics()))) as server:
        answers = exchange(server.port, f"{head}0\r\n\r\n{hidden}".encode())
    assert answers.count(b"HTTP/1.") == 1
