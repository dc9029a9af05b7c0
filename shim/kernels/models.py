"""What clients are told of kernels and sessions: the models of Jupyter Server, made from our own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shim.kernels.callers import Caller
    from shim.kernels.gateway import KernelSpec
    from shim.kernels.table import Kernel

Json = dict[str, Any]


def timestamp(seconds: float) -> str:
    """A time in ISO 8601, as Jupyter writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def kernel_model(kernel: Kernel) -> Json:
    """One kernel."""
    return {
        "id": kernel.record.id,
        "name": kernel.record.program.kernelspec,
        "last_activity": timestamp(kernel.last_activity),
        "execution_state": kernel.state,
        "connections": kernel.sockets,
    }


def session_model(kernel: Kernel) -> Json:
    """One session; the kernel must have been started with one."""
    label = kernel.record.label
    assert label
    return {
        "id": label.id,
        "path": label.path,
        "name": label.name,
        "type": label.type,
        "kernel": kernel_model(kernel),
        "notebook": {"path": label.path, "name": label.name},
    }


def specs_model(default: str, specs: Mapping[str, KernelSpec]) -> Json:
    """The kernels that can be had; how they are started is nobody's business."""
    return {
        "default": default,
        "kernelspecs": {
            name: {
                "name": name,
                "spec": {
                    "argv": [],
                    "env": {},
                    "display_name": spec.display_name,
                    "language": spec.language,
                    "metadata": {},
                },
                "resources": {},
            }
            for name, spec in specs.items()
        },
    }


def status_model(kernels: Sequence[Kernel], started: float) -> Json:
    """What the server does for one caller; `started` is when it began to."""
    return {
        "connections": sum(kernel.sockets for kernel in kernels),
        "kernels": len(kernels),
        "last_activity": timestamp(max((kernel.last_activity for kernel in kernels), default=started)),
        "started": timestamp(started),
    }


def me_model(caller: Caller) -> Json:
    """Who the caller is; there are no permissions to tell of."""
    name = caller.owner.partition(":")[2] or "reader"
    identity = {
        "username": name,
        "name": name,
        "display_name": name,
        "initials": name[:1].upper(),
        "avatar_url": None,
        "color": None,
    }
    return {"identity": identity, "permissions": {}}
