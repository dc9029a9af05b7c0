"""Paths from outside: what passes stays below its folder, whatever it is joined to."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import quote, unquote

from fuzzing.engine import Target
from fuzzing.mutation import CHARACTERS, SURROGATES, joined, text

from builder.errors import UnsafePathError
from builder.paths import contained, decode_once, join_below, safe_relative
from shim.names import dashboard_name, page_path

SEGMENTS = (
    "a", "b", "A", "é", "with space", "..", ".", "...", "", " ", "a ", " a", "~", "C:", "c:x", ".hidden", "index.html",
    "INDEX.HTML", "index", "a.ipynb", "x.IPYNB", ".ipynb", "a.ipynb.ipynb", "node_modules", "__pycache__", "a~", "#a#",
    "out", "inner", "loop", "loop/..", "nowhere/..", "dangling", "up", "file", "folder", "%2e%2e", "%2E%2e%2f", "%252e", "%5c", "%00", "%c0%af",
    "%e9", "%C3%A9", "%", "%4", "%zz", "a" * 255, "a" * 256, "é" * 127, "é" * 128, "a" * 249, "a" * 250, "CON", "nul.txt",
    "a:b", "a?b", "a#b", "a;b", *CHARACTERS, *SURROGATES,
)  # fmt: skip
SEPARATORS = ("/", "/", "/", "/", "//", "\\", "%2f", "%5C", "/./", "/../", "", "\uff0f", "\u2215")
KINDS = ("safe", "hidden", "decode", "join", "contained", "dashboard", "url")


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Everything that takes a path, against a real folder with links in it."""
    root = folder / "root"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "folder" / "file").write_text("x")
    (root / "out").symlink_to(folder / "outside")
    (folder / "outside").mkdir()
    (folder / "root-beside").mkdir()
    (root / "up").symlink_to("..")
    (root / "inner").symlink_to("folder/inner")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "folder" / "up").symlink_to("../../root-beside")
    yield Target(make, partial(check, os.path.realpath(root), root))


def make(random: Random) -> tuple[str, str, str]:
    """What to try, a path, and a second one."""
    path = joined(random, SEGMENTS, SEPARATORS, random.choice((2, 5, 5, 30)))
    if random.randrange(200) == 0:
        path = "/".join([path] * 300)
    if random.randrange(2):
        path = text(random, path, SEGMENTS)
    if random.randrange(4) == 0:
        path = quote(path, errors="surrogatepass", safe=random.choice(("/", "", "/%")))
    return random.choice(KINDS), path, joined(random, SEGMENTS, ("/",), 4)


def check(root: str, folder: Path, made: tuple[str, str, str]) -> None:
    """The invariants of each function."""
    kind, path, other = made
    try:
        if kind in ("safe", "hidden"):
            _safe(safe_relative(path, hidden=kind == "hidden"), path, hidden=kind == "hidden")
        elif kind == "decode":
            assert decode_once(path) == unquote(path, errors="strict")
        elif kind == "join":
            _joined(_folder(other), path)
        elif kind == "contained":
            place = str(contained(folder, path))
            assert os.path.realpath(place) == place
            assert place == root or place.startswith(f"{root}/")
        else:
            _dashboard(decode_once(path) if kind == "url" else path)
    except UnsafePathError as error:
        message = str(error)
        assert len(message) < 1300
        assert message.isprintable(), message
        assert root not in message


def _folder(path: str) -> str:
    try:
        return safe_relative(path)
    except UnsafePathError:
        return ""


def _safe(found: str, path: str, *, hidden: bool) -> None:
    assert found == path
    assert 0 < len(found.encode()) <= 4096
    assert "\\" not in found
    assert not [char for char in found if unicodedata.category(char) in ("Cc", "Cs")]
    assert posixpath.normpath(found) == found
    assert not found.startswith(("/", "../")) and found != ".."
    assert hidden or "/." not in f"/{found}"
    assert os.path.normpath(f"/srv/site/{found}") == f"/srv/site/{found}"


def _joined(base: str, path: str) -> None:
    found = join_below(base, path)
    if found is None:
        return
    assert found == posixpath.normpath(posixpath.join("/", base, path)).strip("/")
    assert ".." not in found.split("/")
    assert "\\" not in found and "\0" not in found


def _dashboard(path: str) -> None:
    name = dashboard_name(path)
    _safe(name, name, hidden=False)
    assert len(os.fsencode(f"{name}.ipynb".rpartition("/")[2])) <= 255
    assert unquote(quote(name), errors="strict") == name
    for is_notebook in (False, True):
        page = page_path(name, is_notebook=is_notebook)
        assert name in (page, f"{page}/index", "index")
        assert not page or safe_relative(page) == page
