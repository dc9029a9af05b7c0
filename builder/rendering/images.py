"""Take the pictures out of outputs: `<img>` elements with the size read from the file, so that pages do not jump."""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from collections.abc import Mapping
from html import escape
from typing import Any

from builder.rendering.mimebundle import Bundle

IMAGE_EXTENSIONS = {
    "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif",
    "image/webp": "webp", "image/bmp": "bmp", "image/avif": "avif",
}  # fmt: skip
"""The image types that are shown, best first, and how their files end."""

_HEAD = 65_536
_MAX_SIDE = 100_000
_PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}

_SVG_TAG = re.compile(r"<svg\b((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)", re.IGNORECASE)
_SVG_ATTRIBUTE = re.compile(r"\s(width|height|viewBox)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_SVG_START = re.compile(r"<svg\b[^>]*", re.IGNORECASE)
_SIDE = re.compile(r"(\d{1,6})(?:\.\d*)?(?:px)?")
_BLANK = re.compile(r"\s+")
_LENGTH = re.compile(r"\s*(\d{1,8}(?:\.\d{0,20})?|\.\d{1,20})\s*([a-z]{0,2})\s*")


def image_html(bundle: Bundle, mime: str) -> str | None:
    """Return the `<img>` of an image type and put its bytes into the media; None when they are unusable."""
    image = _svg_bytes(bundle, mime) if mime == "image/svg+xml" else _image_bytes(bundle, mime)
    if image is None:
        return None
    name = f"{hashlib.sha256(image).hexdigest()}.{IMAGE_EXTENSIONS[mime]}"
    bundle.context.media[name] = image
    about = bundle.about(mime)
    sides = ""
    for side, length in zip(("width", "height"), _sides(about, image_size(image, mime)), strict=True):
        sides += f' {side}="{length}"' if length else ""
    background = about.get("needs_background") or bundle.metadata.get("needs_background")
    needs = f' class="needs-{background}-background"' if background in ("light", "dark") else ""
    alt = next((text for text in (about.get("alt"), bundle.metadata.get("alt")) if isinstance(text, str)), "")
    source = bundle.context.references.media(name)
    return f'<img src="{source}"{needs}{sides} loading="lazy" decoding="async" alt="{escape(alt or bundle.caption)}">'


def _image_bytes(bundle: Bundle, mime: str) -> bytes | None:
    text = bundle.text(mime)
    try:
        image = binascii.a2b_base64(text.rstrip(), strict_mode=True)
    except ValueError:  # old notebooks have line breaks in it
        try:
            image = binascii.a2b_base64(_BLANK.sub("", text), strict_mode=True)
        except ValueError:
            image = b""
    if not image:
        bundle.warn(f"the {mime} is not valid base64.")
        return None
    return image


def _svg_bytes(bundle: Bundle, mime: str) -> bytes | None:
    text = bundle.document(mime)
    start = _SVG_START.search(text) if text else None
    if text is None or start is None:
        if text is not None:
            bundle.warn("the image/svg+xml holds no <svg> element.")
        return None
    if "xmlns=" not in start[0]:
        # inside a page it would not matter, in an image file it does
        text = f'{text[: start.start() + 4]} xmlns="http://www.w3.org/2000/svg"{text[start.start() + 4 :]}'
    return text.encode("utf-8", "replace")


def _sides(about: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height: what the author set, the other side in proportion, 0 for unknown."""
    width, height = _side(about.get("width")), _side(about.get("height"))
    if size and not (width and height):
        if width:
            height = max(1, round(width * size[1] / size[0]))
        elif height:
            width = max(1, round(height * size[0] / size[1]))
        else:
            width, height = size
    return width, height


def _side(value: Any) -> int:
    match = _SIDE.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    return int(match[1]) if match else 0


def image_size(data: bytes, mime: str) -> tuple[int, int] | None:
    """Return width and height in CSS pixels, or None when the format is unknown or the header is not what it says."""
    reader = {
        "image/png": _png,
        "image/jpeg": _jpeg,
        "image/gif": _gif,
        "image/webp": _webp,
        "image/bmp": _bmp,
        "image/svg+xml": _svg,
    }.get(mime)
    try:
        size = reader(data) if reader else None
    except (struct.error, IndexError):
        return None
    return size if size and all(0 < side <= _MAX_SIDE for side in size) else None


def _png(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int] | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int] | None:
    if data[:2] != b"BM":
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments up to the frame header; a picture that EXIF may turn is refused, its sides could be swapped."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    for _ in range(200):
        marker, length = struct.unpack_from(">xBH", data, at)
        if data[at] != 0xFF or (marker == 0xE1 and data[at + 4 : at + 8] == b"Exif"):
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    return None


def _svg(data: bytes) -> tuple[int, int] | None:
    tag = _SVG_TAG.search(data[:_HEAD].decode("utf-8", "replace"))
    if tag is None:
        return None
    attributes = {name: first or second for name, first, second in _SVG_ATTRIBUTE.findall(tag[1])}
    width, height = _pixels(attributes.get("width", "")), _pixels(attributes.get("height", ""))
    box = [_pixels(part) for part in attributes.get("viewBox", "").replace(",", " ").split()[2:4]]
    if (not width or not height) and len(box) == 2 and box[0] and box[1]:
        ratio = box[1] / box[0]
        width = width or (height / ratio if height else box[0])
        height = height or width * ratio
    return (round(width), round(height)) if width and height else None


def _pixels(length: str) -> float | None:
    match = _LENGTH.fullmatch(length)
    return float(match[1]) * _PIXELS[match[2]] if match and match[2] in _PIXELS else None
