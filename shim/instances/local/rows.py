"""The records of instances on this machine, in the table `instances`; every method may raise StateError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.instances.errors import TakenError
from shim.instances.records import to_text

if TYPE_CHECKING:
    from shim.instances.records import Instance
    from shim.state import State


class Rows:
    """One row for each instance; a name is there once per namespace, whoever asks at the same time."""

    def __init__(self, state: State) -> None:
        self._state = state

    def all(self) -> list[tuple[str, str]]:
        """Ids and records as text."""
        return [(row[0], row[1]) for row in self._state.read("SELECT id, record FROM instances")]

    def add(self, instance: Instance) -> None:
        """Record an instance. Raises TakenError."""
        sql = "INSERT INTO instances (id, namespace, name, record) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        values = (instance.id, instance.spec.namespace, instance.spec.name, to_text(instance))
        if not self._state.write(sql, values):
            raise TakenError("Invalid. Notebook with same name is already existed.")

    def update(self, instance: Instance) -> None:
        """Record an instance as it is now."""
        self._state.write("UPDATE instances SET record = ? WHERE id = ?", (to_text(instance), instance.id))

    def remove(self, instance: Instance) -> None:
        """Forget an instance; one that is not there is none."""
        self._state.write("DELETE FROM instances WHERE id = ?", (instance.id,))
