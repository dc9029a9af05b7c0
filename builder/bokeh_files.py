"""BokehJS of the Bokeh that is installed beside the builder, for pages whose charts need exactly its version.

BokehJS draws only what the Python package of the same version made, so it cannot be part of the page runtime. Pages
load what they need of it from `assets/bokeh/<version>/`; each file carries Bokeh's licence in its head.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from builder import urls

FEATURE = "bokeh"
"""What `Body.features` holds for a page with Bokeh charts, and for one whose code may make them."""

_COMPONENTS = ("bokeh", "bokeh-widgets", "bokeh-tables", "bokeh-gl", "bokeh-mathjax")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.-]{0,20}")
_MENTION = re.compile(r"\b(?:bokeh|hvplot|holoviews)\b")


def bokeh_files(features: Collection[str]) -> dict[str, Path]:
    """Return the files that a page with these features may load, as output file to file of the package.

    Empty for a page without Bokeh, and where Bokeh is not installed.
    """
    return _installed() if FEATURE in features else {}


def may_draw_bokeh(sources: Iterable[str]) -> bool:
    """Whether code cells with these sources may make Bokeh charts when they run."""
    return any(_MENTION.search(source) for source in sources)


def _installed() -> dict[str, Path]:
    """The files of the installed package, found without importing it: that takes a second."""
    try:
        package = distribution("bokeh")
    except PackageNotFoundError:
        return {}
    if not _VERSION.fullmatch(package.version):
        return {}
    folder = Path(str(package.locate_file("bokeh/server/static/js")))
    files = {f"bokeh/{package.version}/{name}.min.js": folder / f"{name}.min.js" for name in _COMPONENTS}
    return {urls.asset(name): path for name, path in files.items() if path.is_file()}
