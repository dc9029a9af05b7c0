"""Kernels work beside the notebook, or in a whole copy of its archive that stays as long as one may need it."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from making import code, notebook, write
from sites import config_of

from builder.build import Builder
from builder.bundles import Bundle
from builder.catalog import LivePage
from builder.config import Config
from builder.errors import ChangedError, NotebookError
from shim.kernels.unpacked import tidy, working_folder

HOUR = 3600


def catalog_of(config: Config) -> dict[str, LivePage]:
    with Builder(config) as builder:
        builder.build()
        return builder.catalog()


def archived(folder: Path, text: str = "x", **overrides: Any) -> tuple[Config, LivePage]:
    """A site whose page `deep/b` is an archive, and what the catalog says of that."""
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    with ZipFile(folder / "deep/b.zip", "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook(code(text))))
        archive.writestr("data/values.csv", text)
        archive.writestr(".hidden", "for the kernel")
    config = config_of(folder, **overrides)
    return config, catalog_of(config)["deep/b"]


def copies(config: Config) -> list[str]:
    return sorted(path.name for path in (config.state_dir / "unpacked").iterdir())


def test_a_notebook_works_in_its_own_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(code("x")))
    write(tmp_path, "f/b.ipynb", notebook(code("x")))
    write(tmp_path, "bundle/index.ipynb", notebook(code("x")))
    config = config_of(tmp_path)
    catalog = catalog_of(config)
    assert {path: working_folder(config, page) for path, page in catalog.items()} == {
        "a": tmp_path,
        "f/b": tmp_path / "f",
        "bundle": tmp_path / "bundle",
    }
    assert not (config.state_dir / "unpacked").exists()
    (tmp_path / "bundle").rename(tmp_path / "elsewhere")
    with pytest.raises(ChangedError):
        working_folder(config, catalog["bundle"])
    (tmp_path / "bundle").symlink_to("/")
    with pytest.raises(ChangedError):
        working_folder(config, catalog["bundle"])


def test_an_archive_is_unpacked_once_for_its_owner_alone(tmp_path: Path) -> None:
    config, page = archived(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        (folder,) = set(pool.map(lambda _: working_folder(config, page), range(8)))
    assert folder == config.state_dir / "unpacked" / page.digest[:16]
    assert sorted(path.name for path in folder.rglob("*")) == [".hidden", "data", "index.ipynb", "values.csv"]
    assert (folder / "data/values.csv").read_text() == "x"
    for path in (folder, folder.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    (folder / "result.txt").write_text("of a kernel")
    assert working_folder(config, page) == folder
    assert (folder / "result.txt").exists()
    assert copies(config) == [page.digest[:16]]


def test_an_archive_that_is_another_one_now_is_not_unpacked(tmp_path: Path) -> None:
    config, page = archived(tmp_path)
    archived(tmp_path, "other")
    with pytest.raises(ChangedError, match="reload the page"):
        working_folder(config, page)
    assert copies(config) == []


def test_a_page_whose_new_archive_fails_has_no_folder(tmp_path: Path) -> None:
    config, _ = archived(tmp_path)
    (tmp_path / "deep/b.zip").write_bytes(b"PK no archive")
    failing = catalog_of(config)["deep/b"]
    assert failing.published
    with pytest.raises(ChangedError, match="could not be made anew"):
        working_folder(config, failing)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), NotebookError("It is damaged.")])
def test_a_copy_that_cannot_be_finished_leaves_nothing_and_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    config, page = archived(tmp_path)
    real = Bundle.copy

    def fail(self: Bundle, name: str, target: Any) -> None:
        if name == "index.ipynb":
            raise error
        real(self, name, target)

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "copy", fail)
        with pytest.raises(NotebookError) as caught:
            working_folder(config, page)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert copies(config) == []
    assert (working_folder(config, page) / "index.ipynb").is_file()


def test_a_killed_server_leaves_no_copy_that_looks_whole(tmp_path: Path) -> None:
    config, page = archived(tmp_path)
    folder = config.state_dir / "unpacked"
    pid = os.fork()
    if not pid:

        def die(self: Bundle, name: str, target: Any) -> None:
            os._exit(0)

        Bundle.copy = die  # type: ignore[method-assign]
        working_folder(config, page)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    (left,) = folder.iterdir()
    assert left.name != page.digest[:16]
    assert (working_folder(config, page) / "data/values.csv").is_file()
    os.utime(left, (1_700_000_000, 1_700_000_000))
    tidy(config)
    assert copies(config) == [page.digest[:16]]


def test_copies_stay_as_long_as_a_kernel_may_be_in_them(tmp_path: Path) -> None:
    config, page = archived(tmp_path, kernels__max_hours=5)
    first = working_folder(config, page)
    now = time.time()
    os.utime(first, (now - 5 * HOUR, now - 5 * HOUR))
    tidy(config)
    assert first.is_dir()
    os.utime(first, (now - 7 * HOUR, now - 7 * HOUR))
    working_folder(config, page)
    tidy(config)
    assert first.is_dir(), "it was given out again"
    os.utime(first, (now - 7 * HOUR, now - 7 * HOUR))
    config, page = archived(tmp_path, "second", kernels__max_hours=5)
    second = working_folder(config, page)
    assert copies(config) == [second.name], "a new copy takes the place of the old ones"


def test_tidying_up_where_nothing_was_unpacked_makes_nothing(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    tidy(config)
    assert not config.state_dir.exists()
