"""The forms that texts in settings must have.

Each function gives the value back in its normal form, or raises ValueError with what was expected.
"""

from __future__ import annotations

import re

AMOUNT = r"[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
"""A quantity of Kubernetes as people write it."""
LONGEST_IMAGE = 512
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
IMAGE = (
    rf"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{{1,5}})?/)?"
    rf"{_PART}(/{_PART})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?"
)
"""Name of a container image: registry, repository, tag and digest."""
_ANCESTOR = re.compile(r"'self'|'none'|\*|https?:|(https?://)?(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]+|:\*)?")


def filled(value: str) -> str:
    """A text with something in it."""
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value


def base_url(value: str) -> str:
    """The prefix of the site: nothing, `/prefix` or `[/prefix]`, without a final slash."""
    strips = value.startswith("[") and value.endswith("]")
    path = (value[1:-1] if strips else value).rstrip("/")
    # Plain characters only, so that the prefix reads the same in a URL, in PATH_INFO and in HTML.
    if (path and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path)) or (value and value[0] not in "/["):
        raise ValueError('"", "/prefix" or "[/prefix]", with letters, digits and . _ ~ - in it')
    return f"[{path}]" if strips and path else path


def web_address(value: str) -> str:
    """An http or https address without secrets in it, without a final slash."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = None
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[\s\\\"'<>]", value):
        raise ValueError("an address like https://notebooks.example.org, without user, query and fragment")
    return value.rstrip("/")


def site_address(value: str) -> str:
    """A web address, or nothing."""
    return web_address(value) if value else ""


def instance_address(value: str) -> str:
    """A web address with {instance} in its host, or nothing."""
    if value:
        web_address(value.replace("{instance}", "instance"))
        if "{instance}" not in value.partition("://")[2].partition("/")[0]:
            raise ValueError('an address with {instance} in its host name, like "https://{instance}.nb.example.org"')
    return value.rstrip("/")


def amount(value: str) -> str:
    """An amount of processors or bytes as Kubernetes writes it, or nothing."""
    if value and not re.fullmatch(AMOUNT, value, re.ASCII):
        raise ValueError('an amount like "2", "500m" or "8Gi"')
    return value


def gpu_keys(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of extended resources."""
    for value in values:
        if not re.fullmatch(
            r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value
        ):
            raise ValueError('names of resources like "nvidia.com/gpu"')
    return values


def image(value: str) -> str:
    """The name of a container image."""
    if len(value) > LONGEST_IMAGE or not re.fullmatch(IMAGE, value, re.ASCII):
        raise ValueError('the name of an image, like "quay.io/jupyter/base-notebook:latest"')
    return value


def link_pattern(value: str) -> str:
    """An address with our variables and no others."""
    from urllib.parse import urlsplit

    try:
        urlsplit(value.replace("{protocol}", "http"))
        usable = not re.search(r"[{}\s]", re.sub(r"\{(protocol|host|port|baseUrl)\}", "", value))
    except ValueError:  # brackets with something else than an address in them
        usable = False
    if not usable:
        raise ValueError("an address without blanks; its variables are {protocol}, {host}, {port} and {baseUrl}")
    return value


def hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    """Host names as a Host header may have them, in lower case."""
    for value in values:
        if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", value):
            raise ValueError('host names like "notebooks.example.org", "10.0.0.7" or "[::1]"')
    return tuple(value.lower() for value in values)


def host(value: str) -> str:
    """One address or name to listen on, in lower case and without brackets."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?\]?", value):
        raise ValueError('an address or a host name, like "127.0.0.1", "::1" or "localhost"')
    return value.strip("[]").lower()


def networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """IP addresses or networks."""
    from ipaddress import ip_network

    for value in values:
        try:
            ip_network(value)
        except ValueError:
            raise ValueError('addresses or networks, like "10.0.0.7" or "10.0.0.0/8"') from None
    return values


def header_name(value: str) -> str:
    """The name of a request header, or nothing."""
    if value and not re.fullmatch(r"[A-Za-z0-9-]{1,100}", value):
        raise ValueError('the name of a header, like "X-Forwarded-User"')
    return value


def ancestors(values: tuple[str, ...]) -> tuple[str, ...]:
    """Source expressions of the frame-ancestors directive."""
    for value in values:
        if not _ANCESTOR.fullmatch(value):
            raise ValueError(
                """origins like "https://portal.example.org", "'self'" or "'none'" with its single quotes"""
            )
        if value in ("self", "none"):
            raise ValueError(f"""single quotes inside the text: "'{value}'\"""")
    if "'none'" in values and len(values) > 1:
        raise ValueError("\"'none'\" alone, or origins without it")
    return values


def namespace(value: str) -> str:
    """A name that Kubernetes accepts for a namespace."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
        raise ValueError("a Kubernetes name: at most 63 lower case letters, digits and hyphens")
    return value


def globs(values: tuple[str, ...]) -> tuple[str, ...]:
    """At least one pattern."""
    if not values or not all(values):
        raise ValueError('at least one pattern, like "*"')
    return values


def patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    """Any number of patterns, none of them empty."""
    if not all(values):
        raise ValueError('patterns, like "reports/*"')
    return values


def finite(value: float | None) -> float | None:
    """A number that can be compared, or None."""
    if value is not None and not -1e15 < value < 1e15:
        raise ValueError("a number")
    return value
