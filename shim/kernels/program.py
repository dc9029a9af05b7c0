"""What a kernel of a page runs: the cells of the notebook, under the numbers that the page gives them."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from builder.catalog import LivePage
from builder.config import Config
from builder.rendering.notebook import read_plain
from shim.kernels.original import notebook_content, refuse_failing

KEPT = 64
"""Programs that are kept in memory."""

_KERNELSPEC = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_LANGUAGE = 64
_TAG = "parameters"


@dataclass(frozen=True)
class Program:
    """The cells of one version of a page, for the whole life of the kernels that were started for it."""

    path: str
    version: str
    kernelspec: str
    """Empty where the notebook names none, or none that can be a name."""
    language: str
    """Of the kernel, in lower case; "" where the notebook does not say."""
    cells: tuple[str | None, ...]
    """The source of each code cell by its index in the notebook, None for other cells."""
    parameters: int | None
    """Index of the first code cell tagged `parameters`."""


class _Content(NamedTuple):
    kernelspec: str
    language: str
    cells: tuple[str | None, ...]
    parameters: int | None


def read_program(config: Config, page: LivePage) -> Program:
    """The program of a page as it is published now; the last ones are kept, so that many readers cost one.

    Raises ChangedError when the page was made from another version of its file, NotebookError when it cannot be read.
    """
    refuse_failing(page)
    key = (config.source, page.file, page.digest)
    content = _memory.get(key, lambda: _content(notebook_content(config, page)))
    return Program(page.path, page.version, *content)


def _content(data: bytes) -> _Content:
    # The builder's own reader: old formats and wrong cells must get the same numbers as in the page.
    notebook = read_plain(data, "The notebook")
    cells = [cell if cell["cell_type"] == "code" else None for cell in notebook["cells"]]
    spec, info = notebook["metadata"].get("kernelspec"), notebook["metadata"].get("language_info")
    name = _text(spec, "name")
    return _Content(
        kernelspec=name if _KERNELSPEC.fullmatch(name) else "",
        language=_language(spec, info),
        cells=tuple(cell["source"] if cell else None for cell in cells),
        parameters=next((index for index, cell in enumerate(cells) if cell and _is_tagged(cell["metadata"])), None),
    )


def _language(spec: Any, info: Any) -> str:
    """What the kernelspec says goes first: it is what will be started, whatever ran the notebook before."""
    language = _text(spec, "language") or _text(info, "name")
    if not language and _text(spec, "name").startswith("python"):
        return "python"
    return language.lower() if len(language) <= _LONGEST_LANGUAGE else ""


def _is_tagged(metadata: Mapping[str, Any]) -> bool:
    tags = metadata.get("tags")
    return isinstance(tags, list) and _TAG in tags


def _text(table: Any, key: str) -> str:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else ""


class _Memory:
    """The contents that were asked for last; one at a time is read, whoever waits for it gets it, too."""

    def __init__(self) -> None:
        self._contents: OrderedDict[Hashable, _Content] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], _Content]) -> _Content:
        """What is kept under `key`, else what `read` gives."""
        if content := self._kept(key):
            return content
        with self._reading:
            content = self._kept(key) or read()
            with self._lock:
                self._contents[key] = content
                if len(self._contents) > KEPT:
                    self._contents.popitem(last=False)
        return content

    def _kept(self, key: Hashable) -> _Content | None:
        with self._lock:
            if content := self._contents.get(key):
                self._contents.move_to_end(key)
            return content


_memory = _Memory()
