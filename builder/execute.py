"""Run a notebook in a fresh kernel before it is rendered. Importing this module imports nbconvert and nbclient."""

from __future__ import annotations

import asyncio
import copy
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import Any, Literal

from jupyter_client.client import KernelClient
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbclient.client import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async
from nbconvert.preprocessors import ExecutePreprocessor
from nbformat import NotebookNode

from builder.environment import kernel_environment
from builder.errors import NotebookError
from builder.paths import escaped

DEFAULT_KERNEL = "python3"
STARTUP_SECONDS = 60
"""The longest that a kernel may take until it answers."""
MAX_OUTPUT = 100_000_000
"""Characters and bytes of output that one run may make."""
MAX_MESSAGE = 300


def needs_execution(nb: NotebookNode, mode: Literal["never", "missing", "always"]) -> bool:
    """Whether to run the notebook; `missing`: when it has code, and no cell of it shows a trace of a run."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    if mode == "missing":
        return bool(cells) and not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    return mode == "always" and bool(cells)


def execute_notebook(
    nb: NotebookNode, folder: Path, *, cell_timeout: int, notebook_timeout: int, environ: Mapping[str, str]
) -> NotebookNode:
    """A copy of the notebook with the outputs of a run in `folder`, widget state included.

    The limits are seconds. NotebookError when a cell raises, the kernel is missing or dies, the time is up or
    the outputs are too large; no process of the kernel is left in any case.
    """
    name = _kernel_name(nb)
    with TemporaryDirectory(prefix="nbfolio-") as private:
        runner = _Runner(copy.deepcopy(nb), name, cell_timeout, notebook_timeout)
        launch = {"cwd": str(folder), "env": kernel_environment(environ), "stdout": DEVNULL, "stderr": DEVNULL}
        try:
            # A loop of our own: one that was made before a fork would be shared with the parent.
            return asyncio.run(runner.run(os.path.join(private, "kernel.json"), launch))
        except Exception as error:
            raise runner.explain(error) from error


class _Runner(ExecutePreprocessor):
    """nbconvert's preprocessor with a limit of time for all cells and of outputs, and a kernel that leaves nothing."""

    def __init__(self, nb: NotebookNode, kernel: str, cell_timeout: int, notebook_timeout: int) -> None:
        super().__init__(kernel_name=kernel, timeout=cell_timeout, record_timing=False)  # type: ignore[no-untyped-call]
        NotebookClient.__init__(self, nb)
        self.timeout_func = self._seconds
        self._cell_timeout = cell_timeout
        self._notebook_timeout = notebook_timeout
        self._deadline = time.monotonic() + notebook_timeout
        self._cell: int | None = None
        self._size = 0
        self._group = 0

    async def run(self, connection_file: str, launch: dict[str, Any]) -> NotebookNode:
        """Run all code cells; the kernel is gone when this returns or raises."""
        self.reset_execution_trackers()
        async with self._kernel(connection_file, launch) as client:
            info = await self.async_wait_for_reply(await ensure_async(client.kernel_info()))
            if info:
                self.nb.metadata["language_info"] = info["content"]["language_info"]
            for index, cell in enumerate(self.nb.cells):
                self._cell = index
                if self._deadline <= time.monotonic():
                    raise TimeoutError
                await self.async_execute_cell(cell, index)
                if self._size > MAX_OUTPUT:
                    raise DeadKernelError
            self.set_widgets_metadata()
        return self.nb

    @asynccontextmanager
    async def _kernel(self, connection_file: str, launch: dict[str, Any]) -> AsyncIterator[KernelClient]:
        """A kernel for as long as the context lasts. nbclient's own way would also replace our signal handlers."""
        manager = self.create_kernel_manager()
        manager.connection_file = connection_file
        self.startup_timeout = min(STARTUP_SECONDS, self._notebook_timeout)
        try:
            await self.async_start_new_kernel(**launch)
            self._group = getattr(manager.provisioner, "pgid", None) or 0
            yield await self.async_start_new_kernel_client()
            await ensure_async(manager.shutdown_kernel())
        finally:
            self._kill()
            if self.kc:
                self.kc.stop_channels()
            if manager.has_kernel:
                await ensure_async(manager.shutdown_kernel(now=True))
            await ensure_async(manager.cleanup_resources())

    def _kill(self) -> None:
        """End the kernel and what it started, unless that left the kernel's process group."""
        if self._group and self._group != os.getpgrp():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Take one message of the kernel; a flood of outputs ends the kernel instead of filling the memory."""
        if msg["msg_type"] != "status":
            self._size += _size(msg)
            if self._size > MAX_OUTPUT:
                self._kill()
                return None
        return super().process_message(msg, cell, cell_index)

    def _seconds(self, _: NotebookNode) -> int:
        return max(1, min(self._cell_timeout, math.ceil(self._deadline - time.monotonic())))

    def explain(self, error: Exception) -> NotebookError:
        """The sentence about what ended the run."""
        if self._size > MAX_OUTPUT:
            text = f"The outputs of the run are larger than {MAX_OUTPUT // 1_000_000} MB."
        elif isinstance(error, CellExecutionError):
            text = f"The cell raised {_short(error.ename)}: {_short(error.evalue)}"
        elif isinstance(error, TimeoutError) and self._deadline <= time.monotonic():
            text = f"The notebook ran longer than {self._notebook_timeout} s and was stopped."
        elif isinstance(error, CellTimeoutError):
            text = f"The cell ran longer than {self._cell_timeout} s and was stopped."
        elif isinstance(error, DeadKernelError):
            text = "The kernel died (out of memory?)."
        else:
            reason = _short(str(error) or type(error).__name__)
            text = f"The kernel '{_short(self.kernel_name)}' could not be used: {reason}"
        return NotebookError(text, self._cell)


def _kernel_name(nb: NotebookNode) -> str:
    spec = nb.metadata.get("kernelspec")
    name = spec.get("name") if isinstance(spec, dict) else None
    name = name if isinstance(name, str) and name else DEFAULT_KERNEL
    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        cure = (
            "python -m pip install ipykernel"
            if name == DEFAULT_KERNEL
            else "`jupyter kernelspec list` shows those that are"
        )
        raise NotebookError(f"The kernel '{_short(name)}' is not installed here ({cure}).") from None
    return name


def _size(msg: dict[str, Any]) -> int:
    """About how much memory the content of a message takes."""
    content = msg["content"]
    data = content.get("data")
    values = [content.get("text", ""), content.get("traceback", ""), *(data.values() if isinstance(data, dict) else ())]
    sizes = (len(value) if isinstance(value, str) else len(repr(value)) for value in values)
    return sum(sizes) + sum(len(buffer) for buffer in msg.get("buffers") or ())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return escaped(line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "...")
