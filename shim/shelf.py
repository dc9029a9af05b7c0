"""What the source folder holds under a name, looked up on the disk: dashboards, folders, files in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from builder.bundles import is_bundle, open_bundle
from builder.config import Config
from builder.errors import NbfolioError, UnsafePathError
from builder.paths import contained
from builder.scanning import ARCHIVE, NOTEBOOK, ignored
from builder.survey import bundle_limits
from builder.zipcheck import INDEX

Kind = Literal["notebook", "zip"]


class ConflictError(NbfolioError):
    """Raised when something else has the name, or it lies where nothing can be put; nothing was changed."""


class NoDashboardError(NbfolioError):
    """Raised when what has the name is no dashboard, but a folder or a file of one."""


def file_of(name: str, kind: Kind) -> str:
    """The file of a dashboard, relative to the source folder."""
    return name + (NOTEBOOK if kind == "notebook" else ARCHIVE)


class Shelf:
    """The source folder; all names are relative to it and safe."""

    def __init__(self, config: Config) -> None:
        self._root = config.source
        self._excluded = (config.output.resolve(), config.state_dir.resolve())
        self._limits = bundle_limits(config)

    def forms(self, name: str) -> list[str]:
        """The files and folders that are the dashboard `name`: its notebook, its ZIP, its folder bundle.

        Raises UnsafePathError when the name leads out of the source folder or into what is none of it.
        """
        self._inside(name)
        if self._bundle_above(name):
            return []
        found = [file for file in (f"{name}{NOTEBOOK}", f"{name}{ARCHIVE}") if self._is_dashboard_file(file)]
        if not self._is_folder_bundle(name):
            return found
        folder = (self._root / name).resolve()
        if any(folder in path.parents for path in self._excluded):
            raise ConflictError(f"The folder {name} holds the built site or its records, so it stays.")
        return [*found, name]

    def has(self, file: str) -> bool:
        """Whether there is anything of the name."""
        return os.path.lexists(self._root / file)

    def refuse_conflicts(self, name: str, kind: Kind) -> None:
        """Raise ConflictError when a dashboard cannot be put under `name`."""
        folder, _, last = name.rpartition("/")
        bundle = self._bundle_above(name)
        if bundle and not (kind == "notebook" and f"{bundle}/index" == name and self._is_folder_bundle(bundle)):
            raise ConflictError(f"{bundle} is a bundle: upload it as a whole.")
        for above in _folders_above(name):
            if os.path.lexists(self._root / above) and not (self._root / above).is_dir():
                raise ConflictError(f"{above} is a file, so nothing can be put below it.")
        if kind == "notebook" and last == "index" and folder and (forms := self.forms(folder)) and forms != [folder]:
            raise ConflictError(f"{forms[0]} has the page of {name}{NOTEBOOK} already: upload it as {folder}.")
        if kind == "notebook" and last == "index" and folder:
            self._refuse_to_swallow(folder)
        place = self._root / file_of(name, kind)
        if os.path.lexists(place) and not self._is_dashboard_file(file_of(name, kind)):
            raise ConflictError(f"{file_of(name, kind)} is there already and no dashboard.")
        if kind == "zip" and self._holds_something(name) and not self._is_folder_bundle(name):
            raise ConflictError(f"{name} is a folder with files in it, and a bundle of its name would hide them.")

    def refuse_what_is_no_dashboard(self, name: str) -> None:
        """Raise NoDashboardError when there is something called `name`."""
        if bundle := self._bundle_above(name):
            if self._is_in_bundle(bundle, name):
                raise NoDashboardError(
                    f"Resource to be deleted must be a dashboard: {name} is a part of the bundle {bundle}."
                )
        elif os.path.lexists(self._root / name):
            index = f"; its page is {name}/index" if (self._root / name / INDEX).is_file() else ""
            what = "folder" if (self._root / name).is_dir() else "file"
            raise NoDashboardError(f"Resource to be deleted must be a dashboard: {name} is a {what}{index}.")

    def _refuse_to_swallow(self, folder: str) -> None:
        """`index.ipynb` makes a folder without other notebooks one bundle; ZIPs in it would no longer be dashboards."""
        dashboards = [file for file in self._files_in(folder) if file.endswith((NOTEBOOK, ARCHIVE))]
        if any(file.endswith(NOTEBOOK) and file != f"{folder}/{INDEX}" for file in dashboards):
            return
        swallowed = next((file for file in dashboards if file.endswith(ARCHIVE) and is_bundle(self._root / file)), None)
        if swallowed:
            raise ConflictError(
                f"{folder} would become one bundle, and {swallowed} a file of it instead of a dashboard."
            )

    def _inside(self, name: str) -> None:
        folder = contained(self._root, name.rpartition("/")[0])
        place = folder / name.rpartition("/")[2]
        if any(place == path or path in place.parents for path in self._excluded):
            raise UnsafePathError(f"The name {name} leads into the folder of the built site or of its records.")

    def _bundle_above(self, name: str) -> str | None:
        """The bundle that a name lies in."""
        for above in _folders_above(name):
            if self._is_folder_bundle(above):
                return above
            if not (self._root / f"{above}{NOTEBOOK}").is_file() and self._is_dashboard_file(f"{above}{ARCHIVE}"):
                return above
        return None

    def _is_dashboard_file(self, file: str) -> bool:
        path = self._root / file
        return path.is_file() and (file.endswith(NOTEBOOK) or is_bundle(path))

    def _is_folder_bundle(self, name: str) -> bool:
        """Whether a folder has `index.ipynb` and no other notebook at any depth."""
        if not (self._root / name / INDEX).is_file():
            return False
        return not any(file.endswith(NOTEBOOK) and file != f"{name}/{INDEX}" for file in self._files_in(name))

    def _files_in(self, folder: str) -> Iterator[str]:
        """The files at any depth that a scan would see."""
        for place, folders, files in os.walk(self._root / folder):
            folders[:] = [one for one in folders if not ignored(one)]
            base = Path(place).relative_to(self._root).as_posix()
            yield from (f"{base}/{file}" for file in files if not ignored(file))

    def _is_in_bundle(self, bundle: str, name: str) -> bool:
        inner = name.removeprefix(f"{bundle}/")
        if os.path.lexists(self._root / name) or (self._root / f"{name}{NOTEBOOK}").is_file():
            return True
        try:
            with open_bundle(self._root / f"{bundle}{ARCHIVE}", self._limits) as archive:
                names = archive.names
        except (NbfolioError, OSError):
            return False
        return any(file == inner or file.startswith(f"{inner}/") or file == inner + NOTEBOOK for file in names)

    def _holds_something(self, name: str) -> bool:
        try:
            with os.scandir(self._root / name) as entries:
                return any(True for _ in entries)
        except OSError:
            return False


def _folders_above(name: str) -> list[str]:
    """The folders a name lies in, the outermost first."""
    segments = name.split("/")[:-1]
    return ["/".join(segments[: count + 1]) for count in range(len(segments))]
