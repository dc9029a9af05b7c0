"""What else than sources a site is made of: settings, theme, page runtime and the versions of the renderers."""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from builder.cache import digest
from builder.config import Config
from builder.theme import Theme, load_theme

RENDERERS = ("nbformat", "mistune", "pygments", "math_core", "latex2mathml")
_DISTRIBUTIONS = ("mistune", "Pygments", "math-core", "latex2mathml", "nbformat")


def quick_fingerprint(config: Config) -> str:
    """Changes whenever something may have changed that is no source; cheap enough for a run in which nothing did."""
    total = sha256()
    total.update(repr((sys.version_info[:2], config.site, config.build, config.source, config.output)).encode())
    for path in (*_own_files(), *_theme_files(config), *(_package_file(name) for name in RENDERERS)):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        total.update(f"{path} {stat.st_mtime_ns} {stat.st_size}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


@cache
def renderer_fingerprint() -> str:
    """What a body depends on besides its notebook and options: our own code and the versions of the libraries."""
    from importlib.metadata import version

    own = [Path(path).read_bytes() for path in _own_files()]
    names = [f"{name} {version(name)}".encode() for name in _DISTRIBUTIONS]
    return digest(str(sys.version_info[:2]).encode(), *names, *own)


def _own_files() -> list[str]:
    folder = os.path.dirname(os.path.abspath(__file__))
    folders = (folder, f"{folder}/rendering")
    return sorted(entry.path for place in folders for entry in os.scandir(place) if entry.name.endswith(".py"))


def theme_of(config: Config) -> Theme:
    """The theme that the settings name; a site's own themes lie in `themes/` beside its settings."""
    home = config.file.parent if config.file else config.source
    return load_theme(config.site.theme, [home.resolve() / "themes"])


def _theme_files(config: Config) -> list[str]:
    files: list[str] = []
    for folder in theme_of(config).folders:
        for base, folders, names in os.walk(folder):
            folders.sort()
            files.extend(f"{base}/{name}" for name in sorted(names))
    return files


def _package_file(name: str) -> str:
    spec = find_spec(name)
    return (spec.origin or "") if spec else ""
