"""The commands of shim-admin for notebook instances."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from shim.admin_options import connection, connection_options, format_option, is_asking, plain, print_json, print_rows

if TYPE_CHECKING:
    from shim.notebooks_client import Notebook, NotebooksClient, Wanted

COLUMNS = ("Name", "Status", "Environment", "Resources", "Owner", "Created", "Reason")
SECONDS = 900
LONGEST = 86400


def _timeout_option(command: Any) -> Any:
    return click.option(
        "--timeout",
        "seconds",
        type=click.IntRange(1, LONGEST),
        default=SECONDS,
        metavar="SECONDS",
        help=f"How long to wait until it runs (default: {SECONDS}).",
    )(command)


def _waiting_options(command: Any) -> Any:
    """The options of commands after which an instance starts."""
    return click.option("--no-wait", is_flag=True, help="Do not wait until it runs.")(_timeout_option(command))


@click.group()
@connection_options
def notebooks() -> None:
    """Look after notebook instances.

    An instance is named by its name or its id.
    """


@notebooks.command("list")
@format_option
@connection_options
@click.pass_context
def list_notebooks(context: click.Context, form: str) -> None:
    """List the instances.

    The columns are name, status, environment, resources, owner, time of creation and the reason of the status. Tabs
    separate them when the output is no terminal.
    """
    client = _client(context)
    if form == "json":
        print_json(client.documents())
    else:
        print_rows(COLUMNS, [_row(each) for each in client.notebooks()], "There are no notebook instances yet.")


@notebooks.command()
@click.argument("name")
@click.option("--environment", metavar="NAME", default="notebook-env", help="What it runs (default: notebook-env).")
@click.option(
    "--resources",
    metavar="LIST",
    default="cpu=1,memory=1Gi",
    help="Processors and memory, also gpu (default: cpu=1,memory=1Gi).",
)
@click.option("--env", "variables", metavar="NAME=VALUE", multiple=True, help="A variable for it; may be repeated.")
@click.option("--owner", metavar="ID", help="Whose it is (default: that of the token, else your login name).")
@click.option("--namespace", metavar="NAME", help="Its namespace (default: that of the server).")
@_waiting_options
@connection_options
@click.pass_context
def create(
    context: click.Context,
    name: str,
    environment: str,
    resources: str,
    variables: tuple[str, ...],
    owner: str | None,
    namespace: str | None,
    seconds: int,
    no_wait: bool,
) -> None:
    """Create the instance NAME and wait until it runs.

    The address under which it is opened is printed. Ctrl-C ends the waiting alone.
    """
    values = dict(map(_variable, variables))
    client = _client(context)
    from shim.notebooks_client import Wanted

    notebook = _create(client, Wanted(name, environment, resources, values, owner, namespace))
    if not no_wait:
        _wait(client, notebook, seconds)
    click.echo(plain(client.page(notebook)))


@notebooks.command()
@click.argument("name")
@_waiting_options
@connection_options
@click.pass_context
def start(context: click.Context, name: str, seconds: int, no_wait: bool) -> None:
    """Run the stopped instance NAME again.

    The address under which it is opened is printed when it runs. Ctrl-C ends the waiting alone.
    """
    client = _client(context)
    stopped = client.find(name)
    notebook = client.start(stopped)
    if not no_wait:
        _wait(client, notebook, seconds, stopped.status)
    click.echo(plain(client.page(notebook)))


@notebooks.command()
@click.argument("name")
@connection_options
@click.pass_context
def stop(context: click.Context, name: str) -> None:
    """Stop the instance NAME; its files stay."""
    client = _client(context)
    notebook = client.stop(client.find(name))
    click.echo(f"Stopped {plain(notebook.name)}.")


@notebooks.command()
@click.argument("name")
@click.option("--keep-volumes/--no-keep-volumes", default=None, help="Keep its files, or not (default: the server's).")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@connection_options
@click.pass_context
def delete(context: click.Context, name: str, keep_volumes: bool | None, yes: bool) -> None:
    """Delete the instance NAME; on a terminal you are asked first."""
    client = _client(context)
    notebook = client.find(name)
    if not yes and is_asking():
        files = {
            True: "keep its files",
            False: "its files with it",
            None: "its files, too, unless the server keeps them",
        }
        click.confirm(f"Delete {plain(notebook.name)}, and {files[keep_volumes]}?", abort=True, err=True)
    client.delete(notebook, keep_volumes)
    click.echo(f"Deleted {plain(notebook.name)}.")


@notebooks.command("open")
@click.argument("name")
@click.option(
    "--print", "printed", is_flag=True, help="Print an address that is good for some minutes, and open nothing."
)
@_timeout_option
@connection_options
@click.pass_context
def open_notebook(context: click.Context, name: str, printed: bool, seconds: int) -> None:
    """Open the instance NAME in the browser as soon as it runs."""
    client = _client(context)
    notebook = client.find(name)
    _wait(client, notebook, seconds)
    address = client.door(notebook)
    if printed:
        click.echo(address)
        return
    import webbrowser

    if webbrowser.open(address):
        click.echo(f"Opened {plain(notebook.name)} in the browser.")
        return
    click.echo("No browser can be opened here. Whoever has this address gets in:", err=True)
    click.echo(address)


def _client(context: click.Context) -> NotebooksClient:
    address, token = connection(context)
    # Imported here: help and wrong usage are answered without the libraries for HTTP.
    from shim.notebooks_client import NotebooksClient

    return NotebooksClient(address, token)


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise click.UsageError("--env: expected NAME=VALUE.")
    return name, value


def _create(client: NotebooksClient, wanted: Wanted) -> Notebook:
    """Create an instance for its owner; where no token says who that is, it is whoever is logged in here."""
    from shim.notebooks_client import OwnerNeededError

    if wanted.owner is None and not client.has_token:
        wanted = replace(wanted, owner=_login_name())
    try:
        return client.create(wanted)
    except OwnerNeededError:
        return client.create(replace(wanted, owner=_login_name()))


def _login_name() -> str:
    from getpass import getuser

    from shim.admin_http import AdminError

    try:
        return getuser()
    except (ImportError, KeyError, OSError):
        raise AdminError("The server wants to know whose the instance is; say it with --owner.") from None


def _wait(client: NotebooksClient, notebook: Notebook, seconds: int, before: str = "") -> None:
    try:
        with _progress() as show:
            client.wait(notebook, seconds, show, before)
    except KeyboardInterrupt:
        name = plain(notebook.name)
        click.echo(f"{name} goes on starting; shim-admin notebooks list says how it is.", err=True)
        raise


@contextmanager
def _progress() -> Iterator[Callable[[Notebook], None]]:
    """A line that turns on a terminal, one for each change elsewhere."""
    from shim.notebooks_client import told

    if not sys.stderr.isatty():
        said: list[str] = []

        def say(notebook: Notebook) -> None:
            line = f"{plain(notebook.name)} is {told(notebook)}"
            # Nobody waited for what runs already.
            if said[-1:] != [line] and (said or notebook.status != "running"):
                said.append(line)
                click.echo(line, err=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as lines:
        task = lines.add_task("", total=None)
        yield lambda notebook: lines.update(task, description=f"{plain(notebook.name)} is {told(notebook)}")


def _row(notebook: Notebook) -> tuple[str, ...]:
    spec = notebook.spec
    return (
        notebook.name,
        notebook.status,
        spec.environment.name or "",
        spec.spec.resources or "",
        spec.meta.owner_id or "",
        notebook.created_time or "",
        notebook.reason or "",
    )
