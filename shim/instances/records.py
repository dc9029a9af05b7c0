"""What is known of instances and environments, and the one form in which it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec

LAST_SECOND = 253402300799
"""Of the year 9999."""

_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class KernelSpec:
    """The packages of an environment; None where nothing was said."""

    name: str | None = None
    channels: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnvironmentSpec:
    """What an instance runs."""

    name: str
    docker_image: str | None = None
    kernel_spec: KernelSpec | None = None
    description: str | None = None
    image: str | None = None
    """Kept for clients and not used: instances run `docker_image`."""


@dataclass(frozen=True)
class Environment:
    """An environment under the id that the server gave it."""

    id: str
    """`environment_<milliseconds>_<number>`."""
    spec: EnvironmentSpec


@dataclass(frozen=True)
class NotebookSpec:
    """What was asked for, checked; see `shim.instances.specs`."""

    name: str
    """In lower case, a DNS label."""
    namespace: str
    owner: str
    environment: EnvironmentSpec
    """As it was when the instance was created; later changes do not reach it."""
    resources: str
    """As it was written; `shim.instances.resources` reads it."""
    env_vars: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Instance:
    """One instance, as it was created; what becomes of it is asked of its backend."""

    id: str
    """`notebook_<milliseconds>_<number>`."""
    place: str
    """What it is called where it runs, a DNS label of at most 52 characters; never made anew from other fields."""
    spec: NotebookSpec
    created: float
    """Seconds since 1970, whole."""
    uid: str = ""
    """What its backend knows it by; "" until that has created it."""
    stopped: str | None = None
    """Why it shall not run, a sentence; None: it shall."""


def to_text(record: Instance | Environment) -> str:
    """A record as one line of JSON."""
    return json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))


def instance_of(text: str) -> Instance:
    """The instance that `to_text` wrote. Raises ValueError for anything else: it may be damaged, or not ours."""
    try:
        found = msgspec.json.decode(text, type=Instance)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    # These become parts of addresses and of files.
    if not all(map(_LABEL.fullmatch, (found.place, found.spec.name, found.spec.namespace))):
        raise ValueError("a name is none")
    if not 0 <= found.created <= LAST_SECOND:
        raise ValueError("no time of ours")
    return found


def environment_of(text: str) -> Environment:
    """The environment that `to_text` wrote. Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(text, type=Environment)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
