"""What a server knows of the pages of a site: which notebook a page was made from, and what may be run of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from builder.page import LiveMode
from builder.scanning import ARCHIVE

if TYPE_CHECKING:
    from builder.config import Config
    from builder.ledger import PageRecord

VERSION_LENGTH = 16


class LivePage(Struct, frozen=True):
    """A page as a kernel for it is started."""

    path: str
    file: str
    """Its notebook or archive, relative to the source folder."""
    kind: Literal["notebook", "zip"]
    digest: str
    """SHA-256 of `file` as it was when the page was made, in hexadecimal; where there is a failure, as it is now."""
    version: str
    """What the page's HTML says in `data-version`."""
    live: LiveMode
    draft: bool
    published: bool
    warm: int
    """How many kernels the notebook asks to be kept ready."""
    failure: str
    """Why the file as it is now is not what the page shows; "" when it is."""


def version_of(body_key: str) -> str:
    """The version of a page, from the key of its body: another one whenever its cells may have changed."""
    return body_key[:VERSION_LENGTH]


class Catalog:
    """Makes the catalog after each build; what has not changed is taken from the one before."""

    def __init__(self) -> None:
        self._records: dict[str, PageRecord] = {}
        self._pages: dict[str, LivePage] = {}

    def pages(self, records: Mapping[str, PageRecord]) -> dict[str, LivePage]:
        """The pages of these records, by path; nobody changes the mapping afterwards."""
        known, pages = self._records, self._pages
        self._pages = {
            path: pages[path] if known.get(path) is record else _live_page(record) for path, record in records.items()
        }
        self._records = dict(records)
        return self._pages


def published_catalog(config: Config) -> dict[str, LivePage]:
    """The catalog of the site that the last build left in the output folder; empty where nothing was built."""
    from builder.ledger import Ledger

    return Catalog().pages(Ledger(config.state_dir, config.output).recorded())


def _live_page(record: PageRecord) -> LivePage:
    meta = record.meta
    return LivePage(
        path=record.path,
        file=record.file,
        kind="zip" if record.file.endswith(ARCHIVE) else "notebook",
        digest=record.digest,
        version=version_of(record.body_key),
        live=meta.live if meta else "off",
        draft=bool(meta and meta.draft),
        published=bool(record.outputs),
        warm=meta.warm if meta else 0,
        failure=record.failure,
    )
