"""shim-admin's requests against real servers, and its sentences about answers and failures of every kind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote

import pytest
from answering import Api, Reply, answering, error
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from builder.errors import UnsafePathError
from builder.paths import safe_relative
from shim import admin_client, admin_http
from shim.admin_client import AdminClient, AdminError, ExistsError
from shim.admin_messages import Answer, Asked, Token, failure, refusal

TOKEN = Token("s3cret", "ci.token")
DENIED = "Authentication required. Please provide a valid auth token."


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxies, certificates and passwords of whoever runs the tests."""
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "local name.ipynb"
    path.write_bytes(b'{"cells": []}')
    return path


def nothing(sent: int, total: int) -> None:
    """No progress."""


def send(client: AdminClient, file: Path, path: str = "a/b", *, overwrite: bool = False) -> str:
    """Upload without progress."""
    return client.upload(file, path, overwrite=overwrite, progress=nothing)


def message(action: Callable[[], object]) -> str:
    """The sentence that an action fails with: one printable line."""
    with pytest.raises(AdminError) as caught:
        action()
    said = str(caught.value)
    assert said.isprintable(), said
    return said


# --- what is sent


def test_an_upload_carries_the_file_as_it_is_the_token_and_the_condition(file: Path) -> None:
    with answering(Api()) as server:
        link = send(AdminClient(server.address, TOKEN), file)
    assert link == f"{server.address}/dashboards/a/b"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/_api/notebooks/a/b")
    assert request.file() == ("b.ipynb", b'{"cells": []}')
    assert request.headers["authorization"] == "token s3cret"
    assert request.headers["if-none-match"] == "*"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["user-agent"].startswith("shim-admin/")
    assert "origin" not in request.headers


def test_what_exists_is_replaced_only_when_that_is_wanted(file: Path) -> None:
    api = Api()
    with answering(api) as server:
        client = AdminClient(server.address, TOKEN)
        send(client, file)
        file.write_bytes(b"second")
        with pytest.raises(ExistsError, match=r"^'a/b' exists already; --overwrite replaces it\.$"):
            send(client, file)
        assert api.dashboards["a/b"] == ("b.ipynb", b'{"cells": []}')
        send(client, file, overwrite=True)
    assert api.dashboards["a/b"] == ("b.ipynb", b"second")
    assert "if-none-match" not in server.requests[-1].headers


@pytest.mark.parametrize(
    ("local", "path", "sent"),
    [
        ("x.zip", "a/b", "b.zip"),
        ("X.ZIP", "b", "b.zip"),
        ("x.ipynb", "b.ipynb", "b.ipynb"),
        ("x.ipynb", "ä b", "ä b.ipynb"),
    ],
)
def test_the_name_of_the_part_is_that_of_the_dashboard(tmp_path: Path, local: str, path: str, sent: str) -> None:
    (tmp_path / local).write_bytes(b"x")
    with answering(Api()) as server:
        send(AdminClient(server.address, TOKEN), tmp_path / local, path)
    assert server.requests[0].file()[0] == sent


def test_the_prefix_of_the_address_is_kept(file: Path) -> None:
    with answering(Api(prefix="/db/x")) as server:
        client = AdminClient(f"{server.address}/db/x", TOKEN)
        assert send(client, file) == f"{server.address}/db/x/dashboards/a/b"
        client.delete("a/b")
        client.clear_cache(None)
        client.clear_cache("a")
        client.dashboards()
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/db/x/_api/notebooks/a/b"),
        ("DELETE", "/db/x/_api/notebooks/a/b"),
        ("DELETE", "/db/x/_api/cache"),
        ("DELETE", "/db/x/_api/cache/a"),
        ("GET", "/db/x/_api/notebooks"),
    ]


