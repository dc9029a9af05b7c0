"""The command `build-site`; it imports what a run needs when the run needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder import __version__
from builder.commandline import run

if TYPE_CHECKING:
    from builder.build import Builder
    from builder.config import Config
    from builder.display import Display

FOLDER = click.Path(path_type=Path)
HELP = """Turn the notebooks below SOURCE into a static site.

\b
build-site [SOURCE]          build it (SOURCE: the folder of the config file, else .)
build-site init DIR          write a starter site into a new folder
build-site check [SOURCE]    list what would go wrong
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; gives the exit code: 0 fine, 1 findings, 2 could not do it, 3 wrong usage."""
    arguments = sys.argv[1:] if argv is None else argv
    commands = {"init": init, "check": check}
    if arguments and arguments[0] in commands:
        return run(commands[arguments[0]], arguments[1:], f"build-site {arguments[0]}")
    return run(build, arguments, "build-site")


def _common(command: Any) -> Any:
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report."),
        click.option(
            "-c", "--config", "file", type=FOLDER, metavar="FILE", help="Settings file (default: SOURCE/site.toml)."
        ),
        click.argument("source", required=False, type=FOLDER),
    ):
        command = option(command)
    return command


@click.command(help=HELP)
@_common
@click.option("-o", "--output", type=FOLDER, metavar="DIR", help="Where the site goes (default: _site in SOURCE).")
@click.option("--theme", metavar="NAME", help="Theme of the pages.")
@click.option("--base-url", metavar="PREFIX", help='"/db" (the proxy keeps the prefix) or "[/db]" (it strips it).')
@click.option("--watch", is_flag=True, help="Stay and rebuild whenever a file changes.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Watch by looking every so often, for network drives.",
)
@click.option("-j", "--jobs", type=click.IntRange(min=0), metavar="N", help="Renderer processes (0: one per core).")
@click.option("--execute", is_flag=True, help="Run the notebooks that have no stored outputs before they are rendered.")
@click.option("--force", is_flag=True, help="Render everything again; read no cache of any kind.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a notebook failed or there are findings.")
@click.option(
    "--clean", is_flag=True, help="Write into a folder that build-site did not make, and unpublish what is gone."
)
@click.option("-v", "--verbose", is_flag=True, help="Name every page.")
@click.version_option(__version__, prog_name="build-site")
def build(
    source: Path | None,
    file: Path | None,
    output: Path | None,
    theme: str | None,
    base_url: str | None,
    watch: bool,
    poll: float | None,
    jobs: int | None,
    execute: bool,
    force: bool,
    strict: bool,
    clean: bool,
    form: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Build the site, and with --watch keep it built."""
    from builder.build import Builder
    from builder.display import Display

    watch = watch or poll is not None
    if watch and form == "json":
        raise click.UsageError("--format json reports one build; it cannot be combined with --watch.")
    overrides: dict[str, object] = {
        "build.output": output and str(output),
        "site.theme": theme,
        "site.base_url": base_url,
        "build.jobs": jobs,
        "build.execute": _execute_mode(execute, source, file),
    }
    config = _config(source, file, overrides)
    display = Display(quiet=quiet, verbose=verbose, json=form == "json")
    with Builder(config, method="forkserver" if watch else "fork", clean=clean) as builder, display:
        report = builder.build(force=force, progress=display.progress)
        builder.save_report(report)
        display.report(report)
        if watch:
            _watch(config, builder, display, poll)
    return 1 if strict and (report.failed or report.findings) else 0


@click.command(help="Write a starter site into DIR, a folder that is new or empty.")
@click.argument("folder", metavar="DIR", type=FOLDER)
def init(folder: Path) -> int:
    """Copy the starter site."""
    from builder.starter import write_starter

    count = write_starter(folder)
    click.echo(f"wrote {count} files to {folder}; build them with: build-site {folder}")
    return 0


@click.command(
    help="List what would go wrong when the notebooks below SOURCE are published; exits with 1 when that is anything."
)
@_common
def check(source: Path | None, file: Path | None, form: str, quiet: bool) -> int:
    """Check without publishing."""
    from builder.check import check_site

    config = _config(source, file, {})
    report = check_site(config)
    if form == "json":
        click.echo(report.json(), nl=False)
    elif not quiet or report.problems:
        click.echo(str(report))
    return 1 if report.problems else 0


def _config(source: Path | None, file: Path | None, overrides: dict[str, object]) -> Config:
    from builder.config import load_config

    config = load_config(source, file, os.environ, overrides)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    return config


def _execute_mode(execute: bool, source: Path | None, file: Path | None) -> str | None:
    """--execute runs what has no outputs; a site that says `always` keeps saying it."""
    if not execute:
        return None
    from builder.config import load_config

    configured = load_config(source, file, os.environ, {}).build.execute
    return "missing" if configured == "never" else configured


def _watch(config: Config, builder: Builder, display: Display, poll: float | None) -> None:
    """Rebuild on every change until Ctrl-C or SIGTERM."""
    import signal

    from builder.hints import Stopper
    from builder.watch import watch

    stop = Stopper()

    def rebuild(hints: frozenset[str] | None) -> None:
        report = builder.build(hints)
        builder.save_report(report)
        display.change(report, hints)

    def end(*_: object) -> None:
        stop.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        display.say(f"watching {config.source} (Ctrl-C ends)")
        watch(config.source, [config.output, config.state_dir], rebuild, stop, display.say, poll=poll)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
