"""The command line of shim-admin."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder import __version__
from builder.commandline import run
from builder.errors import ConfigError, NbfolioError

if TYPE_CHECKING:
    from shim.admin_client import AdminClient, Dashboard
    from shim.admin_messages import Token

LONGEST = 1024
ADDRESS = "http://127.0.0.1:3000"


class PasswordError(NbfolioError):
    """Raised for a password that cannot be one."""


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    if value is not None:
        context.ensure_object(dict)[option.name] = value


def _connection(command: Any) -> Any:
    """The options that say which server, taken before and after the name of a command; the last one counts."""
    for option in (
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="File with the token (default: the variable NBFOLIO_TOKEN).",
            expose_value=False,
            callback=_keep,
        ),
        click.option(
            "--url",
            metavar="URL",
            help=f"Address of the server with its prefix (default: the variable NBFOLIO_URL, else {ADDRESS}).",
            expose_value=False,
            callback=_keep,
        ),
    ):
        command = option(command)
    return command


@click.group()
@_connection
@click.version_option(__version__, prog_name="shim-admin")
def command() -> None:
    """Look after a running site and its settings."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("path")
@click.option("--overwrite", is_flag=True, help="Replace the dashboard when it exists.")
@_connection
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
        asking = sys.stdin.isatty() and sys.stderr.isatty()
        if not asking or not click.confirm(f"{_text(path)} exists already. Replace it?", err=True):
            raise
        link = _send(client, file, path, True)
    click.echo(_text(link))


@command.command()
@click.argument("path")
@_connection
@click.pass_context
def delete(context: click.Context, path: str) -> None:
    """Remove the dashboard PATH."""
    _client(context).delete(path)
    click.echo(f"Deleted {_text(path)}.")


@command.command("clear-cache")
@click.argument("path", required=False)
@_connection
@click.pass_context
def clear_cache(context: click.Context, path: str | None) -> None:
    """Build one dashboard anew, or all."""
    _client(context).clear_cache(path)
    click.echo("Cleared the cache." if path is None else f"Cleared the cache of {_text(path)}.")


@command.command("list")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@_connection
@click.pass_context
def list_dashboards(context: click.Context, form: str) -> None:
    """List the dashboards.

    The columns are path, title, kind and a remark: what to mend, or why it is not published. Tabs separate them when
    the output is no terminal.
    """
    from msgspec import json

    listing = _client(context).dashboards()
    if form == "json":
        click.echo(json.format(json.encode(listing), indent=1) + b"\n", nl=False)
    elif not sys.stdout.isatty():
        for dashboard in listing.notebooks:
            click.echo("\t".join(_row(dashboard)))
    elif listing.notebooks:
        _print_table([_row(dashboard) for dashboard in listing.notebooks])
    else:
        click.echo("There are no dashboards yet.")


@command.command("hash-password")
def hash_password() -> None:
    """Print the hash of a password.

    It is for password_hash in [[auth.user]]. The password comes from standard input; on a terminal it is asked for
    twice.
    """
    from argon2 import PasswordHasher

    click.echo(PasswordHasher().hash(_read_password()))


def _client(context: click.Context) -> AdminClient:
    """The server that options and environment name. Raises UsageError, ConfigError."""
    from builder.formats import web_address

    options: dict[str, Any] = context.obj or {}
    address, origin = options.get("url"), "--url"
    if address is None:
        address, origin = os.environ.get("NBFOLIO_URL") or ADDRESS, "NBFOLIO_URL"
    try:
        address = web_address(address)
    except ValueError as error:
        raise click.UsageError(f"{origin}: expected {error}.") from None
    token = _token(options.get("token_file"))
    # Imported here: help and wrong usage are answered without the libraries for HTTP.
    from shim.admin_client import AdminClient

    return AdminClient(address, token)


def _token(file: Path | None) -> Token | None:
    from builder.settings_files import is_open_to_others, read_text
    from shim.admin_messages import Token

    if file:
        origin = _text(str(file))
        value = read_text(file, origin).strip()
        if is_open_to_others(file):
            click.echo(f"shim-admin: {origin} holds a token and others can read it: chmod 600 {origin}", err=True)
    else:
        origin, value = "NBFOLIO_TOKEN", os.environ.get("NBFOLIO_TOKEN", "").strip()
        if not value:
            return None
    if not value:
        raise ConfigError(f"{origin}: empty")
    if not value.isprintable():
        raise ConfigError(f"{origin}: a token is one line of printable text")
    return Token(value, origin)


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


def _row(dashboard: Dashboard) -> tuple[str, str, str, str]:
    return _text(dashboard.path), _text(dashboard.title), _text(dashboard.kind), _text(dashboard.message)


def _print_table(rows: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("Path", "Title", "Kind", "Remark"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _text(text: str) -> str:
    """A text of somebody else, as a terminal may get it."""
    from builder.paths import escaped

    return escaped(text)


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
