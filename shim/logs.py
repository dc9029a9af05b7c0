"""What the server says on standard error: lines for people, or one JSON object each for programs.

What clients chose stands in it escaped and cut, so that nobody can add lines of their own; query strings and the
Authorization header, which may hold secrets, never do.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from builder.paths import escaped
from shim.answers import PATH_SAFE

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from builder.settings import LogFormat

Fields = Mapping[str, str | int | float]
"""What a record tells beside its message; code gives it as `extra={"fields": ...}`."""

LONGEST_MESSAGE = 2000
LONGEST_VALUE = 500
LONGEST_TRACEBACK = 20_000
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""Methods that change something; whoever runs a server wants to know of them."""

logger = logging.getLogger("shim.requests")

_IN_MESSAGE = ("method", "path", "status")
_PLAIN = re.compile(r"[^\s\"'=\\]+")


def configure(log_format: LogFormat, level: int) -> None:
    """Write the log of this process to standard error: ours from `level` on, warnings of libraries always."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("shim").setLevel(level)


def log_request(
    environ: WSGIEnvironment, status: int, seconds: float, reason: str = "", cause: BaseException | None = None
) -> None:
    """Log a request that was answered; `reason` is what the client was told, `cause` gives a traceback.

    Changes are INFO, failures of the server ERROR, all others DEBUG. 503 counts as an answer: it is what probes and
    readers get while the site is being built.
    """
    method = environ.get("REQUEST_METHOD", "")
    failed = status >= 500 and status != 503
    level = logging.ERROR if failed else logging.INFO if method in CHANGING else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    client = environ.get("nbfolio.client")
    fields: Fields = {
        "method": method,
        "path": _path(environ),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "client": client.address if client else environ.get("REMOTE_ADDR", ""),
        "user": environ.get("nbfolio.user", ""),
        "request_id": environ.get("nbfolio.request_id", ""),
        "reason": reason,
    }
    logger.log(level, "%s %s %d", method, fields["path"], status, exc_info=cause, extra={"fields": fields})


def _path(environ: WSGIEnvironment) -> str:
    """The path as it stands in a URL: without blanks, control characters and the query."""
    raw = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return quote(raw.encode("latin-1", "replace"), PATH_SAFE)


class TextLines(logging.Formatter):
    """`run-shim: message key=value ...`; the lines of a traceback are indented, so no other line begins like that."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of one record."""
        words = [f"run-shim: {_cut(record.getMessage(), LONGEST_MESSAGE)}"]
        words += [
            f"{key}={_word(value)}" for key, value in _fields(record).items() if key not in _IN_MESSAGE and value != ""
        ]
        return "\n  ".join([" ".join(words), *_traceback(self, record)])


class JsonLines(logging.Formatter):
    """One JSON object in each line, all ASCII; a traceback is one text in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:23] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage(), LONGEST_MESSAGE),
            **{key: _value(value) for key, value in _fields(record).items()},
        }
        if lines := _traceback(self, record):
            entry["traceback"] = "\n".join(lines)
        return json.dumps(entry)


def _fields(record: logging.LogRecord) -> Fields:
    fields: Fields = getattr(record, "fields", {})
    return fields


def _cut(text: str, longest: int) -> str:
    """A text on one line, not too long."""
    return escaped(text if len(text) <= longest else f"{text[:longest]}...")


def _value(value: str | float) -> str | float:
    return _cut(value, LONGEST_VALUE) if isinstance(value, str) else value


def _word(value: str | float) -> str:
    """A value without blanks, or in quotes."""
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return str(_value(value))
    return escaped(json.dumps(value[:LONGEST_VALUE], ensure_ascii=False))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The lines of a traceback; of a very long one the end, which says what happened."""
    if not record.exc_info or record.exc_info[0] is None:
        return []
    return [*map(escaped, formatter.formatException(record.exc_info)[-LONGEST_TRACEBACK:].split("\n"))]
