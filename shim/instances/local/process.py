"""One JupyterLab: how it is started, whether it answers, and how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from builder.environment import kernel_environment
from builder.paths import escaped
from shim.instances.asked import fetch
from shim.instances.local.adoption import Identity, identity_of, is_alive, is_ours
from shim.instances.local.folders import Facts, Folder, write_private
from shim.instances.local.launcher import Orders
from shim.kernels.processes import MARK

if TYPE_CHECKING:
    from shim.instances.local.limits import Limits

NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
"""What the owner of an instance chose about notifications, below its settings."""
HOST = "127.0.0.1"
ANSWER_SECONDS = 1.0
LONGEST_STATUS = 64 << 10
KERNEL_SECONDS = 2.0
"""How long kernels may take to end properly when their server ends."""
LONGEST_LINE = 300
MOST_LOG = 1 << 20
"""Bytes of the log of a server; when it is longer it begins anew."""

_FOLDERS = re.compile(r"(?<![\w./:])/[^\s'\":;,()\[\]<>]*/")
"""An absolute path, but for its last name."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("NBFOLIO_", "JUPYTER_", MARK)


def refused_variables(env_vars: Mapping[str, str]) -> list[str]:
    """The variables that an instance cannot be given: they would undo what its server is told, or are none."""
    return [
        name
        for name, value in env_vars.items()
        if not _VARIABLE.fullmatch(name) or name.startswith(_RESERVED) or "\0" in value
    ]


def free_port(preferred: int, taken: Collection[int]) -> int:
    """A port of 127.0.0.1 that nobody listens on, the preferred one if possible. Raises OSError."""
    with suppress(OSError):
        if preferred and preferred not in taken:
            socket.create_server((HOST, preferred)).close()
            return preferred
    for _ in range(100):
        with socket.create_server((HOST, 0)) as server:
            port: int = server.getsockname()[1]
        if port not in taken:
            return port
    raise OSError("no port is free")


class Server:
    """A server that was started here, or found running."""

    def __init__(self, folder: Folder, facts: Facts, child: subprocess.Popen[bytes] | None) -> None:
        self._folder = folder
        self._facts = facts
        self._child = child
        self.adopted = child is None
        """Whether a server before this one started it."""

    @classmethod
    def launch(cls, folder: Folder, facts: Facts, env_vars: Mapping[str, str], limits: Limits) -> tuple[Server, Facts]:
        """Start a server, and give the facts with its process, which are recorded. Raises OSError."""
        folder.record(replace(facts, process=None))
        _configure(folder, facts)
        base = kernel_environment(os.environ) | {MARK: facts.mark}
        # What terminals run.
        base |= {"SHELL": os.environ["SHELL"]} if "SHELL" in os.environ else {}
        orders = Orders(
            command=[sys.executable, "-P", "-m", "jupyterlab"],
            env={**base, **env_vars, **_own_environment(folder, facts)},
            folder=str(folder.files),
            limits=limits,
        )
        child = _spawn(folder, orders, base)
        facts = replace(facts, process=identity_of(child.pid))
        folder.record(facts)
        return cls(folder, facts, child), facts

    @classmethod
    def adopt(cls, folder: Folder, facts: Facts) -> Server | None:
        """The server of the facts, if it still runs."""
        if facts.process and is_ours(facts.process, facts.mark):
            return cls(folder, facts, None)
        return None

    @property
    def ended(self) -> bool:
        """Whether it has ended; others of its processes may be left."""
        return not is_alive(self._identity()) if self._child is None else self._child.poll() is not None

    def ending(self) -> str:
        """How it ended, a sentence of at most 400 characters."""
        code = self._child.poll() if self._child else None
        # How one ended that a server before this one started is not told to this one.
        how = "" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        said = ": ".join(part for part in (how, self._last_line()) if part)
        return f"The notebook server ended ({said})" if said else "The notebook server ended"

    def answers(self) -> bool:
        """Whether it takes requests with its token, which is sent to nobody else; waits at most a second."""
        if not self._listens():
            return False
        url = f"http://{HOST}:{self._facts.port}/api/status"
        headers = {"Authorization": f"token {self._facts.token}"}
        try:
            status, _ = fetch(url, headers, seconds=ANSWER_SECONDS, longest=LONGEST_STATUS)
        except (OSError, ValueError, HTTPException):
            return False
        return status == 200

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; what it started is not ended by that."""
        self._signal(signal.SIGKILL)

    def trim_log(self) -> None:
        """Let a long log begin anew."""
        with suppress(OSError):
            if self._folder.log.stat().st_size > MOST_LOG:
                os.truncate(self._folder.log, 0)

    def _listens(self) -> bool:
        """Whether it says so, in a file that it writes once it has its port: somebody else may have been faster."""
        pid = self._child.pid if self._child else self._identity().pid
        try:
            said: Any = json.loads((self._folder.path / "runtime" / f"jpserver-{pid}.json").read_bytes())
            return bool(said["port"] == self._facts.port)
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def _identity(self) -> Identity:
        assert self._facts.process
        return self._facts.process

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._child:
                self._child.send_signal(number)
            elif is_alive(self._identity()):
                os.kill(self._identity().pid, number)

    def _last_line(self) -> str:
        try:
            with open(self._folder.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - (8 << 10)))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return escaped(self._without_paths(last)[:LONGEST_LINE])[:LONGEST_LINE]

    def _without_paths(self, line: str) -> str:
        """What a server said, for people who need not know where things are on this machine."""
        for private in (str(self._folder.path), sys.prefix, self._facts.token):
            line = line.replace(private, "...")
        return _FOLDERS.sub(".../", line)


def _spawn(folder: Folder, orders: Orders, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile(dir=folder.path) as told, open(_new_log(folder), "ab") as log:
        told.write(orders.to_json())
        told.seek(0)
        # -P: a file of the folder we were started in must not stand for a module.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "shim.instances.local.launcher"],
            stdin=told,
            stdout=log,
            stderr=log,
            env=dict(env),
            start_new_session=True,
        )


def _new_log(folder: Folder) -> int:
    """The log of a server that starts. A file, because its reader may be gone, and appended to, so it can be cut."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(folder.log, flags, 0o600)


