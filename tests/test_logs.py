"""The log: levels, both forms, and that nobody can write lines into it or find secrets there."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.client import Client
from shim.logs import LONGEST_MESSAGE, LONGEST_TRACEBACK, JsonLines, TextLines, log_request

ADA = Client("192.0.2.7", "https", "example.org", "ada", is_direct=False)
HOSTILE = "x\nrun-shim: POST /fake 201\r\x1b[31m\u2028\u202e\x85\udc80 user=root \"quoted\" 'too' \\n"


@contextmanager
def written(formatter: logging.Formatter, level: int = logging.DEBUG) -> Iterator[io.StringIO]:
    """What the loggers of the server write in the meantime."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("shim")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield stream
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def request(method: str = "POST", path: str = "/_api/notebooks/a", **more: Any) -> dict[str, Any]:
    """The environment of a request; keyword arguments with two underscores are names with a dot."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REMOTE_ADDR": "127.0.0.1",
        **{name.replace("__", "."): value for name, value in more.items()},
    }


def text_of(environ: dict[str, Any], status: int, *args: Any) -> str:
    """The text line of a request that took 34.26 ms."""
    with written(TextLines()) as stream:
        log_request(environ, status, 0.03426, *args)
    return stream.getvalue()


def json_of(environ: dict[str, Any], status: int, *args: Any) -> dict[str, Any]:
    """The JSON line of a request that took 34.26 ms, read."""
    with written(JsonLines()) as stream:
        log_request(environ, status, 0.03426, *args)
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    read: dict[str, Any] = json.loads(line)
    return read


def raised(message: str) -> ValueError:
    """An exception with a traceback."""
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_a_text_line_reads_as_a_sentence_with_facts_behind_it() -> None:
    environ = request(nbfolio__client=ADA, nbfolio__user="ada", nbfolio__request_id="c0ffee")
    assert text_of(environ, 201) == (
        "run-shim: POST /_api/notebooks/a 201 ms=34.3 client=192.0.2.7 user=ada request_id=c0ffee\n"
    )


def test_a_json_line_has_every_fact_under_its_name() -> None:
    environ = request(nbfolio__client=ADA, nbfolio__user="ada", nbfolio__request_id="c0ffee")
    entry = json_of(environ, 413, "Too large.")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "info",
        "logger": "shim.requests",
        "message": "POST /_api/notebooks/a 413",
        "method": "POST",
        "path": "/_api/notebooks/a",
        "status": 413,
        "ms": 34.3,
        "client": "192.0.2.7",
        "user": "ada",
        "request_id": "c0ffee",
        "reason": "Too large.",
    }


def test_the_time_is_utc_with_milliseconds_also_on_a_full_second() -> None:
    record = logging.makeLogRecord({"created": 1700000000.0, "msg": "hello", "levelno": logging.INFO})
    assert json.loads(JsonLines().format(record))["time"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("method", "status", "level"),
    [
        ("GET", 200, "debug"),
        ("HEAD", 404, "debug"),
        ("OPTIONS", 405, "debug"),
        ("GET", 503, "debug"),
        ("POST", 201, "info"),
        ("PUT", 405, "info"),
        ("PATCH", 403, "info"),
        ("DELETE", 204, "info"),
        ("POST", 503, "info"),
        ("GET", 500, "error"),
        ("POST", 502, "error"),
    ],
)
def test_changes_and_failures_stand_out_from_what_is_read(method: str, status: int, level: str) -> None:
    assert json_of(request(method), status)["level"] == level


def test_what_is_read_is_not_logged_unless_it_is_asked_for() -> None:
    with written(TextLines(), logging.INFO) as stream:
        log_request(request("GET"), 200, 0.1)
        log_request(request("GET"), 404, 0.1)
    assert stream.getvalue() == ""


def test_the_prefix_belongs_to_the_path() -> None:
    assert json_of(request(path="/a", SCRIPT_NAME="/db"), 201)["path"] == "/db/a"


def test_without_a_known_client_the_address_of_the_connection_is_told() -> None:
    assert json_of(request(), 400)["client"] == "127.0.0.1"


@pytest.mark.parametrize("line", [text_of, lambda *args: str(json_of(*args))])
def test_secrets_are_never_logged(line: Any) -> None:
    environ = request(
        QUERY_STRING="token=s3cret",
        HTTP_AUTHORIZATION="token s3cret",
        HTTP_COOKIE="session=s3cret",
        HTTP_REFERER="http://x/?s3cret",
    )
    assert "s3cret" not in line(environ, 500, "Refused.", raised("why"))


def test_a_failure_shows_its_traceback_once_and_indented() -> None:
    first, *rest = text_of(request(), 500, "Something went wrong.", raised("broken")).splitlines()
    assert first.startswith("run-shim: POST /_api/notebooks/a 500 ")
    assert first.endswith('reason="Something went wrong."')
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1] == "  ValueError: broken"
    assert all(line.startswith("  ") for line in rest)


def test_a_traceback_in_json_is_one_text() -> None:
    traceback = json_of(request(), 500, "", raised("broken"))["traceback"]
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("\nValueError: broken")


def test_of_a_very_long_traceback_the_end_is_kept() -> None:
    traceback = json_of(request(), 500, "", raised("x" * 10 * LONGEST_TRACEBACK + " end"))["traceback"]
    assert traceback.endswith("x end")
    assert len(traceback) == LONGEST_TRACEBACK


def test_other_messages_of_the_server_have_the_same_forms() -> None:
    with written(TextLines()) as stream:
        logging.getLogger("shim").info("built %d", 3)
    assert stream.getvalue() == "run-shim: built 3\n"
    with written(JsonLines()) as stream:
        logging.getLogger("shim.login").warning("slow", extra={"fields": {"seconds": 2}})
    entry = json.loads(stream.getvalue())
    assert (entry["message"], entry["level"], entry["logger"], entry["seconds"]) == ("slow", "warning", "shim.login", 2)


# Hostile input


def check_text(written: str) -> None:
    """One record: its first line alone begins like one, and everything prints."""
    first, *rest = written.removesuffix("\n").split("\n")
    assert first.startswith("run-shim: ")
    assert all(line.startswith("  ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))


@given(st.text(), st.text(), st.text(), st.text(), st.text(st.characters(max_codepoint=255)))
def test_nothing_a_client_sends_makes_a_line_of_its_own(
    method: str, user: str, reason: str, error: str, path: str
) -> None:
    environ = request(method, path, nbfolio__user=user)
    check_text(text_of(environ, 500, reason, raised(error)))
    assert json_of(environ, 500, reason, raised(error))["message"].isprintable()


@pytest.mark.parametrize("where", ["REQUEST_METHOD", "PATH_INFO", "nbfolio.user", "nbfolio.request_id", "REMOTE_ADDR"])
def test_line_breaks_and_terminal_codes_are_escaped_wherever_they_stand(where: str) -> None:
    environ = {**request(), where: HOSTILE}
    text = text_of(environ, 500, HOSTILE, raised(HOSTILE))
    check_text(text)
    assert text.count("\nrun-shim: ") == 0
    entry = json_of(environ, 500, HOSTILE, raised(HOSTILE))
    traceback = entry.pop("traceback")
    assert all(line.isprintable() for line in traceback.split("\n"))
    assert all(str(value).isprintable() for value in entry.values())


@given(st.text(min_size=1))
def test_values_can_be_told_apart_from_the_keys_beside_them(user: str) -> None:
    line = text_of(request(nbfolio__user=user, nbfolio__request_id="c0ffee"), 201)
    value = line.split("client=127.0.0.1 user=", 1)[1].removesuffix(" request_id=c0ffee\n")
    assert re.fullmatch(r"[^\s\"'=]+" if value[0] != '"' else r'"([^"\\]|\\.)*"', value), value


def test_nothing_makes_a_line_without_end() -> None:
    environ = {**request("M" * 10**5, "/%" * 10**5), "nbfolio.user": "u" * 10**5}
    assert len(text_of(environ, 201, "r" * 10**5)) < 2 * LONGEST_MESSAGE
    assert len(json.dumps(json_of(environ, 201, "\x00" * 10**5))) < 8 * LONGEST_MESSAGE
    with written(TextLines()) as stream:
        logging.getLogger("shim").error("%s", "x" * 10**6)
    assert len(stream.getvalue()) < 2 * LONGEST_MESSAGE


# In a process of its own


def run(code: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a small program that logs."""
    program = f"import logging\nfrom shim.logs import configure, log_request\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_it_writes_to_standard_error_ours_from_the_level_on_and_warnings_of_libraries() -> None:
    done = run(
        "configure('text', logging.INFO)\n"
        "logging.getLogger('shim').info('built 1')\n"
        "logging.getLogger('shim').debug('too much')\n"
        "logging.getLogger('waitress').info('too much')\n"
        "logging.getLogger('waitress').warning('careful')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "run-shim: built 1\nrun-shim: careful\n")


def test_every_line_is_json_where_that_is_set() -> None:
    done = run(
        "configure('json', logging.DEBUG)\n"
        "log_request({'REQUEST_METHOD': 'GET', 'PATH_INFO': '/\\x1b\\n'}, 200, 0.001)\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('shim').exception('oh \\ud800 \\u2028')\n"
    )
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["path"], first["status"]) == ("/%1B%0A", 200)
    assert (second["message"], second["level"]) == ("oh \\ud800 \\u2028", "error")
    assert second["traceback"].endswith("ZeroDivisionError: division by zero")
