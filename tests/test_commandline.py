"""Exit codes that all programs share."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from builder.commandline import run
from builder.errors import NbfolioError


def command_that(action: object) -> click.Command:
    """A command that raises or returns `action`."""

    def callback() -> object:
        if isinstance(action, BaseException):
            raise action
        return action

    return click.Command("x", callback=callback)


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        (None, 0, ""),
        (1, 1, ""),
        (0, 0, ""),
        ("text", 0, ""),
        (click.UsageError("No."), 3, "No."),
        (click.BadParameter("No."), 3, "No."),
        (click.FileError("x", "No."), 2, "No."),
        (NbfolioError("No."), 2, "prog: No.\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (click.exceptions.Exit(1), 1, ""),
    ],
)
def test_outcomes_become_exit_codes(action: object, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command_that(action), [], "prog") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command_that(None), ["--help"], "prog") == 0
    assert "Usage: prog" in capsys.readouterr().out


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(command_that(ZeroDivisionError()), [], "prog")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = """
import sys, click
from builder.commandline import run
sys.exit(run(click.Command("x", callback=lambda: [click.echo("x" * 1000) for _ in range(10000)] and None), [], "prog"))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 2


def test_output_that_cannot_be_written_is_a_sentence() -> None:
    program = """
import sys, click
from builder.commandline import run
sys.exit(run(click.Command("x", callback=lambda: print("text")), [], "prog"))
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "prog: No space left on device\n")
