"""What a body is made from: the key it is kept under, how its notebook is run, and a trial before it is a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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


def try_out(
    candidates: Sequence[Candidate],
    site: Site,
    config: Config,
    cache: Cache,
    limits: BundleLimits,
    pool: Callable[[int], Pool],
) -> list[str]:
    """Render files that are not published yet, and keep the bodies for the build that will publish them.

    For each candidate the sentence that says why it cannot be a page, or "".
    """
    failures = [""] * len(candidates)
    keys: dict[str, tuple[int, str]] = {}
    jobs: list[Job] = []
    for index, candidate in enumerate(candidates):
        try:
            job, key = _job(candidate, site, config, limits)
        except NotebookError as error:
            failures[index] = str(error)
            continue
        if cache.body(key) is None:
            # Two candidates may be meant for one page; the index tells their results apart.
            keys[f"{index}/{job.path}"] = index, key
            jobs.append(msgspec.structs.replace(job, path=f"{index}/{job.path}"))
    if jobs:
        for job, result in pool(len(jobs)).run(jobs):
            index, key = keys[job.path]
            if result.body is None:
                failures[index] = result.failure
            else:
                cache.keep(key, result.body, result.media)
    return failures


def _job(candidate: Candidate, site: Site, config: Config, limits: BundleLimits) -> tuple[Job, str]:
    source = candidate.source
    if (folder := site.unsettled_folder(source)) is not None:
        raise NotebookError(unsettled(folder))
    options = site.options(source)
    with candidate.staged.open("rb") as file:
        content = file_digest(file, "sha256").hexdigest()
    if candidate.kind == "zip":
        with open_bundle(candidate.staged, limits) as bundle:
            data = bundle.read("index.ipynb")
        place = candidate.staged
    else:
        with candidate.staged.open("rb") as file:
            data = notebook_bytes(file, os.fstat(file.fileno()).st_size)
        place = config.source / source.base
    job = Job(source.path, data, options, execution_of(config.build, place))
    return job, body_key(config.build, options, content)


def notebook_bytes(file: IO[bytes], size: int) -> bytes:
    """The content of a notebook or archive; NotebookError when it is too large to be read into memory."""
    if size > MAX_NOTEBOOK:
        raise NotebookError(f"is {size >> 20} MB large; notebooks over {MAX_NOTEBOOK >> 20} MB are not read")
    return file.read()


def unsettled(folder: str) -> str:
    """Why pages below a folder with unusable settings are not built."""
    file = f"{folder}/{FOLDER_SETTINGS}".lstrip("/")
    return f"is not built because {file}, which may hide it or its code, cannot be used: mend it"
