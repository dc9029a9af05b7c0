"""What a body is made from: the key it is kept under, how its notebook is run, and a trial before it is a page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from builder.bundles import BundleLimits, open_bundle
from builder.cache import Cache, digest
from builder.config import Config
from builder.errors import NotebookError
from builder.fingerprint import renderer_fingerprint
from builder.page import PageOptions
from builder.settings import Build
from builder.site import FOLDER_SETTINGS, Site
from builder.sources import Source
from builder.workers import Execution, Job, Pool

MAX_NOTEBOOK = 1024**3
"""A notebook file over 1 GiB is not read."""


class Candidate(NamedTuple):
    """A file that may become a page: where it lies now, and the source it would be."""

    kind: Literal["notebook", "zip"]
    path: str
    """The page's path."""
    file: str
    """Its place in the source folder, POSIX and relative."""
    staged: Path

    @property
    def source(self) -> Source:
        """The source it would be."""
        return Source(self.path, self.kind, self.file, self.file.rpartition("/")[0] if self.kind == "notebook" else "")


def body_key(build: Build, options: PageOptions, content: str) -> str:
    """The key under which a body is kept; `content` is the SHA-256 of the source file."""
    return digest(
        renderer_fingerprint().encode(), content.encode(), msgspec.json.encode(options), build.execute.encode()
    )


def execution_of(build: Build, place: Path) -> Execution | None:
    """How a notebook is run before it is rendered; `place` is its folder, or the archive it lies in."""
    if build.execute == "never":
        return None
    return Execution(build.execute, str(place), build.cell_timeout, build.notebook_timeout)


@dataclass(frozen=True)
class Trial:
    """Renders files that are not published yet, and keeps their bodies for the build that will publish them.

    It knows the site as it was when it was made; any number of threads may use one.
    """

    site: Site
    config: Config
    cache: Cache
    limits: BundleLimits

    def problem(self, candidate: Candidate, pool: Pool) -> str:
        """The sentence that says why a file cannot be a page, or ""; `pool` is used by nobody else meanwhile."""
        try:
            job, key = self._job(candidate)
        except NotebookError as error:
            return str(error)
        if self.cache.body(key) is not None:
            return ""
        ((_, result),) = pool.run([job])
        if result.body is None:
            return result.failure
        self.cache.keep(key, result.body, result.media)
        return ""

    def _job(self, candidate: Candidate) -> tuple[Job, str]:
        source, build = candidate.source, self.config.build
        if (folder := self.site.unsettled_folder(source)) is not None:
            raise NotebookError(unsettled(folder))
        options = self.site.options(source)
        with candidate.staged.open("rb") as file:
            content = file_digest(file, "sha256").hexdigest()
        if candidate.kind == "zip":
            with open_bundle(candidate.staged, self.limits) as bundle:
                data = bundle.read("index.ipynb")
            place = candidate.staged
        else:
            with candidate.staged.open("rb") as file:
                data = notebook_bytes(file, os.fstat(file.fileno()).st_size)
            place = self.config.source / source.base
        return Job(source.path, data, options, execution_of(build, place)), body_key(build, options, content)


def notebook_bytes(file: IO[bytes], size: int) -> bytes:
    """The content of a notebook or archive; NotebookError when it is too large to be read into memory."""
    if size > MAX_NOTEBOOK:
        raise NotebookError(f"is {size >> 20} MB large; notebooks over {MAX_NOTEBOOK >> 20} MB are not read")
    return file.read()


def unsettled(folder: str) -> str:
    """Why pages below a folder with unusable settings are not built."""
    file = f"{folder}/{FOLDER_SETTINGS}".lstrip("/")
    return f"is not built because {file}, which may hide it or its code, cannot be used: mend it"
