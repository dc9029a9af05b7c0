"""What the cluster knows of one instance, and how to read it: nothing here trusts the form of what it is given."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

Object = dict[str, Any]


class Evidence(NamedTuple):
    """All that is known of one instance; None for what is not there."""

    created: float
    """When its claim was made, in seconds since 1970; so all times."""
    started: float
    """When it was last started, or created."""
    finished: bool
    """Whether its creation has ended."""
    stopped: str | None
    """Why it shall not run; None: it shall."""
    deleted: bool
    """Whether its deletion was accepted."""
    stateful_set: Object | None = None
    pod: Object | None = None
    volume: Object | None = None
    events: tuple[Object, ...] = ()
    """Those of the three."""


def part(one: object, *keys: str) -> Object:
    """The object below some keys of an object; {} where there is none."""
    for key in keys:
        one = one.get(key) if isinstance(one, dict) else None
    return one if isinstance(one, dict) else {}


def parts(one: object, key: str) -> list[Object]:
    """The objects in a list of an object."""
    found = one.get(key) if isinstance(one, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def text(one: object, key: str) -> str:
    """A text of an object; "" where there is none."""
    found = one.get(key) if isinstance(one, dict) else None
    return found if isinstance(found, str) else ""


def number(one: object, key: str) -> int:
    """A number of an object, 0 where there is none."""
    found = one.get(key) if isinstance(one, dict) else None
    return found if isinstance(found, int) else 0


def moment(written: str) -> float:
    """A time as Kubernetes writes it, in seconds since 1970; 0.0 for anything else."""
    try:
        read = datetime.fromisoformat(written)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def made(one: object) -> float:
    """When an object was made."""
    return moment(text(part(one, "metadata"), "creationTimestamp"))


def going(one: object) -> bool:
    """Whether an object is about to be removed."""
    return bool(part(one, "metadata").get("deletionTimestamp"))


def condition(pod: object, kind: str) -> Object:
    """A condition of a pod."""
    return next((one for one in parts(part(pod, "status"), "conditions") if one.get("type") == kind), {})


def events_of(one: object, events: tuple[Object, ...]) -> list[Object]:
    """What happened to an object, itself and not one of its name before it, the latest first."""
    since = made(one)
    uid = text(part(one, "metadata"), "uid")
    mine = [event for event in events if uid and text(part(event, "involvedObject"), "uid") == uid]
    return sorted((event for event in mine if event_time(event) >= since), key=_order, reverse=True)


def event_time(event: object) -> float:
    """When something happened, the last time if more than once."""
    series = text(part(event, "series"), "lastObservedTime")
    written = (series, *(text(event, key) for key in ("lastTimestamp", "eventTime", "firstTimestamp")))
    return next((found for found in map(moment, written) if found), made(event))


def _order(event: Object) -> tuple[float, int]:
    # Times are whole seconds; within one the versions tell the order, on every server that there is.
    version = text(part(event, "metadata"), "resourceVersion")
    return event_time(event), int(version) if version.isascii() and version.isdigit() and len(version) < 20 else 0
