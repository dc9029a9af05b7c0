"""The browser side of widgets that are not part of the page runtime, such as ipympl's, as installed with the builder.

Python packages install it as AMD files for the classic notebook, in `share/jupyter/nbextensions/<module>/`; the page
runtime loads `assets/nbextensions/<module>/index.js`. Widgets of ipywidgets itself and of anywidget need no files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from builder import urls

ENTRY = "index.js"
MAX_FILES = 500
MAX_BYTES = 50_000_000
"""Of one module; one with more is left out."""

_STATE = "application/vnd.jupyter.widget-state+json"
_NAME = re.compile(r"(?:@[a-zA-Z0-9_~-][a-zA-Z0-9_.~-]*/)?[a-zA-Z0-9_~-][a-zA-Z0-9_.~-]*")
_IN_THE_RUNTIME = frozenset(
    {"@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output", "anywidget", "jupyter-js-widgets"}
)
_HEAD = 65_536
_MARK = b"@jupyter-widgets/base"
"""What every widget module depends on; bundlers name it in the head of the file."""


def stored_modules(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the modules, beyond those of the page runtime, of the widgets whose state a notebook's metadata hold."""
    widgets = metadata.get("widgets")
    state = widgets.get(_STATE) if isinstance(widgets, dict) else None
    models = state.get("state") if isinstance(state, dict) else None
    found: set[str] = set()
    for model in models.values() if isinstance(models, dict) else ():
        values = model.get("state") if isinstance(model, dict) else None
        if isinstance(values, dict):
            found.update(name for name in (model.get("model_module"), values.get("_view_module")) if _is_module(name))
    return frozenset(found)


def widget_files(modules: Collection[str], *, live: bool) -> dict[str, Path]:
    """Return what pages with these widget modules may load, as output file to installed file.

    With `live`, of all installed modules: the code of a live page may make any widget. Empty for what is not installed.
    """
    wanted = {name for name in modules if _is_module(name)}
    if not wanted and not live:
        return {}
    folders = _folders()
    if live:
        wanted.update(_installed(folders))
    return {
        urls.asset(f"nbextensions/{name}/{file}"): path
        for name in sorted(wanted)
        for file, path in _files(_find(name, folders))
    }


def _is_module(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name not in _IN_THE_RUNTIME and _NAME.fullmatch(name) is not None


@cache
def _folders() -> tuple[Path, ...]:
    """Where Jupyter looks for such files, first found first."""
    from jupyter_core.paths import jupyter_path

    return tuple(Path(folder) for folder in jupyter_path("nbextensions"))


def _installed(folders: Collection[Path]) -> Iterator[str]:
    """The installed modules that are widgets: other things for the classic notebook lie there too."""
    for folder in folders:
        for entry in (*folder.glob(f"*/{ENTRY}"), *folder.glob(f"@*/*/{ENTRY}")):
            name = entry.parent.relative_to(folder).as_posix()
            if _is_module(name) and _is_widget(entry):
                yield name


def _is_widget(entry: Path) -> bool:
    try:
        with entry.open("rb") as file:
            return _MARK in file.read(_HEAD)
    except OSError:
        return False


def _find(name: str, folders: Collection[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name / ENTRY).is_file()), None)


def _files(folder: Path | None) -> list[tuple[str, Path]]:
    """All files of a module but source maps; none when they are too many or too large."""
    if folder is None:
        return []
    found: list[tuple[str, Path]] = []
    size = 0
    for base, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(base, name)
            if name.startswith(".") or name.endswith(".map") or not _is_own(path, folder):
                continue
            size += path.stat().st_size
            found.append((path.relative_to(folder).as_posix(), path))
            if len(found) > MAX_FILES or size > MAX_BYTES:
                return []
    return found


def _is_own(path: Path, folder: Path) -> bool:
    """Whether it is a file of this folder; the folder itself may be a link, as in editable installations."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
