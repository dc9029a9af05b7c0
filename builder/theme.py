"""A theme is a folder of templates and static files laid over `base`; Jinja is imported when a page is framed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ThemeError
from builder.resources import themes_dir

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MANIFEST = "theme.toml"
BASE = "base"
TEMPLATES = ("page.html.j2", "listing.html.j2", "error.html.j2")
"""Templates a theme has, its own or those of `base`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_KEYS = frozenset({"description", "extends"})
_RUNTIME = "static/runtime/"
_LAYERS = (b"theme", b"site")


@dataclass(frozen=True)
class Theme:
    """A theme as `load_theme` found it; `folders` go from the first to be asked to `base`."""

    name: str
    folders: tuple[Path, ...]

    def template(self, name: str) -> Template:
        """The compiled template `name`; raises ThemeError when no folder has it or it cannot be compiled."""
        from jinja2 import TemplateNotFound, TemplateSyntaxError

        try:
            return self._environment.get_template(name)
        except TemplateNotFound as error:
            raise ThemeError(f"Theme '{self.name}' has no template '{error.name}'.") from None
        except TemplateSyntaxError as error:
            place = f"{error.name}, line {error.lineno}"
            raise ThemeError(f"Theme '{self.name}': template {place}: {error.message}") from None

    @cached_property
    def stylesheet(self) -> bytes:
        """The CSS directly in `static/`: base first, each folder in a cascade layer of its own, in file-name order.

        Layers make what a notebook's author writes in a `<style>` win over every rule of a theme.
        """
        names = dict(zip(self.folders, (*reversed(_LAYERS[: len(self.folders) - 1]), BASE.encode()), strict=True))
        parts = []
        for folder in reversed(self.folders):
            files = sorted((folder / "static").glob("*.css"))
            css = b"\n".join(file.read_bytes().strip() for file in files)
            parts.append(b"@layer %s {\n%s\n}\n" % (names[folder], css) if css else b"")
        return b"".join(parts)

    @cached_property
    def static(self) -> dict[str, Path]:
        """The other files of `static/` by their name in it; a theme's file hides the one of that name in `base`."""
        found: dict[str, Path] = {}
        for folder, name in self._files:
            top, _, rest = name.partition("/")
            if top == "static" and ("/" in rest or not rest.endswith(".css")) and not name.startswith(_RUNTIME):
                found.setdefault(rest, folder / name)
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of all files, in every folder; the page runtime has a fingerprint of its own."""
        digest = hashlib.sha256()
        for folder, name in self._files:
            if name.startswith(_RUNTIME):
                continue
            data = (folder / name).read_bytes()
            digest.update(f"{self.folders.index(folder)}\0{name}\0{len(data)}\0".encode())
            digest.update(data)
        return digest.hexdigest()

    @cached_property
    def _files(self) -> list[tuple[Path, str]]:
        return [(folder, name) for folder in self.folders for name in _files(folder)]

    @cached_property
    def _environment(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        return Environment(
            loader=FileSystemLoader([folder / "templates" for folder in self.folders]),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )


def load_theme(name: str, user_dirs: Sequence[Path]) -> Theme:
    """Find theme `name`: in `user_dirs`, then among the shipped ones; an absolute path names a theme's folder itself.

    Raises ThemeError when there is none, when `name` leads out of these folders, or when the theme is incomplete.
    """
    shipped = themes_dir()
    folder = _find(name, user_dirs, shipped)
    folders = [folder]
    extended = _extends(folder)
    if extended:
        if not _NAME.fullmatch(extended) or not (shipped / extended / MANIFEST).is_file():
            raise ThemeError(
                f"{folder / MANIFEST}: 'extends' names '{extended}', but the shipped themes are {_list(shipped)}."
            )
        if shipped / extended != folder:
            folders.append(shipped / extended)
    theme = Theme(folder.name, (*folders, shipped / BASE))
    for template in TEMPLATES:
        if not any((place / "templates" / template).is_file() for place in theme.folders):
            raise ThemeError(f"Theme '{theme.name}' has no template '{template}'.")
    return theme


def _find(name: str, user_dirs: Sequence[Path], shipped: Path) -> Path:
    if Path(name).is_absolute() and "\0" not in name:
        candidates = [Path(os.path.normpath(name))]
    elif _NAME.fullmatch(name):
        candidates = [parent / name for parent in (*user_dirs, shipped)]
    else:
        raise ThemeError(
            f"'{name}' is no name of a theme: use letters, digits, '-' and '_', or an absolute path to its folder."
        )
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            return folder
    for folder in candidates:
        if folder.is_dir() and folder.parent != shipped:
            raise ThemeError(f"The folder {folder} is no theme: it has no {MANIFEST}.")
    raise ThemeError(f"There is no theme '{name}'; the shipped themes are {_list(shipped)}.")


def _extends(folder: Path) -> str:
    import tomllib

    path = folder / MANIFEST
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ThemeError(f"{path} cannot be read: {error}.") from None
    unknown = sorted(data.keys() - _KEYS)
    if unknown:
        raise ThemeError(f"{path}: unknown key '{unknown[0]}'; known are {', '.join(sorted(_KEYS))}.")
    wrong = sorted(key for key, value in data.items() if not isinstance(value, str))
    if wrong:
        raise ThemeError(f"{path}: '{wrong[0]}' must be a text.")
    return str(data.get("extends", ""))


def _list(shipped: Path) -> str:
    return ", ".join(f"'{path.parent.name}'" for path in sorted(shipped.glob(f"*/{MANIFEST}")))


def _files(folder: Path) -> Iterator[str]:
    root = folder.resolve()
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if not path.resolve().is_relative_to(root) or not path.is_file():
                raise ThemeError(f"{path} is no file of the theme: it leads out of its folder or is none.")
            yield path.relative_to(root).as_posix()
