"""Bring decoded notebook JSON into the shape the renderer relies on, saying what had to be repaired."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from builder.page import Finding

if TYPE_CHECKING:
    from nbformat.notebooknode import NotebookNode

MAX_DEPTH = 100
"""Deepest nesting of metadata and JSON outputs; what copies or writes them later needs some stack per level."""

_JSON_MIME = re.compile(r"application/(?:[^;]*\+)?json\b")
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORBIDDEN = re.compile("[\x02\x03\ud800-\udfff]")


class TooDeepError(ValueError):
    """Raised when JSON is nested deeper than `MAX_DEPTH`."""


def clean_text(text: str) -> str:
    """Remove the characters of markers and replace lone surrogates, which no file can hold."""
    return _FORBIDDEN.sub(lambda match: "" if match[0] in "\x02\x03" else "\ufffd", text)


def keep_text(text: str) -> str:
    """Return the text itself: the cleaner of a notebook that needs none."""
    return text


class Repairer:
    """Turns plain dicts into `NotebookNode`s, cell by cell, and collects findings."""

    def __init__(self, node: type[NotebookNode], clean: Callable[[str], str]) -> None:
        self.findings: list[Finding] = []
        self._node = node
        self._clean = clean
        self._ids: set[str] = set()

    def notebook(self, raw: dict[str, Any]) -> NotebookNode:
        """Return the notebook with every cell at its place; an unusable cell becomes an empty raw one."""
        return self._new(
            nbformat=4,
            nbformat_minor=raw["nbformat_minor"] if type(raw.get("nbformat_minor")) is int else 5,
            metadata=self._metadata(raw.get("metadata"), None),
            cells=[self._cell(cell, index) for index, cell in enumerate(raw["cells"])],
        )

    def warn(self, message: str, cell: int | None) -> None:
        """Record that something was left out or replaced."""
        self.findings.append(Finding("warning", message, cell))

    def _new(self, **values: Any) -> NotebookNode:
        return self._as_node(values)

    def _as_node(self, values: dict[str, Any]) -> NotebookNode:
        # past the constructor, which is written in Python and runs for every dict of a notebook
        node = self._node.__new__(self._node)
        dict.update(node, values)
        return node

    def _value(self, value: Any, depth: int = 0) -> Any:
        """Convert dicts at every depth, clean every text."""
        kind = type(value)
        if kind is str:
            return self._clean(value)
        if kind is dict or kind is list:
            if depth >= MAX_DEPTH:
                raise TooDeepError
            if kind is list:
                return [self._value(item, depth + 1) for item in value]
            items = {self._clean(key): self._value(item, depth + 1) for key, item in value.items()}
            return self._as_node(items)
        return value

    def _metadata(self, value: Any, cell: int | None) -> NotebookNode:
        if not isinstance(value, dict):
            if value is not None:
                self.warn("The metadata is not an object and was ignored.", cell)
            return self._new()
        try:
            return self._value(value)  # type: ignore[no-any-return]
        except TooDeepError:
            self.warn(f"The metadata is nested more than {MAX_DEPTH} levels deep and was ignored.", cell)
            return self._new()

    def _text(self, value: Any) -> str | None:
        """Join what the format writes as a list of lines; None when it is no text."""
        if type(value) is str:
            return self._clean(value)
        if type(value) is list:
            try:
                return self._clean("".join(value))
            except TypeError:
                return None
        return None

    def _cell(self, raw: Any, index: int) -> NotebookNode:
        if not isinstance(raw, dict):
            self.warn("The cell is not an object and was left out.", index)
            return self._new(cell_type="raw", metadata=self._new(), source="")
        kind = raw.get("cell_type")
        if kind not in ("code", "markdown", "raw"):
            self.warn("The cell has no known cell_type; its source is shown as it is.", index)
            kind = "raw"
        source = self._text(raw.get("source"))
        if source is None:
            self.warn("The cell has no source that is text; it is shown empty.", index)
        cell = self._new(cell_type=kind, metadata=self._metadata(raw.get("metadata"), index), source=source or "")
        self._set_id(cell, raw.get("id"), index)
        if kind == "code":
            cell["execution_count"] = _count(raw.get("execution_count"))
            cell["outputs"] = self._outputs(raw.get("outputs"), index)
        elif isinstance(raw.get("attachments"), dict):
            cell["attachments"] = self._attachments(raw["attachments"], index)
        return cell

    def _set_id(self, cell: NotebookNode, name: Any, index: int) -> None:
        if type(name) is not str or not _CELL_ID.fullmatch(name):
            return
        if name in self._ids:
            self.warn(f"The cell id {name} occurs more than once; links to it go to the first cell.", index)
            return
        self._ids.add(name)
        cell["id"] = name

    def _attachments(self, raw: dict[str, Any], index: int) -> NotebookNode:
        bundles = {
            self._clean(name): self._bundle(bundle, index, f"The attachment {self._clean(name)[:80]!r}")
            for name, bundle in raw.items()
        }
        return self._as_node(bundles)

    def _outputs(self, raw: Any, index: int) -> list[NotebookNode]:
        if not isinstance(raw, list):
            if raw is not None:
                self.warn("The outputs of the cell are not a list and were left out.", index)
            return []
        outputs = (self._output(output, index, f"Output {number}") for number, output in enumerate(raw, 1))
        return [output for output in outputs if output is not None]

    def _output(self, raw: Any, index: int, label: str) -> NotebookNode | None:
        kind = raw.get("output_type") if isinstance(raw, dict) else None
        if kind == "stream":
            return self._stream(raw, index, label)
        if kind == "error":
            return self._error(raw)
        if kind not in ("execute_result", "display_data"):
            if not isinstance(raw, dict) or not isinstance(raw.get("data"), dict):
                self.warn(f"{label} has no known output_type and was left out.", index)
                return None
            self.warn(f"{label} has no known output_type; its data is shown.", index)
            kind = "display_data"
        output = self._new(
            output_type=kind,
            metadata=self._metadata(raw.get("metadata"), index),
            data=self._bundle(raw.get("data"), index, label),
        )
        if kind == "execute_result":
            output["execution_count"] = _count(raw.get("execution_count"))
        return output

    def _stream(self, raw: dict[str, Any], index: int, label: str) -> NotebookNode:
        text = self._text(raw.get("text"))
        if text is None:
            self.warn(f"{label} has no text.", index)
        name = "stderr" if raw.get("name") == "stderr" else "stdout"
        return self._new(output_type="stream", name=name, text=text or "")

    def _error(self, raw: dict[str, Any]) -> NotebookNode:
        lines = raw.get("traceback")
        traceback: Iterable[Any] = lines if isinstance(lines, list) else [lines]
        return self._new(
            output_type="error",
            ename=self._text(raw.get("ename")) or "",
            evalue=self._text(raw.get("evalue")) or "",
            traceback=[self._clean(line) for line in traceback if type(line) is str],
        )

    def _bundle(self, raw: Any, index: int, label: str) -> NotebookNode:
        """Return a MIME bundle: text for everything but JSON types."""
        if not isinstance(raw, dict):
            self.warn(f"{label} has no data.", index)
            return self._new()
        data: dict[str, Any] = {}
        for mime, value in raw.items():
            try:
                item = self._value(value) if _JSON_MIME.match(mime) else self._text(value)
            except TooDeepError:
                self.warn(f"{label}: {mime[:80]} is nested more than {MAX_DEPTH} levels deep; left out.", index)
                continue
            if item is None and not _JSON_MIME.match(mime):
                self.warn(f"{label}: {self._clean(mime)[:80]} is not text and was left out.", index)
                continue
            data[self._clean(mime)] = item
        return self._as_node(data)


def _count(value: Any) -> int | None:
    return value if type(value) is int else None
