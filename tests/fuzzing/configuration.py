"""Settings from files, environment and command line: errors are short sentences, and secrets are shown nowhere."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzzing.engine import Target
from fuzzing.mutation import CHARACTERS, data, text
from msgspec import structs

from builder.config import load_config, load_folder, print_config
from builder.errors import ConfigError
from builder.settings import SECTIONS, FolderConfig, all_names
from shim.client import Proxies
from shim.origins import own_origins
from shim.startup import allowed_hosts, startup_problems
from shim.tokens import Tokens

CANARY = "hush-7f3a9c-hush"
SECRET_KEYS = frozenset({"api_token", "value", "password_hash", "token"})
# A list that cannot be read is not shown either.
SECRET_VARIABLES = frozenset(
    {"NBFOLIO_AUTH__API_TOKEN", "NBFOLIO_AUTH__TOKEN", "NBFOLIO_AUTH__USER", "NBFOLIO_KERNELS__GATEWAY"}
)
LONGEST_MESSAGE = 1500

KEYS = (
    *(name.partition(".")[2] for name in all_names()),
    *FolderConfig.__struct_encode_fields__,
    "name",
    "value",
    "password_hash",
    "url",
    "nope",
    "Title",
    "dockerImage",
)
VALUES = (
    '""', '"a"', "''", "true", "false", "0", "1", "-1", "3000", "65536", "1e400", "nan", "-inf", "1.5", "[]", '["a"]', "[1]", '[["a"]]', "{}", "{a = 1}", "1979-05-27", "07:32:00",
    '"""\na\n"""', '"/db"', '"[/db]"', '"/../x"', '"https://site.example"', '"https://user:pw@site.example"', '"http://[::1"', '"http://a:99999"', '"{protocol}://{host}/{baseUrl}"', '"{x}"',
    '["10.0.0.0/8"]', '["10.0.0.1/8"]', '["::ffff:1.2.3.4"]', '["*"]', '["\'self\'"]', '["self"]', '"X-Forwarded-User"', '"::1"', '"[::1]"', '"json"', '"auto"', '"."', '".."', '"/"', '"a\\u0000b"',
    '"a\\u0085b"', '"\\u202e"', '"\\U0001F600"', '"\\uD800"', '"a\\nb"', '"missing.txt"', '"secret.txt"', '"empty.txt"', '"folder"', '"pipe"', '"two-lines.txt"', "9" * 30, "9" * 5000, "0x" + "f" * 5000,
    "0b" + "1" * 20000, '"' + "x" * 100000 + '"', "[" * 900 + "]" * 900, "[" * 330 + "]" * 330, "[" * 300 + "0x" + "f" * 5000 + "]" * 300, '["publish"]', '["publish", "nope"]', "[{}]", '[{name = "x"}]',
    "{" + "a." * 100 + "b = 1}", f'"{CANARY}"',
)  # fmt: skip
FITTING = {
    bool: ("true", "false"),
    int: ("1", "2", "1024"),
    str: tuple(value for value in VALUES if value[0] == '"' and len(value) < 1000),
    tuple: tuple(value for value in VALUES if value[0] == "[" and len(value) < 300),
}
"""Values of the right type, by the type of the default."""
LINES = (
    "[site]", "[build]", "[server]", "[auth]", "[kernels]", "[instances]", "[[auth.token]]", "[[auth.user]]", "[[kernels.gateway]]", "[[instances.environment]]", "[nope]", "[[site]]", "[site.title]",
    "[auth.token]", "#", "[", "]]", "site = 1", "site.title = 'x'", '"a b" = 1', "= 1", "title", "[" + "k" * 5000 + "]", "[" + "a." * 3000 + "b]", '["\\u202e"]', "[[" + "k" * 5000 + "]]", "k" * 5000 + " = 1\n" + "k" * 5000 + " = 2", "['\x85\u202e']\n['\x85\u202e']",
    f"[site]\n{'k' * 5000}.a = 1\n{'k' * 5000}.a.b = 1", f"[{'q' * 3000}]\n[{'q' * 3000}]", f"[site.{'q' * 3000}]\n[site]\n{'q' * 3000} = 1", 'value_file = "missing.txt"', 'token_file = "missing.txt"',
    '[[auth.token]]\nname = "a\\u0085b\\u202e"\nvalue_file = "missing.txt"', f'[[auth.user]]\nname = "{"n" * 5000}"\npassword_hash_file = "two-lines.txt"',
    f'[[auth.user]]\nname = "{"n" * 5000}"\npassword_hash_file = "secret.txt"\npassword_hash = "{CANARY}"', f'[[auth.token]]\nname = "{"n" * 5000}"\n' * 2, '[[auth.token]]\nname = "a\\u001bb"',
)  # fmt: skip
SEED = f"""[site]
title = "Team"
url = "https://site.example"
base_url = "/db"
[build]
jobs = 1
[server]
port = 3000
allowed_hosts = ["site.example"]
public_link_pattern = "https://site.example{{baseUrl}}"
[auth]
api_token = "{CANARY}"
user_header = "X-User"
[[auth.token]]
name = "ci"
value = "{CANARY}1"
scopes = ["publish"]
[[auth.user]]
name = "ada"
password_hash = "$argon2id${CANARY}"
[[kernels.gateway]]
name = "main"
url = "http://127.0.0.1:8888"
token = "{CANARY}"
[[instances.environment]]
name = "e"
dockerImage = "i"
"""
TEXTS = (
    "", " ", "true", "YES", "0", "007", "-5", "9" * 18, "9" * 19, "a", "a,b", "[", "[]", '["a"]', "['a', 'b']", '[{"name": "x"}]', '[{name = "x"}]', "[" * 500 + "]" * 500, "[" * 960 + "]" * 960,
    "[" * 990 + "]" * 990, "[" * 100000, "{}", "null", '["\\ud800"]', "\udcff", "\x85", "\x1b[31m", "x" * 100000, "a" + "," * 100000, '[1e999]', "[0x" + "f" * 5000 + "]", "[" + "9" * 5000 + "]", "/db",
    f'[{{"name": "x", "value": "{CANARY}", "scopes": ["publish"]}}]', f'[{{"name": "x", "password_hash": "{CANARY}"}}]', f'[{{"name": "g", "url": "http://a", "token": "{CANARY}"}}]', CANARY, "]\nx = [1",
)  # fmt: skip
GIVEN: tuple[object, ...] = (
    None,
    "",
    "a",
    0,
    -1,
    3000,
    True,
    1.5,
    float("nan"),
    [],
    ["a"],
    ("a",),
    {},
    [{"name": "x"}],
    b"x",
    object,
    Path("out"),
    Path("a\0b"),
    1 << 70,
    1 << 20000,
    "\udcff",
    "x" * 1000,
)


class Settings(NamedTuple):
    """What a site is started with."""

    kind: str
    """"site" or "folder"."""
    content: bytes
    environ: dict[str, str]
    overrides: dict[str, object]


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """The functions that read settings, with files for secrets beside them."""
    for name, content in {
        "secret.txt": f"{CANARY}\n",
        "empty.txt": "",
        "two-lines.txt": f"{CANARY}\n\x1b{CANARY}\n",
    }.items():
        (folder / name).write_text(content)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    # It works out the same answer for the same class each time, which would take half of the run.
    fields = structs.fields
    structs.fields = cache(fields)
    try:
        yield Target(make, partial(check, folder))
    finally:
        structs.fields = fields


def make(random: Random) -> Settings:
    """A settings file of lines or a changed one, variables and options."""
    kind = random.choice(("site", "site", "site", "folder"))
    content = _file(random, kind)
    environ: dict[str, str] = {}
    overrides: dict[str, object] = {}
    if random.randrange(3) == 0:
        environ = dict(_variable(random) for _ in range(random.randrange(1, 3)))
    if random.randrange(3) == 0:
        overrides = {random.choice((*all_names(), "nope", "site.nope", "x" * 1000)): random.choice(GIVEN)}
    return Settings(kind, content, environ, overrides)


def _file(random: Random, kind: str) -> bytes:
    """The good file with other values, with other lines, with changed bytes, or lines of all kinds."""
    way = random.randrange(8)
    if way == 0:
        return SEED.encode()
    if way == 1:
        tokens = [
            random.choice(VALUES).encode(),
            random.choice(LINES).encode(),
            b"\xff",
            b"\n",
            b'"',
            b"\xef\xbb\xbf",
            b"\r",
        ]
        return data(random, SEED.encode(), tokens, 3)
    lines = SEED.splitlines() if kind == "site" else []
    if way < 5 and lines:
        for _ in range(random.randrange(1, 3)):
            _set(random, lines)
        return "\n".join(lines).encode("utf-8", "replace")
    for _ in range(random.randrange(1, 4)):
        line = f"{random.choice(KEYS)} = {random.choice(VALUES)}" if random.randrange(4) else random.choice(LINES)
        if random.randrange(3) == 0:
            line = text(random, line, (*KEYS, *CHARACTERS), 1)
        lines.insert(random.randrange(len(lines) + 1), line)
    return "\n".join(lines).encode("utf-8", "replace")


def _set(random: Random, lines: list[str]) -> None:
    """Give a setting of one of the sections a value, in place of the one it has."""
    section = random.choice(tuple(SECTIONS))
    key = random.choice(SECTIONS[section].__struct_encode_fields__)
    at = lines.index(f"[{section}]") + 1 if f"[{section}]" in lines else len(lines)
    if at == len(lines):
        lines.append(f"[{section}]")
        at += 1
    while at < len(lines) and not lines[at].startswith("["):
        if lines[at].partition(" = ")[0] == key:
            del lines[at]
        else:
            at += 1
    fitting = FITTING.get(type(getattr(SECTIONS[section](), key)), VALUES)
    lines.insert(at, f"{key} = {random.choice(fitting if random.randrange(3) else VALUES)}")


def _variable(random: Random) -> tuple[str, str]:
    name = f"NBFOLIO_{random.choice(all_names()).replace('.', '__').upper()}"
    if random.randrange(10) == 0:
        name = text(random, name, ("NBFOLIO_", "__", "x" * 1000, "NBFOLIO_URL", "é"), 2)
    return name.replace("\0", ""), text(random, random.choice(TEXTS), TEXTS, 1).replace("\0", "")


def check(folder: Path, made: Settings) -> None:
    """Nothing but ConfigError in one short line; what loads is printed as TOML again, without its secrets."""
    file = folder / ("folder.toml" if made.kind == "folder" else "site.toml")
    file.write_bytes(made.content)
    try:
        if made.kind == "folder":
            load_folder(file)
            return
        config = load_config(None, file, made.environ, made.overrides)
    except ConfigError as refused:
        message = str(refused)
        assert len(message) < LONGEST_MESSAGE, len(message)
        assert message.isprintable(), repr(message)
        assert CANARY not in message or _shows_itself(made), message
        return
    shown, problems = print_config(config), startup_problems(config)
    if not _shows_itself(made):
        for text in (shown, repr(config), *config.warnings, *problems):
            assert CANARY not in text, text
    for problem in problems:
        assert problem.isprintable() and len(problem) < LONGEST_MESSAGE, problem
    # What the server makes of settings when it starts.
    Proxies(config.server.trusted_proxies, config.auth.user_header)
    assert Tokens(config.auth).grant("token ") is None
    assert all(origin.isprintable() for origin in own_origins(config))
    assert all(host.isprintable() for host in allowed_hosts(config.server))
    assert all(each.isascii() and each.isprintable() and ";" not in each for each in config.server.frame_ancestors)
    assert set(tomllib.loads(shown)) == set(SECTIONS)
    assert re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", config.site.base_path)


def _shows_itself(made: Settings) -> bool:
    """Whether somebody wrote the secret where none belongs."""
    try:
        tables = tomllib.loads(made.content.decode())
    except (ValueError, RecursionError):
        return bool(re.search(rf"\[[^\n]*{CANARY}|{CANARY}[^\n=]*=", made.content.decode(errors="replace")))
    return _misplaced(tables, "") or any(
        _misplaced(_read(value), name) if name in SECRET_VARIABLES else CANARY in value
        for name, value in made.environ.items()
    )


def _read(text: str) -> Any:
    """The value of a variable, as TOML or JSON where it is that."""
    with suppress(ValueError, RecursionError):
        return tomllib.loads(f"x = {text}")["x"]
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _misplaced(tables: object, name: str) -> bool:
    """Whether the secret is a key, or the value of one that holds none."""
    left = [(tables, name)]
    while left:
        value, key = left.pop()
        if isinstance(value, dict):
            left += [(inner, inner_key) for inner_key, inner in value.items()]
            if any(CANARY in inner_key for inner_key in value):
                return True
        elif isinstance(value, list):
            left += [(inner, key) for inner in value]
        elif isinstance(value, str) and CANARY in value and key not in SECRET_KEYS | SECRET_VARIABLES:
            return True
    return False
