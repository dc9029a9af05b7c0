"""One notebook from bytes to body: what a worker does. Importing this module imports all that rendering needs."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from builder.bundles import BundleLimits, open_bundle
from builder.errors import NotebookError
from builder.rendering.body import BodyRenderer
from builder.rendering.notebook import read_notebook
from builder.workers import Execution, Job, Result

if TYPE_CHECKING:
    from nbformat import NotebookNode

log = logging.getLogger("nbfolio")


@cache
def renderer() -> BodyRenderer:
    """The renderer of this process."""
    return BodyRenderer()


def render(job: Job) -> Result:
    """Read, execute where asked, and render one notebook; what goes wrong becomes `Result.failure`."""
    try:
        return _render(job)
    except NotebookError as error:
        where = f"cell {error.cell}: " if error.cell is not None else ""
        return Result(None, failure=f"{where}{error}")
    except MemoryError:
        return Result(None, failure="not enough memory to render this notebook")
    except Exception as error:
        log.debug("%s", job.path, exc_info=True)
        return Result(
            None, failure=f"nbfolio could not render this notebook ({type(error).__name__}: {error}); please report it"
        )


def _render(job: Job) -> Result:
    notebook = read_notebook(job.data, "The notebook")
    nb = notebook.node
    if job.execution:
        nb = _executed(nb, job.execution)
    body, media = renderer().render(nb, job.options, notebook.findings)
    return Result(body, media)


def _executed(nb: NotebookNode, execution: Execution) -> NotebookNode:
    """The notebook with fresh outputs where asked for; the kernel of a ZIP bundle works in an unpacked copy."""
    from builder.execute import execute_notebook, needs_execution

    if not needs_execution(nb, execution.mode):
        return nb
    folder = Path(execution.folder)
    with TemporaryDirectory(prefix="nbfolio-") as copy:
        if folder.is_file():
            with open_bundle(folder, BundleLimits()) as bundle:
                bundle.extract(Path(copy) / "bundle")
            folder = Path(copy) / "bundle"
        return execute_notebook(
            nb,
            folder,
            cell_timeout=execution.cell_timeout,
            notebook_timeout=execution.notebook_timeout,
            environ=os.environ,
        )
