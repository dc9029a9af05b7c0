"""What requests ask for, checked: notebook specs and environment specs, as documents have them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from builder import formats
from builder.values import short
from shim.instances.documents import Fields
from shim.instances.errors import InvalidError, NotYoursError
from shim.instances.records import EnvironmentSpec, KernelSpec, NotebookSpec
from shim.instances.resources import read_resources

if TYPE_CHECKING:
    from builder.settings import Instances as Settings

LONGEST_NAME = 63
LONGEST_OWNER = 128
MOST_LABELS = 32
LONGEST_LABELS = 4096
"""Characters of all labels together."""
MOST_VARIABLES = 64
LONGEST_VARIABLE_NAME = 256
LONGEST_VARIABLE = 4096
LONGEST_VARIABLES = 64 << 10
"""Bytes of all variables together, as records have them: Kubernetes keeps 256 KB beside an object, and no more."""
MOST_PACKAGES = 128
LONGEST_PACKAGE = 256
LONGEST_KERNEL_NAME = 128
LONGEST_DESCRIPTION = 1024

ENVIRONMENT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
RESERVED_PREFIXES = ("DYLD_", "JUPYTER", "KUBERNETES_", "LD_", "NB_", "NBFOLIO_", "XDG_")
"""Variables with which the start of an instance, or its Jupyter server, would be another one."""
RESERVED = frozenset(
    {
        *("BASHOPTS", "BASH_ENV", "CDPATH", "ENV", "GCONV_PATH", "GLIBC_TUNABLES", "HOME", "IFS", "IPYTHONDIR", "PATH"),
        *("PROMPT_COMMAND", "PS4", "PYTHONBREAKPOINT", "PYTHONEXECUTABLE", "PYTHONHOME", "PYTHONINSPECT"),
        *("PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONSAFEPATH", "PYTHONSTARTUP", "PYTHONUSERBASE"),
        *("SHELL", "SHELLOPTS", "TMPDIR"),
    }
)

_POD_HINT = "use spec.resources"
_NAME = re.compile(r"[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_LABEL = re.compile(_WORD)
_DNS_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_PREFIX = re.compile(rf"{_DNS_PART}(\.{_DNS_PART})*")
_VERSIONS = r"(===?|~=|!=|<=?|>=?)[A-Za-z0-9][A-Za-z0-9.*+!_-]*"
_PIP = re.compile(rf"{_WORD}(\[{_WORD}(,{_WORD})*\])?({_VERSIONS}(,{_VERSIONS})*)?")
_CONDA = re.compile(
    rf"[A-Za-z0-9_][A-Za-z0-9._-]*(=[A-Za-z0-9][A-Za-z0-9.*+!_]*(=[A-Za-z0-9*][A-Za-z0-9.*+_]*)?"
    rf"|{_VERSIONS}(,{_VERSIONS})*)?"
)
_CHANNEL = re.compile(
    r"https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?"
    r"|[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
)


def notebook_spec(
    fields: Mapping[str, Any], settings: Settings, lookup: Callable[[str], EnvironmentSpec], owner: str | None
) -> NotebookSpec:
    """The notebook spec of a document, for `owner` alone; None: for whomever it names.

    Raises InvalidError, NotYoursError for another owner, and what `lookup` raises for an unknown environment.
    """
    spec = Fields(fields)
    spec.only("meta", "environment", "spec")
    meta, environment, pod = (spec.needed_inner(name) for name in ("meta", "environment", "spec"))
    meta.only("name", "namespace", "ownerId", "labels")
    # Clients send back all that they were shown of an environment; its name is what counts.
    environment.only("name", "dockerImage", "kernelSpec", "description", "image")
    pod.only("envVars", "resources", hints=dict.fromkeys(("cpu", "gpu", "memory"), _POD_HINT))
    name = _notebook_name(meta)
    whose = _owner(meta, owner)
    namespace = meta.text("namespace")
    if namespace not in (None, settings.namespace):
        raise InvalidError(f'meta.namespace has to be "{settings.namespace}", or left out.')
    labels, variables = _labels(meta), _variables(pod)
    resources = pod.needed_text("resources")
    read_resources(resources, settings)
    found = lookup(environment.needed_text("name"))
    return NotebookSpec(name, settings.namespace, whose, found, resources, variables, labels)


def environment_spec(fields: Mapping[str, Any], name: str | None) -> EnvironmentSpec:
    """The environment spec of a document; `name`: what it has to be called. Raises InvalidError."""
    members = environment_members(fields, name)
    for required in (("name", "name"), ("docker_image", "dockerImage")):
        if required[0] not in members:
            raise InvalidError(f"{required[1]} is required.")
    return EnvironmentSpec(**members)


def environment_members(fields: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """What a document says of an environment: members of EnvironmentSpec, those alone that were sent.

    `name` is what it has to be called, when that is known already. Raises InvalidError.
    """
    spec = Fields(fields)
    spec.only("name", "dockerImage", "kernelSpec", "description", "image")
    members: dict[str, Any] = {} if name is None else {"name": name}
    if name is None or spec.text("name") not in (None, name):
        members["name"] = _environment_name(spec, name)
    if "dockerImage" in spec:
        members["docker_image"] = _image(spec, "dockerImage", spec.needed_text("dockerImage"))
    if "kernelSpec" in spec:
        members["kernel_spec"] = _kernel_spec(spec)
    if "description" in spec:
        members["description"] = _description(spec)
    if "image" in spec:
        image = spec.text("image")
        members["image"] = image if image is None else _image(spec, "image", image)
    return members


def _notebook_name(meta: Fields) -> str:
    name = meta.needed_text("name")
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidError(
            f"meta.name has to begin with a letter and to have at most {LONGEST_NAME} letters, digits and hyphens,"
            " the last of them no hyphen."
        )
    return name.lower()


def _owner(meta: Fields, owner: str | None) -> str:
    named = meta.text("ownerId")
    if owner is not None:
        if named not in (None, owner):
            raise NotYoursError("meta.ownerId is somebody else; leave it out, or use a token that may act for others.")
        return owner
    if named is None:
        raise InvalidError("meta.ownerId is required.")
    if not 0 < len(named) <= LONGEST_OWNER or not named.isprintable() or named != named.strip():
        raise InvalidError(
            f"meta.ownerId has to be 1 to {LONGEST_OWNER} printable characters, without blanks around them."
        )
    return named


def _labels(meta: Fields) -> dict[str, str] | None:
    labels = meta.text_map("labels", MOST_LABELS)
    for key, value in (labels or {}).items():
        prefix, slash, name = key.rpartition("/")
        whole = not slash or (len(prefix) <= 253 and _LABEL_PREFIX.fullmatch(prefix))
        if not whole or len(name) > 63 or not _LABEL.fullmatch(name):
            raise InvalidError(
                f'"{short(key)}" in meta.labels is not a key of a label, like "team" or "example.org/x".'
            )
        if len(value) > 63 or (value and not _LABEL.fullmatch(value)):
            raise InvalidError(
                f"meta.labels.{short(key)} has to be at most 63 letters, digits, dots, hyphens and underscores,"
                " with a letter or digit at both ends."
            )
    if labels and sum(len(key) + len(value) for key, value in labels.items()) > LONGEST_LABELS:
        raise InvalidError(f"meta.labels has more than {LONGEST_LABELS} characters.")
    return labels


def _variables(pod: Fields) -> dict[str, str] | None:
    variables = pod.text_map("envVars", MOST_VARIABLES)
    for name, value in (variables or {}).items():
        if len(name) > LONGEST_VARIABLE_NAME or not _VARIABLE.fullmatch(name):
            raise InvalidError(f'"{short(name)}" in spec.envVars is not a name of letters, digits and underscores.')
        if name in RESERVED or name.startswith(RESERVED_PREFIXES):
            raise InvalidError(f"spec.envVars.{short(name)} is reserved: instances cannot set it.")
        if len(value) > LONGEST_VARIABLE or "\0" in value:
            raise InvalidError(
                f"spec.envVars.{short(name)} has to be at most {LONGEST_VARIABLE} characters, none of them NUL."
            )
    if variables and len(json.dumps(variables, ensure_ascii=False).encode()) > LONGEST_VARIABLES:
        raise InvalidError(f"spec.envVars is longer than {LONGEST_VARIABLES >> 10} KB.")
    return variables


def _environment_name(spec: Fields, expected: str | None) -> str:
    name = spec.needed_text("name")
    if expected is not None:
        raise InvalidError(f'name has to be "{short(expected)}", as in the address, or left out.')
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise InvalidError(
            f"name has to be at most {LONGEST_NAME} letters, digits, dots, hyphens and underscores,"
            " with a letter or digit at both ends."
        )
    return name


def _image(spec: Fields, field: str, value: str) -> str:
    try:
        return formats.image(value)
    except ValueError as error:
        raise InvalidError(f"{spec.called(field)} has to be {error}.") from None


def _description(spec: Fields) -> str | None:
    text = spec.text("description")
    if text is not None and (len(text) > LONGEST_DESCRIPTION or not text.isprintable()):
        raise InvalidError(f"description has to be at most {LONGEST_DESCRIPTION} printable characters.")
    return text


def _kernel_spec(spec: Fields) -> KernelSpec | None:
    kernel = spec.inner("kernelSpec")
    if kernel is None:
        return None
    kernel.only("name", "channels", "condaDependencies", "pipDependencies")
    name = kernel.text("name")
    if name is not None and (len(name) > LONGEST_KERNEL_NAME or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)):
        raise InvalidError(
            f"kernelSpec.name has to be at most {LONGEST_KERNEL_NAME} letters, digits, dots, hyphens and underscores."
        )
    return KernelSpec(
        name,
        _packages(kernel, "channels", _CHANNEL, "conda-forge"),
        _packages(kernel, "condaDependencies", _CONDA, "numpy=1.26"),
        _packages(kernel, "pipDependencies", _PIP, "numpy>=1.26,<3"),
    )


def _packages(kernel: Fields, field: str, form: re.Pattern[str], example: str) -> tuple[str, ...]:
    """A list of arguments for a package manager; none can be an option, a file or an address of other kinds.

    They are arguments and nothing else: `<` and `>` would mean files in a line for a shell.
    """
    items = kernel.texts(field, MOST_PACKAGES)
    for item in items:
        if len(item) > LONGEST_PACKAGE or not form.fullmatch(item):
            raise InvalidError(f'"{short(item)}" in {kernel.called(field)} is not accepted; write it like "{example}".')
    return items
