"""The bodies of requests about instances and environments: JSON or YAML, with the same outcome."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from builder.values import short
from shim.instances.errors import InvalidError

LONGEST = 256 << 10
"""Bytes of a body."""
DEEPEST = 32
"""Objects and lists inside each other."""
MOST_VALUES = 10_000
"""Names and values of a YAML document; where libyaml is missing, reading takes a tenth of a millisecond for each."""
JSON = frozenset({"application/json"})
YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})

_CHARSETS = ("utf-8", "utf8", "us-ascii")
_NULLS = ("", "~", "null", "Null", "NULL")


class UnsupportedTypeError(InvalidError):
    """Raised for a body that is neither JSON nor YAML, or not in UTF-8."""


def read_document(data: bytes, content_type: str) -> dict[str, Any]:
    """The object in a body: texts, None, lists and objects; numbers and truth values are texts, as they were written.

    Raises UnsupportedTypeError, and InvalidError for what cannot be read: no object, repeated keys, too long or deep.
    """
    from multipart import parse_options_header  # type: ignore[import-untyped]

    kind, options = parse_options_header(content_type)
    if kind not in JSON | YAML:
        raise UnsupportedTypeError("Send the body as application/json or application/yaml.")
    if options.get("charset", "utf-8").lower() not in _CHARSETS:
        raise UnsupportedTypeError("Send the body in UTF-8.")
    if len(data) > LONGEST:
        raise InvalidError(f"The body is longer than {LONGEST >> 10} KB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidError("The body is not valid UTF-8.") from None
    value = None if not text.strip() else _json(text) if kind in JSON else _Yaml(text).value()
    value = _plain(value)
    if value is None:
        raise InvalidError("Invalid. The body is empty; send a notebook spec or an environment spec as JSON or YAML.")
    if not isinstance(value, dict):
        raise InvalidError("The body has to be an object with named fields.")
    return value


class Fields:
    """One object of a document, under the name by which messages call it; a field that is null is as if not there.

    Methods raise InvalidError for a field of another kind.
    """

    def __init__(self, members: Mapping[str, Any], name: str = "") -> None:
        self._members = members
        self._name = name

    def __contains__(self, field: str) -> bool:
        """Whether a field was sent, be it null."""
        return field in self._members

    def called(self, field: str) -> str:
        """A field with the objects it is in, like `meta.name`."""
        return f"{self._name}.{short(field)}" if self._name else short(field)

    def only(self, *known: str, hints: Mapping[str, str] | None = None) -> None:
        """Refuse fields that are not known; `hints` say what to use instead of some of them."""
        for field in self._members:
            if field not in known:
                hint = (hints or {}).get(field) or f"{self._name or 'the body'} has {', '.join(known)}"
                raise InvalidError(f"{self.called(field)} is not known; {hint}.")

    def text(self, field: str) -> str | None:
        """A text."""
        value = self._members.get(field)
        if value is not None and not isinstance(value, str):
            raise InvalidError(f"{self.called(field)} has to be a text.")
        return value

    def needed_text(self, field: str) -> str:
        """A text that has to be there."""
        value = self.text(field)
        if value is None:
            raise InvalidError(f"{self.called(field)} is required.")
        return value

    def inner(self, field: str) -> Fields | None:
        """An object."""
        value = self._members.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InvalidError(f"{self.called(field)} has to be an object.")
        return Fields(value, self.called(field))

    def needed_inner(self, field: str) -> Fields:
        """An object that has to be there."""
        found = self.inner(field)
        if found is None:
            raise InvalidError(f"{self.called(field)} is required.")
        return found

    def text_map(self, field: str, most: int) -> dict[str, str] | None:
        """An object of at most `most` texts, none of them null."""
        found = self.inner(field)
        if found is None:
            return None
        if len(found._members) > most:
            raise InvalidError(f"{self.called(field)} has more than {most} entries.")
        return {name: found.needed_text(name) for name in found._members}

    def texts(self, field: str, most: int) -> tuple[str, ...]:
        """A list of at most `most` texts; null is an empty one."""
        value = self._members.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidError(f"{self.called(field)} has to be a list of texts.")
        if len(value) > most:
            raise InvalidError(f"{self.called(field)} has more than {most} entries.")
        return tuple(value)


def _json(text: str) -> Any:
    try:
        # Numbers stay as they are written: nothing is rounded, and a long one costs nothing.
        return json.loads(
            text, object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        raise InvalidError(f"The body is not valid JSON; see line {error.lineno}.") from None
    except RecursionError:
        raise _too_deep() from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _repeated(name)
            seen.add(name)
    return members


def _refuse_constant(name: str) -> None:
    raise InvalidError(f"{name} is not a number that JSON has.")


class _Yaml:
    """One YAML document, read from the parser's events, so that no tag, anchor or depth ever does anything."""

    def __init__(self, text: str) -> None:
        # Here, since it takes longer than all of this package.
        import yaml  # type: ignore[import-untyped]

        # The parser compares each with all others before it shows the first.
        if re.search("^%TAG", text, re.MULTILINE):
            raise InvalidError("YAML with tags is not accepted; leave %TAG out.")
        self._yaml = yaml
        self._left = MOST_VALUES
        self._events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def value(self) -> Any:
        yaml = self._yaml
        try:
            next(self._events)  # the beginning of the stream
            if isinstance(next(self._events), yaml.StreamEndEvent):
                return None
            value = self._node(next(self._events), 0)
            next(self._events)  # the end of the document
            if not isinstance(next(self._events), yaml.StreamEndEvent):
                raise InvalidError("The body has to be one YAML document.")
            return value
        except yaml.MarkedYAMLError as error:
            where = f"; see line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InvalidError(f"The body is not valid YAML{where}.") from None
        # The parser without libyaml lets some numbers in escapes and directives through to Python.
        except (yaml.YAMLError, ValueError, OverflowError):
            raise InvalidError("The body is not valid YAML.") from None

    def _node(self, event: Any, depth: int) -> Any:
        yaml = self._yaml
        self._left -= 1
        if self._left < 0:
            raise InvalidError(f"The body has more than {MOST_VALUES} values.")
        # An alias has the name of its anchor here, too.
        if event.anchor is not None:
            raise InvalidError("YAML with anchors and aliases is not accepted; write everything out.")
        if event.tag is not None:
            raise InvalidError(f"YAML with tags is not accepted; leave {short(event.tag)} out.")
        if isinstance(event, yaml.ScalarEvent):
            plain, _ = event.implicit
            return None if plain and event.value in _NULLS else event.value
        if depth == DEEPEST:
            raise _too_deep()
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._nodes(yaml.SequenceEndEvent, depth + 1))
        nodes = self._nodes(yaml.MappingEndEvent, depth + 1)
        members: dict[str, Any] = {}
        for name in nodes:
            if not isinstance(name, str):
                raise InvalidError("The name of a field has to be a text.")
            if name in members:
                raise _repeated(name)
            members[name] = next(nodes)
        return members

    def _nodes(self, end: type, depth: int) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield self._node(event, depth)


def _plain(value: Any, depth: int = 0) -> Any:
    """A value with truth values as texts. Raises InvalidError for what is deep, and for texts that are no Unicode."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _unicode(value)
    if depth == DEEPEST and value is not None:
        raise _too_deep()
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_unicode(name): _plain(item, depth + 1) for name, item in value.items()}
    return value


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidError("The body has half of a surrogate pair in a text.") from None
    return text


def _too_deep() -> InvalidError:
    return InvalidError(f"The body is nested more than {DEEPEST} levels deep.")


def _repeated(name: str) -> InvalidError:
    return InvalidError(f"The field {short(name)} is there twice.")
