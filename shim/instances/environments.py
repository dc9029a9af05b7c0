"""The environments that instances can run: those of the settings, and those that were added through the API."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from shim.instances.errors import NotYoursError, TakenError, UnknownError
from shim.instances.records import Environment, EnvironmentSpec, environment_of, to_text
from shim.instances.specs import ENVIRONMENT_NAME, environment_members

if TYPE_CHECKING:
    from builder.settings import Environment as Configured
    from shim.state import State

MOST_ENVIRONMENTS = 200
"""Those of the settings included."""
MISSING = "Environment not found."
FIXED = "The environment comes from the settings of the server, and can be changed only there."

logger = logging.getLogger("shim.instances")


class Environments:
    """All environments; every method may be called from any thread, by several processes with one state.

    Those of the settings are always what the settings say, and hide others of the same name. A record that cannot be
    read is as if it were not there. Methods raise StateError when the records cannot be read or kept.
    """

    def __init__(self, state: State, configured: Sequence[Configured]) -> None:
        self._state = state
        self._configured: dict[str, Environment] = {}
        for number, one in enumerate(configured, 1):
            # The same in every process, and after every restart.
            made = Environment(f"environment_0_{number:04}", _configured_spec(one))
            self._configured.setdefault(one.name, made)
        self._began = int(time.time() * 1000)
        self._numbers = count(1)

    def all(self) -> list[Environment]:
        """All environments, those of the settings first, then the oldest first."""
        added = [one for name, one in self._added().items() if name not in self._configured]
        return [*self._configured.values(), *sorted(added, key=_age)]

    def get(self, name: str) -> Environment:
        """The environment of a name. Raises UnknownError."""
        found = self._configured.get(name) or self._find(name)
        if found is None:
            raise UnknownError(MISSING)
        return found

    def add(self, spec: EnvironmentSpec) -> Environment:
        """Add an environment. Raises TakenError for a name in use, NotYoursError when there are too many."""
        with self._state.transaction():
            added = self._added()
            if spec.name in self._configured or spec.name in added:
                raise TakenError(f"There is an environment {spec.name} already.")
            if len(self._configured) + len(added) >= MOST_ENVIRONMENTS:
                raise NotYoursError(f"There are {MOST_ENVIRONMENTS} environments, which is the most; delete one first.")
            made = Environment(self._new_id({one.id for one in added.values()}), spec)
            self._keep(made)
        return made

    def change(self, name: str, fields: Mapping[str, Any]) -> Environment:
        """Replace what a document says of an environment; what it does not name stays.

        Raises InvalidError, UnknownError, and NotYoursError for one of the settings.
        """
        with self._state.transaction():
            found = self._changeable(name)
            made = replace(found, spec=replace(found.spec, **environment_members(fields, name)))
            self._keep(made)
        return made

    def remove(self, name: str) -> Environment:
        """Remove an environment; instances go on with what it was. Raises UnknownError, NotYoursError."""
        with self._state.transaction():
            found = self._changeable(name)
            self._state.write("DELETE FROM environments WHERE name = ?", (name,))
        return found

    def _changeable(self, name: str) -> Environment:
        if name in self._configured:
            raise NotYoursError(FIXED)
        return self.get(name)

    def _find(self, name: str) -> Environment | None:
        # No other text is a name of ours, and SQLite does not take every one.
        if not ENVIRONMENT_NAME.fullmatch(name):
            return None
        rows = self._state.read("SELECT name, record FROM environments WHERE name = ?", (name,))
        return _read(rows).get(name)

    def _added(self) -> dict[str, Environment]:
        return _read(self._state.read("SELECT name, record FROM environments"))

    def _keep(self, environment: Environment) -> None:
        self._state.write(
            "INSERT OR REPLACE INTO environments VALUES (?, ?)", (environment.spec.name, to_text(environment))
        )

    def _new_id(self, taken: set[str]) -> str:
        """An id; another process may have begun in the same millisecond."""
        ids = (f"environment_{self._began}_{number:04}" for number in self._numbers)
        return next(one for one in ids if one not in taken)


def _configured_spec(one: Configured) -> EnvironmentSpec:
    return EnvironmentSpec(one.name, one.docker_image, description=one.description or None)


def _read(rows: Sequence[tuple[Any, ...]]) -> dict[str, Environment]:
    found = {}
    for name, text in rows:
        try:
            environment = environment_of(text)
            _age(environment)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            logger.error("The record of the environment %s cannot be read.", name)
            continue
        found[name] = environment
    return found


def _age(environment: Environment) -> tuple[int, int]:
    _, began, number = environment.id.split("_")
    return int(began), int(number)
