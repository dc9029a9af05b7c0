"""run-shim as a program: first line, signals, exit codes, and settings with which it does not start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher

from builder.config import load_config
from builder.errors import ConfigError
from builder.report import Report
from shim.background import BackgroundBuilder, Finished, NotBuildingError
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


TOKEN = "[[auth.token]]\nname = 'a'\nvalue = 'x'\nscopes = ['publish']\n"
ADA = f"[[auth.user]]\nname = 'ada'\npassword_hash = '{HASH}'\n"
ONE_TOKEN = "auth.api_token = 'x'\n"
PROXY = "server.trusted_proxies = ['10.0.0.7']\n"
USER_HEADER = "auth.user_header = 'X-Forwarded-User'\n"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", []),
        # uploads by everybody
        ("[server]\nhost = '0.0.0.0'\n", ["server.host is 0.0.0.0"]),
        ("[server]\nhost = '::'\n", ["server.host is ::"]),
        ("[server]\nhost = 'example.org'\n", ["server.host is example.org"]),
        ("[server]\nhost = '0.0.0.0'\n[auth]\napi_token = 'x'\n", []),
        (f"server.host = '0.0.0.0'\n{TOKEN}", []),
        (PROXY, ["server.trusted_proxies names"]),
        (PROXY + TOKEN, []),
        (PROXY + ONE_TOKEN, []),
        (f"server.host = '::'\n{PROXY}", ["server.host is ::"]),
        # tokens
        ("[[auth.token]]\nname = 'a'\nscopes = ['admin']\n", ['auth.token "a" has no value']),
        ("[[auth.token]]\nname = 'a'\nvalue = 'x'\n", ['auth.token "a" has no scopes']),
        (TOKEN + TOKEN.replace("'a'", "'b'"), ['auth.token "b" has the same value as auth.token "a"']),
        (ONE_TOKEN + TOKEN, ['auth.token "a" has the same value as auth.api_token']),
        (TOKEN + TOKEN.replace("'a'", "'b'").replace("'x'", "'y'"), []),
        ("auth.api_token = ' x'\n", ["auth.api_token has blanks"]),
        (TOKEN.replace("'x'", "'x '"), ['auth.token "a" has blanks']),
        ("auth.api_token = 'schlüssel'\n", []),
        # logins
        (ADA, []),
        ("[[auth.user]]\nname = 'ada'\n", ['auth.user "ada" has no password_hash']),
        ("[[auth.user]]\nname = 'ada'\npassword_hash = 'secret'\n", ['auth.user "ada": password_hash is not']),
        (f"[[auth.user]]\nname = 'ada'\npassword_hash = '{HASH} '\n", ['auth.user "ada": password_hash is not']),
        (ADA + "[[auth.user]]\nname = 'bob'\n", ['auth.user "bob" has no password_hash']),
        ("[server]\nhost = '::'\n[[auth.user]]\nname = 'ada'\n", ["server.host", "auth.user"]),
        # logins at the proxy
        (USER_HEADER, ["auth.user_header is X-Forwarded-User"]),
        (USER_HEADER + ADA, ["auth.user_header is X-Forwarded-User"]),
        (USER_HEADER + PROXY + ONE_TOKEN, []),
        (
            f"{USER_HEADER}{ONE_TOKEN}server.trusted_proxies = ['0.0.0.0/0']\n",
            ["server.trusted_proxies trusts every address"],
        ),
        (f"{ONE_TOKEN}server.trusted_proxies = ['0.0.0.0/0']\n", []),
    ],
)
def test_settings_that_would_leave_it_open_by_accident(tmp_path: Path, text: str, problems: list[str]) -> None:
    (tmp_path / "site.toml").write_text(text)
    found = startup_problems(load_config(tmp_path, None, {}, {}))
    assert len(found) == len(problems)
    for sentence, beginning in zip(found, problems, strict=True):
        assert sentence.startswith(beginning)
        assert sentence.endswith(".")


@pytest.mark.parametrize("text", [TOKEN * 2, ADA * 2])
def test_two_tokens_or_users_of_one_name_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(ConfigError, match="is there twice"):
        load_config(tmp_path, None, {}, {})


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "example.org")))


# The builder beside the server


def background(folder: Path, built: Callable[[Report | None], None] = lambda report: None) -> BackgroundBuilder:
    return BackgroundBuilder(load_config(folder, None, {}, {}), built, lambda line: None)


def test_the_background_builder_builds_on_request_and_until_it_is_stopped(tmp_path: Path) -> None:
    write_notebook(tmp_path / "a.ipynb", "one")
    builder = background(tmp_path)
    with pytest.raises(NotBuildingError, match="being built"):
        builder.refresh(["a.ipynb"])
    with builder:
        assert builder.ready.wait(60)
        write_notebook(tmp_path / "a.ipynb", "two")
        write_notebook(tmp_path / "b.ipynb", "three")
        reports = builder.refresh(["a.ipynb", "b.ipynb"])
        assert reports["a"].status in ("built", "kept")
        for page, text in (("a", "two"), ("b", "three")):
            assert text in (tmp_path / "_site/dashboards" / page / "index.html").read_text()
        (tmp_path / "a.ipynb").unlink()
        (tmp_path / "b.ipynb").unlink()
        builder.refresh(["a.ipynb", "b.ipynb"])
        assert not (tmp_path / "_site/dashboards/a").exists(), "the last pages may go when somebody says so"
        assert builder.summaries() == []
    with pytest.raises(NotBuildingError, match="about to stop"):
        builder.refresh([])
    assert Finished(load_config(tmp_path, None, {}, {})).ready.is_set()


def test_requests_of_many_threads_are_served_together(tmp_path: Path) -> None:
    runs: list[Report | None] = []
    with background(tmp_path, runs.append) as builder:
        assert builder.ready.wait(60)
        del runs[:]
        asked = threading.Barrier(8)

        def ask(number: int) -> None:
            write_notebook(tmp_path / f"n{number}.ipynb", f"text {number}")
            asked.wait(30)
            assert builder.refresh([f"n{number}.ipynb"])[f"n{number}"].status in ("built", "kept")
            assert (tmp_path / f"_site/dashboards/n{number}/index.html").exists()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


def test_a_page_is_made_anew_when_its_cache_is_cleared(tmp_path: Path) -> None:
    write_notebook(tmp_path / "a.ipynb", "one")
    with background(tmp_path) as builder:
        assert builder.ready.wait(60)
        before = (tmp_path / "a.ipynb").stat()
        write_notebook(tmp_path / "new", "two")
        (tmp_path / "a.ipynb").write_bytes((tmp_path / "new").read_bytes())
        os.utime(tmp_path / "a.ipynb", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (tmp_path / "a.ipynb").stat().st_size == before.st_size
        builder.rebuild("a")
        assert "two" in (tmp_path / "_site/dashboards/a/index.html").read_text()
        builder.rebuild("nothing")
        builder.rebuild(None)
        assert "two" in (tmp_path / "_site/dashboards/a/index.html").read_text()


def test_a_builder_that_cannot_work_is_not_ready_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "_site").mkdir()
    (tmp_path / "_site/letter.txt").write_text("mine")
    with background(tmp_path) as builder:
        builder._thread.join(60)
        with pytest.raises(NotBuildingError, match="log of the server"):
            builder.refresh([])
    assert not builder.ready.is_set()
    assert "The site is not kept up to date" in caplog.text
    assert "not made by build-site" in caplog.text


def test_a_mistake_of_ours_in_the_builder_is_logged_and_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def built(report: Report | None) -> None:
        raise ZeroDivisionError("what a pity")

    with background(tmp_path, built) as builder:
        builder._thread.join(60)
    assert not builder.ready.is_set()
    assert "what a pity" in caplog.text


# Logins of a running program


def ask(address: str, path: str, cookie: str = "", body: str | None = None) -> tuple[int, list[str]]:
    """Status and new cookies."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    headers = {"Cookie": cookie} if cookie else {}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, [value.partition(";")[0] for name, value in answer.getheaders() if name == "Set-Cookie"]


