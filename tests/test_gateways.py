"""Kernel gateways: a real Kernel Gateway, a real Jupyter Server, and servers that answer what no gateway should."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st

from builder.config import load_config
from builder.errors import ConfigError
from shim.kernels.gateway import (
    Endpoint,
    Gateway,
    GatewayError,
    GatewayFullError,
    NoGatewayError,
    UnansweredStartError,
)
from shim.kernels.gateways import Gateways
from shim.kernels.patterns import matches
from shim.kernels.records import new_id
from shim.kernels.replies import KernelSpec
from shim.kernels.rest import MAX_ANSWER

TOKEN = "a-token-of-a-gateway"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
READY_SECONDS = 60
LEAN = "import sys; sys.modules['rfc3987_syntax'] = None; "
"""Leaves out four seconds of an import that both servers do without."""


def run(upstream: Any, code: str) -> str:
    """What code prints in a kernel."""
    parent = os.urandom(8).hex()
    header = {"msg_id": parent, "msg_type": "execute_request", "session": "test", "username": "", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    request = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    printed = ""
    options = {"context": upstream.tls} if upstream.tls else {}
    headers = [f"{name}: {value}" for name, value in upstream.headers]
    with closing(websocket.create_connection(upstream.url, timeout=60, header=headers, sslopt=options)) as connection:
        connection.send(json.dumps(request))
        while True:
            message = json.loads(connection.recv())
            if message["parent_header"].get("msg_id") != parent:
                continue
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(message["content"]["traceback"]))
            elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return printed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def server(port: int, program: str, *options: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Jupyter program that listens on a port; it ends its kernels when it is told to end."""
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | environ
    process = subprocess.Popen(
        [sys.executable, "-c", LEAN + program, "--KernelManager.shutdown_wait_time=1", *options],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def kernel_gateway(port: int, *options: str, **environ: str) -> Any:
    program = "from kernel_gateway import launch_instance; launch_instance()"
    return server(port, program, f"--KernelGatewayApp.port={port}", *options, KG_AUTH_TOKEN=TOKEN, **environ)


@dataclass(frozen=True)
class Backend:
    """One of the real servers."""

    url: str
    ca_file: str = ""

    def gateway(self, said: list[str] | None = None, token: str = TOKEN) -> Gateway:
        tls = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        return Gateway(Endpoint("main", self.url, token, tls), (said if said is not None else []).append)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", *command.split(), *files], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def kernel_specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for JUPYTER_PATH, in which there is a kernel for bash."""
    folder = tmp_path_factory.mktemp("jupyter")
    bash = folder / "kernels" / "bash"
    bash.mkdir(parents=True)
    command = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "Bash", "language": "bash", "env": {"PS1": "$"}}
    (bash / "kernel.json").write_text(json.dumps(spec))
    return folder


@pytest.fixture(scope="module")
def a_kernel_gateway() -> Iterator[Backend]:
    """A Kernel Gateway below a path that runs one kernel at most, lists none, and has a secret in its environment."""
    port = free_port()
    with kernel_gateway(port, "--KernelGatewayApp.base_url=/kg", "--KernelGatewayApp.max_kernels=1", A_SECRET="secret"):
        yield Backend(f"http://127.0.0.1:{port}/kg")


@pytest.fixture(scope="module")
def a_jupyter_server(
    certificate: tuple[Path, Path], kernel_specs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """A whole Jupyter Server with a token, over TLS, as it comes: it guards against requests of other sites."""
    port = free_port()
    options = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.certfile": certificate[0],
        "ServerApp.keyfile": certificate[1],
        "ServerApp.root_dir": tmp_path_factory.mktemp("root"),
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "ServerApp.jpserver_extensions": {},
        "IdentityProvider.token": TOKEN,
    }
    program = "from jupyter_server.serverapp import ServerApp; ServerApp.launch_instance()"
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with server(port, program, *arguments, JUPYTER_PATH=str(kernel_specs)):
        yield Backend(f"https://127.0.0.1:{port}", str(certificate[0]))


