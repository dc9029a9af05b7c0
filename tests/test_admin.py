"""shim-admin as a program: its options, output, exit codes, terminal and password hashes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest
import requests
from answering import Api, Reply, Request, answering, error
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from making import markdown, notebook, write

from builder import __version__
from shim.admin import main
from shim.startup import _ARGON2

PROGRAM = [sys.executable, "-c", "import sys; from shim.admin import main; sys.exit(main())"]


def admin(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The outcome of one run."""
    return subprocess.run([*PROGRAM, *args], input=stdin, capture_output=True, timeout=60)


@pytest.mark.parametrize("line_end", [b"", b"\n", b"\r\n"])
def test_a_password_from_standard_input_becomes_an_argon2id_hash(line_end: bytes) -> None:
    done = admin("hash-password", stdin="pässword 1".encode() + line_end)
    assert (done.returncode, done.stderr) == (0, b"")
    hashed = done.stdout.decode().removesuffix("\n")
    assert _ARGON2.fullmatch(hashed), "the server takes what the program prints"
    PasswordHasher().verify(hashed, "pässword 1")
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(hashed, "pässword 2")


def test_every_hash_has_its_own_salt() -> None:
    assert admin("hash-password", stdin=b"x").stdout != admin("hash-password", stdin=b"x").stdout


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "the password is empty"),
        (b"\n", "the password is empty"),
        (b"a\nb\n", "one line of printable text"),
        (b"a\0b", "one line of printable text"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 1025, "longer than 1024 bytes"),
        (b"x" * 5_000_000, "longer than 1024 bytes"),
    ],
)
def test_what_cannot_be_a_password_is_refused(stdin: bytes, said: str) -> None:
    done = admin("hash-password", stdin=stdin)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def on_a_terminal(*typed: bytes) -> tuple[int, bytes, bytes]:
    """Exit code, output and what the terminal showed, when `typed` is typed at the two prompts."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "hash-password"], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        shown = b""
        for prompt, line in zip((b"Password: ", b"confirmation: "), typed, strict=True):
            while not shown.endswith(prompt):
                shown += os.read(ours, 1000)
            os.write(ours, line + b"\n")
        out, _ = process.communicate(timeout=60)
        try:
            while block := os.read(ours, 1000):
                shown += block
        except OSError:  # the other side is closed
            pass
        return process.returncode, out, shown
    finally:
        os.close(ours)


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown() -> None:
    code, out, shown = on_a_terminal(b"secret", b"secret")
    assert code == 0
    PasswordHasher().verify(out.decode().strip(), "secret")
    assert b"secret" not in shown


def test_wrong_usage_is_exit_code_3() -> None:
    for args in ([], ["nope"], ["hash-password", "secret"]):
        done = admin(*args)
        assert (done.returncode, done.stdout) == (3, b""), args
        assert b"Usage: shim-admin" in done.stderr


def test_help_is_no_error() -> None:
    done = admin("--help")
    assert (done.returncode, b"hash-password" in done.stdout) == (0, True)


# --- a running server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "local.ipynb"
    path.write_bytes(b"{}")
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token that `Api` takes."""
    path = tmp_path / "ci.token"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests."""
    for name in [*os.environ]:
        if name.startswith("NBFOLIO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Said(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""

    def run(*args: object) -> Said:
        code = main([str(arg) for arg in args])
        return Said(code, *capsys.readouterr())

    return run


def test_a_dashboard_is_uploaded_listed_and_deleted(run: Run, file: Path, token_file: Path) -> None:
    api = Api()
    with answering(api) as server:
        options = ("--url", server.address, "--token-file", token_file)
        assert run("upload", file, "a/b ü", *options) == (0, f"{server.address}/dashboards/a/b%20%C3%BC\n", "")
        assert api.dashboards == {"a/b ü": ("b ü.ipynb", b"{}")}
        assert run("list", *options) == (0, "a/b ü\tAbout a/b ü\tnotebook\t\n", "")
        assert run("clear-cache", "a/b ü", *options) == (0, "Cleared the cache of a/b ü.\n", "")
        assert run("clear-cache", *options) == (0, "Cleared the cache.\n", "")
        assert run("delete", "a/b ü", *options) == (0, "Deleted a/b ü.\n", "")
        again = run("delete", "a/b ü", *options)
        assert (again.code, again.out) == (2, "")
        assert again.err.startswith("shim-admin: There is no dashboard a/b ü. ")
        assert run("list", *options) == (0, "", "")


def test_address_and_token_are_taken_before_and_after_the_command_and_from_the_environment(
    run: Run, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    with answering(Api()) as server:
        url, token = ("--url", server.address), ("--token-file", token_file)
        assert run(*url, *token, "list").code == 0
        assert run(*url, "list", *token).code == 0
        assert run("list", *url, *token).code == 0
        assert run("--token-file", wrong, "--url", "http://127.0.0.1:1", "list", *url, *token).code == 0, "the last one"
        monkeypatch.setenv("NBFOLIO_URL", f"{server.address}/")
        assert run("list", *token).code == 0
        monkeypatch.setenv("NBFOLIO_TOKEN", " s3cret\n")
        assert run("list").code == 0
        assert run("list", "--token-file", wrong).code == 2, "options come first"
        assert "Nothing listens at 127.0.0.1:1" in run("--url", "http://127.0.0.1:1", "list").err
        monkeypatch.setenv("NBFOLIO_TOKEN", "")
        assert "none is given: name its file with --token-file" in run("list").err
        monkeypatch.setenv("NBFOLIO_TOKEN", "wrong")
        assert "does not accept the token from NBFOLIO_TOKEN" in run("list").err
        assert f"does not accept the token from {wrong}" in run("list", "--token-file", wrong).err
    assert {request.path for request in server.requests} == {"/_api/notebooks"}


def test_a_token_on_the_command_line_is_wrong_usage(run: Run) -> None:
    for args in (["--token", "x", "list"], ["list", "--token", "x"]):
        done = run(*args)
        assert (done.code, done.out) == (3, "")
        assert "No such option" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", ": empty"),
        (b" \n", ": empty"),
        (b"a\nb", "a token is one line of printable text"),
        (b"a\0b", "a token is one line of printable text"),
        (b"\xff", "not UTF-8 text"),
        (b"x" * (2 << 20), "longer than 1 MB"),
    ],
)
def test_a_token_file_without_a_token_is_said(run: Run, tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
        (tmp_path / "token").chmod(0o600)
    done = run("list", "--token-file", tmp_path / "token")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"shim-admin: {tmp_path / 'token'}: ")
    assert done.err.count("\n") == 1
    assert said in done.err or said in done.err.replace(str(tmp_path / "token"), "")


def test_a_folder_or_a_pipe_as_token_file_is_said(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read: Is a directory" in run("list", "--token-file", tmp_path).err
    assert "not a file" in run("list", "--token-file", tmp_path / "pipe").err


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_token_file_that_others_can_read_is_warned_about(run: Run, token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    with answering(Api()) as server:
        done = run("list", "--url", server.address, "--token-file", token_file)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"shim-admin: {token_file} holds a token and others can read it: chmod 600 {token_file}\n"


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:3000", "ftp://x", "http://", "http://ada:pw@x", "http://x:99999", "http://x?y", "http://x y"],
)
def test_an_address_that_is_none_is_wrong_usage(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("list", "--url", url)
    assert (done.code, done.out) == (3, "")
    assert "Error: --url: expected an address like https://notebooks.example.org" in done.err
    if url:
        monkeypatch.setenv("NBFOLIO_URL", url)
        assert "Error: NBFOLIO_URL: expected an address" in run("list").err


@pytest.mark.parametrize(
    "args",
    [["upload"], ["upload", "a.ipynb"], ["delete"], ["delete", "a", "b"], ["list", "a"], ["list", "--format", "xml"], ["clear-cache", "a", "b"], ["list", "--url"]],
)  # fmt: skip
def test_missing_and_needless_arguments_are_wrong_usage(run: Run, args: list[str]) -> None:
    done = run(*args)
    assert (done.code, done.out) == (3, "")
    assert "Error: " in done.err


def test_what_exists_is_not_replaced_without_being_told_to(run: Run, file: Path, token_file: Path) -> None:
    api = Api(dashboards={"a": ("a.ipynb", b"old")})
    with answering(api) as server:
        options = ("--url", server.address, "--token-file", token_file)
        assert run("upload", file, "a", *options) == (
            2,
            "",
            "shim-admin: 'a' exists already; --overwrite replaces it.\n",
        )
        assert api.dashboards["a"][1] == b"old"
        assert run("upload", "--overwrite", file, "a", *options).code == 0
        assert api.dashboards["a"][1] == b"{}"


def test_the_list_as_json_is_what_the_server_says(run: Run, token_file: Path) -> None:
    api = Api(dashboards={"a": ("a.ipynb", b""), "b": ("b.zip", b"")})
    with answering(api) as server:
        done = run("list", "--format", "json", "--url", server.address, "--token-file", token_file)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["notebooks"][1] == {
        "path": "b",
        "title": "About b",
        "kind": "zip",
        "message": "",
        "published": True,
        "link": "/dashboards/b",
    }


HOSTILE = "red \x1b[31m\ttab\nline \x9b [bold]x[/bold]"
HARMLESS = r"red \x1b[31m\ttab\nline \x9b [bold]x[/bold]"


def hostile(request: Request) -> Reply:
    """Answers full of control characters."""
    if request.method == "POST":
        return Reply(201, {}, json.dumps({"message": HOSTILE, "link": HOSTILE}).encode())
    if request.method == "DELETE":
        return error(422, HOSTILE)
    line = dict.fromkeys(("path", "title", "kind", "link", "message"), HOSTILE)
    return Reply(200, {}, json.dumps({"notebooks": [line]}).encode())


def test_text_of_the_server_cannot_steer_the_terminal(run: Run, file: Path) -> None:
    with answering(hostile) as server:
        url = ("--url", server.address)
        assert run("list", *url).out == "\t".join([HARMLESS] * 4) + "\n"
        assert run("upload", file, "a", *url).out == HARMLESS + "\n"
        assert run("delete", "a", *url).err == f"shim-admin: {HARMLESS}\n"
        shown = run_on_terminal("list", *url).shown
        assert "\x1b[31m" not in shown
        assert "\x9b" not in shown
        assert "[bold]" in shown, "no markup of rich either"


def test_help_and_version_load_no_http_client() -> None:
    program = (
        "import sys; from shim.admin import main; main(sys.argv[1:]);"
        "print([name for name in ('requests', 'rich', 'argon2', 'ssl') if name in sys.modules])"
    )
    for args in (["--help"], ["--version"], ["upload", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("[]\n")
    for name in ("upload", "delete", "clear-cache", "list", "hash-password"):
        assert admin(name, "--help").returncode == 0
        assert name.encode() in admin("--help").stdout
    assert f"shim-admin, version {__version__}\n".encode() == admin("--version").stdout


def test_ctrl_c_during_an_upload_ends_it(file: Path) -> None:
    def interrupt(request: Request) -> Reply:
        # Before the answer: a signal between two system calls is seen when the second one ends.
        process.send_signal(signal.SIGINT)
        return Reply(503)

    with answering(interrupt) as server:
        process = subprocess.Popen(
            [*PROGRAM, "upload", file, "a", "--url", server.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


# --- on a terminal


class Shown(NamedTuple):
    """How a run on a terminal ended; `out` is standard output when that was a pipe."""

    code: int
    out: str
    shown: str


def run_on_terminal(*args: object, typed: tuple[bytes, ...] = (), pipe: bool = False) -> Shown:
    """A run on a terminal of 200 columns, on which each of `typed` answers a question; with `pipe` stdout is one."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, *map(str, args)],
        stdin=theirs,
        stdout=subprocess.PIPE if pipe else theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    shown, answers = b"", list(typed)
    try:
        while block := os.read(ours, 65536):
            shown += block
            if answers and shown.endswith(b"[y/N]: "):
                os.write(ours, answers.pop(0))
    except OSError:  # nobody has the other side any more
        pass
    finally:
        out, _ = process.communicate(timeout=60)
        os.close(ours)
    return Shown(process.returncode, (out or b"").decode(), shown.decode())


