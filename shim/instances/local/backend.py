"""Instances on this machine: a JupyterLab process for each, watched over by one thread for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING
from uuid import uuid4

from msgspec import structs

from builder.errors import NbfolioError
from builder.paths import escaped, shown
from shim.instances.backend import NOT_FOUND, TERMINATING, Door, Observed
from shim.instances.errors import BackendError, InvalidError, UnavailableError, UnknownError
from shim.instances.local.folders import Claim, Facts, Folder, left_folders, volume_name
from shim.instances.local.limits import available_cores, cores_for, what_is_limited
from shim.instances.local.process import HOST, refused_variables
from shim.instances.local.rows import Rows
from shim.instances.local.supervised import Supervised, end_all
from shim.instances.local.watch import Watch
from shim.instances.records import instance_of
from shim.instances.resources import read_resources

if TYPE_CHECKING:
    from builder.config import Config
    from shim.instances.records import Instance
    from shim.instances.resources import Resources
    from shim.state import State

TURN_SECONDS = 15.0
"""How long a request waits for another one about the same instance."""
LOOK_SECONDS = 2.0
"""How long the thread may take to end."""


class LocalBackend:
    """The `Backend` of this machine; see `shim.instances.backend`."""

    def __init__(self, config: Config, state: State, say: Callable[[str], None]) -> None:
        """`say` is told in one line what the operator should know."""
        self._folder = config.state_dir
        self._start_seconds = config.instances.start_minutes * 60.0
        # The limits of owners were checked when the request came, and may be others for older instances.
        self._bounds = structs.replace(config.instances, max_cpu="", max_memory="")
        self._rows = Rows(state)
        self._say = say
        self._claim = Claim(config.state_dir)
        self._all: dict[str, Supervised] = {}
        self._open = False
        self._said_limits = False
        self._watch = Watch(self._look)

    @staticmethod
    def available() -> str:
        """Why there can be no instances on this machine, a sentence; "" when there can."""
        if find_spec("jupyterlab"):
            return ""
        return 'Notebook instances on this machine need JupyterLab: pip install "nbfolio[instances]".'

    def open(self) -> None:
        """Adopt the servers that still run, start those that should, and begin to watch over them.

        While another process watches over the instances of the same folder there are none here; that is tried again.
        """
        self._watch.guarded(self._begin)
        if self._all:
            self._say_limits()
        if not self._claim.held:
            self._say("Another server looks after the notebook instances of this folder; this one waits for its end.")
        self._watch.start()

    def close(self) -> None:
        """Stop all servers, in about ten seconds at most; the next `open` starts them again."""
        self._watch.stop(LOOK_SECONDS)
        end_all(self._supervised())
        self._open = False
        self._claim.release()

    def all(self) -> list[Instance]:
        """All instances, the oldest first."""
        return sorted((one.instance for one in self._supervised()), key=lambda one: (one.created, one.id))

    def find(self, instance_id: str) -> Instance | None:
        """The instance of an id."""
        one = self._all.get(instance_id)
        return one.instance if one else None

    def create(self, instance: Instance) -> Instance:
        """Record an instance and start its server. Raises TakenError, InvalidError, BackendError, StateError."""
        asked = self._asked(instance)
        if refused := refused_variables(instance.spec.env_vars or {}):
            raise InvalidError(f"The environment variable {shown(refused[0])} cannot be set.")
        self._check_open()
        instance = replace(instance, uid=str(uuid4()), stopped=None)
        used = [core for one in self._supervised() for core in one.facts.cores]
        one = self._new(instance, Facts.new(cores_for(asked.cpu, available_cores(), used)), asked.memory)
        self._rows.add(instance)
        try:
            one.folder.make()
            one.folder.record(one.facts)
            one.folder.make_files(volume_name(instance))
        except OSError as error:
            self._rows.remove(instance)
            # Nothing of its owner's is in it yet.
            self._watch.guarded(one.folder.remove)
            raise _unusable("made", error) from error
        one.run()
        self._all[instance.id] = one
        self._say_limits()
        self._watch.hurry()
        return instance

    def observe(self, instance: Instance) -> Observed:
        """How an instance is."""
        one = self._all.get(instance.id)
        return one.observed if one else Observed("not_found", NOT_FOUND)

    def stop(self, instance: Instance, why: str) -> None:
        """End its server and keep its files; returns at once. Raises UnknownError, UnavailableError, StateError."""
        with self._turn(instance) as one:
            _check_stays(one)
            if one.instance.stopped is None:
                self._update(one, replace(one.instance, stopped=why))
                one.halt(Observed("stopped", why))
        self._watch.hurry()

    def start(self, instance: Instance) -> None:
        """Run it again; returns at once. Raises UnknownError, UnavailableError, StateError."""
        with self._turn(instance) as one:
            _check_stays(one)
            if one.instance.stopped is not None:
                self._update(one, replace(one.instance, stopped=None))
            one.run()
        self._watch.hurry()

    def delete(self, instance: Instance, *, keep_volume: bool) -> None:
        """Kill its processes, then remove all of it. Raises UnavailableError, BackendError, StateError."""
        try:
            with self._turn(instance) as one:
                one.halt(Observed("terminating", TERMINATING))
                try:
                    # Recorded first: what a crash interrupts is finished at the next start.
                    one.facts = replace(one.facts, deletion="keep" if keep_volume else "remove")
                    one.folder.record(one.facts)
                    self._finish_deletion(one)
                except OSError as error:
                    raise _unusable("removed", error) from error
        except UnknownError:
            return

    def door(self, instance: Instance) -> Door:
        """Where it is reached on this machine. Raises UnknownError, UnavailableError."""
        one = self._known(instance)
        if one.observed.status != "running":
            raise UnavailableError("The notebook instance does not run.")
        return Door(f"http://{HOST}:{one.facts.port}", one.facts.token)

    def inner_door(self, instance: Instance) -> Door:
        """The same."""
        return self.door(instance)

    # What was left

    def _say_limits(self) -> None:
        """Say once what is limited: whoever has no instances need not know."""
        if not self._said_limits:
            self._said_limits = True
            self._say(what_is_limited())

    def _begin(self) -> None:
        """Load what was recorded, unless another process is at it."""
        if self._open or not self._claim.take():
            return
        for instance_id, text in self._rows.all():
            try:
                self._load(instance_of(text))
            except (ValueError, TypeError, KeyError, OSError, NbfolioError) as error:
                self._say(f"The notebook instance {shown(instance_id)} cannot be used: {_told(error)}.")
        self._open = True
        for folder in left_folders(self._folder):
            if folder.path.name not in self._all and (facts := folder.facts()) and facts.deletion:
                self._watch.guarded(folder.remove)

    def _load(self, instance: Instance) -> None:
        asked = self._asked(instance)
        folder = Folder(self._folder, instance.id)
        folder.make()
        facts = folder.facts() or Facts.new(cores_for(asked.cpu, available_cores(), ()))
        if not facts.deletion:
            folder.make_files(volume_name(instance))
        one = self._all[instance.id] = self._new(instance, facts, asked.memory)
        if facts.deletion:
            self._finish_deletion(one)
        else:
            one.take_over()

    # Single steps

    def _look(self) -> bool:
        """Do for each instance what can be done now; whether there is something to do soon."""
        if not self._open:
            self._watch.guarded(self._begin)
        supervised = self._supervised()
        for one in supervised:
            self._watch.guarded(partial(self._step, one))
        return any(one.hurried for one in supervised)

    def _step(self, one: Supervised) -> None:
        # Whoever has the turn is at it; there is a next time.
        if not one.turn.acquire(blocking=False):
            return
        try:
            if one.over or self._watch.stopping:
                return
            if one.facts.deletion:
                # Somebody was told that it is being deleted, and its processes took longer to end.
                if one.end(0.0):
                    self._finish_deletion(one)
            else:
                one.step(lambda: {other.facts.port for other in self._supervised() if other is not one})
        finally:
            one.turn.release()

    def _supervised(self) -> list[Supervised]:
        return list(self._all.values())

    def _new(self, instance: Instance, facts: Facts, memory: int) -> Supervised:
        return Supervised(instance, Folder(self._folder, instance.id), facts, memory, self._start_seconds)

    def _asked(self, instance: Instance) -> Resources:
        """What it may use, whatever the settings allow by now. Raises InvalidError."""
        asked = read_resources(instance.spec.resources, self._bounds)
        if asked.gpus:
            raise InvalidError("Instances on this machine get no graphics processors; leave them out of the resources.")
        return asked

    def _known(self, instance: Instance) -> Supervised:
        if one := self._all.get(instance.id):
            return one
        raise UnknownError("Notebook not found.")

    def _check_open(self) -> None:
        if not self._open or self._watch.stopping:
            raise UnavailableError("This server does not look after notebook instances at the moment; try again later.")

    @contextmanager
    def _turn(self, instance: Instance) -> Iterator[Supervised]:
        """The instance, while nobody else changes anything about it."""
        self._check_open()
        one = self._known(instance)
        if not one.turn.acquire(timeout=TURN_SECONDS):
            raise UnavailableError("The notebook instance is busy with another request; try again later.")
        try:
            if one.over:
                raise UnknownError("Notebook not found.")
            yield one
        finally:
            one.turn.release()

    def _update(self, one: Supervised, instance: Instance) -> None:
        self._rows.update(instance)
        one.instance = instance

    def _finish_deletion(self, one: Supervised) -> None:
        """Every step may have been done before. Raises OSError."""
        one.observed = Observed("terminating", TERMINATING)
        if not one.end():
            raise UnavailableError("The processes of the notebook instance do not end; try again later.")
        if one.facts.deletion == "keep":
            one.folder.keep_files(volume_name(one.instance))
        self._rows.remove(one.instance)
        one.over = True
        del self._all[one.instance.id]
        one.folder.remove()


def _check_stays(one: Supervised) -> None:
    if one.facts.deletion:
        raise UnavailableError("The notebook instance is being deleted; delete it again if that takes long.")


def _unusable(done: str, error: OSError) -> BackendError:
    return BackendError(f"The files of the notebook instance cannot be {done}: {_told(error)}.")


def _told(error: Exception) -> str:
    """What went wrong, without paths of this machine."""
    return escaped(str(error.strerror or error) if isinstance(error, OSError) else type(error).__name__)
