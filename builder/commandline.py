"""What all command lines share: exit codes, and no traceback for what a user can act on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from builder.errors import NbfolioError

IMPOSSIBLE, USAGE, INTERRUPTED = 2, 3, 130
"""Exit codes: could not do it, wrong usage, Ctrl-C."""


def run(command: click.Command, argv: Sequence[str] | None, name: str) -> int:
    """Run a command and give its exit code: the number it returned, else 0; the codes of errors are above."""
    if isinstance(sys.stdout, TextIOWrapper):
        # no name of a page may end a run, whatever the terminal takes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = command.main(args=list(argv) if argv is not None else None, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return IMPOSSIBLE
    except NbfolioError as error:
        click.echo(f"{name}: {error}", err=True)
        return IMPOSSIBLE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader went away, which click makes a SystemExit of; nothing may complain when it flushes at exit.
        _give_up_stdout()
        return IMPOSSIBLE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"{name}: {place}{error.strerror or error}", err=True)
        _give_up_stdout()
        return IMPOSSIBLE
    return result if isinstance(result, int) else 0


def _give_up_stdout() -> None:
    """Let what is still to be written go nowhere; it could not be written before either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
