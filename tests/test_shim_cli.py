"""run-shim as a program: first line, signals, exit codes, and settings with which it does not start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builder.config import load_config
from builder.errors import OutputError
from builder.hints import Stopper
from shim.background import BackgroundBuilder, Finished
from shim.startup import is_loopback, startup_problems

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA"


def environment() -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}


def run_shim(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The outcome of a run that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "shim", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment(), **(env or {})},
    )


@contextmanager
def serving(*args: str, own_group: bool = False) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running program and the address it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shim", *args, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=own_group,
    )
    assert process.stdout
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def fetch(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of a page."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a built site of one page."""
    (tmp_path / "_site").mkdir()
    (tmp_path / "_site" / "index.html").write_text("<h1>Hello</h1>")
    return tmp_path


def write_notebook(path: Path, text: str) -> None:
    """A notebook with one Markdown cell, put in its place in one step."""
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": text}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(notebook))
    temporary.replace(path)


def test_it_builds_serves_what_is_built_and_keeps_up_with_the_folder(tmp_path: Path) -> None:
    write_notebook(tmp_path / "one.ipynb", "First text")
    with serving(str(tmp_path), own_group=True) as (process, address):
        assert process.stderr
        assert fetch(address, "/healthz")[0] == 200
        assert "built 1" in process.stderr.readline()
        status, body = fetch(address, "/dashboards/one/")
        assert (status, b"First text" in body) == (200, True)
        write_notebook(tmp_path / "one.ipynb", "Second text")
        assert "built 1" in process.stderr.readline()
        assert b"Second text" in fetch(address, "/dashboards/one/")[1]
        assert fetch(address, "/readyz")[0] == 200
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the renderers, too
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_folder_of_somebody_else_as_output_is_left_alone_and_said(tmp_path: Path) -> None:
    write_notebook(tmp_path / "one.ipynb", "Text")
    (tmp_path / "_site").mkdir()
    (tmp_path / "_site" / "index.html").write_text("Mine")
    with serving(str(tmp_path)) as (process, address):
        assert process.stderr
        assert "The site is not kept up to date" in process.stderr.readline()
        assert fetch(address, "/readyz")[0] == 503
        assert fetch(address, "/") == (200, b"Mine")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_serves_and_ends_quietly(site: Path, signum: signal.Signals) -> None:
    with serving(str(site), "--no-build") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert address.endswith("/")
        assert fetch(address, "/") == (200, b"<h1>Hello</h1>")
        assert fetch(address, "/readyz")[0] == 200
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


def test_the_address_has_the_prefix_that_the_proxy_keeps(site: Path) -> None:
    for base_url, path in (("/db", "/db/"), ("[/db]", "/")):
        (site / "site.toml").write_text(f'[site]\nbase_url = "{base_url}"\n')
        with serving(str(site), "--no-build") as (_, address):
            assert urlsplit(address).path == path
            assert fetch(address, path)[0] == 200


