"""The command line of run-shim."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click

from builder.commandline import run
from builder.config import Config, load_config, print_config
from builder.errors import ConfigError
from shim.startup import startup_problems


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the built site.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--no-build", is_flag=True, help="Serve the built site as it is.")
@click.option("--print-config", "show", is_flag=True, help="Show all settings with their origins, and end.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is refused, too.")
def command(
    source: Path | None,
    output: Path | None,
    file: Path | None,
    host: str | None,
    port: int | None,
    no_build: bool,
    show: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Serve the site of the notebooks in SOURCE, and rebuild what changes.

    SOURCE is the folder of the settings file unless it is given, else the current one. The first line on standard
    output is the address.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    overrides = {"build.output": output, "server.host": host, "server.port": port}
    config = load_config(source, file, os.environ, overrides)
    for warning in config.warnings:
        click.echo(f"run-shim: {warning}", err=True)
    if show:
        click.echo(print_config(config), nl=False)
        return
    if problems := startup_problems(config):
        raise ConfigError(" ".join(problems))
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="run-shim: %(message)s")
    logging.getLogger("shim").setLevel(level)
    serve(config, build=not no_build)


def serve(config: Config, *, build: bool) -> None:
    """Serve a site until SIGINT or SIGTERM. Raises ListenError when the address cannot be had."""
    # Imported here: --help and wrong settings are answered without the server's libraries.
    from shim.app import Parts, create_app, published_files
    from shim.background import BackgroundBuilder, Finished
    from shim.server import Server

    builder = BackgroundBuilder(config, logging.getLogger("shim").info) if build else Finished()
    server = Server(create_app(Parts(config, published_files(config), builder)), config.server.host, config.server.port)

    def stop(signum: int, frame: FrameType | None) -> None:
        # A second signal ends the program at once.
        signal.signal(signum, signal.SIG_DFL)
        server.stop()

    with ExitStack() as stack:
        for signum in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, signum, signal.signal(signum, stop))
        prefix = "" if config.site.strips_prefix else config.site.base_path
        click.echo(f"{server.url}{prefix}/")
        if isinstance(builder, BackgroundBuilder):
            stack.enter_context(builder)
        server.run()


def main(argv: Sequence[str] | None = None) -> int:
    """run-shim: the exit code is 0 after Ctrl-C, 2 when it could not serve, 3 for wrong usage."""
    return run(command, argv, "run-shim")
