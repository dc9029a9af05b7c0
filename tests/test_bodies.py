"""Files tried out before they are pages, and pages made anew: what an upload and a cleared cache rely on."""

from __future__ import annotations

from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from making import code, markdown, notebook, stream, write
from sites import config_of

from builder.bodies import Candidate
from builder.build import Builder
from builder.cache import Cache
from builder.errors import OutputError
from builder.workers import Pool


class CountingCache(Cache):
    """A cache that remembers what was rendered."""

    kept = 0

    def keep(self, *args: Any) -> None:
        """Count a body that a renderer made."""
        self.kept += 1
        super().keep(*args)


def page(source: Path, path: str) -> str:
    return (source / "_site/dashboards" / path / "index.html").read_text()


def tried(builder: Builder, candidate: Candidate) -> str:
    with closing(Pool(1, "fork")) as pool:
        return builder.trial().problem(candidate, pool)


def staged(tmp_path: Path, content: Any, kind: Any = "notebook", name: str = "new") -> Candidate:
    file = write(tmp_path, ".staged/upload", content)
    return Candidate(kind, name, name + (".ipynb" if kind == "notebook" else ".zip"), file)


def bundle(**files: Any) -> bytes:
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return content.getvalue()


def test_what_was_tried_out_is_published_without_rendering_it_again(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook())
    cache = CountingCache(tmp_path / ".nbfolio/cache")
    with Builder(config_of(tmp_path), cache=cache) as builder:
        builder.build()
        candidate = staged(tmp_path, notebook(markdown("# Fresh")))
        before = cache.kept
        assert tried(builder, candidate) == ""
        assert cache.kept == before + 1
        candidate.staged.rename(tmp_path / "new.ipynb")
        report = builder.build(["new.ipynb"])
        assert (report.built, cache.kept) == (1, before + 1)
    assert "Fresh" in page(tmp_path, "new")


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"{", "notebook", "not JSON"),
        (b"{}", "notebook", "no notebook"),
        (b"[]", "notebook", "no notebook"),
        (b"PK no", "zip", "not a ZIP"),
        (bundle(data__csv="1"), "zip", "no file index.ipynb"),
        (bundle(index__ipynb="{"), "zip", "not JSON"),
    ],
)
def test_what_cannot_be_a_page_is_said_and_changes_nothing(
    tmp_path: Path, content: bytes, kind: str, reason: str
) -> None:
    write(tmp_path, "a.ipynb", notebook())
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        problem = tried(builder, staged(tmp_path, content, kind))
        assert reason in problem
        assert str(tmp_path) not in problem
        assert builder.build().built == 0


def test_a_candidate_is_run_where_it_will_lie_when_notebooks_are_run(tmp_path: Path) -> None:
    write(tmp_path, "folder/data.txt", "from the data file")
    write(tmp_path, "folder/a.ipynb", notebook())
    nb = notebook(code("print(open('data.txt').read())", count=None), kernelspec={"name": "python3"})
    with Builder(config_of(tmp_path, build__execute="missing")) as builder:
        builder.build()
        candidate = staged(tmp_path, nb, name="folder/new")
        assert tried(builder, candidate) == ""
        candidate.staged.rename(tmp_path / "folder/new.ipynb")
        builder.build(["folder/new.ipynb"])
        failing = staged(tmp_path, notebook(code("1/0", count=None)), name="folder/bad")
        assert "ZeroDivisionError" in tried(builder, failing)
    assert "from the data file" in page(tmp_path, "folder/new")


def test_a_candidate_below_unusable_folder_settings_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "f/folder.toml", "draft = tru")
    write(tmp_path, "f/a.ipynb", notebook())
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        assert "f/folder.toml" in tried(builder, staged(tmp_path, notebook(), name="f/new"))


def test_a_site_in_which_nothing_changed_can_be_asked_for_everything(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# Title of a")))
    write(tmp_path, "broken.ipynb", "{")
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
    (tmp_path / "broken.ipynb").unlink()
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
    for call in ("summaries", "trial", "forget"):
        with Builder(config_of(tmp_path)) as builder:
            assert builder.build().built == 0
            if call == "summaries":
                assert [(one.path, one.title, one.kind, one.published) for one in builder.summaries()] == [
                    ("a", "Title of a", "notebook", True)
                ]
            elif call == "trial":
                assert tried(builder, staged(tmp_path, notebook())) == ""
            else:
                builder.forget("a")
                assert builder.build(["a.ipynb"]).kept == 1


def test_a_forgotten_page_is_run_and_rendered_again(tmp_path: Path) -> None:
    write(tmp_path, "data.txt", "old")
    write(tmp_path, "a.ipynb", notebook(code("print(open('data.txt').read())", count=None)))
    with Builder(config_of(tmp_path, build__execute="missing")) as builder:
        builder.build()
        assert "old" in page(tmp_path, "a")
        write(tmp_path, "data.txt", "new")
        builder.build()
        assert "old" in page(tmp_path, "a"), "results are kept by content"
        builder.forget("a")
        builder.build()
        assert "new" in page(tmp_path, "a")


def test_summaries_say_why_a_notebook_is_not_published(tmp_path: Path) -> None:
    write(tmp_path, "broken.ipynb", "{")
    write(tmp_path, "draft.ipynb", notebook(nbfolio={"draft": True}))
    write(tmp_path, "f/index.ipynb", notebook(code("1", stream("one"))))
    write(tmp_path, "z.zip", bundle(index__ipynb=b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'))
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        found = {one.path: one for one in builder.summaries()}
    assert {path: (one.kind, one.published) for path, one in found.items()} == {
        "broken": ("notebook", False),
        "draft": ("notebook", False),
        "f": ("folder", True),
        "z": ("zip", True),
    }
    assert "JSON" in found["broken"].message
    assert "draft" in found["draft"].message


def test_a_site_may_be_emptied_by_whoever_says_that_it_is_meant(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, f"{name}.ipynb", notebook())
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        for name in ("a", "b"):
            (tmp_path / f"{name}.ipynb").unlink()
        with pytest.raises(OutputError, match="holds no notebook any more"):
            builder.build()
        assert builder.build(emptied=True).removed == 2
