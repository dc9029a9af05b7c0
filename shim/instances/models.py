"""Instances and environments as the API shows them: Apache Submarine's names, order and nulls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shim.instances.backend import LONGEST_REASON, Observed
from shim.instances.records import Environment, EnvironmentSpec, Instance, KernelSpec

Json = dict[str, Any]


def notebook_model(instance: Instance, observed: Observed) -> Json:
    """An instance and how it is."""
    spec = instance.spec
    return {
        "notebookId": instance.id,
        "name": spec.name,
        "uid": instance.uid or None,
        "url": notebook_path(instance),
        "status": observed.status,
        "reason": observed.reason[:LONGEST_REASON],
        "createdTime": time_text(instance.created),
        "deletedTime": None,
        "spec": {
            "meta": {"name": spec.name, "namespace": spec.namespace, "ownerId": spec.owner, **_labels(spec.labels)},
            "environment": environment_spec_model(spec.environment),
            "spec": {"envVars": spec.env_vars, "resources": spec.resources},
        },
    }


def notebook_path(instance: Instance) -> str:
    """The path, below the prefix of the site, under which an instance is opened."""
    return f"/notebook/{instance.spec.namespace}/{instance.spec.name}/lab"


def environment_model(environment: Environment) -> Json:
    """An environment with its id."""
    return {"environmentId": environment.id, "environmentSpec": environment_spec_model(environment.spec)}


def environment_spec_model(spec: EnvironmentSpec) -> Json:
    """What an environment is."""
    return {
        "name": spec.name,
        "dockerImage": spec.docker_image,
        "kernelSpec": _kernel_spec(spec.kernel_spec),
        "description": spec.description,
        "image": spec.image,
    }


def time_text(seconds: float) -> str:
    """A time as Submarine writes it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+00:00")


def _labels(labels: Mapping[str, str] | None) -> Json:
    return {} if labels is None else {"labels": labels}


def _kernel_spec(spec: KernelSpec | None) -> Json | None:
    if spec is None:
        return None
    return {
        "name": spec.name,
        "channels": list(spec.channels),
        "condaDependencies": list(spec.conda),
        "pipDependencies": list(spec.pip),
    }