def test_a_terminal_shows_a_bar_while_a_file_is_sent_and_stdout_has_the_link_alone(
    tmp_path: Path, token_file: Path
) -> None:
    with open(tmp_path / "big.zip", "wb") as stream:
        stream.truncate(8 << 20)
    with answering(Api()) as server:
        args = ("upload", tmp_path / "big.zip", "big", "--url", server.address, "--token-file", token_file)
        done = run_on_terminal(*args, pipe=True)
    assert (done.code, done.out) == (0, f"{server.address}/dashboards/big\n")
    assert "publishing" in done.shown
    assert re.search(r"8\.4/8\.4 MB", done.shown)
    assert re.search(r"[\d.]+ [kMG]B/s", done.shown)
    assert "\x1b[2K" in done.shown, "the bar is wiped"
    assert "/dashboards/big" not in done.shown


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize(
    ("typed", "code", "kept"),
    [(b"y\n", 0, False), (b"\n", 2, True), (b"n\n", 2, True), (b"\x04", 130, True), (b"\x03\n", 130, True)],
)
def test_a_terminal_is_asked_before_something_is_replaced(
    file: Path, token_file: Path, typed: bytes, code: int, kept: bool, pipe: bool
) -> None:
    # With a line end after Ctrl-C: a signal just before the program reads is only seen when it has read.
    api = Api(dashboards={"a": ("a.ipynb", b"old")})
    with answering(api) as server:
        done = run_on_terminal(
            "upload", file, "a", "--url", server.address, "--token-file", token_file, typed=(typed,), pipe=pipe
        )
        assert done.code == code
        assert "a exists already. Replace it? [y/N]: " in done.shown
        assert (api.dashboards["a"][1] == b"old") == kept
        assert ("--overwrite replaces it" in done.shown) == (code == 2)
        if pipe:
            assert done.out == ("" if kept else f"{server.address}/dashboards/a\n")


