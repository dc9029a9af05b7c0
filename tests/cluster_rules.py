"""What a Kubernetes API server accepts: names, labels, quantities, what may change, and selectors."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

Object = dict[str, Any]
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_QUANTITY = r"[0-9]+(\.[0-9]*)?|\.[0-9]+"
_UNITS = {"": 0, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_MOST_ANNOTATIONS = 256 * 1024
_CHANGEABLE = {
    "StatefulSet": {
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    },
    "PersistentVolumeClaim": {"resources"},
    "Pod": set(),
}
_FIELDS = {
    "Pod": {"spec.nodeName", "status.phase", "spec.restartPolicy"},
    "Secret": {"type"},
    "Namespace": {"status.phase"},
    "Event": {
        *(f"involvedObject.{key}" for key in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        "reason",
        "type",
        "reportingComponent",
    },
}


class RefusedError(Exception):
    """An answer that is no success, with the Status that a server sends."""

    def __init__(self, code: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


def invalid(one: Object, field: str, message: str) -> RefusedError:
    """A field is not as it has to be."""
    name = one["metadata"].get("name", "")
    return RefusedError(422, "Invalid", f'{one["kind"]} "{name}" is invalid: {field}: Invalid value: {message}')


def unknown(what: str) -> RefusedError:
    """The stand-in does not know how a server would answer; it does not guess."""
    return RefusedError(501, "NotImplemented", f"the stand-in does not know {what}")


def finalizers(one: Object) -> list[str]:
    """What holds the deletion of an object."""
    return list(one["metadata"].get("finalizers") or ())


def check(kind: str, one: Object) -> None:
    """Refuse an object that a server would refuse."""
    meta = one["metadata"]
    _check_name(kind, one)
    for key, value in (meta.get("labels") or {}).items():
        _check_label(one, "metadata.labels", key, value)
    size = 0
    for key, value in (meta.get("annotations") or {}).items():
        _check_key(one, "metadata.annotations", key)
        if not isinstance(value, str):
            raise RefusedError(
                400, "BadRequest", "json: cannot unmarshal a value of metadata.annotations into a string"
            )
        size += len(key.encode()) + len(value.encode())
    if size > _MOST_ANNOTATIONS:
        raise invalid(one, "metadata.annotations", f"Too long: may not be more than {_MOST_ANNOTATIONS} bytes")
    for reference in meta.get("ownerReferences") or ():
        for field in ("apiVersion", "kind", "name", "uid"):
            if not reference.get(field):
                raise invalid(one, f"metadata.ownerReferences.{field}", "must not be empty")
    _CHECKS.get(kind, lambda one: None)(one)


def check_change(old: Object, new: Object) -> None:
    """Refuse a change that a server would refuse."""
    kind = old["kind"]
    if "deletionTimestamp" in old["metadata"] and set(finalizers(new)) - set(finalizers(old)):
        raise invalid(new, "metadata.finalizers", "no new finalizers can be added if the object is being deleted")
    if kind == "Secret" and (new["type"] != old["type"] or (old.get("immutable") and new.get("data") != old["data"])):
        raise invalid(new, "data", "field is immutable")
    if kind in _CHANGEABLE:
        keys = old["spec"].keys() | new["spec"].keys()
        changed = {key for key in keys if old["spec"].get(key) != new["spec"].get(key)}
        if changed - _CHANGEABLE[kind]:
            raise invalid(new, "spec", f"Forbidden: updates to {kind.lower()} spec for other fields are forbidden")
        if "template" in changed:
            raise unknown("how the pods of a changed template are replaced")


def matcher(kind: str, labels: str, fields: str) -> Callable[[Object], bool]:
    """Whether an object is of a label selector and a field selector."""
    tests = [*_label_tests(labels), *_field_tests(kind, fields)]
    return lambda one: all(test(one) for test in tests)


def amount(text: str) -> Decimal:
    """The number that a quantity stands for; ValueError for what is none."""
    found = re.fullmatch(rf"({_QUANTITY})(?:([KMGTPE])i|([mkMGTPE]?))", text, re.ASCII)
    if found is None:
        raise ValueError(text)
    number, binary, decimal = Decimal(found[1]), found[3], found[4] or ""
    power = "KMGTPE".index(binary) + 1 if binary else 0
    return number * 1024**power if binary else number * Decimal(1000) ** _UNITS[decimal]


def _check_name(kind: str, one: Object) -> None:
    name = one["metadata"].get("name")
    if not name:
        raise invalid(one, "metadata.name", "Required value: name or generateName is required")
    pattern, most = (_LABEL, 63) if kind in ("Namespace", "Service") else (_SUBDOMAIN, 253)
    if kind == "Service":
        pattern = r"[a-z]([-a-z0-9]*[a-z0-9])?"
    if not isinstance(name, str) or len(name) > most or not re.fullmatch(pattern, name):
        raise invalid(one, "metadata.name", f'"{name}": a lowercase RFC 1123 name of at most {most} characters')


def _check_key(one: Object, field: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    prefixed = not slash or (len(prefix) <= 253 and re.fullmatch(_SUBDOMAIN, prefix))
    if not (prefixed and name and len(name) <= 63 and re.fullmatch(_VALUE, name)):
        raise invalid(one, field, f'"{key}": a qualified name')


def _check_label(one: Object, field: str, key: str, value: Any) -> None:
    _check_key(one, field, key)
    if not isinstance(value, str):
        raise RefusedError(400, "BadRequest", "json: cannot unmarshal a value of metadata.labels into a string")
    if len(value) > 63 or not re.fullmatch(_VALUE, value):
        raise invalid(one, field, f'"{value}": a valid label of at most 63 characters')


def _check_amounts(one: Object, resources: Object | None, field: str) -> None:
    both: list[dict[str, Decimal]] = []
    for part in ("requests", "limits"):
        amounts = (resources or {}).get(part) or {}
        try:
            both.append({key: amount(value) for key, value in amounts.items()})
        except (TypeError, ValueError) as error:
            told = "quantities must be strings that match the regular expression of quantities"
            raise RefusedError(400, "BadRequest", f"{field}.{part}: {told}") from error
    requests, limits = both
    for key, wanted in requests.items():
        if key in limits and wanted > limits[key]:
            raise invalid(one, f"{field}.requests", f"must be less than or equal to {key} limit")
        if "/" in key and limits.get(key) != wanted:
            raise invalid(one, f"{field}.requests", f"must be equal to {key} limit")


def _check_pod_spec(one: Object, spec: Object, field: str) -> None:
    containers = spec.get("containers") or []
    if not containers:
        raise invalid(one, f"{field}.containers", "Required value")
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for index, container in enumerate([*containers, *(spec.get("initContainers") or ())]):
        place = f"{field}.containers[{index}]"
        name = container.get("name", "")
        if not re.fullmatch(_LABEL, name) or len(name) > 63 or not container.get("image"):
            raise invalid(one, place, "Required value: name (a DNS label) and image")
        for variable in container.get("env") or ():
            if not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", variable.get("name", "")):
                raise invalid(one, f"{place}.env", "a valid environment variable name")
            if "value" in variable and "valueFrom" in variable:
                raise invalid(one, f"{place}.env", "may not be specified when `value` is not empty")
            if not isinstance(variable.get("value", ""), str):
                raise RefusedError(400, "BadRequest", "json: cannot unmarshal a value of env into a string")
        if {mount["name"] for mount in container.get("volumeMounts") or ()} - volumes:
            raise invalid(one, f"{place}.volumeMounts", "Not found")
        _check_amounts(one, container.get("resources"), f"{place}.resources")


def _check_stateful_set(one: Object) -> None:
    spec = one.get("spec") or {}
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    if spec.get("volumeClaimTemplates"):
        raise unknown("volumeClaimTemplates")
    if (spec.get("selector") or {}).get("matchExpressions") or spec.get("replicas", 1) not in (0, 1):
        raise unknown("matchExpressions, and more than one replica")
    if not wanted:
        raise invalid(one, "spec.selector", "empty selector is invalid for statefulset")
    if wanted.items() - labels.items():
        raise invalid(one, "spec.template.metadata.labels", "`selector` does not match template `labels`")
    for key, value in labels.items():
        _check_label(one, "spec.template.labels", key, value)
    if (template.get("spec") or {}).get("restartPolicy", "Always") != "Always":
        raise invalid(one, "spec.template.spec.restartPolicy", "Unsupported value")
    _check_pod_spec(one, template.get("spec") or {}, "spec.template.spec")


def _check_claim(one: Object) -> None:
    spec = one.get("spec") or {}
    if not spec.get("accessModes") or not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        raise invalid(one, "spec", "Required value: accessModes and resources.requests.storage")
    _check_amounts(one, spec["resources"], "spec.resources")


def _check_service(one: Object) -> None:
    spec = one.get("spec") or {}
    if not spec.get("ports") and spec.get("clusterIP") != "None":
        raise invalid(one, "spec.ports", "Required value")
    for port in spec.get("ports") or ():
        if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536:
            raise invalid(one, "spec.ports.port", "must be between 1 and 65535, inclusive")
        if len(spec["ports"]) > 1 and not port.get("name"):
            raise invalid(one, "spec.ports.name", "Required value")


def _check_ingress(one: Object) -> None:
    spec = one.get("spec") or {}
    if not spec.get("rules") and not spec.get("defaultBackend"):
        raise invalid(one, "spec", "either `defaultBackend` or `rules` must be specified")
    for rule in spec.get("rules") or ():
        host = rule.get("host", "")
        if host and (len(host) > 253 or not re.fullmatch(rf"(\*\.)?{_SUBDOMAIN}", host)):
            raise invalid(one, "spec.rules.host", "a lowercase RFC 1123 subdomain")
        for path in (rule.get("http") or {}).get("paths") or ():
            if path.get("pathType") not in ("Exact", "Prefix", "ImplementationSpecific"):
                raise invalid(one, "spec.rules.http.paths.pathType", "pathType must be specified")


def _check_secret(one: Object) -> None:
    for value in (one.get("data") or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (TypeError, binascii.Error) as error:
            raise RefusedError(400, "BadRequest", "illegal base64 data") from error


_CHECKS: dict[str, Callable[[Object], None]] = {
    "StatefulSet": _check_stateful_set,
    "PersistentVolumeClaim": _check_claim,
    "Service": _check_service,
    "Ingress": _check_ingress,
    "Secret": _check_secret,
    "Pod": lambda one: _check_pod_spec(one, one.get("spec") or {}, "spec"),
}


def _label_tests(text: str) -> Iterator[Callable[[Object], bool]]:
    for part in filter(None, re.split(r",(?![^(]*\))", text)):
        among = re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", part)
        equal = re.fullmatch(r"\s*([^!=\s]+)\s*(==|=|!=)\s*(\S*)\s*", part)
        alone = re.fullmatch(r"\s*(!?)\s*([^!=\s()]+)\s*", part)
        if among:
            values = {value.strip() for value in among[3].split(",")}
            yield _label_test(among[1], values, among[2] == "in")
        elif equal:
            yield _label_test(equal[1], {equal[3]}, equal[2] != "!=")
        elif alone:
            yield lambda one, key=alone[2], there=not alone[1]: (key in _labels(one)) == there  # type: ignore[misc]
        else:
            raise RefusedError(400, "BadRequest", f"unable to parse requirement: {part}")


def _label_test(key: str, values: set[str], among: bool) -> Callable[[Object], bool]:
    return lambda one: (_labels(one).get(key) in values) == among


def _labels(one: Object) -> dict[str, str]:
    return one["metadata"].get("labels") or {}


def _field_tests(kind: str, text: str) -> Iterator[Callable[[Object], bool]]:
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^!=]+)(==|=|!=)(.*)", part)
        if not found:
            raise RefusedError(400, "BadRequest", f"invalid field selector: {part}")
        if found[1] not in {"metadata.name", "metadata.namespace", *_FIELDS.get(kind, ())}:
            raise RefusedError(400, "BadRequest", f"field label not supported: {found[1]}")
        yield _field_test(found[1].split("."), found[3], found[2] != "!=")


def _field_test(path: list[str], wanted: str, same: bool) -> Callable[[Object], bool]:
    def test(one: Any) -> bool:
        for key in path:
            one = (one or {}).get(key)
        return ((one or "") == wanted) == same

    return test