def test_a_port_in_use_is_said_in_one_sentence(site: Path) -> None:
    with serving(str(site), "--no-build") as (_, address):
        port = urlsplit(address).port
        done = run_shim(str(site), "--no-build", "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"run-shim: Cannot listen on 127.0.0.1 port {port}: another program does")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [["--nope"], ["--port", "x"], ["--port", "65536"], ["a", "b"], ["-q", "-v"], ["-c"], ["--host"]],
)
def test_wrong_usage_is_exit_code_3(args: list[str]) -> None:
    done = run_shim(*args)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        (["/no/such/folder"], {}, "/no/such/folder is not a folder"),
        (["-c", "/no/such.toml"], {}, "cannot be read"),
        ([], {"NBFOLIO_SERVER__PRT": "1"}, "did you mean NBFOLIO_SERVER__PORT?"),
        (["--host", "0.0.0.0"], {}, "no token protects uploads"),
        (["--host", "a b"], {}, "command line: server.host"),
    ],
)
def test_settings_it_cannot_start_with_are_exit_code_2(
    tmp_path: Path, args: list[str], env: dict[str, str], said: str
) -> None:
    done = run_shim(*args, "--no-build", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith("run-shim: ")
    assert done.stderr.count("\n") == 1


def test_print_config_shows_settings_and_ends(site: Path) -> None:
    (site / "site.toml").write_text('[auth]\napi_token = "s3cret"\n')
    (site / "site.toml").chmod(0o644)
    done = run_shim(str(site), "--print-config", "--port", "0", env={"NBFOLIO_SITE__TITLE": "Ours"})
    assert done.returncode == 0
    assert "port = 0  # command line" in done.stdout
    assert 'title = "Ours"  # environment NBFOLIO_SITE__TITLE' in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    assert "others can read it" in done.stderr


def test_help_names_every_option() -> None:
    done = run_shim("--help")
    assert done.returncode == 0
    for option in ("--output", "--config", "--host", "--port", "--no-build", "--print-config", "--quiet", "--verbose"):
        assert option in done.stdout


# Open by accident


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", []),
        ("[server]\nhost = '0.0.0.0'\n", ["server.host is 0.0.0.0"]),
        ("[server]\nhost = '::'\n", ["server.host is ::"]),
        ("[server]\nhost = 'example.org'\n", ["server.host is example.org"]),
        ("[server]\nhost = '0.0.0.0'\n[auth]\napi_token = 'x'\n", []),
        ("[server]\nhost = '0.0.0.0'\n[[auth.token]]\nname = 'a'\nvalue = 'x'\n", []),
        ("[[auth.token]]\nname = 'a'\n", ['auth.token "a" has no value']),
        ("[[auth.user]]\nname = 'ada'\n", ["auth.user names", 'auth.user "ada" has no password_hash']),
        (
            "[[auth.user]]\nname = 'ada'\npassword_hash = 'secret'\n",
            ["auth.user names", 'auth.user "ada": password_hash is not'],
        ),
        (f"[[auth.user]]\nname = 'ada'\npassword_hash = '{HASH}'\n", ["auth.user names"]),
        ("[server]\nhost = '::'\n[[auth.user]]\nname = 'ada'\n", ["server.host", "auth.user names", "auth.user"]),
    ],
)
def test_settings_that_would_leave_it_open_by_accident(tmp_path: Path, text: str, problems: list[str]) -> None:
    (tmp_path / "site.toml").write_text(text)
    found = startup_problems(load_config(tmp_path, None, {}, {}))
    assert len(found) == len(problems)
    for sentence, beginning in zip(found, problems, strict=True):
        assert sentence.startswith(beginning)
        assert sentence.endswith(".")


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "example.org")))


# The builder beside the server


def test_the_background_builder_works_until_it_is_stopped(tmp_path: Path) -> None:
    said: list[str] = []

    def work(config: object, ready: threading.Event, stop: Stopper, say: object) -> None:
        said.append("built")
        ready.set()
        while not stop.is_set():
            stop.wait(30)
        said.append("stopped")

    builder = BackgroundBuilder(load_config(tmp_path, None, {}, {}), said.append, work)
    assert not builder.ready.is_set()
    with builder:
        assert builder.ready.wait(30)
    assert said == ["built", "stopped"]
    assert Finished().ready.is_set()


@pytest.mark.parametrize("error", [OutputError("no space"), OSError("no space"), ZeroDivisionError("no space")])
def test_a_builder_that_fails_is_not_ready_any_more_and_says_why(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def work(config: object, ready: threading.Event, stop: Stopper, say: object) -> None:
        ready.set()
        raise error

    builder = BackgroundBuilder(load_config(tmp_path, None, {}, {}), lambda line: None, work)
    builder.start()
    builder.stop()
    assert not builder.ready.is_set()
    assert "The site is not kept up to date" in caplog.text
    assert "no space" in caplog.text
