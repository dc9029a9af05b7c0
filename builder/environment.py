"""The environment of processes that run code of notebooks."""

from __future__ import annotations

from collections.abc import Mapping

_KEPT = {"PATH", "HOME", "LANG", "TMPDIR", "TZ"} | {
    f"JUPYTER_{name}"
    for name in ("PATH", "DATA_DIR", "CONFIG_DIR", "CONFIG_PATH", "RUNTIME_DIR", "PLATFORM_DIRS", "PREFER_ENV_PATH")
}


def kernel_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a kernel gets of our environment: what it needs to start, and nothing that could be a secret."""
    return {name: value for name, value in environ.items() if name in _KEPT or name.startswith(("LC_", "PYTHON"))}
