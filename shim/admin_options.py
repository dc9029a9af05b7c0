"""What the commands of shim-admin have in common: which server they ask, and how they show what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.errors import ConfigError

if TYPE_CHECKING:
    from shim.admin_messages import Token

ADDRESS = "http://127.0.0.1:3000"


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    if value is not None:
        context.ensure_object(dict)[option.name] = value


def connection_options(command: Any) -> Any:
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


def format_option(command: Any) -> Any:
    """The option `form` of commands that list something."""
    return click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")(
        command
    )


def connection(context: click.Context) -> tuple[str, Token | None]:
    """The address and the token that options and environment name. Raises UsageError, ConfigError."""
    from builder.formats import web_address

    options: dict[str, Any] = context.obj or {}
    address, origin = options.get("url"), "--url"
    if address is None:
        address, origin = os.environ.get("NBFOLIO_URL") or ADDRESS, "NBFOLIO_URL"
    try:
        address = web_address(address)
    except ValueError as error:
        raise click.UsageError(f"{origin}: expected {error}.") from None
    return address, _token(options.get("token_file"))


def _token(file: Path | None) -> Token | None:
    from builder.settings_files import is_open_to_others, read_text
    from shim.admin_messages import Token

    if file:
        origin = plain(str(file))
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


def is_asking() -> bool:
    """Whether somebody sits at a terminal who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_json(value: Any) -> None:
    """A list as the server gave it."""
    from msgspec import json

    click.echo(json.format(json.encode(value), indent=1) + b"\n", nl=False)


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """A table on a terminal, `nothing` where it would be empty; lines with tabs elsewhere."""
    shown = [[plain(text) for text in row] for row in rows]
    if not sys.stdout.isatty():
        for row in shown:
            click.echo("\t".join(row))
    elif shown:
        _print_table(headings, shown)
    else:
        click.echo(nothing)


def _print_table(headings: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def plain(text: str) -> str:
    """A text of somebody else, as a terminal may get it."""
    from builder.paths import escaped

    return escaped(text)
