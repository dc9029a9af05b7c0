"""Reading the files that settings and secrets come from."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from msgspec import structs

from builder.errors import ConfigError
from builder.paths import escaped
from builder.settings import Gateway, Record, Token, is_secret
from builder.values import element, short

MAX_BYTES = 1 << 20
"""The longest settings file or secret file that is read."""
MAX_REASON = 200
"""Characters of what is wrong with a file as TOML."""


def read_toml(file: Path, place: str) -> dict[str, Any]:
    """The tables of a TOML file; `place` begins every message. Raises ConfigError."""
    import tomllib

    text = read_text(file, place)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = escaped(str(error)) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too deep or too long"
        if len(why) > MAX_REASON:  # it may name a key as long as the file; line and column come last
            why = f"{why[: MAX_REASON // 2]}...{why[-MAX_REASON // 2 :]}"
        raise ConfigError(f"{place}: not valid TOML: {why}") from None


def read_text(file: Path, place: str) -> str:
    """The text of a file of bounded size, UTF-8 with or without byte order mark. Raises ConfigError."""
    try:
        # Not blocking: a named pipe must not hang the start.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(f"{place}: not a file")
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: cannot be read: {getattr(error, 'strerror', None) or 'impossible name'}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{place}: longer than {MAX_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{place}: not UTF-8 text (line {line})") from None


def with_secrets(record: Record, place: str, home: Path) -> Record:
    """The record with the content of its `*_file` settings in place of the secrets; relative files start at `home`.

    Raises ConfigError when a file cannot be read or is empty, and when a secret is there besides.
    """
    changes: dict[str, object] = {}
    for setting in structs.fields(record):
        name, value = setting.name, getattr(record, setting.name)
        if element(setting):
            changes[name] = tuple(with_secrets(item, f'{place} {name} "{short(item.name)}":', home) for item in value)
        elif is_secret(setting) and (file := getattr(record, f"{name}_file")):
            if value:
                raise ConfigError(f"{place} both {name} and {name}_file are given; keep one of them")
            changes[name] = _read_secret(home / file, f"{place} {name}_file")
    if isinstance(record, Token) and not record.owner:
        changes["owner"] = record.name
    if isinstance(record, Gateway) and record.ca_file:
        changes["ca_file"] = str(home / record.ca_file)
    return structs.replace(record, **changes)


def _read_secret(file: Path, place: str) -> str:
    place = f"{place} {short(str(file))}"
    text = read_text(file, place).removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"{place}: empty")
    if not text.isprintable():
        raise ConfigError(f"{place}: a secret is one line of text")
    return text


def holds_secret(value: object) -> bool:
    """Whether a record, or one in a tuple of records, has a secret in it."""
    if isinstance(value, tuple):
        return any(map(holds_secret, value))
    return isinstance(value, Record) and any(
        is_secret(setting) and getattr(value, setting.name) for setting in structs.fields(value)
    )


def is_open_to_others(file: Path) -> bool:
    """Whether group or others may read a file."""
    return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
