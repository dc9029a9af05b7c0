"""shim-admin: password hashes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

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
