"""The command line of shim-admin."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from builder.commandline import run
from builder.errors import NbfolioError

LONGEST = 1024


class PasswordError(NbfolioError):
    """Raised for a password that cannot be one."""


@click.group()
def command() -> None:
    """Look after a running site and its settings."""


@command.command("hash-password")
def hash_password() -> None:
    """Print the hash of a password, for password_hash in [[auth.user]].

    The password comes from standard input; on a terminal it is asked for twice.
    """
    from argon2 import PasswordHasher

    click.echo(PasswordHasher().hash(_read_password()))


def _read_password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        data = sys.stdin.buffer.read(LONGEST + 2)
        try:
            password = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise PasswordError("the password is not UTF-8 text") from None
    if not password:
        raise PasswordError("the password is empty")
    if len(password.encode()) > LONGEST:
        raise PasswordError(f"the password is longer than {LONGEST} bytes")
    if not password.isprintable():
        raise PasswordError("a password is one line of printable text")
    return password


def main(argv: Sequence[str] | None = None) -> int:
    """shim-admin: the exit code is 0, 2 when it could not be done, 3 for wrong usage."""
    return run(command, argv, "shim-admin")
