"""Creates, changes and deletes the objects of instances, so that what is broken off is undone or finished later.

The claim, a Secret, is made first and deleted last. It says what was begun, so that any server can go on with it; every
deletion names the uid of what it has seen, so that servers which do the same thing at once do no harm.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from shim.instances.cluster import manifests
from shim.instances.cluster.answers import ConflictError
from shim.instances.cluster.api import INGRESSES, SECRETS, SERVICES, STATEFUL_SETS, VOLUMES, Kind
from shim.instances.cluster.evidence import Object, going, part, parts, text
from shim.instances.cluster.manifests import MADE, MADE_FOR, NAME, OWNER, UNFINISHED, claim_name, volume_name
from shim.instances.errors import InstanceError, InvalidError, TakenError, UnavailableError

if TYPE_CHECKING:
    from builder.settings import Instances as Settings
    from shim.instances.cluster.api import Api
    from shim.instances.cluster.manifests import Unfinished
    from shim.instances.records import Instance

logger = logging.getLogger("shim.instances")

TAKEN = "Invalid. Notebook with same name is already existed."
CHANGES = 5
"""How often a claim is read and changed again when somebody else changes it, too."""

Seen = Callable[[Kind, Object], None]


class Making:
    """What is done to the objects of instances. Every method may be called from any thread."""

    def __init__(self, api: Api, settings: Settings, seen: Seen, gone: Seen) -> None:
        """`seen` and `gone` are told what the server answers: objects as they are now, and objects that are not."""
        self._api = api
        self._settings = settings
        self._seen, self._gone = seen, gone

    def create(self, instance: Instance, resources: dict[str, str]) -> Instance:
        """Create all objects of an instance, or none; what cannot be undone now is undone later."""
        claim = self._claim(instance)
        instance = replace(instance, uid=uid_of(claim))
        try:
            wanted = self._wanted(instance, resources)
            for kind, body in wanted:
                self._rehearse(instance, kind, body)
            for kind, body in wanted:
                self._make(instance, kind, body)
        except BaseException:
            self._undo(instance)
            raise
        try:
            self.finish(instance)
        except InstanceError as error:
            logger.warning("The creation of %s is to be finished later: %s", instance.place, error)
        return instance

    def change(
        self, instance: Instance, change: Callable[[Object], dict[str, str | None]], *, deleted: bool = False
    ) -> Object | None:
        """Change annotations of the claim of an instance; None when it is gone, or, but for `deleted`, about to go.

        `change` gets the annotations and says what becomes of them, {} for no change.
        """
        name = claim_name(instance.spec.name)
        for _ in range(CHANGES):
            claim = self._api.get(SECRETS, name)
            if claim is None or uid_of(claim) != instance.uid:
                return None
            told = part(claim, "metadata", "annotations")
            if not deleted and text(told, UNFINISHED) not in ("", "creation"):
                return None
            wanted = change(told)
            if not wanted:
                return claim
            version = text(part(claim, "metadata"), "resourceVersion")
            try:
                patch = {"metadata": {"resourceVersion": version, "annotations": wanted}}
                changed = self._api.patch(SECRETS, name, patch)
            except ConflictError:
                continue
            if changed is not None:
                self._seen(SECRETS, changed)
                return changed
        raise UnavailableError("Others are changing the instance; try again.")

    def finish(self, instance: Instance) -> None:
        """Say that the creation of an instance has ended."""
        self.change(instance, lambda told: {UNFINISHED: None} if text(told, UNFINISHED) == "creation" else {})

    def scale(self, instance: Instance, replicas: int, version: str = "") -> None:
        """Let the pod of an instance run or not; `version`: only of the StatefulSet as it was then."""
        patch: Object = {"spec": {"replicas": replicas}}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        changed = self._api.patch(STATEFUL_SETS, instance.place, patch)
        if changed is not None:
            self._seen(STATEFUL_SETS, changed)

    def delete(self, instance: Instance, how: Unfinished) -> None:
        """Delete all objects of an instance; once its claim says so, what fails is done later."""

        def begin(told: Object) -> dict[str, str | None]:
            return {UNFINISHED: how} if text(told, UNFINISHED) in ("", "creation") else {}

        claim = self.change(instance, begin, deleted=True)
        if claim is None:
            self._gone(SECRETS, _claim_of(instance))
            return
        told = text(part(claim, "metadata", "annotations"), UNFINISHED)
        try:
            self.remove(instance, told)
        except UnavailableError as error:
            logger.warning("The deletion of %s is to be finished later: %s", instance.place, error)

    def remove(self, instance: Instance, how: str) -> None:
        """Delete what is left of an instance, its claim last; `how` is one of `Unfinished`."""
        for kind in (INGRESSES, SERVICES, STATEFUL_SETS, SECRETS):
            found = self._api.get(kind, instance.place)
            if found is not None and owned(found, instance):
                self.remove_one(kind, found)
        if how != "deletion-keeping-volume":
            self._remove_volume(instance, mine=how != "deletion")
        self.remove_one(SECRETS, _claim_of(instance))

    def remove_one(self, kind: Kind, one: Object) -> None:
        """Delete an object, just that one and not another one of its name."""
        meta = part(one, "metadata")
        answer = self._api.delete(kind, text(meta, "name"), text(meta, "uid"))
        if answer is not None and uid_of(answer) and going(answer):
            # Something holds it; that it is gone a watch will tell.
            self._seen(kind, answer)
        else:
            self._gone(kind, one)

    def _wanted(self, instance: Instance, resources: dict[str, str]) -> list[tuple[Kind, Object]]:
        # The StatefulSet is last: where there is one, the others are there.
        return [
            (VOLUMES, manifests.volume(instance, self._settings)),
            (SECRETS, manifests.token(instance, self._settings, secrets.token_hex(32))),
            (SERVICES, manifests.service(instance, self._settings)),
            (INGRESSES, manifests.ingress(instance, self._settings)),
            (STATEFUL_SETS, manifests.stateful_set(instance, self._settings, resources)),
        ]

    def _claim(self, instance: Instance) -> Object:
        """Take the name of an instance."""
        body = manifests.claim(instance, self._settings.namespace, secrets.token_hex(16))
        error: InstanceError
        for _ in range(2):
            try:
                found: Object | None = self._api.create(SECRETS, body)
            except (TakenError, UnavailableError) as refused:
                # One whose answer did not come may have been made; nobody else writes this number.
                error, found = refused, self._api.get(SECRETS, claim_name(instance.spec.name))
                told = part(found, "metadata", "annotations")
                if found and text(told, MADE) != body["metadata"]["annotations"][MADE]:
                    raise TakenError(TAKEN) from refused
            if found:
                self._seen(SECRETS, found)
                return found
        raise error

    def _rehearse(self, instance: Instance, kind: Kind, body: Object) -> None:
        try:
            self._api.create(kind, body, dry_run=True)
        except TakenError:
            self._there(instance, kind, body)

    def _make(self, instance: Instance, kind: Kind, body: Object) -> None:
        error: InstanceError
        for _ in range(2):
            try:
                found: Object | None = self._api.create(kind, body)
            except (TakenError, UnavailableError) as refused:
                error, found = refused, self._there(instance, kind, body)
            if found:
                self._seen(kind, found)
                return
        raise error

    def _there(self, instance: Instance, kind: Kind, body: Object) -> Object | None:
        """The object that is there already: one whose answer did not come, or a volume that was kept."""
        found = self._api.get(kind, body["metadata"]["name"])
        if found is None:
            return None
        if kind is not VOLUMES:
            if owned(found, instance):
                return found
            raise TakenError("Something else in the cluster has the name of this instance; try again.")
        if not _volume_of(found, instance):
            raise InvalidError("The volume of this name is not yours; choose another name.")
        if going(found):
            raise UnavailableError("The files of the instance before are still being removed; try again in a minute.")
        return found

    def _undo(self, instance: Instance) -> None:
        try:
            self.delete(instance, "undoing")
        except InstanceError as error:
            logger.warning("The creation of %s is to be undone later: %s", instance.place, error)

    def _remove_volume(self, instance: Instance, *, mine: bool) -> None:
        """`mine`: only when it was made for this very instance, and holds no files of an older one."""
        found = self._api.get(VOLUMES, volume_name(instance))
        if found is None or not _volume_of(found, instance):
            return
        if mine:
            right = text(part(found, "metadata", "annotations"), MADE_FOR) == instance.uid
        else:
            # A later instance of this owner and name makes its volume once the claim is gone; this one was read before.
            right = uid_of(self._api.get(SECRETS, claim_name(instance.spec.name))) == instance.uid
        if right:
            self.remove_one(VOLUMES, found)


def uid_of(one: object) -> str:
    """The uid of an object, "" where it has none."""
    return text(part(one, "metadata"), "uid")


def owned(found: Object, instance: Instance) -> bool:
    """Whether an object was made for an instance, and not for another one of its name."""
    return any(text(one, "uid") == instance.uid for one in parts(part(found, "metadata"), "ownerReferences"))


def _claim_of(instance: Instance) -> Object:
    return {"metadata": {"name": claim_name(instance.spec.name), "uid": instance.uid}}


def _volume_of(found: Object, instance: Instance) -> bool:
    told = part(found, "metadata", "annotations")
    return (text(told, OWNER), text(told, NAME)) == (instance.spec.owner, instance.spec.name)
