"""The words in which the HTTP interface is described as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
Content = Mapping[str, Json]
"""Media type to schema."""
Access = Literal["everybody", "readers", "kernels", "operators", "publish", "cache", "instances", "admin"]
"""Who may ask: those who may read, these or a token, this machine or any token, or a token with that scope."""
Method = Literal["get", "post", "patch", "delete"]


class Answer(NamedTuple):
    """One answer that is no error: what it means, what is in it, and the headers that go with it."""

    meaning: str
    content: Content
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One method of one path; what stands in braces in the path is described as a parameter."""

    method: Method
    path: str
    summary: str
    access: Access
    answers: Mapping[int, Answer]
    refusals: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    """What a client may send, out of the described ones."""
    body: Content | None = None
    query: tuple[str, ...] = ()
    """What may stand in the query, out of the described ones."""


def text(meaning: str, **more: Any) -> Json:
    """The schema of a text; `more` are other rules."""
    return {"type": "string", "description": meaning, **more}


def record(required: str, **properties: Json) -> Json:
    """The schema of an object; `required` names properties, with blanks between."""
    return {"type": "object", "required": required.split(), "properties": properties}


def schema(name: str) -> Json:
    """A schema that is described under a name."""
    return {"$ref": f"#/components/schemas/{name}"}


def number(meaning: str) -> Json:
    """The schema of a whole number."""
    return {"type": "integer", "description": meaning}


def json_answer(meaning: str, name: str) -> Answer:
    """An answer with one JSON value of a schema."""
    return Answer(meaning, {"application/json": schema(name)})
