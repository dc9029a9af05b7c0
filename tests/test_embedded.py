"""The kernel server of our own: real kernels, and nothing is left of them however the processes above them end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests
from test_gateways import kernel_specs, run  # noqa: F401

from builder.config import load_config
from builder.errors import ConfigError
from shim.kernels.embedded import server_environment
from shim.kernels.gateway import LOST_AFTER, Gateway, GatewayError, NoGatewayError
from shim.kernels.gateways import Gateways
from shim.kernels.processes import MARK, end_marked, marked
from shim.kernels.records import new_id

GONE_SECONDS = 30.0
SETTINGS = '[kernels]\nenv = ["A_SETTING=1=2", "PASSED_ON", "NOT_THERE"]\n'
LEAVE_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid)
"""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + GONE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def assert_gone(*pids: int) -> None:
    for pid in pids:
        until(lambda pid=pid: is_gone(pid), f"process {pid} is still there")


PID = "import os; print(os.getpid())"


def host_of(pid: int) -> psutil.Process:
    """The kernel server above a kernel."""
    host = psutil.Process(pid).parent()
    assert host and "shim.kernels.host" in host.cmdline()
    return host


def gateways_of(folder: Path, settings: str, said: list[str]) -> Gateways:
    (folder / "site.toml").write_text(settings)
    return Gateways(load_config(folder, None, {}, {}), said.append)