@pytest.fixture(scope="module", params=["a_kernel_gateway", "a_jupyter_server"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


# Real servers


def test_a_kernel_is_started_used_interrupted_restarted_and_deleted(backend: Backend) -> None:
    with closing(backend.gateway()) as gateway:
        chosen = new_id()
        kernel = gateway.start("python3", Path("/nowhere"), chosen)
        try:
            assert kernel == chosen
            assert run(gateway.upstream(kernel, "one"), "x = 1; print(6 * 7)") == "42\n"
            assert gateway.state(kernel) == "idle"
            assert gateway.kernels() in (None, {kernel: "idle"})
            gateway.interrupt(kernel)
            gateway.restart(kernel)
            assert run(gateway.upstream(kernel, "two"), "print('x' in globals())") == "False\n"
        finally:
            gateway.delete(kernel)
        assert gateway.state(kernel) is None
        gateway.delete(kernel)
        for use in (gateway.interrupt, gateway.restart):
            with pytest.raises(GatewayError):
                use(kernel)
        assert gateway.healthy


def test_a_kernel_that_is_not_installed_is_refused_in_one_sentence(backend: Backend) -> None:
    with closing(backend.gateway()) as gateway, pytest.raises(GatewayError) as caught:
        gateway.start("no such kernel", None, new_id())
    assert str(caught.value) == "The kernel server could not start the kernel 'no such kernel'."


def test_the_kernels_that_can_be_started_are_known_after_a_probe(backend: Backend) -> None:
    with closing(backend.gateway()) as gateway:
        assert gateway.specs is None
        gateway.probe()
        assert gateway.default == "python3"
        assert gateway.known_specs()["python3"] == KernelSpec("python3", "Python 3 (ipykernel)", "python")
        assert ("bash" in gateway.known_specs()) == ("https" in backend.url)


def test_a_wrong_token_is_said_once_and_makes_the_gateway_unfit(backend: Backend) -> None:
    said: list[str] = []
    with closing(backend.gateway(said, "wrong")) as gateway:
        with pytest.raises(GatewayError, match=r"does not let this site in\.$"):
            gateway.start("", None, new_id())
        gateway.probe()
        gateway.probe()
        assert not gateway.healthy
    (line,) = said
    assert line.startswith("The kernel gateway 'main' cannot be used: it refuses the token")


def test_a_kernel_gateway_keeps_its_environment_to_itself_and_its_limit_is_told(a_kernel_gateway: Backend) -> None:
    with closing(a_kernel_gateway.gateway()) as gateway:
        kernel = gateway.start("", None, new_id())
        try:
            assert run(gateway.upstream(kernel, "s"), "import os; print('A_SECRET' in os.environ)") == "False\n"
            with pytest.raises(GatewayFullError):
                gateway.start("", None, new_id())
            assert gateway.kernels() is None
            assert gateway.healthy
        finally:
            gateway.delete(kernel)


def test_a_gateway_whose_certificate_nobody_vouches_for_is_not_spoken_to(a_jupyter_server: Backend) -> None:
    said: list[str] = []
    endpoint = Endpoint("main", a_jupyter_server.url, TOKEN, ssl.create_default_context())
    with closing(Gateway(endpoint, said.append)) as gateway:
        gateway.probe()
    assert not gateway.healthy
    assert "its certificate is not trusted" in said[0]


def test_only_the_named_certificates_vouch_for_a_gateway(a_jupyter_server: Backend) -> None:
    tls = ssl.create_default_context(cafile=a_jupyter_server.ca_file)
    with closing(Gateway(Endpoint("main", a_jupyter_server.url, TOKEN, tls), print)) as gateway:
        gateway.probe()
    assert gateway.healthy
    assert len(tls.get_ca_certs()) == 1


def test_the_gateway_is_chosen_by_page_and_kernel_and_the_settings_name_its_certificates(
    a_kernel_gateway: Backend, a_jupyter_server: Backend, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(Path(a_jupyter_server.ca_file).read_bytes())
    config = f"""
    [[kernels.gateway]]
    name = "first"
    url = "{a_kernel_gateway.url}"
    token = "{TOKEN}"
    [[kernels.gateway]]
    name = "second"
    url = "{a_jupyter_server.url}"
    token = "{TOKEN}"
    ca_file = "ca.pem"
    paths = ["reports/**", "bash"]
    """
    with opened(tmp_path, config) as gateways:
        assert gateways.default == "" and sorted(gateways.specs()) == ["bash", "python3"]
        assert gateways.default == "python3"
        gateways.probe()
        assert gateways.choose("python3", "a", {}).name == "first"
        assert gateways.choose("python3", "a", {"first": 5}).name == "first"
        assert gateways.choose("python3", "reports/a", {"first": 1}).name == "second"
        assert gateways.choose("bash", "reports/a", {"second": 5}).name == "second"
        with pytest.raises(
            NoGatewayError, match=r"^The kernel 'bash' is not installed on the kernel server of this page"
        ):
            gateways.choose("bash", "a", {})
        gateway = gateways.choose("bash", "bash", {})
        kernel = gateway.start("bash", None, new_id())
        try:
            assert run(gateway.upstream(kernel, "s"), "echo $((6 * 7))") == "42\n"
        finally:
            gateway.delete(kernel)


def test_a_gateway_that_dies_is_skipped_until_it_is_back(a_jupyter_server: Backend, tmp_path: Path) -> None:
    port, said = free_port(), []
    config = f"""
    [[kernels.gateway]]
    name = "dies"
    url = "http://127.0.0.1:{port}"
    token = "{TOKEN}"
    [[kernels.gateway]]
    name = "stays"
    url = "{a_jupyter_server.url}"
    token = "{TOKEN}"
    ca_file = "{a_jupyter_server.ca_file}"
    """
    with opened(tmp_path, config, said.append) as gateways:
        with kernel_gateway(port) as process:
            gateways.probe()
            dying = gateways.choose("", "a", {})
            assert dying.name == "dies"
            process.send_signal(signal.SIGKILL)
            process.wait()
            with pytest.raises(GatewayError, match=r"does not answer; try again later\.$"):
                dying.start("", None, new_id())
            assert gateways.choose("", "a", {}).name == "stays"
            gateways.probe()
        with kernel_gateway(port):
            assert gateways.choose("", "a", {}).name == "stays"
            gateways.probe()
            assert gateways.choose("", "a", {}).name == "dies"
    assert said == [
        "The kernel gateway 'dies' cannot be used: connection refused.",
        "The kernel gateway 'dies' can be used again.",
    ]


# What no gateway should answer


Answering = Callable[["Request"], None]


@dataclass
class Fake:
    """A server that answers as a test wants it, and what it was asked."""

    answer: Answering
    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0


class Request(BaseHTTPRequestHandler):
    """One request to a fake."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    fake: Fake

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake = self.fake
        fake.at_once += 1
        fake.most_at_once = max(fake.most_at_once, fake.at_once)
        fake.requests.append((self.command, self.path, dict(self.headers), body))
        try:
            fake.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        fake.at_once -= 1

    do_GET = do_POST = do_DELETE = do_any  # noqa: N815

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is expected here."""


@contextmanager
def faking(answer: Answering) -> Iterator[Fake]:
    """A server with this answer to everything."""
    fake = Fake(answer)
    with Quiet(("127.0.0.1", 0), type("", (Request,), {"fake": fake})) as listening:
        fake.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            listening.shutdown()
            thread.join()


@contextmanager
def fake_gateway(answer: Answering, said: list[str] | None = None) -> Iterator[tuple[Fake, Gateway]]:
    with faking(answer) as fake, closing(Backend(fake.url).gateway(said)) as gateway:
        yield fake, gateway


def model(**changes: Any) -> bytes:
    return json.dumps({"id": UNKNOWN, "name": "x", "execution_state": "idle", **changes}).encode()


def test_a_full_enterprise_gateway_stays_in_use() -> None:
    words = b'{"reason": "A max kernels limit has been set to 2 and has been reached."}'
    said: list[str] = []
    with fake_gateway(lambda request: request.give(403, words), said) as (_, gateway):
        with pytest.raises(GatewayFullError):
            gateway.start("", None, new_id())
        assert gateway.healthy
    assert said == []


def test_a_start_holds_nothing_but_what_we_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    def answer(request: Request) -> None:
        request.give(201, model(), Set_Cookie="_xsrf=1; Path=/")

    with fake_gateway(answer) as (fake, gateway):
        assert gateway.start("", Path("/somewhere"), UNKNOWN) == UNKNOWN
        assert gateway.start("ir", None, UNKNOWN) == UNKNOWN
    ours = {"kernel_id": UNKNOWN, "env": {"KERNEL_ID": UNKNOWN}}
    (method, path, headers, body), (_, _, again, named) = fake.requests
    assert (method, path, json.loads(body)) == ("POST", "/api/kernels", ours)
    assert json.loads(named) == {**ours, "name": "ir"}
    assert headers["Authorization"] == again["Authorization"] == f"token {TOKEN}"
    assert "Cookie" not in again
    allowed = {"Host", "User-Agent", "Accept", "Accept-Encoding", "Authorization", "Content-Type", "Content-Length"}
    assert set(headers) - {"Connection"} == allowed


def test_kernels_are_started_one_after_the_other() -> None:
    def answer(request: Request) -> None:
        time.sleep(0.02)
        request.give(201, model())

    with fake_gateway(answer) as (fake, gateway):
        threads = [threading.Thread(target=gateway.start, args=("", None, UNKNOWN)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fake.requests) == 5 and fake.most_at_once == 1


class Local:
    """A kernel server of our own that always runs."""

    up = ready = True
    killed = 0

    def wait(self) -> bool:
        return True

    def kill(self) -> None:
        self.killed += 1


def test_kernels_of_a_server_of_our_own_are_started_together() -> None:
    together = threading.Barrier(3)

    def answer(request: Request) -> None:
        together.wait(20)
        request.give(201, model())

    with faking(answer) as fake, closing(Gateway(Endpoint("own", fake.url), print, Local())) as gateway:
        threads = [threading.Thread(target=gateway.start, args=("", None, UNKNOWN)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not together.broken


def test_a_gateway_that_did_not_answer_is_not_asked_again_until_a_probe_is_answered() -> None:
    statuses = [502, 200]

    def answer(request: Request) -> None:
        request.give(statuses.pop(0), b'{"kernelspecs": {}}' if "specs" in request.path else model())

    with fake_gateway(answer) as (fake, gateway):
        with pytest.raises(GatewayError):
            gateway.interrupt(UNKNOWN)
        for use in (gateway.interrupt, gateway.restart, gateway.delete, gateway.state):
            with pytest.raises(GatewayError, match=r"^The kernel server cannot be used right now; try again later\.$"):
                use(UNKNOWN)
        assert len(fake.requests) == 1
        gateway.probe()
        statuses.append(200)
        assert gateway.state(UNKNOWN) == "idle"


def test_of_a_start_that_was_refused_and_one_that_was_not_answered_only_this_may_have_succeeded() -> None:
    for answer, unknown in ((nothing, True), (lambda request: request.give(404), False)):
        with fake_gateway(answer) as (_, gateway), pytest.raises(GatewayError) as caught:
            gateway.start("", None, UNKNOWN)
        assert isinstance(caught.value, UnansweredStartError) == unknown


def test_only_some_wait_for_the_list_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.gateway.QUESTIONS", 1)
    asked, over = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        asked.set()
        over.wait(20)
        request.give(200, b'{"kernelspecs": {"r": {"spec": {}}}}')

    with fake_gateway(answer) as (_, gateway):
        thread = threading.Thread(target=gateway.known_specs)
        thread.start()
        assert asked.wait(20)
        assert gateway.known_specs() == {}
        over.set()
        thread.join()
        assert list(gateway.known_specs()) == ["r"]


def test_a_redirect_is_not_followed() -> None:
    with (
        faking(lambda request: request.give(201, model())) as other,
        fake_gateway(lambda request: request.give(307, Location=f"{other.url}/api/kernels")) as (_, gateway),
        pytest.raises(GatewayError, match=r"could not do it \(307\)"),
    ):
        gateway.start("", None, new_id())
    assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        model(id="a"),
        model(id="../../../../etc"),
        model(id=UNKNOWN + "\n"),
        model(id=7),
        model(id="-".join("a" * 41 for _ in range(5))),
        model(execution_state=None),
    ],
)
def test_an_answer_that_is_not_a_kernel_is_refused(body: bytes) -> None:
    said = r"^The kernel server gave an answer that cannot be read\.$"
    with fake_gateway(lambda request: request.give(201, body)) as (_, gateway), pytest.raises(GatewayError, match=said):
        gateway.start("", None, new_id())


def test_strange_execution_states_are_unknown_ones() -> None:
    with fake_gateway(lambda request: request.give(200, model(execution_state="<b>idle"))) as (_, gateway):
        assert gateway.state(UNKNOWN) == "unknown"


@pytest.mark.parametrize(
    ("status", "healthy"),
    [(400, True), (404, True), (500, True), (502, False), (503, False), (401, False), (418, True)],
)
def test_no_word_of_an_error_is_handed_on(status: int, healthy: bool) -> None:
    body = json.dumps({"message": "Unhandled error", "traceback": "Traceback (most recent call last)"}).encode()
    said: list[str] = []
    with fake_gateway(lambda request: request.give(status, body), said) as (_, gateway):
        uses: list[Callable[[], object]] = [
            lambda: gateway.start("python3", None, new_id()),
            gateway.kernels,
            lambda: gateway.interrupt(UNKNOWN),
            lambda: gateway.restart(UNKNOWN),
        ]
        for use in uses:
            with pytest.raises(GatewayError) as caught:
                use()
            assert str(caught.value).startswith("The kernel ") and str(caught.value).endswith(".")
            assert "raceback" not in str(caught.value) and "nhandled" not in str(caught.value)
        assert gateway.healthy == healthy
    assert len(said) == (0 if healthy else 1)


def too_long(request: Request) -> None:
    request.give(200, b"[" + b" " * MAX_ANSWER + b"]")


def compressed(request: Request) -> None:
    request.give(200, b"\x1f\x8b" + b"x" * 50, Content_Encoding="gzip")


def cut(request: Request) -> None:
    request.give(200, b"[]", Content_Length="100")
    request.close_connection = True


def no_http(request: Request) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    request.close_connection = True


def nothing(request: Request) -> None:
    request.close_connection = True


@pytest.mark.parametrize("answer", [too_long, cut, no_http, nothing])
def test_a_gateway_that_does_not_answer_properly_is_unfit_and_the_log_says_why(answer: Answering) -> None:
    said: list[str] = []
    with fake_gateway(answer, said) as (_, gateway):
        with pytest.raises(GatewayError, match=r"^The kernel server does not answer; try again later\.$"):
            gateway.kernels()
        assert not gateway.healthy
    (line,) = said
    assert line.startswith("The kernel gateway 'main' cannot be used: ") and line.isprintable() and len(line) < 150


def test_what_claims_to_be_compressed_is_not_unpacked() -> None:
    with fake_gateway(compressed) as (_, gateway), pytest.raises(GatewayError, match=r"cannot be read"):
        gateway.kernels()


def test_a_gateway_that_is_silent_or_slow_costs_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.kernels.gateway.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("shim.kernels.gateway.PROBE_SECONDS", 0.2)
    monkeypatch.setattr("shim.kernels.rest.CONNECT_SECONDS", 0.2)
    over = threading.Event()

    def silent(request: Request) -> None:
        over.wait(20)

    def slow(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not over.wait(0.05):
            request.wfile.write(b" ")

    for answer in (silent, slow):
        over.clear()
        with fake_gateway(answer) as (_, gateway):
            try:
                with pytest.raises(GatewayError):
                    gateway.state(UNKNOWN)
                assert not gateway.healthy
                gateway.probe()
                assert not gateway.healthy
            finally:
                over.set()


def test_only_kernels_with_usual_names_are_handed_on() -> None:
    specs = {
        "default": "r",
        "kernelspecs": {
            "r": {"name": "r", "spec": {"display_name": "R", "language": "R", "argv": ["/usr/bin/R"]}},
            "bare": {"spec": {}},
            "<script>": {"spec": {"display_name": "x"}},
            "long": {"spec": {"display_name": "x" * 1000}},
        },
    }
    with fake_gateway(lambda request: request.give(200, json.dumps(specs).encode())) as (_, gateway):
        found = gateway.known_specs()
    assert sorted(found) == ["bare", "long", "r"]
    assert found["r"] == KernelSpec("r", "R", "R")
    assert found["bare"] == KernelSpec("bare", "bare", "")
    assert len(found["long"].display_name) == 200


def test_the_websocket_of_a_kernel_is_below_the_path_of_the_gateway_and_its_names_are_quoted() -> None:
    plain = Gateway(Endpoint("main", "http://[::1]:8888/a/b"), print).upstream(UNKNOWN, "a&b=c/ü")
    assert plain.url == f"ws://[::1]:8888/a/b/api/kernels/{UNKNOWN}/channels?session_id=a%26b%3Dc%2F%C3%BC"
    assert plain.headers == () and plain.tls is None
    tls = ssl.create_default_context()
    secure = Gateway(Endpoint("main", "https://gate.example.org", "t", tls), print).upstream("../x", "s")
    assert secure.url == "wss://gate.example.org/api/kernels/..%2Fx/channels?session_id=s"
    assert secure.headers == (("Authorization", "token t"),) and secure.tls is tls


# Choosing


@contextmanager
def opened(folder: Path, text: str, say: Callable[[str], None] = lambda line: None) -> Iterator[Gateways]:
    """The gateways of settings."""
    gateways = gateways_of(folder, text, say)
    gateways.open()
    try:
        yield gateways
    finally:
        gateways.close()


def gateways_of(folder: Path, text: str, say: Callable[[str], None] = lambda line: None) -> Gateways:
    (folder / "site.toml").write_text(text)
    return Gateways(load_config(folder, None, {}, {}), say)


def entry(name: str, **more: Any) -> str:
    lines = {"name": name, "url": f"http://127.0.0.1:{free_port()}", **more}
    return "\n".join(["[[kernels.gateway]]", *(f"{key} = {json.dumps(value)}" for key, value in lines.items()), ""])


def test_the_least_loaded_gateway_is_taken_and_of_equals_the_first(tmp_path: Path) -> None:
    gateways = gateways_of(tmp_path, entry("one") + entry("two") + entry("three"))
    assert gateways.choose("", "a", {}).name == "one"
    assert gateways.choose("", "a", {"one": 1, "elsewhere": 9}).name == "two"
    assert gateways.choose("", "a", {"one": 2, "two": 3, "three": 2}).name == "one"
    assert gateways.named("two") is not None and gateways.named("four") is None


def test_patterns_of_the_settings_decide_who_may_run_what(tmp_path: Path) -> None:
    gateways = gateways_of(
        tmp_path,
        entry("python", kernelspecs=["python*", "conda-?"], paths=["**"])
        + entry("r", kernelspecs=["ir"], paths=["stats/**", "r-*"]),
    )
    assert gateways.choose("python3", "stats/a", {}).name == "python"
    assert gateways.choose("conda-1", "", {}).name == "python"
    assert gateways.choose("ir", "stats/a/b", {}).name == "r"
    assert gateways.choose("ir", "r-one", {}).name == "r"
    with pytest.raises(NoGatewayError, match=r"^No kernel server is set up to run the kernel 'ir' for this page\.$"):
        gateways.choose("ir", "other", {})
    with pytest.raises(NoGatewayError, match=r"set up to run the kernel 'julia'"):
        gateways.choose("julia", "stats/a", {})


def test_a_default_kernel_has_to_fit_too_once_it_is_known(tmp_path: Path) -> None:
    gateways = gateways_of(tmp_path, entry("one", kernelspecs=["ir"]))
    gateway = gateways.choose("", "a", {})
    gateway.default = "python3"
    with pytest.raises(NoGatewayError, match=r"set up to run the default kernel"):
        gateways.choose("", "a", {})
    gateway.default = "ir"
    assert gateways.choose("", "a", {}) is gateway


def test_a_gateway_without_the_kernel_is_passed_over_and_one_that_nobody_asked_yet_is_tried(tmp_path: Path) -> None:
    gateways = gateways_of(tmp_path, entry("one") + entry("two"))
    one, two = gateways.choose("", "a", {}), gateways.choose("", "a", {"one": 1})
    one.specs = {"python3": KernelSpec("python3", "Python", "python")}
    assert gateways.choose("ir", "a", {}) is two
    two.specs = {}
    assert gateways.choose("python3", "a", {"one": 100}) is one
    with pytest.raises(NoGatewayError, match=r"^The kernel 'ir' is not installed on the kernel server of this page\.$"):
        gateways.choose("ir", "a", {})


def test_when_no_gateway_answers_the_reader_is_told_to_try_later(tmp_path: Path) -> None:
    said: list[str] = []
    gateways = gateways_of(tmp_path, entry("one") + entry("two"), said.append)
    gateways.probe()
    gateways.probe()
    with pytest.raises(NoGatewayError, match=r"^No kernel server answers right now; try again later\.$"):
        gateways.choose("", "a", {})
    assert sorted(said) == [
        f"The kernel gateway '{name}' cannot be used: connection refused." for name in ("one", "two")
    ]
    assert gateways.specs() == {}
    assert gateways.available and not gateways.problem


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"token": "tök"}, "[kernels] gateway 'one': the token has characters that no header can carry"),
        ({"url": "https://x", "ca_file": "gone.pem"}, "gone.pem' cannot be read: No such file or directory"),
        ({"url": "https://x", "ca_file": "site.toml"}, "site.toml' holds no certificate"),
        ({"url": "http://x", "ca_file": "site.toml"}, "ca_file is for gateways with an https address"),
    ],
)
def test_gateways_that_cannot_work_are_refused_at_the_start(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gateways_of(tmp_path, entry("one", **more))
    assert said in str(caught.value)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("**", "", True),
        ("**", "a/b/c", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("a/*", "a/b", True),
        ("a/*", "a", False),
        ("a/**", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab", False),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("**/c", "a/bc", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/b/c", False),
        ("re?ort-[0-9]", "report-7", True),
        ("re?ort-[!0-9]", "report-7", False),
        ("A", "a", False),
        ("a.b", "axb", False),
        ("", "a", False),
    ],
)
def test_patterns_fit_whole_paths(pattern: str, path: str, fits: bool) -> None:
    assert matches(pattern, path) == fits


segments = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6)


@given(segments, st.data())
def test_any_segment_may_be_a_star_and_any_run_of_them_two(path: list[str], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(path)))
    end = data.draw(st.integers(begin, len(path)))
    text = "/".join(path)
    assert matches("/".join([*path[:begin], *("*" for _ in path[begin:end]), *path[end:]]), text)
    assert matches("/".join([*path[:begin], "**", *path[end:]]), text)
    assert not matches("/".join([*path[:begin], "*", *path[begin:]]), text)


def test_many_double_stars_stay_cheap() -> None:
    assert not matches("/".join(["**", "a"] * 50 + ["b"]), "/".join(["a"] * 2000))
