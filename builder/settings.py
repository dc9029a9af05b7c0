"""Every setting of nbfolio: name, type, default, bounds and one sentence of help, as frozen records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, structs

from builder import formats
from builder.page import CodeMode, LiveMode

ExecuteMode = Literal["never", "missing", "always"]
Scope = Literal["publish", "cache", "instances", "admin"]
Backend = Literal["auto", "local", "kubernetes", "off"]
LogFormat = Literal["text", "json"]
Check = Callable[[Any], Any]
"""Gives back the value in its normal form; raises ValueError with what was expected."""

MOST = 2**31 - 1


def note(text: str, *, check: Check | None = None, secret: bool = False, **bounds: Any) -> Meta:
    """What is known of a setting beside its type: the sentence of help, bounds, a check, and whether it is a secret."""
    return Meta(description=text, extra={"check": check, "secret": secret}, **bounds)


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all settings."""


class SecretRecord(Record, frozen=True):
    """Base of settings that hold secrets: its repr masks them, because reprs end up in logs."""

    def __repr__(self) -> str:
        def shown(setting: structs.FieldInfo) -> str:
            value = getattr(self, setting.name)
            return f"{setting.name}={'****' if value and is_secret(setting) else repr(value)}"

        return f"{type(self).__name__}({', '.join(map(shown, structs.fields(self)))})"


def notes(setting: structs.FieldInfo) -> list[Meta]:
    """The notes beside the type of a setting."""
    return [meta for meta in getattr(setting.type, "__metadata__", ()) if isinstance(meta, Meta)]


def help_text(setting: structs.FieldInfo) -> str:
    """The sentence that explains a setting."""
    return next((meta.description for meta in notes(setting) if meta.description), "")


def is_secret(setting: structs.FieldInfo) -> bool:
    """Whether the value must never be shown."""
    return any((meta.extra or {}).get("secret") for meta in notes(setting))


class Site(Record, frozen=True):
    """[site]: what readers see."""

    title: Annotated[str, note("Name of the site, on every page and in listings.", check=formats.filled)] = (
        "Team notebooks"
    )
    url: Annotated[
        str,
        note(
            "Public address, for sitemap, feed and canonical links; empty: none of those.", check=formats.site_address
        ),
    ] = ""
    base_url: Annotated[
        str,
        note(
            'Path of the site at its host: "/db" when the proxy keeps it, "[/db]" when it strips it.',
            check=formats.base_url,
        ),
    ] = ""
    theme: Annotated[str, note("Name of the theme.", check=formats.filled)] = "paper"
    code: Annotated[CodeMode, note("Whether pages show the code of cells: shown, folded or hidden.")] = "shown"
    live: Annotated[LiveMode, note("How pages get a kernel: off, on a click (button) or when they open (auto).")] = (
        "button"
    )

    @property
    def base_path(self) -> str:
        """What URLs of the site begin with: "/db", or "" at the root of the host."""
        return self.base_url.strip("[]")

    @property
    def strips_prefix(self) -> bool:
        """Whether a proxy takes `base_path` away before requests arrive."""
        return self.base_url.startswith("[")


class Build(Record, frozen=True):
    """[build]: how notebooks become pages."""

    output: Annotated[str, note("Folder the pages are written to.", check=formats.filled)] = "_site"
    jobs: Annotated[int, note("Number of renderer processes; 0: one for each core.", ge=0, le=1024)] = 0
    execute: Annotated[
        ExecuteMode, note("Run notebooks before rendering: never, where outputs are missing, or always.")
    ] = "never"
    download: Annotated[bool, note("Publish the .ipynb file beside its page.")] = False
    page_budget_kb: Annotated[int, note("Size in KB above which `check` names a page.", ge=1, le=MOST)] = 2048
    cell_timeout: Annotated[int, note("Seconds one cell may run under `execute`.", ge=1, le=MOST)] = 300
    notebook_timeout: Annotated[int, note("Seconds one notebook may run under `execute`.", ge=1, le=MOST)] = 1800


