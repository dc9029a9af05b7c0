"""The command line of run-shim."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from builder.commandline import run
from builder.config import Config, load_config, print_config
from builder.errors import ConfigError
from shim.logs import configure
from shim.startup import startup_problems

if TYPE_CHECKING:
    from builder.report import Report


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the built site.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--no-build", is_flag=True, help="Serve the built site as it is.")
@click.option("--print-config", "show", is_flag=True, help="Show all settings with their origins, and end.")
@click.option("--print-role", "role", is_flag=True, help="Show what the server must be allowed on Kubernetes, and end.")
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
    role: bool,
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
    configure(config.server.log_format, logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    for warning in config.warnings:
        logging.getLogger("shim").warning(warning)
    if show:
        click.echo(print_config(config), nl=False)
        return
    if role:
        from shim.instances.cluster.role import role as role_of

        click.echo(role_of(config.instances.namespace), nl=False)
        return
    if problems := startup_problems(config):
        raise ConfigError(" ".join(problems))
    serve(config, build=not no_build)


def serve(config: Config, *, build: bool) -> None:
    """Serve a site until SIGINT or SIGTERM. Raises ListenError when the address cannot be had."""
    # Imported here: --help and wrong settings are answered without the server's libraries.
    from shim.app import create_app, parts_of, wants_state
    from shim.background import Announcer, BackgroundBuilder, Finished
    from shim.metrics import Metrics
    from shim.publishing import body_limit
    from shim.server import Server
    from shim.state import State
    from shim.uploads import FRAMING

    _allow_many_files()
    say = logging.getLogger("shim").info
    announce, metrics = Announcer(say), Metrics()

    def built(report: Report | None) -> None:
        if report is None:
            metrics.build_error()
            return
        announce(report)
        metrics.built(report.seconds, report.built, report.failed, report.built + report.kept)

    with ExitStack() as stack:
        state = stack.enter_context(closing(State(config.state_dir))) if wants_state(config) else None
        builder = BackgroundBuilder(config, built, say) if build else Finished(config)
        parts = parts_of(config, builder, metrics, state)
        limit = body_limit(parts.tokens, (config.server.max_upload_mb << 20) + FRAMING)
        server = Server(create_app(parts), config.server.host, config.server.port, limit)

        def stop(signum: int, frame: FrameType | None) -> None:
            # A second signal ends the program at once.
            signal.signal(signum, signal.SIG_DFL)
            server.stop()

        for signum in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, signum, signal.signal(signum, stop))
        prefix = "" if config.site.strips_prefix else config.site.base_path
        click.echo(f"{server.url}{prefix}/")
        if isinstance(builder, BackgroundBuilder):
            parts.library.tidy()
            stack.enter_context(builder)
        if not isinstance(parts.offer, str):
            stack.enter_context(parts.offer)
        elif parts.offer:
            say("This server offers no notebook instances. %s", parts.offer)
        if parts.live:
            # Entered last, so it ends first: whoever is connected need not wait for a build to learn of the end.
            stack.enter_context(parts.live)
        server.run()


def _allow_many_files() -> None:
    """Take the most open files that this process may have: each connection is one, and a large body another."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(argv: Sequence[str] | None = None) -> int:
    """run-shim: the exit code is 0 after Ctrl-C, 2 when it could not serve, 3 for wrong usage."""
    return run(command, argv, "run-shim")
