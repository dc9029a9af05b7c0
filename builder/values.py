"""Raw values from TOML, the environment and command lines become settings, or a sentence about what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import structs

from builder.errors import ConfigError
from builder.settings import SECTIONS, Record, help_text, is_secret, notes

R = TypeVar("R", bound=Record)
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
LONGEST = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@cache  # msgspec looks through the annotations each time
def settings_of(cls: type[Record]) -> dict[str, structs.FieldInfo]:
    """The settings of a record by the names users write."""
    return {setting.encode_name: setting for setting in structs.fields(cls)}


def nearest(name: str, known: list[str]) -> str:
    """The end of a sentence that proposes the known name closest to a wrong one.

    Of "section.key" only the key is compared, as people find the right key and the wrong section.
    """
    from difflib import get_close_matches

    section, _, key = name.rpartition(".")
    keys = {each.rpartition(".")[2]: each for each in sorted(known, key=lambda each: each.startswith(f"{section}."))}
    if close := get_close_matches(key, list(keys), 1, 0.6):
        return f'; did you mean "{keys[close[0]]}"?'
    return f"; known are {', '.join(known)}" if len(known) <= len(SECTIONS) else ""


def element(setting: structs.FieldInfo) -> type[Record] | None:
    """The record an array of tables is made of, None for every other setting."""
    base = _base(setting)
    inner = get_args(base)[0] if get_origin(base) is tuple else None
    return inner if isinstance(inner, type) and issubclass(inner, Record) else None


def read_record(cls: type[R], table: Mapping[str, object], place: str) -> R:
    """A record from a table; `place` begins every message. Raises ConfigError."""
    known = settings_of(cls)
    values = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f'{place} "{short(key)}" is not a setting{nearest(key, list(known))}')
        values[known[key].name] = read_value(known[key], value, f"{place} {key}")
    missing = [key for key, setting in known.items() if setting.required and setting.name not in values]
    if missing:
        raise ConfigError(f"{place} {missing[0]} is missing")
    return cls(**values)


def read_value(setting: structs.FieldInfo, value: object, place: str) -> object:
    """One value in its normal form. Raises ConfigError that names place, value and what was expected."""
    if cls := element(setting):
        return _read_tables(cls, value, place)
    try:
        read = msgspec.convert(value, setting.type)
        _refuse_control_characters(read)
        for meta in notes(setting):
            if check := (meta.extra or {}).get("check"):
                read = check(read)
    except msgspec.ValidationError:
        raise ConfigError(_complaint(setting, value, place, expected(setting))) from None
    except ValueError as error:
        raise ConfigError(_complaint(setting, value, place, str(error))) from None
    return read


def read_text(setting: structs.FieldInfo, text: str, place: str) -> object:
    """One value written as the text of an environment variable. Raises ConfigError."""
    base, value = _base(setting), text.strip()
    raw: object = text
    if base is bool and value.lower() in TRUE + FALSE:
        raw = value.lower() in TRUE
    elif base is int and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        raw = int(value)
    elif get_origin(base) is tuple:
        raw = _read_list(value, tables=element(setting) is not None)
    elif get_origin(base) is Literal:
        raw = value
    return read_value(setting, raw, place)


def expected(setting: structs.FieldInfo) -> str:
    """What a setting takes, in words."""
    base = _base(setting)
    bounds = next((meta for meta in notes(setting) if meta.ge is not None), None)
    if get_origin(base) is Literal:
        return f"one of {_alternatives(base)}"
    if get_origin(base) is tuple:
        inner = get_args(base)[0]
        return f"a list of {_alternatives(inner)}" if get_origin(inner) is Literal else "a list of texts"
    if base is int and bounds:
        return f"a whole number from {bounds.ge} to {bounds.le}"
    return {bool: "true or false", float: "a number"}.get(base, "a text in quotes")


def to_toml(record: Record, name: str, origins: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table, each setting with help and origin; secrets are masked."""
    tables: list[str] = []
    for key, setting in settings_of(type(record)).items():
        value = getattr(record, setting.name)
        origin = f"  # {origins[f'{name}.{key}']}" if f"{name}.{key}" in origins else ""
        yield f"# {help_text(setting)}"
        if element(setting) and value:
            yield f"# below{origin}"
            for item in value:
                tables += ["", f"[[{name}.{key}]]", *to_toml(item, f"{name}.{key}", {})]
        else:
            yield f"{key} = {_toml('****' if value and is_secret(setting) else value)}{origin}"
    yield from tables


def _base(setting: structs.FieldInfo) -> Any:
    base = setting.type
    while get_origin(base) in (Union, UnionType) or hasattr(base, "__metadata__"):
        args = [arg for arg in get_args(base) if arg is not NoneType]
        base = args[0]
    return base


def _read_tables(cls: type[Record], value: object, place: str) -> tuple[Record, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise ConfigError(f"{place}: expected an array of tables")
    records = tuple(read_record(cls, item, f"{place} number {number}:") for number, item in enumerate(value, 1))
    names = [getattr(record, "name", "") for record in records]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'{place}: the name "{short(name)}" is there twice')
    return records


def _read_list(text: str, *, tables: bool) -> object:
    """A JSON or TOML array, else (for plain texts) a list with commas; anything else stays text."""
    if tables or (text.startswith("[") and text.endswith("]")):
        import tomllib

        try:
            return msgspec.json.decode(text) if text else []
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
        try:
            return tomllib.loads(f"x = {text}")["x"]
        except (ValueError, RecursionError):
            if tables or '"' in text or "[[" in text:
                return text
    return [item.strip() for item in text.split(",") if item.strip()]


def _refuse_control_characters(value: object) -> None:
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and _CONTROL.search(text):
            raise ValueError("a text without control characters, in UTF-8")


def _complaint(setting: structs.FieldInfo, value: object, place: str, wanted: str) -> str:
    try:
        shown = "" if is_secret(setting) else f" = {short(_toml(value))}"
    except (ValueError, RecursionError):  # thousands of digits, or lists in lists in lists
        shown = ""
    return f"{place}{shown}: expected {wanted}"


def _toml(value: object) -> str:
    """A value as TOML; control characters, which no setting has, are not escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):  # no setting is one; a table in the wrong place may hold a secret
        return "{...}"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)


def short(text: str) -> str:
    """Text for a message: printable, and not long."""
    from builder.paths import escaped

    return escaped(text if len(text) <= LONGEST else f"{text[:LONGEST]}...")


def _alternatives(literal: Any) -> str:
    return ", ".join(f'"{choice}"' for choice in get_args(literal))
