"""How the packages of an environment get into an instance, before its server starts: into its volume, once."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shim.instances.records import EnvironmentSpec, KernelSpec

# The texts never change: what somebody wrote is only ever an argument. The mark makes a restart quick, and lets it
# do without a network; an installation that was broken off begins anew.
PIP_SCRIPT = """set -eu
mark="$HOME/.nbfolio/pip-$1"
shift
if [ -e "$mark" ]; then exit 0; fi
mkdir -p "$HOME/.nbfolio"
python -m pip install --user --no-cache-dir --disable-pip-version-check --no-input -- "$@"
touch "$mark"
"""
CONDA_SCRIPT = """set -eu
mark="$HOME/.nbfolio/conda-$1"
kernel="$2"
shift 2
if [ -e "$mark" ]; then exit 0; fi
mkdir -p "$HOME/.nbfolio"
rm -rf "$HOME/.nbfolio/conda"
conda create --yes --quiet --prefix "$HOME/.nbfolio/conda" "$@"
"$HOME/.nbfolio/conda/bin/python" -m ipykernel install --user --name "$kernel" --display-name "$kernel"
touch "$mark"
"""


def install_steps(environment: EnvironmentSpec) -> list[dict[str, Any]]:
    """The containers that install packages, each with its name and command; none where there are no packages.

    Those of pip become packages of the user. Those of conda become an environment of their own with a kernel of the
    name of the kernel spec, for the environment of the image cannot be written to for good.
    """
    kernel = environment.kernel_spec
    steps = []
    if kernel and kernel.conda:
        steps.append(_step("conda-packages", CONDA_SCRIPT, _conda_arguments(kernel), _kernel_name(kernel)))
    if kernel and kernel.pip:
        steps.append(_step("pip-packages", PIP_SCRIPT, list(kernel.pip)))
    return steps


def _step(name: str, script: str, packages: list[str], *before: str) -> dict[str, Any]:
    mark = sha256("\0".join([*before, *packages]).encode()).hexdigest()[:16]
    # Kubernetes would replace $(NAME) in arguments; what begins with a dash would be an option.
    arguments = [argument.replace("$", "$$") for argument in (mark, *before, *packages)]
    return {"name": name, "command": ["sh", "-c", script, "sh"], "args": arguments}


def _conda_arguments(kernel: KernelSpec) -> list[str]:
    channels = [f"--channel={channel}" for channel in kernel.channels]
    return [*channels, "--", "python", "ipykernel", *kernel.conda]


def _kernel_name(kernel: KernelSpec) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", (kernel.name or "").lower()).strip("-.") or "conda"
