"""Instances on this machine: real JupyterLabs, and nothing of them is left where nothing should be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from builder.config import Config, load_config
from shim.instances.backend import Door, Status
from shim.instances.errors import BackendError, InvalidError, TakenError, UnavailableError, UnknownError
from shim.instances.local import supervised
from shim.instances.local.adoption import Identity, identity_of, is_ours
from shim.instances.local.backend import LocalBackend
from shim.instances.local.folders import Facts, Folder, volume_name
from shim.instances.local.launcher import Orders, read_orders
from shim.instances.local.limits import Limits, cores_for, what_is_limited
from shim.instances.local.process import free_port
from shim.instances.records import EnvironmentSpec, Instance, NotebookSpec, instance_of
from shim.kernels.processes import MARK, marked
from shim.state import State

WAIT_SECONDS = 120.0
MEMORY = 1 << 30


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def instance_of_name(name: str, owner: str = "ada", **fields: object) -> Instance:
    """An instance as the service makes it."""
    environment = EnvironmentSpec("notebook-env", "an/image:latest")
    spec = NotebookSpec(name, "default", owner, environment, "cpu=1,memory=1.0Gi")
    number = next(NUMBERS)
    return Instance(f"notebook_1_{number:04}", f"notebook-1-{number:04}-{name}", replace(spec, **fields), 1.0 + number)  # type: ignore[arg-type]


NUMBERS = iter(range(1, 1000))


@dataclass
class Site:
    """A folder for state with what is in it."""

    config: Config
    state: State
    said: list[str]

    @classmethod
    def make(cls, folder: Path) -> Site:
        config = load_config(folder, None, {}, {})
        return cls(config, State(config.state_dir), [])

    def backend(self) -> LocalBackend:
        return LocalBackend(self.config, self.state, self.said.append)

    def folder(self, instance: Instance) -> Folder:
        return Folder(self.config.state_dir, instance.id)

    def facts(self, instance: Instance) -> Facts:
        facts = self.folder(instance).facts()
        assert facts
        return facts

    def pid(self, instance: Instance) -> int:
        process = self.facts(instance).process
        assert process
        return process.pid


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site.make(tmp_path)
    yield site
    site.state.close()


@pytest.fixture
def backend(site: Site) -> Iterator[LocalBackend]:
    backend = site.backend()
    backend.open()
    yield backend
    backend.close()


def wait_for(backend: LocalBackend, instance: Instance, status: Status) -> str:
    """Wait for a status; the answer is its reason."""
    until(lambda: backend.observe(instance).status == status, f"it is {backend.observe(instance)}, not {status}")
    return backend.observe(instance).reason


def kernels_of(mark: str) -> list[int]:
    """The kernels among the processes of an instance."""
    return [pid for pid in marked(mark) if b"ipykernel_launcher" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def get(door: Door, path: str, token: str | None = None) -> requests.Response:
    headers = {} if token is None else {"Authorization": f"token {token}"}
    return requests.get(f"{door.url}{path}", headers=headers, timeout=10, allow_redirects=False)


# One instance that runs, for the tests that change nothing about it


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, LocalBackend, Instance]]:
    """An instance that runs, started among settings and secrets that should not matter."""
    hostile = tmp_path_factory.mktemp("hostile")
    (hostile / "jupyter_server_config.json").write_text('{"ServerApp": {"allow_origin": "*", "base_url": "/x/"}}')
    site = Site.make(tmp_path_factory.mktemp("site"))
    backend = site.backend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_CONFIG_DIR", str(hostile))
        patch.setenv("JUPYTER_CONFIG_PATH", str(hostile))
        patch.setenv("JUPYTER_TOKEN", "another token")
        patch.setenv("NBFOLIO_AUTH__API_TOKEN", "a secret")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
        backend.open()
        asked = instance_of_name("shared", env_vars={"GREETING": "hello world=ü", "PYTHONHASHSEED": "7"})
        (folder := site.folder(asked)).make()
        folder.make_files("")
        (folder.files / "tornado.py").write_text("raise RuntimeError('a file of the owner')\n")
        instance = backend.create(asked)
        assert backend.observe(instance).status == "creating"
        wait_for(backend, instance, "running")
    yield site, backend, instance
    backend.close()
    site.state.close()


Shared = tuple[Site, LocalBackend, Instance]


def test_a_running_instance_answers_whoever_has_its_token_and_nobody_else(shared: Shared) -> None:
    _, backend, instance = shared
    door = backend.door(instance)
    assert door == backend.inner_door(instance)
    assert get(door, "/api/status", door.token).json()["kernels"] == 0
    assert get(door, "/lab", door.token).status_code == 200
    assert get(door, "/api/status").status_code == 403
    assert get(door, "/lab").status_code == 302
    assert get(door, "/api/status", "another token").status_code == 403
    foreign = requests.get(f"{door.url}/api/status", headers={"Host": "evil.example"}, timeout=10)
    assert foreign.status_code == 403


def test_settings_of_the_user_do_not_reach_an_instance(shared: Shared) -> None:
    _, backend, instance = shared
    door = backend.door(instance)
    page = get(door, "/lab", door.token)
    assert not page.headers.get("Access-Control-Allow-Origin")
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    assert '"extensionManager": {"can_install": false' in page.text


def test_an_instance_listens_on_one_loopback_port(shared: Shared) -> None:
    site, backend, instance = shared
    connections = psutil.Process(site.pid(instance)).net_connections(kind="inet")
    port = int(backend.door(instance).url.rpartition(":")[2])
    assert [tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN] == [("127.0.0.1", port)]


def test_others_on_the_machine_do_not_see_the_token(shared: Shared) -> None:
    site, backend, instance = shared
    pid, token = site.pid(instance), backend.door(instance).token
    for name in ("cmdline", "environ"):
        assert token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    for path in [site.folder(instance).path, *site.folder(instance).path.rglob("*")]:
        assert path == site.folder(instance).files / "tornado.py" or not path.stat().st_mode & 0o077, path


def test_a_server_gets_what_was_asked_for_and_no_secret(shared: Shared) -> None:
    site, _, instance = shared
    text = Path(f"/proc/{site.pid(instance)}/environ").read_bytes().decode()
    env = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    assert (env["GREETING"], env["PYTHONHASHSEED"]) == ("hello world=ü", "7")
    assert env["HOME"] and env["PATH"]
    assert not [name for name in env if name.startswith(("NBFOLIO", "AWS")) or name == "JUPYTER_TOKEN"]


def test_the_limits_are_in_force(shared: Shared) -> None:
    site, _, instance = shared
    pid = site.pid(instance)
    limits = Path(f"/proc/{pid}/limits").read_text()
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert rows["Max data size"] == [str(MEMORY)] * 2
    assert rows["Max core file size"] == ["0", "0"]
    cores = os.sched_getaffinity(pid)
    assert len(cores) == 1
    assert cores <= os.sched_getaffinity(0)


def test_kernels_inherit_the_environment_and_the_limits(shared: Shared) -> None:
    site, backend, instance = shared
    door = backend.door(instance)
    headers = {"Authorization": f"token {door.token}"}
    kernel = requests.post(f"{door.url}/api/kernels", json={}, headers=headers, timeout=30).json()["id"]
    try:
        (pid,) = kernels_of(site.facts(instance).mark)
        assert "GREETING=hello world=ü" in Path(f"/proc/{pid}/environ").read_text().split("\0")
        assert f"Max data size             {MEMORY}" in Path(f"/proc/{pid}/limits").read_text()
        assert Path(f"/proc/{pid}/cwd").resolve() == site.folder(instance).files.resolve()
    finally:
        requests.delete(f"{door.url}/api/kernels/{kernel}", headers=headers, timeout=30)


def test_a_name_is_taken_once_per_namespace(shared: Shared) -> None:
    _, backend, instance = shared
    for owner in ("ada", "grace"):
        other = instance_of_name("shared", owner)
        with pytest.raises(TakenError):
            backend.create(other)
        assert backend.find(other.id) is None
    assert backend.all() == [instance]
    assert backend.find(instance.id) == instance
    assert instance.uid


def test_only_one_server_looks_after_a_folder(shared: Shared) -> None:
    site, _, _ = shared
    second = site.backend()
    second.open()
    try:
        assert second.all() == []
        assert "Another server looks after" in site.said[-1]
        with pytest.raises(UnavailableError):
            second.create(instance_of_name("second"))
    finally:
        second.close()


# What becomes of an instance


def test_files_survive_a_stop_and_nothing_survives_a_deletion(backend: LocalBackend, site: Site) -> None:
    instance = backend.create(instance_of_name("one"))
    wait_for(backend, instance, "running")
    first, facts = backend.door(instance), site.facts(instance)
    (site.folder(instance).files / "a.txt").write_text("a file")
    headers = {"Authorization": f"token {first.token}"}
    requests.post(f"{first.url}/api/kernels", json={}, headers=headers, timeout=30).raise_for_status()
    assert kernels_of(facts.mark)

    backend.stop(instance, "Nobody used it")
    assert backend.observe(instance) == ("stopped", "Nobody used it")
    with pytest.raises(UnavailableError):
        backend.door(instance)
    until(lambda: not marked(facts.mark), "it does not stop")
    backend.stop(instance, "Another reason")
    assert backend.observe(instance) == ("stopped", "Nobody used it")
    assert backend.all()[0].stopped == "Nobody used it"

    backend.start(instance)
    backend.start(instance)
    assert backend.observe(instance).status == "creating"
    wait_for(backend, instance, "running")
    assert backend.door(instance) == first
    assert get(first, "/api/contents/a.txt", first.token).json()["content"] == "a file"

    closed = site.folder(instance).files / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0o500)
    backend.delete(instance, keep_volume=False)
    assert backend.observe(instance).status == "not_found"
    assert backend.find(instance.id) is None
    assert not marked(facts.mark)
    assert site.state.read("SELECT * FROM instances") == []
    assert list((site.config.state_dir / "instances").iterdir()) == []
    backend.delete(instance, keep_volume=False)
    for change in (lambda: backend.start(instance), lambda: backend.stop(instance, ""), lambda: backend.door(instance)):
        with pytest.raises(UnknownError):
            change()


def test_a_server_that_dies_is_seen_with_a_reason_and_starts_again(backend: LocalBackend, site: Site) -> None:
    instance = backend.create(instance_of_name("dying"))
    wait_for(backend, instance, "running")
    first, mark = site.pid(instance), site.facts(instance).mark
    door = backend.door(instance)
    headers = {"Authorization": f"token {door.token}"}
    requests.post(f"{door.url}/api/kernels", json={}, headers=headers, timeout=30).raise_for_status()
    (kernel,) = kernels_of(mark)
    os.kill(first, signal.SIGKILL)
    reason = wait_for(backend, instance, "failed")
    assert "ended (signal 9" in reason and reason.endswith("; it starts again")
    until(lambda: (process := site.facts(instance).process) and process.pid != first, "it does not start again")
    assert kernel not in marked(mark)
    assert backend.observe(instance).status == "creating"
    assert site.facts(instance).port == int(door.url.rpartition(":")[2])


def test_a_server_that_fails_at_once_is_given_up_until_it_is_started(
    backend: LocalBackend, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "FIRST_PAUSE", 0.01)
    instance = backend.create(instance_of_name("broken", env_vars={"PYTHONHOME": "/dev/null"}))
    reason = wait_for(backend, instance, "failed")
    assert reason.startswith("The notebook server ended (exit code 1: ") and len(reason) <= 512
    assert "starts again" not in reason
    assert not marked(site.facts(instance).mark)
    backend.start(instance)
    assert backend.observe(instance).status == "creating"
    wait_for(backend, instance, "failed")


def test_a_server_that_does_not_answer_in_time_has_failed(backend: LocalBackend, site: Site) -> None:
    backend._start_seconds = 0.0
    instance = backend.create(instance_of_name("slow"))
    reason = wait_for(backend, instance, "failed")
    assert reason.startswith("Timed out: ")
    until(lambda: not marked(site.facts(instance).mark), "it goes on")


def test_what_this_machine_cannot_give_is_refused(backend: LocalBackend, site: Site) -> None:
    for fields in (
        {"resources": "cpu=1,memory=1Gi,nvidia.com/gpu=1"},
        {"env_vars": {"NBFOLIO_SITE__TITLE": "x"}},
        {"env_vars": {"JUPYTER_CONFIG_PATH": "/tmp"}},
        {"env_vars": {MARK: "0"}},
        {"env_vars": {"A=B": "x"}},
        {"env_vars": {"A": "x\0B=y"}},
    ):
        with pytest.raises(InvalidError):
            backend.create(instance_of_name("refused", **fields))
    assert backend.all() == []
    assert site.state.read("SELECT * FROM instances") == []


def test_an_instance_whose_folder_cannot_be_made_is_none(backend: LocalBackend, site: Site) -> None:
    (site.config.state_dir / "instances").write_text("a file in the way")
    asked = instance_of_name("nowhere")
    with pytest.raises(BackendError, match=r"^[^/]*$"):
        backend.create(asked)
    assert backend.observe(asked).status == "not_found"
    assert site.state.read("SELECT * FROM instances") == []


# Stopped instances, which need no server


def create_stopped(backend: LocalBackend, name: str, owner: str) -> Instance:
    instance = backend.create(instance_of_name(name, owner))
    backend.stop(instance, "For a test")
    return instance


def test_kept_files_come_back_to_their_owner_and_to_nobody_else(backend: LocalBackend, site: Site) -> None:
    for owner in ("ada", "grace"):
        instance = create_stopped(backend, "shared-name", owner)
        assert list(site.folder(instance).files.iterdir()) == []
        (site.folder(instance).files / "whose").write_text(owner)
        backend.delete(instance, keep_volume=True)
        assert not site.folder(instance).path.exists()
    assert len(list((site.config.state_dir / "volumes").iterdir())) == 2
    for owner in ("grace", "ada"):
        instance = create_stopped(backend, "shared-name", owner)
        assert (site.folder(instance).files / "whose").read_text() == owner
        backend.delete(instance, keep_volume=False)
    assert list((site.config.state_dir / "volumes").iterdir()) == []


def test_a_deletion_that_a_crash_interrupted_is_finished(site: Site) -> None:
    backend = site.backend()
    backend.open()
    kept = [create_stopped(backend, "kept", "ada")]
    removed = [create_stopped(backend, f"removed-{number}", "ada") for number in range(2)]
    for instance in kept + removed:
        (site.folder(instance).files / "whose").write_text("ada")
    backend.close()
    for instance in kept + removed:
        facts = site.facts(instance)
        site.folder(instance).record(replace(facts, deletion="keep" if instance in kept else "remove"))
    site.state.write("DELETE FROM instances WHERE id = ?", (removed[1].id,))
    again = site.backend()
    again.open()
    try:
        assert again.all() == []
        assert site.state.read("SELECT * FROM instances") == []
        assert list((site.config.state_dir / "instances").iterdir()) == []
        volume = site.config.state_dir / "volumes" / volume_name(kept[0])
        assert (volume / "whose").read_text() == "ada"
    finally:
        again.close()


def test_a_deletion_whose_processes_take_long_goes_on_by_itself(
    backend: LocalBackend, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = create_stopped(backend, "slow", "ada")
    with monkeypatch.context() as patch:
        patch.setattr(supervised.Supervised, "end", lambda self, seconds=0.0: False)
        with pytest.raises(UnavailableError, match="do not end"):
            backend.delete(instance, keep_volume=False)
        assert backend.observe(instance).status == "terminating"
    until(lambda: not site.folder(instance).path.exists(), "it is never deleted")
    assert backend.find(instance.id) is None


def test_records_that_cannot_be_read_are_left_out_and_told(site: Site) -> None:
    backend = site.backend()
    backend.open()
    instance = create_stopped(backend, "sound", "ada")
    backend.close()
    site.state.write("INSERT INTO instances VALUES ('odd', 'default', 'odd', '[]')")
    again = site.backend()
    again.open()
    try:
        assert [one.id for one in again.all()] == [instance.id]
        assert again.observe(instance) == ("stopped", "For a test")
        assert any("'odd' cannot be used" in line for line in site.said)
    finally:
        again.close()


# The end of the server that watches over them

CRASHING = """
import sys, time
from pathlib import Path
from test_local_instances import Site, instance_of_name, wait_for
site = Site.make(Path(sys.argv[1]))
backend = site.backend()
backend.open()
instances = [backend.create(instance_of_name(name)) for name in ("adopted", "replaced")]
for instance in instances:
    wait_for(backend, instance, "running")
