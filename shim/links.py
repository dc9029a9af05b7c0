"""Public links to pages, made from the pattern in the settings."""

from __future__ import annotations

import re
from urllib.parse import quote

from shim.answers import PATH_SAFE
from shim.client import Client
from shim.headers import host_and_port

_BEGINNING = re.compile(r"(?:[^/]*:)?//")


def public_link(pattern: str, client: Client, base_path: str, path: str) -> str | None:
    """The absolute link to a decoded path of the site, which it names without a final slash.

    `pattern` is `server.public_link_pattern`; its {host} has the port that the client named, unless a port follows it.
    None when the pattern is empty, or when it needs a host and the client's cannot be read.
    """
    host = host_and_port(client.host)
    if not pattern or (host is None and re.search(r"\{(host|port)\}", pattern)):
        return None
    name, port = host or ("", "")
    link = re.sub(r"\{host\}(?=:)", name, pattern.replace("{protocol}", client.scheme))
    link = link.replace("{host}", f"{name}:{port}" if port else name)
    link = (link if port else link.replace(":{port}", "")).replace("{port}", port)
    link = re.sub(r"/*\{baseUrl\}/*", f"{base_path}/", link)
    # Two slashes are meant at the beginning alone.
    match = _BEGINNING.match(link)
    beginning = match[0] if match else ""
    rest = f"{link.removeprefix(beginning)}/{quote(path, PATH_SAFE, errors='surrogateescape')}"
    return beginning + re.sub("/+", "/", rest).rstrip("/")
