"""The program that fuzzes: a few hundred inputs of each target pass, and what is broken is found and found again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzing import archives, configuration, paths, requests, uploads
from fuzzing.browsers import follow
from fuzzing.engine import Target, run
from fuzzing.targets import TARGETS, fuzz

from builder.bundles import open_bundle
from builder.errors import ConfigError
from shim import front
from shim.kernels import filter as kernel_filter
from shim.kernels import framing as kernel_framing
from shim.kernels import messages as kernel_messages
from shim.kernels.filter import Down, Filter, Payload, Up
from shim.kernels.messages import Message, serialise
from shim.uploads import receive

PROGRAM = Path(__file__).parent / "benchmarks" / "fuzz.py"


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_comes_in_breaks_a_promise(name: str) -> None:
    outcome = fuzz(name, seed=1, numbers=range(300))
    assert outcome.inputs == 300
    assert not outcome.findings, next(iter(outcome.findings.values()))


def test_a_defect_is_one_finding_with_its_first_input_and_can_be_made_again() -> None:
    def check(number: int) -> None:
        assert number % 7, "seven"

    target = Target(lambda random: random.randrange(1000), check)
    outcome = run(target, "sample", 5, range(500))
    (finding,) = outcome.findings.values()
    assert outcome.inputs == 500
    assert 40 < finding.count < 110
    assert "seven" in finding.trace
    again = run(target, "sample", 5, [finding.number])
    (same,) = again.findings.values()
    assert (same.shown, same.number, same.count) == (finding.shown, finding.number, 1)
    assert not run(target, "sample", 5, range(finding.number)).findings


def test_an_input_that_takes_for_ever_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.engine.CPU_SECONDS", 0.05)

    def check(made: int) -> None:
        while True:
            pass

    outcome = run(Target(Random.random, check), "endless", 0, range(1))
    assert [finding.where.split()[0] for finding in outcome.findings.values()] == ["HangError"]


def _passes_everything(path: str, *, hidden: bool = False) -> str:
    return path


def _follows_links(root: Path, relative: str) -> Path:
    return root / relative


def _tells_the_secret(*given: Any) -> Any:
    raise ConfigError(f"api_token is {configuration.CANARY}")


def _stores_too_much(environ: Any, staged: Path, limit: int) -> Any:
    return receive(environ, staged, limit + 1000)


def _leaves_files(environ: Any, staged: Path, limit: int) -> Any:
    staged.with_name("more").touch()
    return receive(environ, staged, limit)


def _opens_without_limits(path: Path, limits: Any) -> Any:
    return open_bundle(path)


def _believes_everybody(asked: str, base_path: str) -> str:
    return asked


def _lets_everybody_in(*given: Any) -> None: ...


def _finds_a_cell_in_anything(code: object) -> int:
    return 0


def _trusts_tables(payload: bytes, start: int, offsets: Sequence[int]) -> list[bytes]:
    return [payload[begin:end] for begin, end in pairwise(offsets)]


def _sends_what_nobody_asked_for(judge: Filter, message: Message) -> Up:
    return Up(serialise(message, judge._v1))


def _hears_everything(judge: Filter, payload: Payload) -> Down:
    return Down(payload)


def _sees_no_traceback(payload: Payload) -> bool:
    return False


SABOTAGE: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "segments are not looked at": ("paths", paths, "safe_relative", _passes_everything),
    "links are followed": ("paths", paths, "contained", _follows_links),
    "redirects leave the site": ("requests", requests, "return_target", _believes_everybody),
    "tokens are not compared": ("requests", requests, "require", _lets_everybody_in),
    "uploads have no limit": ("multipart", uploads, "receive", _stores_too_much),
    "uploads leave files": ("multipart", uploads, "receive", _leaves_files),
    "bundles have no limits": ("zip", archives, "open_bundle", _opens_without_limits),
    "errors show secrets": ("configuration", configuration, "load_config", _tells_the_secret),
    "readers need no login": ("routes", front.Front, "_check_login", _lets_everybody_in),
    "code is taken for the number of a cell": ("kernel-messages", kernel_filter, "_index", _finds_a_cell_in_anything),
    "keys may stand twice in a message": ("kernel-messages", kernel_messages, "_load_readers", json.loads),
    "parts of a message may overlap": ("kernel-messages", kernel_framing, "_cut", _trusts_tables),
    "pages send input unasked": ("kernel-messages", Filter, "_reply", _sends_what_nobody_asked_for),
    "kernels may say anything": ("kernel-messages", Filter, "_judge_down", _hears_everything),
    "widgets show tracebacks": ("kernel-messages", kernel_filter, "may_hold_traceback", _sees_no_traceback),
    "pages of other sites may send anything": ("requests", requests, "is_foreign", _lets_everybody_in),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_broken_code_is_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, module, function, broken = SABOTAGE[what]
    monkeypatch.setattr(module, function, broken)
    assert fuzz(name, seed=1, numbers=range(300)).findings


@pytest.mark.parametrize(
    ("location", "origin", "path"),
    [
        ("/a/./b/../c?x=//y#/../z", "https://site.example", "/a/c"),
        ("//evil.example/x", "https://evil.example", "/x"),
        ("/\\evil.example/x", "https://evil.example", "/x"),
        ("/\t/evil.example", "https://evil.example", "/"),
        ("  \\\\user@EVIL.example\\x", "https://evil.example", "/x"),
        ("https:evil", "https://site.example", "/db/evil"),
        ("https:/evil.example", "https://evil.example", "/"),
        ("http:evil.example", "http://evil.example", "/"),
        ("javascript:alert(1)", "", "javascript:alert(1)"),
        ("/db/%2E%2e/%2e/x", "https://site.example", "/x"),
        ("x", "https://site.example", "/db/x"),
        ("", "https://site.example", "/db/"),
    ],
)
def test_locations_are_read_as_browsers_read_them(location: str, origin: str, path: str) -> None:
    assert follow("https://site.example/db/login", location) == (origin, path)


def test_the_program_says_how_many_inputs_there_were() -> None:
    command = [sys.executable, str(PROGRAM), "paths", "requests", "--count", "50", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert first.startswith("paths: 50 inputs in ")
    assert second.startswith("requests: 50 inputs in ")
    assert last == "100 inputs, 0 findings"
