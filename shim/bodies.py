"""Bodies of requests that are short enough to be read at once, and the fields of forms in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from shim.answers import HttpError

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 20


def media_type_of(environ: Mapping[str, Any]) -> str:
    """The media type of a body in lower case, without parameters; "" when it is not said."""
    kind: str = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    return kind


def read_body(environ: Mapping[str, Any], longest: int, too_long: str = "") -> bytes:
    """The body of a request; `too_long` is what its sender is told instead. Raises HttpError: 400, 413."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise HttpError(400, "The length of the request is no number.")
    if int(length) > longest:
        raise HttpError(413, too_long or f"The body of the request is longer than {longest} bytes.")
    data: bytes = environ["wsgi.input"].read(int(length))
    return data


def form_fields(data: bytes) -> dict[str, str]:
    """The fields of a form. Raises HttpError 400."""
    try:
        return dict(parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:
        raise HttpError(400, "The form cannot be read: it has to be UTF-8, with the fields of the page.") from None
