"""The command line of shim-admin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder import __version__
from builder.commandline import run
from builder.errors import NbfolioError
from shim.admin_notebooks import notebooks
from shim.admin_options import connection, connection_options, format_option, is_asking, plain, print_json, print_rows

if TYPE_CHECKING:
    from shim.admin_client import AdminClient

LONGEST = 1024


class PasswordError(NbfolioError):
    """Raised for a password that cannot be one."""


@click.group()
@connection_options
@click.version_option(__version__, prog_name="shim-admin")
def command() -> None:
    """Look after a running site and its settings."""


command.add_command(notebooks)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("path")
@click.option("--overwrite", is_flag=True, help="Replace the dashboard when it exists.")
@connection_options
@click.pass_context
def upload(context: click.Context, file: Path, path: str, overwrite: bool) -> None:
    """Publish a notebook or a bundle.

    FILE is a .ipynb or a .zip, PATH the name of the dashboard: sales/2026. The address of its page is printed.
    """
    client = _client(context)
    from shim.admin_client import ExistsError

    try:
        link = _send(client, file, path, overwrite)
    except ExistsError:
        if not is_asking() or not click.confirm(f"{plain(path)} exists already. Replace it?", err=True):
            raise
        link = _send(client, file, path, True)
    click.echo(plain(link))


@command.command()
@click.argument("path")
@connection_options
@click.pass_context
def delete(context: click.Context, path: str) -> None:
    """Remove the dashboard PATH."""
    _client(context).delete(path)
    click.echo(f"Deleted {plain(path)}.")


@command.command("clear-cache")
@click.argument("path", required=False)
@connection_options
@click.pass_context
def clear_cache(context: click.Context, path: str | None) -> None:
    """Build one dashboard anew, or all."""
    _client(context).clear_cache(path)
    click.echo("Cleared the cache." if path is None else f"Cleared the cache of {plain(path)}.")


@command.command("list")
@format_option
@connection_options
@click.pass_context
def list_dashboards(context: click.Context, form: str) -> None:
    """List the dashboards.

    The columns are path, title, kind and a remark: what to mend, or why it is not published. Tabs separate them when
    the output is no terminal.
    """
    listing = _client(context).dashboards()
    if form == "json":
        print_json(listing)
    else:
        rows = [(each.path, each.title, each.kind, each.message) for each in listing.notebooks]
        print_rows(("Path", "Title", "Kind", "Remark"), rows, "There are no dashboards yet.")


@command.command("hash-password")
def hash_password() -> None:
    """Print the hash of a password.

    It is for password_hash in [[auth.user]]. The password comes from standard input; on a terminal it is asked for
    twice.
    """
    from argon2 import PasswordHasher

    click.echo(PasswordHasher().hash(_read_password()))


def _client(context: click.Context) -> AdminClient:
    address, token = connection(context)
    # Imported here: help and wrong usage are answered without the libraries for HTTP.
    from shim.admin_client import AdminClient

    return AdminClient(address, token)


def _send(client: AdminClient, file: Path, path: str, overwrite: bool) -> str:
    with _progress() as progress:
        return client.upload(file, path, overwrite=overwrite, progress=progress)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; the server publishes after it has everything."""
    if not sys.stderr.isatty():
        yield lambda sent, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sending", total=None)

        def show(sent: int, total: int) -> None:
            bar.update(task, completed=sent, total=total, description="publishing" if sent >= total else "sending")

        yield show


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
