"""Presentation mode: pages without the frame of the site, and no listings, told from the published files alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import markdown, notebook, write
from sites import build

from shim.pages import HEAD_BYTES, File, Redirect, is_listing, legacy, locate
from shim.static import StaticFiles

LISTING = b'<!doctype html><title>T</title><body class="listing plain" data-path="">'
PAGE = b'<!doctype html><title>T</title><body class="page plain layout-report" data-path="p">'


@dataclass
class Published:
    """Names with what stands in them."""

    files: dict[str, bytes] = field(default_factory=dict)

    def exists(self, name: str) -> bool:
        return name in self.files

    def head(self, name: str, count: int) -> bytes:
        return self.files.get(name, b"")[:count]


def published(root: bytes = LISTING) -> Published:
    """A site with a page in a folder, a page beside its children, and a bundle."""
    pages = {"": root, "p": PAGE, "f": LISTING, "f/p": PAGE, "index": PAGE, "f/index": PAGE}
    files = {"index.html": root, "media/x.png": b"", "assets/x.css": b"", "feed.xml": b"", "robots.txt": b""}
    for tree in ("dashboards", "dashboards-plain"):
        files |= {f"{tree}/{path}/index.html".replace("//", "/"): body for path, body in pages.items()}
        files |= {f"{tree}/p/data.csv": b"1", f"{tree}/p/more/x.html": b"<body>"}
    return Published(files)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("dashboards/p/", File("dashboards-plain/p/index.html")),
        ("dashboards/p/index.html", File("dashboards-plain/p/index.html")),
        ("dashboards/f/p/", File("dashboards-plain/f/p/index.html")),
        ("dashboards/p/data.csv", File("dashboards-plain/p/data.csv")),
        ("dashboards/p/more/x.html", File("dashboards-plain/p/more/x.html")),
        ("dashboards/p", Redirect("dashboards/p/")),
        ("dashboards/f/p", Redirect("dashboards/f/p/")),
        ("dashboards/p/index", Redirect("dashboards/p/")),
        ("media/x.png", File("media/x.png")),
        ("assets/x.css", File("assets/x.css")),
        ("robots.txt", File("robots.txt")),
        ("", None),
        ("index.html", None),
        ("dashboards/", None),
        ("dashboards/index.html", None),
        ("dashboards/f/", None),
        ("dashboards/f/index.html", None),
        ("dashboards-plain", None),
        ("dashboards-plain/", None),
        ("dashboards-plain/p/", None),
        ("dashboards-plain/p/data.csv", None),
        # Not redirects: those would tell that there is a listing.
        ("dashboards", File("dashboards-plain")),
        ("dashboards/f", File("dashboards-plain/f")),
        ("dashboards/none", File("dashboards-plain/none")),
    ],
)
def test_pages_are_the_plain_ones_and_listings_are_not_there(path: str, found: object) -> None:
    assert locate(path, published(), presentation=True) == found


def test_a_page_called_index_is_found_where_its_folder_is_a_listing() -> None:
    assert locate("dashboards/f/index", published(), presentation=True) == Redirect("dashboards/f/index/")
    site = published()
    del site.files["dashboards-plain/f/index/index.html"]
    assert locate("dashboards/f/index", site, presentation=True) == File("dashboards-plain/f/index")


@pytest.mark.parametrize("path", ["", "index.html"])
def test_the_root_leads_to_its_own_page_when_it_has_one(path: str) -> None:
    assert locate(path, published(PAGE), presentation=True) == Redirect("dashboards/", permanent=False)
    assert locate("dashboards/", published(PAGE), presentation=True) == File("dashboards-plain/index.html")
    assert locate("dashboards", published(PAGE), presentation=True) == Redirect("dashboards/")


def test_short_addresses_lead_to_pages_and_not_to_listings() -> None:
    for presentation in (False, True):
        assert legacy("p", published(), presentation=presentation) == Redirect("dashboards/p/", permanent=False)
        assert legacy("f/p/", published(), presentation=presentation) == Redirect("dashboards/f/p/", permanent=False)
        assert legacy("none", published(), presentation=presentation) is None
    assert legacy("f", published()) == Redirect("dashboards/f/", permanent=False)
    assert legacy("f", published(), presentation=True) is None


def test_without_presentation_mode_every_tree_is_its_own() -> None:
    assert locate("", published()) == File("index.html")
    assert locate("dashboards-plain/f/", published()) == File("dashboards-plain/f/index.html")
    assert locate("dashboards-plain/f", published()) == Redirect("dashboards-plain/f/")
    assert locate("dashboards/p/index", published()) == Redirect("dashboards/p/")


@given(st.lists(st.sampled_from(["dashboards", "dashboards-plain", "p", "f", "index", "index.html", "", "..", "x"])))
@settings(deadline=None)
def test_no_path_shows_a_listing_or_the_frame_of_the_site(segments: list[str]) -> None:
    site = published()
    for path in ("/".join(segments), f"dashboards/{'/'.join(segments)}"):
        found = locate(path, site, presentation=True)
        if isinstance(found, File):
            assert site.files.get(found.name) != LISTING
            assert not found.name.startswith("dashboards/")
            assert found.name != "index.html"
        elif isinstance(found, Redirect):
            assert site.files[f"dashboards-plain/{found.path.partition('/')[2]}index.html"] == PAGE


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (LISTING, True),
        (b"<html><BODY data-x='1' CLASS='dark listing'>", True),
        (b"<body\n class=listing>", True),
        (b'<body class="listings">', False),
        (b'<body class="page" data-path="listing">', False),
        (b'<body class="page"><p class="listing">', False),
        (b'<body data-class="listing">', False),
        (b'<body data-path="a class=listing b" class="page">', False),
        (b'<body data-path="a class=page b" class="listing">', True),
        (b"<body>", False),
        (b"", False),
        (b"class=listing", False),
        (PAGE, False),
        (b"<body" * 5000, False),
        (b'<body class="' + b" listing-" * 7000, False),
    ],
)
def test_the_class_of_the_body_says_what_is_a_listing(head: bytes, answer: bool) -> None:
    assert is_listing(head) is answer


def test_built_pages_and_listings_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "page.ipynb", notebook(markdown('<p class="listing">A page</p>')))
    write(tmp_path, "folder/one.ipynb", notebook(markdown("# One")))
    write(tmp_path, "folder/two.ipynb", notebook(markdown("# Two")))
    write(tmp_path, "folder/folder.toml", f'description = "{"long " * 2000}<body>"\n')
    write(tmp_path, "bundle/index.ipynb", notebook(markdown("# Bundle")))
    write(tmp_path, "bundle/data.csv", "1,2")
    write(tmp_path, "own/index.ipynb", notebook(markdown("# Own")))
    write(tmp_path, "own/child.ipynb", notebook(markdown("# Child")))
    build(tmp_path)
    files = StaticFiles(tmp_path / "_site", [])

    def found(path: str) -> File | Redirect | None:
        return locate(path, files, presentation=True)

    for page in ("page", "folder/one", "bundle", "own", "own/child"):
        assert found(f"dashboards/{page}/") == File(f"dashboards-plain/{page}/index.html")
        assert found(f"dashboards/{page}") == Redirect(f"dashboards/{page}/")
        assert not is_listing(files.head(f"dashboards/{page}/index.html", HEAD_BYTES))
    for listing in ("", "folder/"):
        assert found(f"dashboards/{listing}") is None
        assert is_listing(files.head(f"dashboards/{listing}index.html", HEAD_BYTES))
    assert found("") is None
    assert found("dashboards/bundle/data.csv") == File("dashboards-plain/bundle/data.csv")
    write(tmp_path, "index.ipynb", notebook(markdown("# Root")))
    build(tmp_path)
    assert found("") == Redirect("dashboards/", permanent=False)
    assert found("dashboards/") == File("dashboards-plain/index.html")
