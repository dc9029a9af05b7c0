"""The only place where output file names and URLs are made; all of it is pure text."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

Variant = Literal["full", "plain"]
VARIANTS: tuple[Variant, ...] = ("full", "plain")
TREES: dict[Variant, str] = {"full": "dashboards", "plain": "dashboards-plain"}
OWNED_TREES = ("dashboards", "dashboards-plain", "media", "assets")
"""Folders of the output in which every file is ours; a file no page needs is removed from them."""


def page_file(variant: Variant, path: str) -> str:
    """The output file of page or listing `path` ("" is the root): `dashboards/a/b/index.html`."""
    return f"{TREES[variant]}/{path}/index.html" if path else f"{TREES[variant]}/index.html"


def asset_file(variant: Variant, file: str) -> str:
    """The output file of a source file that a page refers to, at its own place in the tree of the variant."""
    return f"{TREES[variant]}/{file}"


def media_file(name: str) -> str:
    """The output file of an extracted image."""
    return f"media/{name}"


def asset(name: str) -> str:
    """The output file of a theme or runtime asset; `name` carries the hash of its content."""
    return f"assets/{name}"


def relative(origin: str, target: str) -> str:
    """The URL that leads from output file `origin` to output file `target`, percent-encoded and never absolute."""
    here, there = origin.split("/")[:-1], target.split("/")
    shared = 0
    for mine, its in zip(here, there[:-1], strict=False):
        if mine != its:
            break
        shared += 1
    return quote("../" * (len(here) - shared) + "/".join(there[shared:]))


def root_prefix(origin: str) -> str:
    """The relative URL prefix from the output file `origin` to the root of the output: "" or "../../"."""
    return "../" * origin.count("/")


def canonical(site_url: str, file: str) -> str:
    """The public address of an output file, "" when the site has none; `index.html` is left out of it."""
    if not site_url:
        return ""
    return f"{site_url.rstrip('/')}/{quote(file.removesuffix('index.html'))}"
