"""Images inside Markdown cells, attached or as data URLs: base64 in the notebook, files in media/ on the site."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import unquote

from builder.page import Media
from builder.rendering.images import image_size

ATTACHMENT, DATA = "attachment:", "data:image/"

_EXTENSIONS = {
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/bmp": "bmp",
}
"""In the order of preference: vector before raster, lossless before lossy."""


def embedded_image(url: str, attachments: Mapping[str, object]) -> tuple[Media, tuple[int, int] | None] | str:
    """The image that `attachment:name` or a data URL stands for and its size, or a sentence why there is none."""
    bundle: Mapping[str, object] | None
    if url.startswith(DATA):
        mime, encoding, value = url[len("data:") :].partition(";base64,")
        name, bundle = f"with the type {mime[:40]}", {mime: value} if encoding else {}
    else:
        name = unquote(url[len(ATTACHMENT) :])
        found = attachments.get(url[len(ATTACHMENT) :]) or attachments.get(name)
        name, bundle = name[:100], found if isinstance(found, Mapping) else None
    if bundle is None:
        return f"The attachment {name} is missing."
    mime = next((mime for mime in _EXTENSIONS if mime in bundle), "")
    if not mime:
        return f"The image {name} has no form that browsers show."
    data = _bytes(bundle[mime], mime)
    if not data:
        return f"The image {name} cannot be decoded."
    return Media(f"{sha256(data).hexdigest()}.{_EXTENSIONS[mime]}", data), image_size(data, mime)


def _bytes(value: object, mime: str) -> bytes:
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        if mime == "image/svg+xml" and text.lstrip()[:1] == "<":
            return text.encode()
        return binascii.a2b_base64(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        return b""
