"""Instances of all owners: who may see and change which, how many, and under which names."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any

from shim.instances.errors import InvalidError, NotYoursError, TakenError, UnavailableError, UnknownError
from shim.instances.records import Instance
from shim.instances.specs import notebook_spec

if TYPE_CHECKING:
    from builder.settings import Instances as Settings
    from shim.instances.backend import Backend, Door, Observed
    from shim.instances.environments import Environments

LONGEST_PLACE = 52
"""Characters: Kubernetes names the revisions of a StatefulSet after it, in a label of at most 63."""
MOST_CHANGES = 12
"""Changes under way at a time: each holds a worker of the web server for as long as its backend takes."""
MOST_CHANGES_OF_OWNER = 4
MISSING = "Notebook not found."
BY_OWNER = "It was stopped by its owner"


@dataclass(frozen=True)
class Actor:
    """On whose behalf something is asked."""

    owner: str
    """The owner of the token; "" where there are no tokens, and everybody says who they are."""
    admin: bool
    """Whether all instances are theirs to see and to change."""

    def may(self, instance: Instance) -> bool:
        """Whether an instance is theirs; for others it does not exist."""
        return self.admin or instance.spec.owner == self.owner


class Instances:
    """The service behind the API. Every method may be called from any thread.

    Methods raise UnknownError for what is not there or not the actor's, and what their backend raises.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        environments: Environments,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.environments = environments
        self._settings = settings
        self._backend = backend
        self._clock = clock
        self._began = int(clock() * 1000)
        self._numbers = count(1)
        self._creating = threading.Lock()
        self._promised: dict[str, str] = {}
        """The owners of instances that are being created, by their ids."""
        self._changing = threading.Lock()
        self._changes: Counter[str] = Counter()

    def create(self, actor: Actor, fields: dict[str, Any]) -> Instance:
        """Create an instance from a request. Raises InvalidError, NotYoursError, TakenError."""
        fields = self._with_owner(actor, fields)
        owner = None if actor.admin else actor.owner
        spec = notebook_spec(fields, self._settings, lambda name: self.environments.get(name).spec, owner)
        if self._named(spec.namespace, spec.name):
            raise TakenError("Invalid. Notebook with same name is already existed.")
        instance_id = f"notebook_{self._began}_{next(self._numbers):04}"
        instance = Instance(instance_id, place_of(instance_id, spec.name), spec, float(int(self._clock())))
        with self._change(spec.owner), self._promise(instance):
            return self._backend.create(instance)

    def all(self, actor: Actor, owner: str) -> list[Instance]:
        """The actor's instances, the oldest first; of one owner unless that is ""."""
        return [one for one in self._backend.all() if actor.may(one) and owner in ("", one.spec.owner)]

    def get(self, actor: Actor, instance_id: str) -> Instance:
        """An instance by its id."""
        instance = self._backend.find(instance_id)
        if instance is None or not actor.may(instance):
            raise UnknownError(MISSING)
        return instance

    def named(self, actor: Actor, namespace: str, name: str) -> Instance:
        """An instance by its name, as its address has it."""
        instance = self._named(namespace, name)
        if instance is None or not actor.may(instance):
            raise UnknownError(MISSING)
        return instance

    def observe(self, instance: Instance) -> Observed:
        """How an instance is."""
        return self._backend.observe(instance)

    def numbers(self) -> Counter[str]:
        """How many instances there are of each status, as far as that is known."""
        with suppress(UnavailableError):
            return Counter(self._backend.observe(one).status for one in self._backend.all())
        return Counter()

    def delete(self, actor: Actor, instance_id: str, keep_volume: bool | None) -> Instance:
        """Delete an instance; None: the settings say what becomes of its files."""
        instance = self.get(actor, instance_id)
        keep = self._settings.keep_volumes if keep_volume is None else keep_volume
        with self._change(instance.spec.owner):
            self._backend.delete(instance, keep_volume=keep)
        return instance

    def start(self, actor: Actor, instance_id: str) -> Instance:
        """Run a stopped instance again."""
        instance = self.get(actor, instance_id)
        with self._change(instance.spec.owner):
            self._backend.start(instance)
        return self.get(actor, instance_id)

    def stop(self, actor: Actor, instance_id: str) -> Instance:
        """Stop an instance; its files stay."""
        instance = self.get(actor, instance_id)
        with self._change(instance.spec.owner):
            self._backend.stop(instance, BY_OWNER)
        return self.get(actor, instance_id)

    def door(self, instance: Instance) -> Door:
        """Where a running instance is reached. Raises UnavailableError while it does not run."""
        if self._backend.observe(instance).status != "running":
            raise UnavailableError("The notebook instance does not run.")
        return self._backend.door(instance)

    def _with_owner(self, actor: Actor, fields: dict[str, Any]) -> dict[str, Any]:
        """The request of an administrator who names no owner is for themself."""
        meta = fields.get("meta")
        if actor.admin and actor.owner and isinstance(meta, dict) and meta.get("ownerId") is None:
            return {**fields, "meta": {**meta, "ownerId": actor.owner}}
        return fields

    def _named(self, namespace: str, name: str) -> Instance | None:
        wanted = (namespace, name)
        return next((one for one in self._backend.all() if (one.spec.namespace, one.spec.name) == wanted), None)

    @contextmanager
    def _change(self, owner: str) -> Iterator[None]:
        """Around what a backend is asked to change for an owner. Raises UnavailableError when it has enough to do."""
        with self._changing:
            if self._changes.total() >= MOST_CHANGES or self._changes[owner] >= MOST_CHANGES_OF_OWNER:
                raise UnavailableError("Too many instances are being changed at the moment; try again later.")
            self._changes[owner] += 1
        try:
            yield
        finally:
            with self._changing:
                self._changes -= Counter([owner])

    @contextmanager
    def _promise(self, instance: Instance) -> Iterator[None]:
        """Count an instance while it is being created. Raises NotYoursError when there are enough."""
        with self._creating:
            # By ids: it may be among those that there are before its creation has ended.
            owners = [*({one.id: one.spec.owner for one in self._backend.all()} | self._promised).values()]
            if owners.count(instance.spec.owner) >= self._settings.max_per_owner:
                raise NotYoursError(
                    f"You have {self._settings.max_per_owner} instances, which is the most; delete one first."
                )
            if len(owners) >= self._settings.max_total:
                raise NotYoursError("There are as many instances as this server may have.")
            self._promised[instance.id] = instance.spec.owner
        try:
            yield
        finally:
            with self._creating:
                del self._promised[instance.id]


def place_of(instance_id: str, name: str) -> str:
    """What an instance is called where it runs: a DNS label that tells of its id and name.

    The form is Submarine's where that fits; else the end is a part of the hash of the whole.
    """
    whole = f"{instance_id.replace('_', '-')}-{name}"
    if len(whole) <= LONGEST_PLACE:
        return whole
    mark = sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST_PLACE - 9].rstrip('-')}-{mark}"


def keep_volume_of(text: str) -> bool | None:
    """What the query `keepVolumes` of a deletion says, None for nothing. Raises InvalidError."""
    if text == "":
        return None
    if not re.fullmatch("true|false", text):
        raise InvalidError("keepVolumes is true or false.")
    return text == "true"