def test_a_path_arrives_as_it_was_given() -> None:
    api = Api()
    with answering(api) as server:
        client = AdminClient(server.address, TOKEN)

        @settings(max_examples=150, deadline=None)
        @given(
            path=st.text(st.characters(exclude_categories=()), max_size=20)
            | st.text("ab/.%2Fe?#;\\ä &+=:@", max_size=12)
        )
        def check(path: str) -> None:
            server.requests.clear()
            try:
                safe_relative(path)
            except UnsafePathError:
                with pytest.raises(UnsafePathError):
                    client.delete(path)
                assert not server.requests, "refused here"
                return
            api.dashboards[path] = ("x", b"")
            client.delete(path)
            sent = server.requests[0].path.removeprefix("/_api/notebooks/")
            assert unquote(sent) == path
            assert sent.count("/") == path.count("/")

        check()


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "a\\b", "a\nb", ".a", "\udcff"])
def test_a_path_that_can_name_nothing_is_refused_before_anything_is_sent(file: Path, path: str) -> None:
    client = AdminClient("http://127.0.0.1:1", TOKEN)
    for action in (lambda: send(client, file, path), lambda: client.delete(path), lambda: client.clear_cache(path)):
        with pytest.raises(UnsafePathError, match=r"^The path '.*\.$"):
            action()


@pytest.mark.parametrize("value", ["tökén €", "a b", "x" * 8000])
def test_a_token_is_sent_in_utf8(value: str) -> None:
    with answering(lambda request: Reply(200, {}, b"OK")) as server:
        AdminClient(server.address, Token(value, "x")).clear_cache(None)
    assert server.requests[0].headers["authorization"].encode("latin-1").decode() == f"token {value}"


@pytest.mark.parametrize("token", [None, TOKEN])
def test_passwords_out_of_netrc_are_never_sent(tmp_path: Path, token: Token | None) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password hidden\n")
    (tmp_path / ".netrc").chmod(0o600)
    with answering(lambda request: Reply(200, {}, b"OK")) as server:
        AdminClient(server.address, token).clear_cache(None)
    assert server.requests[0].headers.get("authorization") == (f"token {token.value}" if token else None)


