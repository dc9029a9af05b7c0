"""Browser libraries beside the page runtime: those that come with the Python packages whose outputs a page shows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from builder.bokeh_files import FEATURE as BOKEH
from builder.bokeh_files import bokeh_files, may_draw_bokeh
from builder.widget_files import stored_modules, widget_files

ANY_WIDGET = "*"
"""Stands for all installed widget modules: nobody knows before it runs which of them the code of a page needs."""

_WIDGETS = re.compile(r"widget|\b(?:ipy[a-z]+|bqplot|k3d|nglview|pythreejs)\b")


def libraries_of(
    features: Collection[str], metadata: Mapping[str, Any], sources: Iterable[str], *, live: bool
) -> tuple[str, ...]:
    """The names of what a page may load, sorted: `bokeh`, widget modules, and `ANY_WIDGET`.

    `sources` are those of its code cells; with `live` also what these may make counts.
    """
    code = list(sources) if live else []
    names = set(stored_modules(metadata))
    if BOKEH in features or may_draw_bokeh(code):
        names.add(BOKEH)
    if any(_WIDGETS.search(source) for source in code):
        names.add(ANY_WIDGET)
    return tuple(sorted(names))


@cache
def library_files(names: tuple[str, ...]) -> Mapping[str, Path]:
    """The files of these libraries, as output file to installed file; nothing for what is not installed."""
    modules = [name for name in names if name not in (BOKEH, ANY_WIDGET)]
    return {**bokeh_files(names), **widget_files(modules, live=ANY_WIDGET in names)}
