"""From a scan to a `Site`: reads folder settings and looks into archives, again only when they changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from builder.bundles import BundleLimits, is_bundle, open_bundle
from builder.config import Config, FolderConfig, load_folder
from builder.errors import ConfigError, NbfolioError
from builder.report import PageReport
from builder.scanning import Files, Scan, Stat
from builder.site import FOLDER_SETTINGS, Site
from builder.sources import Tree, classify

T = TypeVar("T")


class Survey:
    """Remembers what it read by the stat of the file it read it from."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bundles: dict[str, tuple[Stat, bool]] = {}
        self._names: dict[str, tuple[Stat, tuple[str, ...]]] = {}
        self._settings: dict[str, tuple[Stat, FolderConfig | ConfigError]] = {}
        self._classified: tuple[Files, dict[str, bool], Tree] | None = None

    def site(self, scan: Scan) -> Site:
        """The site that the scanned files make up; `metas` is left empty."""
        files = scan.files
        settings = {
            file.rpartition("/")[0]: self._folder(files, file)
            for file in files
            if file.endswith(FOLDER_SETTINGS) and (file == FOLDER_SETTINGS or file.endswith(f"/{FOLDER_SETTINGS}"))
        }
        folders = {path: said for path, said in settings.items() if isinstance(said, FolderConfig)}
        return Site(
            self._config,
            files,
            self._tree(files),
            folders,
            lambda file: self.archive_names(files, file),
            unsettled=frozenset(settings.keys() - folders.keys()),
        )

    def problems(self, scan: Scan) -> list[PageReport]:
        """A report for everything that could not be taken into the site, or whose name makes trouble elsewhere."""
        tree = self._classified[2] if self._classified else None
        wrong = [
            (file, str(entry[1]).removeprefix(f"{FOLDER_SETTINGS}: "))
            for file, entry in self._settings.items()
            if isinstance(entry[1], ConfigError)
        ]
        failed = [
            *scan.findings,
            *(item for item in wrong if item[0] in scan.files),
            *(tree.collisions if tree else ()),
        ]
        warned = tree.findings if tree else ()
        return [PageReport(path, "failed", message) for path, message in failed] + [
            PageReport(path, "kept", message) for path, message in warned
        ]

    def archive_names(self, files: Files, file: str) -> tuple[str, ...]:
        """The public names inside a ZIP bundle; none when it cannot be read (its page says why)."""

        def read(path: Path) -> tuple[str, ...]:
            try:
                with open_bundle(path, self.limits) as bundle:
                    return bundle.public
            except (NbfolioError, OSError):
                return ()

        return self._remember(self._names, files, file, read)

    def forget(self, file: str | None = None) -> None:
        """Look into an archive (None: into all files) again, whatever its stat says."""
        for known in (self._bundles, self._names, self._settings):
            if file is None:
                known.clear()
            else:
                known.pop(file, None)

    @property
    def limits(self) -> BundleLimits:
        """The bounds that hold for archives in the source folder as for uploaded ones."""
        return bundle_limits(self._config)

    def _tree(self, files: Files) -> Tree:
        archives = {
            file: self._remember(self._bundles, files, file, is_bundle) for file in files if file.endswith(".zip")
        }
        if self._classified and self._classified[0].keys() == files.keys() and self._classified[1] == archives:
            return self._classified[2]
        tree = classify(files, lambda file: archives[file])
        self._classified = (files, archives, tree)
        return tree

    def _folder(self, files: Files, file: str) -> FolderConfig | ConfigError:
        def read(path: Path) -> FolderConfig | ConfigError:
            try:
                return load_folder(path)
            except ConfigError as error:
                return error

        return self._remember(self._settings, files, file, read)

    def _remember(self, known: dict[str, tuple[Stat, T]], files: Files, file: str, read: Callable[[Path], T]) -> T:
        stat = files[file]
        if file not in known or known[file][0] != stat:
            known[file] = (stat, read(self._config.source / file))
        return known[file][1]


def bundle_limits(config: Config) -> BundleLimits:
    """The bounds on archives that the settings give."""
    server = config.server
    return BundleLimits(server.max_upload_mb << 20, server.max_unpacked_mb << 20, server.max_entries)
