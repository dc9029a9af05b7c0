"""Where shipped data lies: inside the package in an installed wheel, else beside it, as in a checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

_PACKAGE = Path(__file__).resolve().parent
_NOT_PUBLISHED = frozenset({"manifest.json"})


class RuntimeManifest(NamedTuple):
    """What the bundle of the page runtime says of itself."""

    source: str
    """Fingerprint of what it was made from."""
    page: str
    """Name in `runtime_dir()` of the classic script that every page loads in its head."""
    fonts: str = ""
    """Name there of the style sheet that declares the font for formulas; its URLs are relative."""


def themes_dir() -> Path:
    """The folder that holds `base` and one folder per built-in theme."""
    return _shipped("themes", "themes")


def starter_dir() -> Path:
    """The starter site, which `build-site init` copies."""
    return _shipped("starter", "site")


def runtime_dir() -> Path:
    """The folder of the bundled page runtime; it is missing in a checkout that was never installed."""
    return themes_dir() / "base" / "static" / "runtime"


def runtime_manifest() -> RuntimeManifest | None:
    """Return what the bundle of the page runtime holds, or None where there is no whole bundle: pages do without it."""
    folder = runtime_dir()
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        found = RuntimeManifest(manifest["source"], manifest["page"], manifest.get("fonts", ""))
        return found if (folder / found.page).is_file() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def runtime_files() -> dict[str, Path]:
    """Return the files of the page runtime that a site needs, by name; each name carries the hash of its content."""
    manifest = runtime_manifest()
    if manifest is None:
        return {}
    left_out = {*_NOT_PUBLISHED, manifest.fonts}
    return {path.name: path for path in sorted(runtime_dir().iterdir()) if path.name not in left_out}


def font_styles() -> bytes:
    """Return the style rules that declare the fonts among `runtime_files`, for a style sheet that lies beside them."""
    manifest = runtime_manifest()
    if manifest is None or not manifest.fonts:
        return b""
    return (runtime_dir() / manifest.fonts).read_bytes()


def _shipped(packaged: str, checkout: str) -> Path:
    installed = _PACKAGE / packaged
    return installed if installed.is_dir() else _PACKAGE.parent / checkout