@contextmanager
def opened(folder: Path, settings: str, said: list[str]) -> Iterator[Gateways]:
    gateways = gateways_of(folder, settings, said)
    gateways.open()
    try:
        yield gateways
    finally:
        gateways.close()


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory,
    kernel_specs: Path,  # noqa: F811
    said: list[str],
) -> Iterator[Gateways]:
    """The gateways of a site that names none, started in a folder and with settings that should not matter."""
    hostile = tmp_path_factory.mktemp("hostile")
    (hostile / "tornado.py").write_text("raise RuntimeError('a file beside the notebooks')\n")
    (hostile / "jupyter_server_config.py").write_text("c.ServerApp.base_url = '/elsewhere'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(hostile)
        patch.setenv("JUPYTER_PATH", str(kernel_specs))
        patch.setenv("JUPYTER_CONFIG_DIR", str(hostile))
        patch.setenv("NBFOLIO_AUTH__API_TOKEN", "a secret")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
        patch.setenv("PASSED_ON", "as it is")
        gateways = gateways_of(tmp_path_factory.mktemp("site"), SETTINGS, said)
        gateways.open()
        until(gateways.specs, "it does not start")
    yield gateways
    gateways.close()


@pytest.fixture
def gateway(gateways: Gateways) -> Gateway:
    return gateways.choose("", "any/page", {})


@contextmanager
def kernel(gateway: Gateway, name: str, folder: Path) -> Iterator[str]:
    started = gateway.start(name, folder, new_id())
    try:
        yield started
    finally:
        gateway.delete(started)


# What kernels are like


def test_a_kernel_runs_in_the_folder_and_with_the_environment_it_should_have(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "a folder with ümlauts"
    folder.mkdir()
    code = "import os, json; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    with kernel(gateway, "", folder) as started:
        cwd, env = json.loads(run(gateway.upstream(started, "s"), code))
    assert cwd == str(folder)
    assert (env["A_SETTING"], env["PASSED_ON"]) == ("1=2", "as it is")
    assert env["HOME"] and env["PATH"]
    assert "NOT_THERE" not in env
    assert not [name for name in env if name.startswith(("NBFOLIO", "AWS"))]
    assert not [value for value in env.values() if "secret" in value or gateway._endpoint.token in value]


def test_kernels_keep_no_history_and_hold_no_file_of_the_server(gateway: Gateway, tmp_path: Path) -> None:
    with kernel(gateway, "python3", tmp_path) as started:
        upstream = gateway.upstream(started, "s")
        assert run(upstream, "print(get_ipython().history_manager.enabled)") == "False\n"
        pid = int(run(upstream, PID))
        # Neither the pipes to the shim nor the listening socket.
        assert {link for link in links(host_of(pid).pid) & links(pid) if ":[" in link and "anon" not in link} == set()
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull


def links(pid: int) -> set[str]:
    """What the file descriptors of a process lead to."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return found


def test_nothing_is_said_while_all_goes_well(gateways: Gateways, said: list[str]) -> None:
    assert gateways.available
    assert said == []


def test_the_token_is_nowhere_where_a_kernel_looks(gateway: Gateway, tmp_path: Path) -> None:
    token = gateway._endpoint.token
    assert len(token) == 64
    with kernel(gateway, "", tmp_path) as started:
        host = host_of(int(run(gateway.upstream(started, "s"), PID)))
    for place in ("cmdline", "environ"):
        assert token.encode() not in Path(f"/proc/{host.pid}/{place}").read_bytes()
    assert "NBFOLIO_AUTH__API_TOKEN" not in host.environ()


def test_a_folder_that_is_not_there_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"^The kernel server could not start the kernel 'python3'\.$"):
        gateway.start("python3", tmp_path / "gone", new_id())


def test_a_kernel_of_another_language_works(gateways: Gateways, tmp_path: Path) -> None:
    assert sorted(gateways.specs()) == ["bash", "python3"]
    gateway = gateways.choose("bash", "a", {})
    with kernel(gateway, "bash", tmp_path) as started:
        assert run(gateway.upstream(started, "s"), "pwd") == f"{tmp_path}\n"
    with pytest.raises(NoGatewayError):
        gateways.choose("julia", "a", {})


def test_a_deleted_kernel_is_gone_and_kernels_are_listed(gateway: Gateway, tmp_path: Path) -> None:
    with kernel(gateway, "python3", tmp_path) as started:
        pid = int(run(gateway.upstream(started, "s"), PID))
        assert gateway.kernels() == {started: "idle"}
    assert_gone(pid)
    assert gateway.kernels() == {}


@pytest.mark.parametrize("path", ["/api/kernels", "/api/kernelspecs", "/metrics"])
def test_nobody_gets_in_without_the_token(gateway: Gateway, path: str) -> None:
    url = gateway._endpoint.url + path
    assert url.startswith("http://127.0.0.1:")
    assert requests.get(url, timeout=20, allow_redirects=False).status_code in (302, 403)
    assert requests.get(url, headers={"Authorization": "token x"}, timeout=20, allow_redirects=False).status_code in (
        302,
        403,
    )


@pytest.mark.parametrize("path", ["/api/contents", "/api/terminals", "/api/sessions", "/api/shutdown", "/files/x"])
def test_there_is_nothing_but_kernels(gateway: Gateway, path: str) -> None:
    headers = {"Authorization": f"token {gateway._endpoint.token}"}
    for method in ("GET", "POST"):
        answer = requests.request(method, gateway._endpoint.url + path, headers=headers, timeout=20)
        assert answer.status_code in (404, 405)


# How it ends


def test_a_killed_server_is_started_again_and_its_kernels_are_gone(
    kernel_specs: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(kernel_specs))
    said: list[str] = []
    with opened(tmp_path, "", said) as gateways:
        gateway = gateways.choose("", "a", {})
        python, bash = gateway.start("python3", tmp_path, new_id()), gateway.start("bash", tmp_path, new_id())
        upstream = gateway.upstream(python, "s")
        pid, child = int(run(upstream, PID)), int(run(upstream, LEAVE_A_CHILD))
        shell = int(run(gateway.upstream(bash, "s"), "echo $$"))
        host = host_of(pid)
        (folder,) = {Path(arg).parent for arg in psutil.Process(pid).cmdline() if arg.endswith(".json")}
        assert folder.stat().st_mode & 0o777 == 0o700
        del said[:]
        host.kill()
        until(lambda: any("runs again" in line for line in said), "it was not started again")
        assert_gone(host.pid, pid, child, shell)
        assert not folder.exists()
        assert "The kernel server ended (signal 9); it starts again in 0.5 s." in said
        assert gateway.healthy
        assert gateway.state(python) is None
        assert gateway.kernels() == {}
        upstream = gateway.upstream(gateway.start("python3", tmp_path, new_id()), "s")
        pid, child = int(run(upstream, PID)), int(run(upstream, LEAVE_A_CHILD))
        host = host_of(pid)
    assert_gone(host.pid, pid, child)


PARENT = """
import sys
from pathlib import Path
from builder.config import load_config
from shim.kernels.gateways import Gateways
from shim.kernels.records import new_id
from test_gateways import run

folder = Path(sys.argv[1])
gateways = Gateways(load_config(folder, None, {}, {}), lambda line: None)
gateways.open()
gateway = gateways.choose("", "a", {})
started = gateway.start("python3", folder, new_id()), gateway.start("bash", folder, new_id())
print(run(gateway.upstream(started[0], "s"), "import os; print(os.getpid(), os.getppid())").strip())
print(run(gateway.upstream(started[0], "s"), sys.argv[2]).strip())
print(run(gateway.upstream(started[1], "s"), "echo $$").strip())
print(run(gateway.upstream(started[0], "s"), "import sys; print(sys.orig_argv[-2])").strip(), flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_of_it_when_the_shim_is_killed(kernel_specs: Path, tmp_path: Path) -> None:  # noqa: F811
    here = Path(__file__).parent
    env = {**os.environ, "JUPYTER_PATH": str(kernel_specs), "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    command = [sys.executable, "-c", PARENT, str(tmp_path), LEAVE_A_CHILD]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin and parent.stdout
        pids = [int(word) for _ in range(3) for word in parent.stdout.readline().split()]
        connection_file = Path(parent.stdout.readline().strip())
        assert len(pids) == 4 and connection_file.is_file()
        parent.kill()
        parent.wait(30)
    assert_gone(*pids)
    until(lambda: not connection_file.parent.exists(), "its folder is still there")


def test_a_server_that_does_not_react_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.embedded.STOP_SECONDS", 1.0)
    with opened(tmp_path, "", []) as gateways:
        gateway = gateways.choose("", "a", {})
        started = gateway.start("", tmp_path, new_id())
        pid = int(run(gateway.upstream(started, "s"), PID))
        host = host_of(pid)
        host.send_signal(signal.SIGSTOP)
    assert_gone(host.pid, pid)


def test_a_server_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.gateway.PROBE_SECONDS", 0.1)
    said: list[str] = []
    with opened(tmp_path, "", said) as gateways:
        gateway = gateways.choose("", "a", {})
        pid = int(run(gateway.upstream(gateway.start("", tmp_path, new_id()), "s"), PID))
        host = host_of(pid)
        host.send_signal(signal.SIGSTOP)
        for _ in range(LOST_AFTER - 1):
            gateways.probe()
        assert host.is_running() and not gateway.healthy
        gateways.probe()
        assert_gone(host.pid, pid)
        monkeypatch.undo()
        until(lambda: "The kernel server runs again." in said, "it was not started again")
        until(lambda: gateway.healthy, "it is not used again")
    assert "The kernel server hangs and is ended." in said


def test_a_server_that_cannot_start_is_tried_again_later_and_readers_are_told(tmp_path: Path) -> None:
    broken = tmp_path / "modules" / "jupyter_server"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('is broken')\n")
    said: list[str] = []
    settings = f'[kernels]\nenv = ["PYTHONPATH={broken.parent}"]\n'
    with opened(tmp_path, settings, said) as gateways:
        gateway = gateways.named("embedded")
        assert gateway is not None
        until(lambda: len(said) >= 2, "it was not tried again")
        assert not gateway.healthy
        with pytest.raises(NoGatewayError, match=r"^No kernel server answers right now"):
            gateways.choose("", "a", {})
        with pytest.raises(GatewayError):
            gateway.start("", tmp_path, new_id())
    why = "exit code 1: RuntimeError: is broken"
    assert said[:2] == [f"The kernel server ended ({why}); it starts again in {pause} s." for pause in ("0.5", "1")]


def test_a_server_that_is_closed_while_it_starts_is_gone(tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("nbfolio-kernels-*"))
    with opened(tmp_path, "", []) as gateways:
        until(lambda: psutil.Process().children(), "it was not started")
    assert gateways.named("embedded") is None
    assert set(Path(tempfile.gettempdir()).glob("nbfolio-kernels-*")) <= before


# Settings and what is installed


@pytest.mark.parametrize("entry", ["", "=x", "A B=1", "1A", "NBFOLIO_AUTH__API_TOKEN", "NBFOLIO_X=1", "A=x\0y"])
def test_what_cannot_be_a_variable_of_kernels_is_refused(entry: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^\[kernels\] env: '.*' cannot be passed to kernels; expected NAME or"
    ) as caught:
        server_environment({"NBFOLIO_AUTH__API_TOKEN": "secret"}, [entry])
    assert "secret" not in str(caught.value)


def test_only_what_kernels_need_and_what_is_named_is_passed_on() -> None:
    environ = {"PATH": "/bin", "HOME": "/home/ada", "SECRET": "s", "DATA": "/data", "LANG": "C"}
    assert server_environment(environ, ["DATA", "EMPTY=", "LANG=de", "GONE"]) == {
        "PATH": "/bin",
        "HOME": "/home/ada",
        "DATA": "/data",
        "EMPTY": "",
        "LANG": "de",
    }


@pytest.mark.parametrize("module", ["jupyter_server", "ipykernel"])
def test_without_the_libraries_there_are_no_kernels_and_a_sentence_says_what_to_do(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with opened(tmp_path, "", []) as gateways:
        assert not gateways.available
        assert gateways.problem.startswith(f"Live cells need {module}: python -m pip install 'nbfolio[live]'")
        assert gateways.specs() == {}
        with pytest.raises(NoGatewayError):
            gateways.choose("", "a", {})


def test_only_processes_with_the_mark_are_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        marks = ("one", "one", "another", "on")
        processes.extend(subprocess.Popen(command, env={**os.environ, MARK: mark}) for mark in marks)
        assert sorted(marked("one")) == sorted(process.pid for process in processes[:2])
        end_marked("one")
        assert [process.poll() for process in processes] == [-9, -9, None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()