class Server(Record, frozen=True):
    """[server]: where and how run-shim serves."""

    host: Annotated[str, note("Address to listen on.", check=formats.host)] = "127.0.0.1"
    port: Annotated[int, note("Port to listen on; 0 picks a free one.", ge=0, le=65535)] = 3000
    allowed_hosts: Annotated[
        tuple[str, ...],
        note("Host names that requests may ask for; empty: this machine and the public host.", check=formats.hosts),
    ] = ()
    public_link_pattern: Annotated[
        str, note("How links to published pages are made for clients.", check=formats.link_pattern)
    ] = "{protocol}://{host}/{baseUrl}"
    trusted_proxies: Annotated[
        tuple[str, ...], note("Addresses or networks whose forwarding headers are believed.", check=formats.networks)
    ] = ()
    presentation_mode: Annotated[bool, note("Show pages without site frame and listings.")] = False
    frame_ancestors: Annotated[tuple[str, ...], note("Who may embed pages.", check=formats.ancestors)] = ("'self'",)
    max_upload_mb: Annotated[int, note("Largest upload in MB.", ge=1, le=MOST)] = 200
    max_unpacked_mb: Annotated[int, note("Largest content of a bundle in MB.", ge=1, le=MOST)] = 500
    max_entries: Annotated[int, note("Most files in a bundle.", ge=1, le=MOST)] = 10000
    log_format: Annotated[LogFormat, note("How run-shim writes its log to standard error: text or json lines.")] = (
        "text"
    )
    state_dir: Annotated[str, note("Folder for caches and records, for its owner alone.", check=formats.filled)] = (
        ".nbfolio"
    )


class Token(SecretRecord, frozen=True):
    """[[auth.token]]: one token with its scopes and owner."""

    name: Annotated[str, note("What the token is called in logs.", check=formats.filled)]
    value: Annotated[str, note("The token.", secret=True)] = ""
    value_file: Annotated[str, note("File that holds the token.")] = ""
    scopes: Annotated[tuple[Scope, ...], note("What the token is good for: publish, cache, instances, admin.")] = ()
    owner: Annotated[str, note("On whose behalf the token acts; empty: its name.")] = ""


class User(SecretRecord, frozen=True):
    """[[auth.user]]: one person who may log in."""

    name: Annotated[str, note("The name to log in with.", check=formats.filled)]
    password_hash: Annotated[str, note("What `shim-admin hash-password` printed.", secret=True)] = ""
    password_hash_file: Annotated[str, note("File that holds the hash.")] = ""


class Auth(SecretRecord, frozen=True):
    """[auth]: tokens and users."""

    api_token: Annotated[str, note("One token that may do everything.", secret=True)] = ""
    api_token_file: Annotated[str, note("File that holds the token.")] = ""
    token: Annotated[tuple[Token, ...], note("Tokens, each with its scopes and owner.")] = ()
    user: Annotated[tuple[User, ...], note("Users; none: everybody may read.")] = ()
    user_header: Annotated[
        str,
        note(
            "Header in which a trusted proxy names who is logged in, like X-Forwarded-User; empty: none.",
            check=formats.header_name,
        ),
    ] = ""
    session_idle_hours: Annotated[int, note("Hours without a visit after which a login ends.", ge=1, le=8760)] = 24
    session_max_hours: Annotated[int, note("Hours after which every login ends.", ge=1, le=8760)] = 336


class Gateway(SecretRecord, frozen=True):
    """[[kernels.gateway]]: one server that runs kernels."""

    name: Annotated[str, note("What the gateway is called in logs.", check=formats.filled)]
    url: Annotated[str, note("Address of the gateway.", check=formats.web_address)]
    token: Annotated[str, note("Token the gateway asks for.", secret=True)] = ""
    token_file: Annotated[str, note("File that holds the token.")] = ""
    ca_file: Annotated[
        str, note("File with the certificates that vouch for an https gateway; empty: the system's.")
    ] = ""
    kernelspecs: Annotated[tuple[str, ...], note("Kernels it runs, as patterns.", check=formats.globs)] = ("*",)
    paths: Annotated[tuple[str, ...], note("Pages it serves, as patterns.", check=formats.globs)] = ("**",)


class Kernels(Record, frozen=True):
    """[kernels]: live cells."""

    enabled: Annotated[bool, note("Whether pages may have kernels.")] = True
    retention: Annotated[int, note("Seconds a kernel waits for its page to come back.", ge=0, le=MOST)] = 30
    max_total: Annotated[int, note("Most kernels at one time.", ge=1, le=MOST)] = 20
    max_per_address: Annotated[int, note("Most kernels at one time for one address.", ge=1, le=MOST)] = 10
    idle_minutes: Annotated[int, note("Minutes after which a kernel ends that nobody uses.", ge=1, le=MOST)] = 60
    max_hours: Annotated[int, note("Hours after which every kernel ends.", ge=1, le=MOST)] = 24
    tracebacks: Annotated[bool, note("Whether errors of live cells show tracebacks, which quote code.")] = False
    env: Annotated[
        tuple[str, ...],
        note("Environment of the kernels that run-shim starts: NAME passes a variable on, NAME=value sets one."),
    ] = ()
    warm_paths: Annotated[
        tuple[str, ...], note("Pages, as patterns, that have a kernel waiting, its cells run.", check=formats.patterns)
    ] = ()
    warm_total: Annotated[int, note("Most kernels that wait for readers at one time.", ge=0, le=MOST)] = 4
    warm_min_free_mb: Annotated[
        int, note("Memory in MB that must be free before another kernel is started to wait.", ge=0, le=MOST)
    ] = 512
    gateway: Annotated[tuple[Gateway, ...], note("Kernel servers; none: run-shim starts its own.")] = ()


