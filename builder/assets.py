"""The files in `assets/`: style sheet, page runtime and static files of the theme, each named by its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from builder import urls
from builder.cache import digest
from builder.resources import font_styles, runtime_files, runtime_manifest
from builder.theme import Theme


@dataclass(frozen=True)
class Assets:
    """The names that pages load, and every asset as output file to a function that gives its content."""

    style: str
    script: str
    """"" where the page runtime was never bundled."""
    files: dict[str, Callable[[], bytes]]


def assets_of(theme: Theme) -> Assets:
    """What a site with this theme has in `assets/`."""
    files: dict[str, Callable[[], bytes]] = {}

    def add(name: str, content: Callable[[], bytes]) -> str:
        stem, dot, ending = name.rpartition(".")
        hashed = f"{stem.replace('/', '-')}.{digest(content())[:12]}{dot}{ending}"
        files[urls.asset(hashed)] = content
        return hashed

    style = add(f"{theme.name}.css", lambda: font_styles() + theme.stylesheet)
    for name, path in theme.static.items():
        add(name, path.read_bytes)
    for name, path in runtime_files().items():
        if name == "THIRD-PARTY.txt":
            add(name, path.read_bytes)
        else:  # as it is: these files know each other by these names, relative to each other
            files[urls.asset(name)] = path.read_bytes
    manifest = runtime_manifest()
    return Assets(style, manifest.page if manifest else "", files)
