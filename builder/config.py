"""The settings of one site, from command line, environment, `site.toml` and defaults, with where each came from.

The records are msgspec's, not pydantic's: importing pydantic alone takes longer than the 50 ms in which a run without
changes ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from builder.errors import ConfigError
from builder.settings import SECTIONS, Auth, Build, FolderConfig, Instances, Kernels, Server, Site, all_names
from builder.settings_files import holds_secret, is_open_to_others, read_toml, with_secrets
from builder.values import nearest, read_record, read_text, read_value, settings_of, short

__all__ = ["SITE_FILE", "Config", "FolderConfig", "load_config", "load_folder", "print_config"]

SITE_FILE = "site.toml"
PREFIX = "NBFOLIO_"
CLIENT_VARIABLES = frozenset({"NBFOLIO_URL", "NBFOLIO_TOKEN"})
"""What shim-admin reads: the address of a site and a token for it, which are nothing to the site itself."""


class Config(Struct, frozen=True, kw_only=True):
    """All settings of one site; `load_config` makes it."""

    source: Path
    """Absolute path of the folder with the notebooks."""
    output: Path
    state_dir: Path
    file: Path | None
    """The settings file that was read."""
    site: Site
    build: Build
    server: Server
    auth: Auth
    kernels: Kernels
    instances: Instances
    origins: dict[str, str]
    """By "section.key": "default", the name of the file, "environment NBFOLIO_..." or "command line"."""
    warnings: tuple[str, ...] = ()
    """Sentences for the user about settings that work but should not stay as they are."""


class _Given(NamedTuple):
    value: Any
    origin: str


def load_config(
    source: Path | None, file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Config:
    """The settings of a site; `overrides` has the command line's by "section.key", None meaning not given.

    Without `file`, `site.toml` in `source` is read when there is one. Raises ConfigError.
    """
    file = Path(os.path.abspath(file)) if file else _settings_beside(source or Path())
    folder = Path(os.path.abspath(source)) if source else file.parent if file else Path.cwd()
    layers = [
        dict(_from_file(file)) if file else {},
        dict(_from_environment(environ)),
        dict(_from_command_line(overrides)),
    ]
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    given = _merge(layers)
    sections = {name: cls(**_values(name, given)) for name, cls in SECTIONS.items()}
    home = file.parent if file else folder
    for name in ("auth", "kernels"):
        if sections[name] != SECTIONS[name]():
            sections[name] = with_secrets(sections[name], f"[{name}]", home)
    config = Config(
        source=folder,
        output=_folder("build.output", Build().output, given, file, folder),
        state_dir=_folder("server.state_dir", Server().state_dir, given, file, folder),
        file=file,
        origins=_origins(given),
        warnings=_open_secrets(file, layers[0]),
        **sections,  # type: ignore[arg-type]
    )
    _check_folders(config)
    return config


def load_folder(path: Path) -> FolderConfig:
    """The settings in the file `folder.toml` at `path`. Raises ConfigError, which concerns this folder alone."""
    return read_record(FolderConfig, read_toml(path, path.name), f"{path.name}:")


def print_config(config: Config) -> str:
    """All settings with help and origin, as TOML; secrets are masked."""
    from builder.values import to_toml

    lines = [f"# source: {config.source}", f"# output: {config.output}", f"# state: {config.state_dir}"]
    for name in SECTIONS:
        lines += ["", f"[{name}]", *to_toml(getattr(config, name), name, config.origins)]
    return "\n".join(lines) + "\n"


def _settings_beside(source: Path) -> Path | None:
    file = Path(os.path.abspath(source / SITE_FILE))
    return file if os.path.lexists(file) else None


def _from_file(file: Path) -> Iterator[tuple[str, _Given]]:
    for name, table in read_toml(file, str(file)).items():
        if name not in SECTIONS:
            raise ConfigError(f"{file}: [{short(name)}] is not a section{nearest(name, [*all_names(), *SECTIONS])}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {name} is a section: write [{name}] and its settings below")
        known = settings_of(SECTIONS[name]) if table else {}
        for key, value in table.items():
            if key not in known:
                close = nearest(f"{name}.{key}", all_names())
                raise ConfigError(f'{file}: [{name}] "{short(key)}" is not a setting{close}')
            yield f"{name}.{key}", _Given(read_value(known[key], value, f"{file}: [{name}] {key}"), file.name)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    ours = sorted(name for name in environ if name.startswith(PREFIX) and name not in CLIENT_VARIABLES)
    names = {f"{PREFIX}{name.replace('.', '__').upper()}": name for name in all_names()} if ours else {}
    for variable in ours:
        if variable not in names:
            raise ConfigError(f"environment: {short(variable)} is not a setting{_nearest_variable(variable, [*names])}")
        section, _, key = names[variable].partition(".")
        value = read_text(settings_of(SECTIONS[section])[key], environ[variable], f"environment: {variable}")
        yield names[variable], _Given(value, f"environment {variable}")


def _nearest_variable(variable: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(variable, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else f"; the form is {PREFIX}SECTION__KEY"


def _from_command_line(overrides: Mapping[str, object]) -> Iterator[tuple[str, _Given]]:
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        if section not in SECTIONS or key not in SECTIONS[section].__struct_encode_fields__:
            raise ConfigError(f'command line: "{short(name)}" is not a setting{nearest(name, all_names())}')
        if value is not None:
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            read = read_value(settings_of(SECTIONS[section])[key], plain, f"command line: {name}")
            yield name, _Given(read, "command line")


def _open_secrets(file: Path | None, given: dict[str, _Given]) -> tuple[str, ...]:
    token = given.get("auth.api_token")
    held = (token and token.value) or any(holds_secret(each.value) for each in given.values())
    if file and held and is_open_to_others(file):
        return (f"{file} holds secrets and others can read it: chmod 600 {file.name}",)
    return ()


def _merge(layers: list[dict[str, _Given]]) -> dict[str, _Given]:
    """Later layers win; a secret and its file are one setting, so either of them replaces both of an earlier layer."""
    merged: dict[str, _Given] = {}
    for layer in layers:
        if "auth.api_token" in layer or "auth.api_token_file" in layer:
            merged.pop("auth.api_token", None)
            merged.pop("auth.api_token_file", None)
        merged.update(layer)
    return merged


def _values(section: str, given: dict[str, _Given]) -> dict[str, Any]:
    attributes = dict(zip(SECTIONS[section].__struct_encode_fields__, SECTIONS[section].__struct_fields__, strict=True))
    return {attributes[key]: given[f"{section}.{key}"].value for key in attributes if f"{section}.{key}" in given}


def _origins(given: dict[str, _Given]) -> dict[str, str]:
    origins = {name: given[name].origin if name in given else "default" for name in all_names()}
    if "auth.api_token_file" in given:
        origins["auth.api_token"] = origins["auth.api_token_file"]
    return origins


def _folder(name: str, default: str, given: dict[str, _Given], file: Path | None, source: Path) -> Path:
    """Relative paths belong to the folder of the settings file, or to the folder the user typed them in."""
    if name not in given:
        return source / default
    in_file = file and given[name].origin == file.name
    return Path(os.path.abspath((file.parent if file and in_file else Path.cwd()) / given[name].value))


def _check_folders(config: Config) -> None:
    source, output, state = (path.resolve() for path in (config.source, config.output, config.state_dir))
    if source.is_relative_to(state):
        raise ConfigError(f"server.state_dir: {config.state_dir} must not be the folder with the notebooks, or hold it")
    if source.is_relative_to(output):
        raise ConfigError(
            f"build.output: {config.output} is or contains the source {config.source}; choose another folder"
        )
    if state.is_relative_to(output):
        raise ConfigError(f"server.state_dir: {config.state_dir} must not lie in the published folder {config.output}")
