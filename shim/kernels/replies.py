"""What kernel gateways answer: only what was checked is handed on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

T = TypeVar("T")
LONGEST_TEXT = 200

_ID = r"\A[0-9A-Za-z_]{1,40}(-[0-9A-Za-z_]{1,40}){4}\Z"
_STATE = re.compile(r"[a-z_]{1,30}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True)
class KernelSpec:
    """A kernel that can be started."""

    name: str
    display_name: str
    language: str


class KernelModel(Struct):
    """A kernel that runs."""

    id: Annotated[str, Meta(pattern=_ID)]
    execution_state: str

    @property
    def state(self) -> str:
        """What it does, in the words of the protocol; "unknown" when it is put in others."""
        return self.execution_state if _STATE.fullmatch(self.execution_state) else "unknown"


class _Details(Struct):
    display_name: str = ""
    language: str = ""


class _Entry(Struct):
    spec: _Details


class KernelSpecs(Struct):
    """The kernels that can be started."""

    kernelspecs: dict[str, _Entry]
    default: str = ""

    @property
    def usable(self) -> dict[str, KernelSpec]:
        """Those with a name of the usual form, by their names."""
        return {
            name: KernelSpec(name, (entry.spec.display_name or name)[:LONGEST_TEXT], entry.spec.language[:LONGEST_TEXT])
            for name, entry in self.kernelspecs.items()
            if _NAME.fullmatch(name)
        }


def decode(body: bytes, kind: type[T]) -> T | None:
    """The JSON of an answer, None when it is not of this kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
