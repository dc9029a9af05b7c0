"""The bodies of requests about kernels: JSON whatever its media type says, as Jupyter's clients send it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shim.answers import HttpError
from shim.bodies import read_body

LONGEST_BODY = 64 << 10

Json = dict[str, Any]


def read_object(environ: Mapping[str, Any]) -> Json:
    """The JSON object in the body of a request, {} for none. Raises HttpError: 400, 413."""
    data = read_body(environ, LONGEST_BODY)
    if not data.strip():
        return {}
    try:
        # `.decode()`: json itself would take UTF-16 and UTF-32, too.
        fields = json.loads(data.decode())
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise HttpError(400, "The body of the request has to be a JSON object.")
    return fields


def text_of(fields: Mapping[str, Any], name: str, longest: int = 4096) -> str:
    """A text in a body, "" when it is not there. Raises HttpError 400 for what is none."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise HttpError(400, f"{name} in the body of the request has to be a text of at most {longest} characters.")
    return value