class Environment(Record, frozen=True):
    """[[instances.environment]]: what an instance runs."""

    name: Annotated[str, note("What the environment is called.", check=formats.filled)]
    docker_image: Annotated[str, note("Its container image.", check=formats.image)] = field(name="dockerImage")
    description: Annotated[str, note("What it is for, in a sentence.")] = ""


class Instances(Record, frozen=True):
    """[instances]: notebook servers of one's own."""

    backend: Annotated[Backend, note("Where instances run: auto, local, kubernetes or off.")] = "auto"
    namespace: Annotated[str, note("Namespace of instances.", check=formats.namespace)] = "default"
    public_url: Annotated[
        str,
        note(
            "Address of an instance, with {instance}; empty: only on loopback, a port for each.",
            check=formats.instance_address,
        ),
    ] = ""
    max_per_owner: Annotated[int, note("Most instances of one owner.", ge=1, le=MOST)] = 5
    max_total: Annotated[int, note("Most instances of all owners.", ge=1, le=MOST)] = 100
    max_cpu: Annotated[
        str, note('Most processors of one instance, like "4"; empty: no limit.', check=formats.amount)
    ] = ""
    max_memory: Annotated[
        str, note('Most memory of one instance, like "8Gi"; empty: no limit.', check=formats.amount)
    ] = ""
    gpu_keys: Annotated[
        tuple[str, ...],
        note("What graphics processors are called in resources; the first is also called gpu.", check=formats.gpu_keys),
    ] = ("nvidia.com/gpu",)
    max_gpus: Annotated[int, note("Most graphics processors of one instance.", ge=0, le=MOST)] = 8
    start_minutes: Annotated[
        int, note("Minutes after which an instance that does not run has failed.", ge=1, le=MOST)
    ] = 10
    idle_minutes: Annotated[
        int, note("Minutes after which an instance stops that nobody uses; 0: never.", ge=0, le=MOST)
    ] = 0
    keep_volumes: Annotated[bool, note("Whether files stay when an instance is deleted.")] = False
    storage: Annotated[str, note("Size of the volume of an instance on Kubernetes.", check=formats.amount)] = "10Gi"
    storage_class: Annotated[str, note("Storage class of volumes; empty: the cluster's.")] = ""
    ingress_class: Annotated[str, note("Ingress class of instances; empty: the cluster's.")] = ""
    tls_secret: Annotated[
        str, note("Secret with the certificate for public_url; empty: the one that the ingress controller has.")
    ] = ""
    kubeconfig: Annotated[
        str, note("File that says how the cluster is reached; empty: the account of the pod, else the usual file.")
    ] = ""
    environment: Annotated[tuple[Environment, ...], note("What instances can run.")] = (
        Environment("notebook-env", "quay.io/jupyter/base-notebook:latest"),
    )


SECTIONS: dict[str, type[Record]] = {
    "site": Site,
    "build": Build,
    "server": Server,
    "auth": Auth,
    "kernels": Kernels,
    "instances": Instances,
}


def all_names() -> list[str]:
    """The "section.key" names of all settings."""
    return [f"{name}.{key}" for name, cls in SECTIONS.items() for key in cls.__struct_encode_fields__]


class FolderConfig(Record, frozen=True):
    """folder.toml: what a folder says about itself and the pages below it; None or "" leaves it to the folder above."""

    title: Annotated[str, note("What the folder is called in listings.")] = ""
    description: Annotated[str, note("A sentence below the title.")] = ""
    order: Annotated[
        float | None, note("Place among its neighbours; those without come last.", check=formats.finite)
    ] = None
    code: Annotated[CodeMode | None, note("Whether pages show the code of cells: shown, folded or hidden.")] = None
    live: Annotated[LiveMode | None, note("How pages get a kernel: off, button or auto.")] = None
    draft: Annotated[bool | None, note("Leave the pages of the folder out.")] = None
