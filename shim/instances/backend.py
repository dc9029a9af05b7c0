"""What runs instances: the one interface that this machine and Kubernetes have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from shim.instances.records import Instance

Status = Literal["creating", "running", "waiting", "pulling", "failed", "stopped", "terminating", "not_found"]

CREATING = "The notebook instance is creating"
RUNNING = "The notebook instance is running"
TERMINATING = "The notebook instance is terminating"
NOT_FOUND = "The notebook instance is not found"
UNANSWERED = "Waiting for the notebook server to answer"
LONGEST_REASON = 512
"""Characters of a reason; what is longer is cut."""


class Observed(NamedTuple):
    """How an instance is."""

    status: Status
    reason: str


class Door(NamedTuple):
    """Where the Jupyter server of an instance is reached, and with what."""

    url: str
    """Without a final slash."""
    token: str


class Backend(Protocol):
    """Where instances run, and what is known of them there.

    Every method may be called from any thread. `all`, `find` and `observe` read what is known in memory and ask nobody.
    The first two raise UnavailableError as long as nothing is known at all; all others raise that and BackendError
    beside what they name.
    """

    def open(self) -> None:
        """Find what a server before this one left, and begin to watch over it; raises nothing for what is away."""
        ...

    def close(self) -> None:
        """Cease to watch, in bounded time; what runs on this machine stops, what runs elsewhere goes on."""
        ...

    def all(self) -> list[Instance]:
        """All instances, the oldest first."""
        ...

    def find(self, instance_id: str) -> Instance | None:
        """The instance of an id."""
        ...

    def create(self, instance: Instance) -> Instance:
        """Create an instance, or nothing at all; the answer has its uid.

        Returns as soon as it is accepted: `observe` tells what becomes of it. Raises TakenError when the name is in
        use in the namespace, NotYoursError over a quota, InvalidError for what the backend cannot run.
        """
        ...

    def observe(self, instance: Instance) -> Observed:
        """How an instance is."""
        ...

    def stop(self, instance: Instance, why: str) -> None:
        """End its server and keep its files; `why` becomes the reason. One that is stopped stays so."""
        ...

    def start(self, instance: Instance) -> None:
        """Run a stopped instance again, with its files; one that shall run already goes on."""
        ...

    def delete(self, instance: Instance, *, keep_volume: bool) -> None:
        """End an instance and forget it; what is gone already is no error. `keep_volume`: its files stay."""
        ...

    def door(self, instance: Instance) -> Door:
        """Where its owner's browser reaches it; it has to be running."""
        ...

    def inner_door(self, instance: Instance) -> Door:
        """Where this server reaches it; it has to be running."""
        ...