def _own_environment(folder: Folder, facts: Facts) -> dict[str, str]:
    """Variables that no request can change: the server has settings, kernel specs and history of its own."""
    config = str(folder.inner("config"))
    return {
        "JUPYTER_CONFIG_DIR": config,
        "JUPYTER_CONFIG_PATH": config,
        "JUPYTER_DATA_DIR": str(folder.inner("data")),
        "JUPYTER_RUNTIME_DIR": str(folder.inner("runtime")),
        "IPYTHONDIR": str(folder.inner("ipython")),
        MARK: facts.mark,
    }


def _configure(folder: Folder, facts: Facts) -> None:
    """Write the settings of the server, and remove what one before it said of itself."""
    for left in folder.inner("runtime").glob("jpserver-*"):
        left.unlink(missing_ok=True)
    settings: dict[str, dict[str, Any]] = {
        "ServerApp": {
            "ip": HOST,
            "port": facts.port,
            "port_retries": 0,
            "root_dir": str(folder.files),
            "open_browser": False,
            "allow_root": os.geteuid() == 0,
            "log_level": "WARN",
        },
        "IdentityProvider": {"token": facts.token},
        "PasswordIdentityProvider": {"allow_password_change": False},
        "KernelManager": {"shutdown_wait_time": KERNEL_SECONDS},
        # The trash would be that of whoever runs this server.
        "FileContentsManager": {"delete_to_trash": False, "always_delete_dir": True},
        # Extensions would be installed for all instances; news are somebody else's servers.
        "LabApp": {
            "extension_manager": "readonly",
            "news_url": None,
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        },
    }
    config = folder.inner("config")
    write_private(config / "jupyter_server_config.json", json.dumps(settings))
    # JupyterLab would ask everybody whether they want news, which there are none of.
    chosen = config / NEWS
    if not chosen.exists():
        for part in reversed(chosen.relative_to(config).parents[:-1]):
            (config / part).mkdir(mode=0o700, exist_ok=True)
        write_private(chosen, '{"fetchNews": "false"}')
