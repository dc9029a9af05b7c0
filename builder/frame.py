"""Rendered bodies and listings put into the theme's pages; the result is bytes for one output file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder import __version__, urls
from builder.page import REF, Body, LiveMode
from builder.site import Entry
from builder.urls import Variant

if TYPE_CHECKING:
    from builder.settings import Site as SiteSettings
    from builder.theme import Theme


class Frame:
    """The theme with everything that is the same on all pages: site title and the names of the hashed assets."""

    def __init__(self, site: SiteSettings, theme: Theme, style: str, script: str) -> None:
        self._site = site
        self._theme = theme
        self._style = style
        self._script = script

    def page(
        self,
        variant: Variant,
        path: str,
        body: Body,
        html: str,
        crumbs: Sequence[tuple[str, str]],
        children: Iterable[Entry] = (),
        download: str = "",
        origin: str = "",
        version: str = "",
    ) -> bytes:
        """A page of one variant; `html` is the body with its refs filled in, `origin` its output file if another.

        `version` is what a page tells the server of itself when it asks for a kernel.
        """
        origin = origin or urls.page_file(variant, path)
        return self._render(
            "page.html.j2",
            variant,
            path,
            origin,
            crumbs=_crumb_links(crumbs, origin, variant),
            page=_page_context(path, body, body.meta.live, version),
            headings=body.headings,
            body=_markup(html),
            children=_with_urls(children, origin, variant),
            download=urls.relative(origin, urls.asset_file(variant, download)) if download else "",
        )

    def standalone(self, body: Body, html: str) -> bytes:
        """A plain page on its own, for which `style` is a URL that holds the style sheet itself."""
        template = self._theme.template("page.html.j2")
        return template.render(
            site=self._site,
            variant="plain",
            root="",
            style=self._style,
            script="",
            twin="",
            canonical="",
            version=__version__,
            home="",
            folder={"title": "", "url": ""},
            crumbs=[],
            page=_page_context("", body, "off", ""),
            headings=body.headings,
            body=_markup(html),
            children=[],
            download="",
        ).encode()

    def listing(
        self,
        variant: Variant,
        path: str,
        title: str,
        description: str,
        entries: Iterable[Entry],
        crumbs: Sequence[tuple[str, str]],
        origin: str = "",
    ) -> bytes:
        """A listing of one variant; the root's has path ""."""
        origin = origin or urls.page_file(variant, path)
        return self._render(
            "listing.html.j2",
            variant,
            path,
            origin,
            crumbs=_crumb_links(crumbs, origin, variant),
            folder={"path": path, "title": title, "description": description, "url": ""},
            entries=_with_urls(entries, origin, variant),
        )

    def error(self, home: str) -> bytes:
        """The self-contained 404 page; `home` is the only URL in it."""
        template = self._theme.template("error.html.j2")
        return template.render(site=self._site, home=home, version=__version__).encode()

    def _render(self, template: str, variant: Variant, path: str, origin: str, **context: Any) -> bytes:
        other: Variant = "plain" if variant == "full" else "full"
        crumbs = context["crumbs"]
        return (
            self._theme.template(template)
            .render(
                site=self._site,
                variant=variant,
                root=urls.root_prefix(origin),
                style=urls.relative(origin, urls.asset(self._style)),
                script=urls.relative(origin, urls.asset(self._script)) if self._script else "",
                twin=urls.relative(origin, urls.page_file(other, path)),
                canonical=urls.canonical(self._site.url, urls.page_file("full", path)),
                version=__version__,
                home=crumbs[0]["url"] if crumbs else urls.relative(origin, urls.page_file(variant, "")),
                **{"folder": crumbs[-1] if crumbs else {"title": self._site.title, "url": ""}} | context,
            )
            .encode()
        )


def redirect(target: str, title: str) -> bytes:
    """A page that sends the reader on to the relative URL `target`, also with JavaScript off."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="refresh" content="0; url={target}">\n<p><a href="{target}">{title}</a></p>\n</html>\n'
    ).encode()


def fill(html: str, values: Sequence[str]) -> str:
    """The body's HTML with each marker replaced by the attribute value of its ref."""
    return REF.sub(lambda match: values[int(match[1])], html)


def _page_context(path: str, body: Body, live: LiveMode, version: str) -> dict[str, Any]:
    meta = body.meta
    return {
        "path": path,
        "title": meta.title,
        "description": meta.description,
        "tags": meta.tags,
        "layout": body.layout,
        "live": live,
        "version": version,
        "code": meta.code,
    }


def _crumb_links(crumbs: Sequence[tuple[str, str]], origin: str, variant: Variant) -> list[dict[str, str]]:
    return [{"title": title, "url": urls.relative(origin, urls.page_file(variant, path))} for title, path in crumbs]


def _with_urls(entries: Iterable[Entry], origin: str, variant: Variant) -> list[Entry]:
    return [replace(entry, url=urls.relative(origin, urls.page_file(variant, entry.path))) for entry in entries]


def _markup(html: str) -> Any:
    from markupsafe import Markup

    return Markup(html)
