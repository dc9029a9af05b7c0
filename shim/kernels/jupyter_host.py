"""A Jupyter server with kernels and nothing else: no files, no terminals, no extensions, no settings of the user."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado.httpserver import HTTPServer
from tornado.web import HTTPError
from traitlets.config import Config

if TYPE_CHECKING:
    from shim.kernels.host import Ending, Orders

MAX_REQUEST = 1 << 20
OUTPUT_BYTES = 20_000_000
"""Bytes of printed text per second; charts and images are not counted."""
OUTPUT_MESSAGES = 3000
"""Messages of outputs per second."""
SHUTDOWN_SECONDS = 3.0


class KernelProcess(ServerKernelManager):
    """One kernel: nobody reads what it prints outside of cells, it has no history, and `breakpoint()` does nothing."""

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        if "ipykernel_launcher" in kernel_cmd:
            kernel_cmd = [*kernel_cmd, "--HistoryManager.enabled=False"]
        kw |= {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
        # Who sat at a debugger could run any code.
        kw["env"] = {**kw["env"], "PYTHONBREAKPOINT": "0"}
        await super()._async_launch_kernel(kernel_cmd, **kw)


class KernelProcesses(AsyncMappingKernelManager):
    """All kernels; each starts in the folder that the request names."""

    def cwd_for_path(self, path: str, **kwargs: Any) -> str:
        """The folder itself, which has to be there."""
        if not os.path.isabs(path) or not os.path.isdir(path):
            raise HTTPError(400, "no such folder")
        return path


class KernelServer(ServerApp):
    """Jupyter's server without what its users configured for their own, and without signal handlers."""

    default_services = ("kernels", "kernelspecs")  # type: ignore[assignment]

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """No file says anything about this server."""

    def init_signal(self) -> None:
        """The process has its own way to end."""


class OneLine(logging.Formatter):
    """A warning in one line; of an exception its name and what it says."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            text = f"{text} ({record.exc_info[0].__name__}: {record.exc_info[1]})"
        return " ".join(text.split())


def serve(orders: Orders, ending: Ending, ready: Callable[[], None]) -> None:
    """Serve until the end has come; `ready` is called when requests are answered."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    asyncio.run(_serve(orders, ending, ready, handler))


async def _serve(orders: Orders, ending: Ending, ready: Callable[[], None], handler: logging.Handler) -> None:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    app = _server(orders)
    app.initialize(argv=[], find_extensions=False, new_httpserver=False)
    app.log.handlers = [handler]
    http = HTTPServer(app.web_app, max_body_size=MAX_REQUEST)
    listening = socket.socket(fileno=orders.socket)
    listening.setblocking(False)
    http.add_sockets([listening])
    ending.announce(partial(loop.call_soon_threadsafe, end.set))
    ready()
    await end.wait()
    http.stop()
    # Not the manager's own way to end all: it gives up at the first kernel that once failed to start.
    manager: Any = app.kernel_manager
    ends = [ensure_async(manager.shutdown_kernel(kernel, now=True)) for kernel in manager.list_kernel_ids()]
    with suppress(TimeoutError):  # what is left is killed all the same
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), SHUTDOWN_SECONDS)
    ending.done()
    ending.finish()


def _server(orders: Orders) -> KernelServer:
    config = Config()
    config.IdentityProvider.token = orders.token
    config.AsyncMappingKernelManager.kernel_manager_class = f"{__name__}.{KernelProcess.__name__}"
    config.KernelManager.shutdown_wait_time = 2.0
    config.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = OUTPUT_BYTES
    config.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = OUTPUT_MESSAGES
    return KernelServer(
        config=config,
        runtime_dir=orders.folder,
        root_dir=orders.folder,
        kernel_manager_class=KernelProcesses,
        identity_provider_class=IdentityProvider,
        cookie_secret=os.urandom(32),
        allow_root=True,
        open_browser=False,
        log_level=logging.WARNING,
        tornado_settings={
            # Every question about a kernel that has ended would be a warning.
            "log_function": lambda handler: None,
            # The relay asks for signs of life. This server's own asking would end a connection before its first
            # question when the timeout is as long as the interval, and Tornado warns when it is longer.
            "ws_ping_interval": 0,
        },
    )
