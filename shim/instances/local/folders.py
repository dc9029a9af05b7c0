"""The folder of an instance on this machine: its files, what its server needs, and what is known of its process."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shim.instances.local.adoption import Identity

if TYPE_CHECKING:
    from shim.instances.records import Instance

Deletion = Literal["", "remove", "keep"]


@dataclass(frozen=True)
class Facts:
    """What is known of an instance beside its record; holds secrets."""

    token: str
    """What requests to its server carry."""
    mark: str
    """What its processes carry in their environment."""
    cores: tuple[int, ...]
    port: int = 0
    process: Identity | None = None
    deletion: Deletion = ""
    """What becomes of its files, once its deletion has begun."""

    @classmethod
    def new(cls, cores: tuple[int, ...]) -> Facts:
        """The facts of an instance that never ran."""
        return cls(secrets.token_hex(32), secrets.token_hex(16), cores)


def volume_name(instance: Instance) -> str:
    """What the files of an instance are kept under; another owner or namespace has another name."""
    spec = instance.spec
    whose = sha256(f"{spec.namespace}\0{spec.owner}".encode()).hexdigest()[:16]
    return f"{spec.name}-{whose}"


class Folder:
    """`instances/<id>` in the folder for state; for its owner alone."""

    def __init__(self, state_dir: Path, instance_id: str) -> None:
        self.path = state_dir / "instances" / instance_id
        self.files = self.path / "files"
        """Its volume."""
        self.log = self.path / "server.log"
        self._volumes = state_dir / "volumes"
        self._facts = self.path / "facts.json"

    def make(self) -> None:
        """Make it, when it is missing. Raises OSError."""
        for folder in (self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)

    def make_files(self, volume: str) -> None:
        """Make the folder of the files, when it is missing, from those kept under `volume` if any. Raises OSError."""
        if not self.files.exists():
            try:
                os.rename(self._volumes / volume, self.files)
            except FileNotFoundError:
                self.files.mkdir(mode=0o700)

    def inner(self, name: str) -> Path:
        """A folder of its own for the server, made when it is missing. Raises OSError."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def facts(self) -> Facts | None:
        """What was recorded; None for nothing, and for what cannot be read."""
        try:
            return _facts_of(json.loads(self._facts.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def record(self, facts: Facts) -> None:
        """Record facts instead of those before. Raises OSError."""
        write_private(self._facts, json.dumps(asdict(facts)))

    def keep_files(self, volume: str) -> None:
        """Move the files to where `make_files` finds them; those moved already stay. Raises OSError."""
        self._volumes.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.rename(self.files, self._volumes / volume)

    def remove(self) -> None:
        """Remove all of it, the record that it is to be removed last. Raises OSError."""
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.path):
                if entry.path != str(self._facts):
                    _remove(Path(entry.path))
            _remove(self.path)


def left_folders(state_dir: Path) -> list[Folder]:
    """The folders that there are, of whatever instances. Raises OSError."""
    try:
        return [Folder(state_dir, path.name) for path in (state_dir / "instances").iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


class Claim:
    """The right to look after the instances of a folder, which one process has at a time and loses when it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "instances.lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Take it unless another process has it; whether this one has it now. Raises OSError."""
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    os.replace(beside, path)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        shutil.rmtree(path)
        return
    # Tools leave folders in which nothing may be deleted, not even by their owner.
    path.chmod(0o700)
    for above, names, _ in os.walk(path):
        for folder in (Path(above, name) for name in names):
            if not folder.is_symlink():
                folder.chmod(0o700)
    shutil.rmtree(path)


def _facts_of(fields: dict[str, Any]) -> Facts:
    process, cores = fields.pop("process"), fields.pop("cores")
    return Facts(process=Identity(**process) if process else None, cores=tuple(cores), **fields)