def test_a_terminal_shows_the_list_as_a_table(token_file: Path) -> None:
    api = Api(dashboards={"sales/2026": ("x.ipynb", b""), "team": ("x.zip", b"")})
    with answering(api) as server:
        options = ("--url", server.address, "--token-file", token_file)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal("list", *options).shown).splitlines()
        api.dashboards.clear()
        assert run_on_terminal("list", *options) == (0, "", "There are no dashboards yet.\r\n")
    assert [re.split(r"  +", line.strip()) for line in lines] == [
        ["Path", "Title", "Kind", "Remark"],
        ["sales/2026", "About sales/2026", "notebook"],
        ["team", "About team", "zip"],
    ]


# --- run-shim itself


class Site(NamedTuple):
    """A running run-shim and its folder."""

    address: str
    folder: Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site behind a prefix, with a token for everything and one for the cache, after its first build."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text(
        '[site]\nbase_url = "/db"\n[server]\nmax_upload_mb = 1\n[auth]\napi_token = "s3cret"\n'
        '[[auth.token]]\nname = "caches"\nvalue = "cäche"\nscopes = ["cache"]\n'
    )
    (folder / "site.toml").chmod(0o600)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "shim", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout and process.stderr
    try:
        address = process.stdout.readline().strip()
        assert "built 0" in process.stderr.readline()
        yield Site(address, folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def bundle(folder: Path, text: str) -> Path:
    """A ZIP bundle."""
    with ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr("./index.ipynb", json.dumps(notebook(markdown(text))))
        archive.writestr("./data.csv", "1,2")
    return folder / "bundle.zip"


def page(address: str) -> tuple[int, str]:
    """Status and text of a page."""
    answer = requests.get(address, timeout=60)
    return answer.status_code, answer.text


def test_run_shim_publishes_replaces_lists_and_deletes(
    run: Run, site: Site, tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBFOLIO_URL", site.address)
    token = ("--token-file", token_file)
    first = write(tmp_path, "first.ipynb", notebook(markdown("# First text")))
    link = f"{site.address}dashboards/sales/%C3%BC%20%25"
    assert run("upload", first, "sales/ü %", *token) == (0, f"{link}\n", "")
    status, text = page(link)
    assert (status, "First text" in text) == (200, True)
    second = write(tmp_path, "second.ipynb", notebook(markdown("# Second text")))
    assert run("upload", second, "sales/ü %", *token) == (
        2,
        "",
        "shim-admin: 'sales/ü %' exists already; --overwrite replaces it.\n",
    )
    assert "First text" in page(link)[1]
    assert run("upload", second, "sales/ü %", "--overwrite", *token).code == 0
    assert "Second text" in page(link)[1]
    assert run("upload", bundle(tmp_path, "# A bundle"), "team", *token).out == f"{site.address}dashboards/team\n"
    assert page(f"{site.address}dashboards/team/data.csv") == (200, "1,2")
    assert run("list", *token) == (0, "sales/ü %\tSecond text\tnotebook\t\nteam\tA bundle\tzip\t\n", "")
    (entry,) = json.loads(run("list", "--format", "json", *token).out)["notebooks"][1:]
    assert (entry["path"], entry["kind"], entry["published"]) == ("team", "zip", True)
    assert run("clear-cache", *token) == (0, "Cleared the cache.\n", "")
    assert run("clear-cache", "team", *token).code == 0
    for path in ("sales/ü %", "team"):
        assert run("delete", path, *token) == (0, f"Deleted {path}.\n", "")
        assert run("delete", path, *token).err.startswith(f"shim-admin: There is no dashboard {path}")
    assert page(link)[0] == 404
    assert run("list", *token) == (0, "", "")


def test_what_run_shim_refuses_is_said(
    run: Run, site: Site, tmp_path: Path, token_file: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBFOLIO_URL", site.address)
    token = ("--token-file", token_file)
    broken = write(tmp_path, "broken.ipynb", b'{"cells": [')
    text = write(tmp_path, "text.zip", b"no archive")
    large = write(tmp_path, "large.zip", os.urandom(40 << 20))
    write(site.folder, "folder/inside.ipynb", notebook(markdown("# Inside")))
    for args, said in (
        (("upload", broken, "x"), "not JSON"),
        (("upload", text, "x"), "ZIP"),
        (("upload", large, "x"), "The limit is server.max_upload_mb of the server."),
        (("upload", bundle(tmp_path, "x"), "folder"), "folder"),
        (("delete", "folder"), "folder is a folder"),
        (("upload", broken, "x", "--url", site.address.removesuffix("db/")), "with its prefix?"),
    ):
        done = run(*args, *token)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), args
        assert said in done.err
        assert "no nbfolio" not in done.err
        assert str(site.folder) not in done.err
    assert page(f"{site.address}dashboards/x")[0] == 404


def test_run_shim_tells_tokens_and_their_scopes_apart(
    run: Run, site: Site, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBFOLIO_URL", site.address)
    for args in (("list",), ("upload", file, "x"), ("delete", "x")):
        assert "wants a token, and none is given" in run(*args).err
        monkeypatch.setenv("NBFOLIO_TOKEN", "wrong")
        assert "does not accept the token from NBFOLIO_TOKEN" in run(*args).err
        monkeypatch.setenv("NBFOLIO_TOKEN", "cäche")
        assert "the scope publish. The token came from NBFOLIO_TOKEN." in run(*args).err
        monkeypatch.delenv("NBFOLIO_TOKEN")
    monkeypatch.setenv("NBFOLIO_TOKEN", "cäche")
    assert run("clear-cache").code == 0
