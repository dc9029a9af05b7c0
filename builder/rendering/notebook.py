"""Read the bytes of a notebook file: any nbformat up to 4, one wrong cell repaired, the rest refused in a sentence."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec

from builder.errors import NotebookError
from builder.page import Finding
from builder.rendering.repair import Repairer, clean_text, keep_text

if TYPE_CHECKING:
    from nbformat.notebooknode import NotebookNode

_MARKER = re.compile(rb"\\u000[23]")
_MAX_ERRORS = 50
_MAX_MESSAGE = 160


@dataclass(frozen=True)
class Notebook:
    """A notebook as nbformat 4 and what was wrong with its file."""

    node: NotebookNode
    findings: tuple[Finding, ...] = ()


def read_notebook(data: bytes, name: str) -> Notebook:
    """Return the notebook in `data`, whose file is called `name` in messages.

    One wrong cell or output is replaced and reported; `NotebookError` is raised when nothing could be shown.
    nbformat's own reader validates every file against a schema, which costs more than rendering it.
    """
    import builder.slow_imports  # noqa: F401 isort: skip
    from nbformat.notebooknode import NotebookNode

    return _read(data, name, NotebookNode)


def read_plain(data: bytes, name: str) -> dict[str, Any]:
    """The notebook that `read_notebook` gives, as plain dicts: without nbformat, which is slow to import.

    A notebook before nbformat 4 needs it all the same.
    """
    return _read(data, name, cast("type[NotebookNode]", dict)).node


def _read(data: bytes, name: str, node: type[NotebookNode]) -> Notebook:
    try:
        raw, fallback = _decode(data, name)
        dirty = fallback or (b"\\u000" in data and _MARKER.search(data) is not None)
        repairer = Repairer(node, clean_text if dirty else keep_text)
        raw = _as_version_4(raw, name, repairer)
        return Notebook(repairer.notebook(raw), tuple(repairer.findings))
    except RecursionError:
        raise NotebookError(f"{name} is nested too deeply to be a notebook.") from None


def check_notebook(data: bytes, name: str = "The file") -> list[Finding]:
    """Return what the full schema of nbformat says against a notebook, each in a sentence."""
    try:
        raw, _ = _decode(data, name)
        version = _version(raw, name)
        findings = list(read_notebook(data, name).findings)
        errors = _schema_errors(raw, version)
    except NotebookError as error:
        return [Finding("error", str(error), error.cell)]
    except RecursionError:
        return [Finding("error", f"{name} is nested too deeply to be a notebook.")]
    return findings + errors


def _decode(data: bytes, name: str) -> tuple[Any, bool]:
    """Return the JSON value, and whether it took the tolerant decoder (NaN, lone surrogates, other encodings)."""
    try:
        return msgspec.json.decode(data), False
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    text = _decode_text(data, name)
    if not text.strip():
        raise NotebookError(f"{name} is empty.")
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite), True
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotebookError(f"{name} is not JSON: {error.msg} ({where}).") from None
    except ValueError as error:
        raise NotebookError(f"{name} is not usable JSON: {str(error).split(';')[0]}.") from None


def _decode_text(data: bytes, name: str) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        offset = error.start + (3 if encoding == "utf-8-sig" else 0)
        kind = encoding.removesuffix("-sig").upper()
        raise NotebookError(
            f"{name} is not {kind} text: byte {data[offset : offset + 1].hex() or 'at the end'} at offset {offset}."
            " Save it as UTF-8."
        ) from None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _version(raw: Any, name: str) -> int:
    """Return the major version, guessed from the shape when the file does not say."""
    if not isinstance(raw, dict):
        kinds = {list: "a list", str: "a text", type(None): "null", bool: "a truth value"}
        raise NotebookError(f"{name} is JSON but no notebook: it holds {kinds.get(type(raw), 'a number')}.")
    version = raw.get("nbformat")
    if type(version) is not int:
        version = 4 if "cells" in raw else 3
    if version >= 5:
        raise NotebookError(f"{name} is in nbformat {version}, this nbfolio reads 3 and 4.")
    cells = "worksheets" if version in (2, 3) else "cells"
    if version < 1 or not isinstance(raw.get(cells), list):
        raise NotebookError(f"{name} is JSON but no notebook: it has no list of cells.")
    return version


def _as_version_4(raw: Any, name: str, repairer: Repairer) -> dict[str, Any]:
    version = _version(raw, name)
    if type(raw.get("nbformat")) is not int:
        repairer.warn(f"The file does not say its nbformat; it was read as {version}.", None)
    return raw if version == 4 else _upgrade(raw, version, name, repairer)


def _upgrade(raw: dict[str, Any], version: int, name: str, repairer: Repairer) -> dict[str, Any]:
    """Convert old notebooks with nbformat; when it fails, once more cell by cell so that only wrong cells are lost."""
    try:
        return _converted(raw, version, _worksheet_cells(raw, version))
    except RecursionError:
        raise
    except Exception:  # nbformat's converters trust their input: any error may come out of them
        pass
    cells: list[Any] = []
    for index, cell in enumerate(_worksheet_cells(raw, version)):
        try:
            cells += _converted(raw, version, [cell])["cells"]
        except RecursionError:
            raise
        except Exception:
            repairer.warn(f"The cell could not be upgraded from nbformat {version} and was left out.", index)
            cells.append({"cell_type": "raw", "metadata": {}, "source": ""})
    if cells and all(cell["cell_type"] == "raw" and not cell["source"] for cell in cells):
        raise NotebookError(f"{name} could not be upgraded from nbformat {version}: no cell of it is valid.")
    metadata = raw.get("metadata")
    return {"metadata": metadata if isinstance(metadata, dict) else {}, "cells": cells}


def _worksheet_cells(raw: dict[str, Any], version: int) -> list[Any]:
    if version == 1:
        return list(raw["cells"])
    sheets = [sheet.get("cells") for sheet in raw["worksheets"] if isinstance(sheet, dict)]
    return [cell for cells in sheets if isinstance(cells, list) for cell in cells]


def _converted(raw: dict[str, Any], version: int, cells: list[Any]) -> dict[str, Any]:
    import builder.slow_imports  # noqa: F401 isort: skip
    import nbformat

    metadata = raw.get("metadata")
    old: dict[str, Any] = {"nbformat": version, "nbformat_minor": 0, "metadata": {}}
    if isinstance(metadata, dict):
        old["metadata"] = metadata
    if version == 1:
        old["cells"] = cells
    else:
        old["worksheets"] = [{"metadata": {}, "cells": cells}]
    # to_notebook joins lists of lines as that version wrote them
    new = nbformat.convert(nbformat.versions[version].to_notebook_json(old), 4)  # type: ignore[no-untyped-call]
    for cell in new["cells"]:
        # nbformat invents random ids: they would make every build of an unchanged notebook different
        cell.pop("id", None)
    return json.loads(json.dumps(new))  # type: ignore[no-any-return]


def _schema_errors(raw: dict[str, Any], version: int) -> list[Finding]:
    import builder.slow_imports  # noqa: F401 isort: skip
    from nbformat.validator import get_validator

    minor = raw.get("nbformat_minor", 0)
    if version < 3:
        return [Finding("warning", f"nbformat {version} has no schema to check against.")]
    if type(minor) is not int or minor < 0:
        return [Finding("error", "nbformat_minor is not a number.")]
    validator = get_validator(version, minor, name="jsonschema")  # type: ignore[no-untyped-call]
    if validator is None:
        return [Finding("warning", f"nbformat {version}.{minor} has no schema to check against.")]
    found: list[Finding] = []
    for error in validator.iter_errors(raw):
        if len(found) == _MAX_ERRORS:
            found.append(Finding("error", f"More than {_MAX_ERRORS} schema errors; the others are not listed."))
            break
        found.append(_schema_finding(error))
    return found


def _schema_finding(error: Any) -> Finding:
    """Say in one sentence where and why the schema was not met, from the branch that was nearest."""
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

    path = list(error.absolute_path)
    while error.context:
        error = _branch(error) or best_match(error.context)
        path = list(error.absolute_path)
    cell = path[path.index("cells") + 1] if "cells" in path[:-1] else None
    place = [str(part) for part in path[2:]] if path[:1] == ["cells"] else [str(part) for part in path]
    message = error.message if len(error.message) <= _MAX_MESSAGE else _short(error)
    return Finding("error", f"{'.'.join(place) + ': ' if place else ''}{message}.", cell)


def _branch(error: Any) -> Any:
    """Return the first error of the alternative that has the same cell_type or output_type, not of the others."""
    wrong: dict[int, Any] = {}
    refused: set[int] = set()
    for sub in error.context:
        branch = sub.schema_path[0]
        if sub.path and sub.path[-1] in ("cell_type", "output_type"):
            refused.add(branch)
        wrong.setdefault(branch, sub)
    return next((sub for branch, sub in wrong.items() if branch not in refused), None)


def _short(error: Any) -> str:
    kind = type(error.instance).__name__
    kind = {"dict": "object", "list": "list", "str": "text", "NoneType": "null"}.get(kind, kind)
    return f"the {kind} here does not meet the rule '{error.validator}' ({str(error.validator_value)[:60]})"
