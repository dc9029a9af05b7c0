from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.rendering.images import image_size

MIMES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif", "image/svg+xml", "text/html"]

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 7, 9)
BMP = b"BM" + bytes(16) + struct.pack("<ii", 30, -40)
JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + bytes(14) + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 120, 160)
EXIF = b"\xff\xd8\xff\xe1" + struct.pack(">H", 16) + b"Exif" + bytes(10) + JPEG[20:]
WEBP = b"RIFF\0\0\0\0WEBP"
VP8 = WEBP + b"VP8 " + bytes(10) + struct.pack("<HH", 0x4000 | 176, 144)
VP8L = WEBP + b"VP8L" + bytes(5) + struct.pack("<I", (63 << 14) | 31) + bytes(5)
VP8X = WEBP + b"VP8X" + bytes(8) + (399).to_bytes(3, "little") + (299).to_bytes(3, "little")


@pytest.mark.parametrize(
    ("data", "mime", "size"),
    [
        (PNG, "image/png", (640, 480)),
        (GIF, "image/gif", (7, 9)),
        (BMP, "image/bmp", (30, 40)),
        (JPEG, "image/jpeg", (160, 120)),
        (VP8, "image/webp", (176, 144)),
        (VP8L, "image/webp", (32, 64)),
        (VP8X, "image/webp", (400, 300)),
    ],
)
def test_the_size_is_read_from_the_header(data: bytes, mime: str, size: tuple[int, int]) -> None:
    assert image_size(data, mime) == size


def test_a_picture_that_exif_may_turn_has_no_size() -> None:
    assert image_size(EXIF, "image/jpeg") is None


@pytest.mark.parametrize(
    ("svg", "size"),
    [
        ('<?xml version="1.0"?><svg width="460.8pt" height="345.6pt" viewBox="0 0 460 345">', (614, 461)),
        ("<svg width='10' height='20'>", (10, 20)),
        ('<svg viewBox="0 0 300 150">', (300, 150)),
        ('<svg viewBox="0,0,300,150" width="600">', (600, 300)),
        ('<svg height="1in" viewBox="0 0 2 1">', (192, 96)),
        ('<svg width="100%" height="100%">', None),
        ('<svg width="100%" viewBox="0 0 4 3">', (4, 3)),
        ("<svg>", None),
        ('<svg data-width="9" height="2">', None),
        ('<svg width="1e9" height="2">', None),
        ('<svg width="99999999" height="2">', None),
        ("no picture", None),
    ],
)
def test_svg_sizes_come_from_its_attributes(svg: str, size: tuple[int, int] | None) -> None:
    assert image_size(svg.encode(), "image/svg+xml") == size


@pytest.mark.parametrize(
    ("data", "mime"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (VP8X, "image/webp")]
)
def test_a_picture_of_another_type_or_cut_off_has_no_size(data: bytes, mime: str) -> None:
    for end in range(len(data) - 1):
        assert image_size(data[:end], mime) is None
    for other in MIMES:
        if other != mime:
            assert image_size(data, other) is None


@pytest.mark.parametrize("side", [0, 100_001, 2**32 - 1])
def test_absurd_sizes_are_not_believed(side: int) -> None:
    assert image_size(PNG[:16] + struct.pack(">II", side, 5), "image/png") is None


@settings(deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from(MIMES), st.sampled_from([b"", PNG[:16], GIF[:6], JPEG[:2], WEBP, b"<svg "])
)
def test_any_bytes_have_a_size_or_none(data: bytes, mime: str, start: bytes) -> None:
    size = image_size(start + data, mime)
    assert size is None or all(0 < side <= 100_000 for side in size)