def test_a_login_outlives_a_restart_and_ends_with_its_logout(site: Path) -> None:
    password = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    (site / "site.toml").write_text(f"[[auth.user]]\nname = 'ada'\npassword_hash = '{password}'\n")
    (site / "site.toml").chmod(0o600)
    with serving(str(site), "--no-build") as (_, address):
        assert ask(address, "/")[0] == 401
        assert ask(address, "/login", body="username=ada&password=wrong")[0] == 401
        status, cookies = ask(address, "/login", body="username=ada&password=secret")
        assert status == 302
        cookie = "; ".join(cookies)
        assert ask(address, "/", cookie)[0] == 200
    with serving(str(site), "--no-build") as (_, address):
        assert ask(address, "/", cookie)[0] == 200
        assert ask(address, "/logout", cookie, "")[0] == 204
        assert ask(address, "/", cookie)[0] == 401
    assert (site / ".nbfolio").stat().st_mode & 0o777 == 0o700
    assert (site / ".nbfolio/state.db").stat().st_mode & 0o777 == 0o600


def test_names_of_tokens_and_users_stand_escaped_and_cut_in_what_keeps_the_server_from_starting(tmp_path: Path) -> None:
    name = "a\\u202eb" + "x" * 5000
    text = f'[[auth.token]]\nname = "{name}"\n[[auth.user]]\nname = "{name}"\n'
    (tmp_path / "site.toml").write_text(text)
    problems = startup_problems(load_config(tmp_path, None, {}, {}))
    assert len(problems) == 3
    for problem in problems:
        assert problem.isprintable()
        assert "a\\u202eb" in problem
        assert len(problem) < 300