def test_a_server_on_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(lambda request: Reply(200, {}, b"OK")) as server, answering(lambda request: Reply(502)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        AdminClient(server.address, TOKEN).clear_cache(None)
        assert (len(server.requests), len(proxy.requests)) == (1, 0)
        assert "nbfolio.invalid" in message(AdminClient("http://nbfolio.invalid", TOKEN).dashboards)
        assert len(proxy.requests) == 1, "others are"


def test_a_large_file_is_streamed_and_its_progress_told(tmp_path: Path) -> None:
    size = 64 << 20
    with open(tmp_path / "big.zip", "wb") as stream:
        stream.truncate(size)
    told: list[tuple[int, int]] = []
    reply = Reply(201, {}, b'{"message": "", "link": "here"}')
    with answering(lambda request: reply, keep=False) as server:
        client = AdminClient(server.address, TOKEN)
        tracemalloc.start()
        try:
            link = client.upload(
                tmp_path / "big.zip", "big", overwrite=True, progress=lambda sent, total: told.append((sent, total))
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert link == "here"
    assert peak < size / 4
    total = int(server.requests[0].headers["content-length"])
    assert size < total < size + 1000
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert len(told) > 100


# --- the file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.ipynb", "is not there"),
        ("folder.ipynb", "is not a file"),
        ("pipe.zip", "is not a file"),
        ("empty.ipynb", "is empty"),
        ("text.txt", "neither a notebook (.ipynb) nor a bundle (.zip)"),
        ("none", "neither a notebook"),
        ("a\0b.ipynb", "is not there"),
        ("x" * 300 + ".zip", "File name too long"),
        ("bell\a.zip", r"bell\x07.zip' is not there"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_before_anything_is_sent(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "empty.ipynb").touch()
    (tmp_path / "text.txt").write_text("x")
    assert said in message(lambda: send(AdminClient("http://127.0.0.1:1", TOKEN), tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_said(file: Path) -> None:
    file.chmod(0)
    assert "cannot be read: Permission denied" in message(lambda: send(AdminClient("http://127.0.0.1:1", TOKEN), file))


def test_a_file_that_shrinks_while_it_is_sent_ends_the_upload(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(os.urandom(4 << 20))
    with answering(Api()) as server:
        client = AdminClient(server.address, TOKEN)
        said = message(lambda: client.upload(file, "a", overwrite=True, progress=lambda *_: os.truncate(file, 1000)))
    assert "became shorter while it was sent; nothing was published" in said


def test_of_a_file_that_grows_only_what_was_announced_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    before = os.urandom(1 << 20)
    file.write_bytes(before)
    api = Api()

    def grow(sent: int, total: int) -> None:
        with open(file, "ab") as stream:
            stream.write(b"more" * 1000)

    with answering(api) as server:
        AdminClient(server.address, TOKEN).upload(file, "a", overwrite=True, progress=grow)
    assert api.dashboards["a"] == ("a.zip", before)


# --- answers


@pytest.mark.parametrize(
    ("reply", "token", "said"),
    [
        (error(401, DENIED), TOKEN, "does not accept the token from ci.token"),
        (error(401, DENIED), None, "wants a token, and none is given: name its file with --token-file"),
        (Reply(401, {"WWW-Authenticate": "Basic"}, b"<p>"), TOKEN, "Something before the server"),
        (error(403, "It takes the scope publish."), TOKEN, "It takes the scope publish. The token came from ci.token."),
        (error(403, "No."), None, "No."),
        (Reply(403, {}, b"<html>"), TOKEN, "Something before the server"),
        (error(400, "a is a folder."), TOKEN, "a is a folder."),
        (error(404, "There is no a."), TOKEN, "There is no a. "),
        (Reply(404, {}, b"<html>"), TOKEN, "answers with status 404, but not as nbfolio does"),
        (error(409, "A folder is there."), TOKEN, "A folder is there."),
        (error(413, "Too large."), TOKEN, "Too large. The limit is server.max_upload_mb"),
        (Reply(413, {}, b"<html>"), TOKEN, "takes no file of this size (413)"),
        (error(415, "No notebook."), TOKEN, "No notebook. The server takes .ipynb and .zip"),
        (error(422, "Entry '../x' leads out."), TOKEN, "Entry '../x' leads out."),
        (error(422, "red \x1b[31m\nnext"), TOKEN, r"red \x1b[31m\nnext"),
        (error(429, "Slowly.", Retry_After="7"), TOKEN, "Slowly. Try again in 7 seconds."),
        (error(503, "Not yet."), TOKEN, "Not yet. Try again later."),
        (error(503, "Not yet.", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), TOKEN, "Try again later."),
        (Reply(503, {"Retry-After": "9"}, b""), TOKEN, "takes no requests now (503). Try again in 9 seconds."),
        (
            error(500, "A fault.", X_Request_Id="ab12"),
            TOKEN,
            "A fault. The log of the server says more (request ab12).",
        ),
        (Reply(502, {}, b"<html>Bad gateway"), TOKEN, "gets no answer from the server (502). Is run-shim running"),
        (Reply(504), TOKEN, "gets no answer from the server (504)"),
        (Reply(418, {}, b"\xff"), TOKEN, "status 418, but not as nbfolio does"),
        (Reply(200, {"Content-Type": "text/html"}, b"<form>Log in</form>"), TOKEN, "but not as nbfolio does"),
        (Reply(202, {}, b"{}"), TOKEN, "but not as nbfolio does"),
    ],
)
def test_every_refusal_says_what_to_do(reply: Reply, token: Token | None, said: str, file: Path) -> None:
    with answering(lambda request: reply) as server:
        client = AdminClient(server.address, token)
        for action in (
            lambda: send(client, file),
            lambda: client.delete("a"),
            lambda: client.clear_cache("a"),
            client.dashboards,
        ):
            assert said in message(action)
            assert "s3cret" not in message(action)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"message": 1}',
        b'{"link": "x"}',
        b'{"message": "", "link": 7}',
        b'{"message": "x", "link": 7}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_success_that_no_nbfolio_server_sends_is_none(body: bytes, file: Path) -> None:
    for status in (200, 201):
        with answering(lambda request, status=status: Reply(status, {}, body)) as server:  # type: ignore[misc]
            client = AdminClient(server.address, TOKEN)
            assert "not as nbfolio does" in message(lambda: send(client, file))  # noqa: B023
            assert "not as nbfolio does" in message(client.dashboards)
            assert "not as nbfolio does" in message(lambda: client.clear_cache(None))  # noqa: B023


def test_an_upload_without_link_in_its_answer_gives_the_address_of_the_page(file: Path) -> None:
    with answering(lambda request: Reply(201, {}, b'{"message": "Notebook successfully uploaded"}')) as server:
        assert send(AdminClient(server.address, TOKEN), file, "a b.ipynb") == f"{server.address}/dashboards/a%20b"


def test_the_list_comes_back_as_it_was_sent() -> None:
    line = {
        "path": "a/b",
        "title": "B",
        "kind": "notebook",
        "message": "mend it",
        "published": True,
        "link": "http://x",
    }
    hidden = {**line, "path": "c", "published": False, "link": None, "later": "more"}
    body = json.dumps({"notebooks": [line, hidden]}).encode()
    with answering(lambda request: Reply(200, {}, body)) as server:
        first, second = AdminClient(server.address, TOKEN).dashboards().notebooks
    assert asdict(first) == line
    assert (second.path, second.published, second.link) == ("c", False, None)


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(admin_client, "MAX_LIST", 2 << 20)
    with answering(lambda request: Reply(status, {"Location": "/login"}, b" " * (3 << 20))) as server:
        client = AdminClient(server.address, TOKEN)
        assert "longer than 1 MB" in message(lambda: client.clear_cache(None))
        assert "longer than 2 MB" in message(client.dashboards)


def test_ten_thousand_dashboards_can_be_listed() -> None:
    line = {"path": "p" * 200, "title": "t" * 200, "kind": "notebook", "link": "l" * 250, "message": "m" * 50}
    body = json.dumps({"notebooks": [line] * 10_000}).encode()
    with answering(lambda request: Reply(200, {}, body)) as server:
        assert len(AdminClient(server.address, TOKEN).dashboards().notebooks) == 10_000


def test_a_message_without_end_is_cut() -> None:
    with answering(lambda request: error(422, "long " * 100_000)) as server:
        assert len(message(lambda: AdminClient(server.address, TOKEN).delete("a"))) < 600


@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(["Location", "Retry-After", "X-Request-Id"]), st.text(max_size=30)),
    body=st.binary(max_size=60) | st.text().map(lambda text: json.dumps({"message": text}).encode()),
    token=st.none() | st.just(TOKEN),
)
def test_whatever_comes_back_becomes_one_printable_line(
    status: int, headers: dict[str, str], body: bytes, token: Token | None
) -> None:
    asked = Asked("GET", "http://127.0.0.1:3000/db", "http://127.0.0.1:3000/db/_api/notebooks/a%20b", token)
    said = refusal(Answer(status, headers, body), asked)
    assert said.isprintable() and len(said) < 1000
    assert "s3cret" not in said


def test_what_is_not_there_leads_to_the_list_or_to_the_address(file: Path) -> None:
    with answering(lambda request: error(404, "There is no a.")) as server:
        client = AdminClient(server.address, TOKEN)
        assert message(lambda: client.delete("a")) == "There is no a. shim-admin list names what there is."
        for action in (lambda: send(client, file), client.dashboards):
            assert (
                message(action)
                == f"There is no a. Is {server.address} the whole address of the server, with its prefix?"
            )


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(file: Path, status: int) -> None:
    with (
        answering(Api()) as other,
        answering(lambda request: Reply(status, {"Location": f"{other.address}{request.path}"})) as server,
    ):
        client = AdminClient(server.address, TOKEN)
        for action in (
            lambda: send(client, file),
            lambda: client.delete("a"),
            lambda: client.clear_cache("a"),
            client.dashboards,
        ):
            said = message(action)
            assert said == f"{server.address} sends every request on to {other.address}: use --url {other.address}"
    assert not other.requests


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://nb.example.org/db/_api/notebooks", "use --url https://nb.example.org/db"),
        (
            "https://sso.example.org/login?back=x",
            "on to https://sso.example.org/login?back=x, where the token does not go",
        ),
        ("/login", "on to /login, where the token does not go"),
        ("//[", "on to //["),
        ("", "on to nowhere"),
    ],
)
def test_where_a_redirect_leads_is_said(location: str, said: str) -> None:
    with answering(lambda request: Reply(302, {"Location": location})) as server:
        assert said in message(AdminClient(server.address, TOKEN).dashboards)


# --- failures of the way


@contextmanager
def listening(speak: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that does with its one connection what `speak` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            speak(connection)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def test_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert message(AdminClient(address, TOKEN).dashboards) == (
        f"Nothing listens at {address[7:]}. Is run-shim running there, and on this port?"
    )


def test_names_that_lead_nowhere() -> None:
    assert "The name nbfolio.invalid is not known" in message(AdminClient("http://nbfolio.invalid", None).dashboards)
    for host in ("x" * 70, "a..b", "ä" * 70):
        assert host in message(AdminClient(f"http://{host}", None).dashboards)


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert "The proxy that HTTP_PROXY" in message(AdminClient("http://nbfolio.invalid", TOKEN).dashboards)


@pytest.mark.parametrize(
    ("speech", "said"),
    [
        (b"", "ended the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "cannot be asked"),
    ],
)
def test_what_answers_in_another_language_is_said(speech: bytes, said: str) -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(speech)

    with listening(speak) as address:
        assert said in message(AdminClient(address, TOKEN).dashboards)


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(admin_http, "ANSWER_SECONDS", 0.1)
    done = Event()

    def speak(connection: socket.socket) -> None:
        connection.sendall(beginning)
        done.wait(60)

    with listening(speak) as address:
        said = message(AdminClient(address, TOKEN).dashboards)
        done.set()
    assert "in time" in said or "stopped" in said


def test_a_server_that_takes_no_more_of_a_file_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(admin_http, "CONNECT_SECONDS", 0.2)
    with open(tmp_path / "a.zip", "wb") as stream:
        stream.truncate(64 << 20)
    done = Event()
    with listening(lambda connection: done.wait(60)) as address:
        said = message(lambda: send(AdminClient(address, TOKEN), tmp_path / "a.zip"))
        done.set()
    assert "stopped taking" in said


def test_an_answer_that_comes_before_the_whole_file_is_sent_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.zip", "wb") as stream:
        stream.truncate(64 << 20)
    reply = b"HTTP/1.1 413 Too large\r\nContent-Length: 24\r\n\r\n" + b'{"message": "Too large"}'

    def speak(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):  # as a server should: else the answer is lost on the way
            pass

    with listening(speak) as address:
        assert message(lambda: send(AdminClient(address, TOKEN), tmp_path / "a.zip")).startswith("Too large ")


@settings(max_examples=200, deadline=None)
@given(text=st.text(), number=st.integers(0, 200))
def test_every_failure_becomes_one_printable_line(text: str, number: int) -> None:
    for raised in (
        OSError(text),
        OSError(number, os.strerror(number)),
        ssl.SSLError(text),
        ConnectionError(OSError(text)),
    ):
        assert failure(raised, "http://127.0.0.1:3000").isprintable()


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1, signed by nobody else."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=nbfolio test", "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """What a server needs to speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_a_certificate_of_an_own_authority_is_refused_until_it_is_named(
    tls: ssl.SSLContext, certificate: tuple[Path, Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Api(), tls=tls) as server:
        client = AdminClient(server.address, TOKEN)
        said = message(lambda: send(client, file))
        assert said.startswith(f"The certificate of {server.address[8:]} is not trusted: self-signed certificate.")
        assert "REQUESTS_CA_BUNDLE" in said
        assert not server.requests
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        send(client, file)
        assert server.requests[0].headers["authorization"] == "token s3cret"
        wrong = AdminClient(server.address.replace("127.0.0.1", "localhost"), TOKEN)
        assert "is not trusted: Hostname mismatch" in message(wrong.dashboards)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_file_without_certificates_is_said(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with answering(Api(), tls=tls) as server:
        said = message(AdminClient(server.address, TOKEN).dashboards)
    assert ("REQUESTS_CA_BUNDLE names holds no certificate" if content else str(tmp_path / "ca.pem")) in said


def test_http_and_https_taken_for_each_other(tls: ssl.SSLContext) -> None:
    with answering(Api()) as server:
        assert "Is it http instead of https?" in message(
            AdminClient(server.address.replace("http:", "https:"), TOKEN).dashboards
        )
    with answering(Api(), tls=tls) as server:
        assert "https" in message(AdminClient(server.address.replace("https:", "http:"), TOKEN).dashboards)
        assert not server.requests