print("running", flush=True)
time.sleep(600)
"""


def test_instances_outlive_a_crash_and_are_adopted_and_close_stops_them_until_open(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CRASHING, str(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as crashing:
        assert crashing.stdout
        assert crashing.stdout.readline() == "running\n"
        crashing.kill()
    site = Site.make(tmp_path)
    backend = site.backend()
    (adopted, replaced) = (instance_of(text) for (text,) in site.state.read("SELECT record FROM instances ORDER BY id"))
    pids = {one.id: site.pid(one) for one in (adopted, replaced)}
    # It runs still, and is not what was recorded: what has its id is another process.
    facts = site.facts(replaced)
    assert facts.process
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    site.folder(replaced).record(replace(facts, process=identity_of(stranger.pid)))
    backend.open()
    try:
        for one in (adopted, replaced):
            wait_for(backend, one, "running")
        assert site.pid(adopted) == pids[adopted.id]
        assert get(backend.door(adopted), "/api/status", backend.door(adopted).token).status_code == 200
        assert site.pid(replaced) not in (pids[replaced.id], stranger.pid)
        assert pids[replaced.id] not in marked(facts.mark)
        assert stranger.poll() is None
        door = backend.door(adopted)
        backend.delete(replaced, keep_volume=False)
        assert not marked(facts.mark)
    finally:
        stranger.kill()
        stranger.wait()
        backend.close()
    assert not marked(site.facts(adopted).mark)
    with pytest.raises(UnavailableError):
        backend.stop(adopted, "")

    again = site.backend()
    again.open()
    try:
        assert [(one.id, one.stopped) for one in again.all()] == [(adopted.id, None)]
        wait_for(again, adopted, "running")
        assert again.door(adopted) == door
    finally:
        again.close()
        site.state.close()


# Parts


def test_a_process_is_ours_only_with_its_start_and_mark() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={MARK: "a-mark"})
    try:
        identity = identity_of(process.pid)
        assert identity
        until(lambda: is_ours(identity, "a-mark"), "it does not carry the mark")
        assert not is_ours(identity, "another")
        assert not is_ours(replace(identity, started=identity.started + 1), "a-mark")
        assert not is_ours(replace(identity, boot="another run"), "a-mark")
        assert not is_ours(Identity(1, identity.started, identity.boot), "a-mark")
    finally:
        process.communicate(b"\n")
    assert identity_of(process.pid) is None
    assert not is_ours(identity, "a-mark")


def test_the_least_used_processors_are_chosen() -> None:
    assert cores_for(Decimal("0.5"), range(4), [0, 1, 0]) == (2,)
    assert cores_for(Decimal("1.5"), range(4), [2]) == (0, 1)
    assert cores_for(Decimal(2), range(4), [0, 1]) == (2, 3)
    assert cores_for(Decimal(4), range(4), []) == ()
    assert cores_for(Decimal(1), [], []) == ()


def test_the_operator_is_told_what_is_limited() -> None:
    assert what_is_limited().startswith("Notebook instances run on this machine with limits on memory for each")


def test_a_port_stays_unless_somebody_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        assert free_port(port, ()) not in (0, port)
    assert free_port(port, ()) == port
    assert free_port(port, {port}) != port


def test_orders_come_back_as_they_were() -> None:
    orders = Orders(["a", "b"], {"A": "ü\ud800"}, "/folder", Limits(5, (1, 2)))
    assert read_orders(orders.to_json()) == orders
    assert "JupyterLab" not in LocalBackend.available()
