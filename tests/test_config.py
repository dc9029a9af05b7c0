"""Settings: where each value comes from, what is refused and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from builder.config import Config, load_config, load_folder, print_config
from builder.errors import ConfigError
from builder.settings import SECTIONS, all_names, help_text
from builder.values import element


def load(folder: Path, text: str | None = None, environ: dict[str, str] | None = None, **overrides: object) -> Config:
    """The settings of `folder` with `text` as its site.toml; overrides are written `server__port`."""
    if text is not None:
        file = folder / "site.toml"
        file.write_text(text)
        file.chmod(0o600)
    return load_config(
        folder, None, environ or {}, {name.replace("__", "."): value for name, value in overrides.items()}
    )


def refusal(folder: Path, text: str | None = None, environ: dict[str, str] | None = None, **overrides: object) -> str:
    """The sentence with which settings are refused."""
    with pytest.raises(ConfigError) as error:
        load(folder, text, environ, **overrides)
    return str(error.value)


# Order and origins


def test_defaults_hold_without_any_setting(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.site.theme, config.server.port, config.build.execute) == ("paper", 3000, "never")
    assert (config.source, config.output, config.state_dir) == (tmp_path, tmp_path / "_site", tmp_path / ".nbfolio")
    assert config.file is None
    assert set(config.origins.values()) == {"default"}
    assert set(config.origins) == set(all_names())


def test_command_line_goes_before_environment_before_file_before_default(tmp_path: Path) -> None:
    text = "[server]\nport = 1\nmax_entries = 1\nmax_upload_mb = 1\n"
    environ = {"NBFOLIO_SERVER__PORT": "2", "NBFOLIO_SERVER__MAX_ENTRIES": "2"}
    config = load(tmp_path, text, environ, server__port=3)
    server = config.server
    assert (server.port, server.max_entries, server.max_upload_mb, server.max_unpacked_mb) == (3, 2, 1, 500)
    origins = [config.origins[f"server.{key}"] for key in ("port", "max_entries", "max_upload_mb", "max_unpacked_mb")]
    assert origins == ["command line", "environment NBFOLIO_SERVER__MAX_ENTRIES", "site.toml", "default"]


def test_none_on_the_command_line_means_not_given(tmp_path: Path) -> None:
    config = load(tmp_path, "[server]\nport = 5\n", server__port=None)
    assert (config.server.port, config.origins["server.port"]) == (5, "site.toml")


def test_source_is_the_folder_of_the_settings_file_unless_given(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    file = tmp_path / "my.toml"
    file.write_text('[site]\ntitle = "T"\n')
    assert load_config(None, file, {}, {}).source == tmp_path
    config = load_config(tmp_path / "other", file, {}, {})
    assert (config.source, config.file, config.origins["site.title"]) == (tmp_path / "other", file, "my.toml")
    assert config.output == tmp_path / "other" / "_site"


def test_source_is_the_current_folder_without_any_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").write_text('[site]\ntitle = "Here"\n')
    config = load_config(None, None, {}, {})
    assert (config.source, config.site.title) == (tmp_path, "Here")


def test_relative_folders_belong_to_the_file_or_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    text = '[build]\noutput = "../out"\n[server]\nstate_dir = "state"\n'
    site = tmp_path / "site"
    site.mkdir()
    config = load(site, text)
    assert (config.output, config.state_dir) == (tmp_path / "out", site / "state")
    assert load(site, text, build__output=Path("mine")).output == here / "mine"
    assert load(site, text, {"NBFOLIO_BUILD__OUTPUT": "env"}).output == here / "env"


@pytest.mark.parametrize("state", [".", "..", "_site", "_site/state"])
def test_state_folder_may_not_hold_the_source_nor_be_published(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    assert "server.state_dir" in refusal(folder, f'[server]\nstate_dir = "{state}"\n')


def test_a_missing_source_or_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone is not a folder"):
        load_config(tmp_path / "gone", None, {}, {})
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        load_config(None, tmp_path / "gone.toml", {}, {})


# What is refused, and how it is said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sever]\nport = 1\n", '[sever] is not a section; did you mean "server"?'),
        ("[server]\nprot = 1\n", '[server] "prot" is not a setting; did you mean "server.port"?'),
        ("[server]\ntheme = 'x'\n", '[server] "theme" is not a setting; did you mean "site.theme"?'),
        ("port = 1\n", 'did you mean "server.port"?'),
        ("[server]\nqqqq = 1\n", '[server] "qqqq" is not a setting'),
        ("server = 1\n", "server is a section: write [server]"),
        ("[[server]]\nport = 1\n", "server is a section"),
        ("[[auth.token]]\nname = 'a'\nvalu = 'x'\n", 'token number 1: "valu" is not a setting; did you mean "value"?'),
        ("[[auth.token]]\nvalue = 'x'\n", "token number 1: name is missing"),
        ("[auth.token]\nname = 'x'\n", "[auth] token: expected an array of tables"),
        ("[[auth.user]]\nname = 'a'\n[[auth.user]]\nname = 'a'\n", 'the name "a" is there twice'),
        ("[[auth.token]]\nname = ' '\n", 'token number 1: name = " ": expected a text that is not empty'),
        (
            "[[auth.token]]\nname = 'a'\nscopes = ['publish', 'all']\n",
            '["publish", "all"]: expected a list of "publish"',
        ),
        ("[server]\nport = '3000'\n", '[server] port = "3000": expected a whole number from 0 to 65535'),
        ("[server]\nport = 65536\n", "[server] port = 65536: expected a whole number from 0 to 65535"),
        ("[server]\nport = true\n", "[server] port = true: expected a whole number"),
        ("[server]\nport = 1.5\n", "[server] port = 1.5: expected a whole number"),
        ("[server]\nport = -1\n", "[server] port = -1: expected"),
        ("[server]\nmax_entries = 0\n", "[server] max_entries = 0: expected a whole number from 1"),
        ("[build]\njobs = -1\n", "[build] jobs = -1: expected a whole number from 0"),
        ("[build]\ndownload = 1\n", "[build] download = 1: expected true or false"),
        ("[build]\nexecute = 'now'\n", '[build] execute = "now": expected one of "never", "missing", "always"'),
        ("[site]\ntitle = 1979-05-27\n", "[site] title = 1979-05-27: expected a text"),
        ("[site]\ntitle = 'a\\u0000'\ntheme = \"a\\u0000\"\n", 'theme = "a\\x00": expected a text without control'),
        ("[server]\nallowed_hosts = 'x'\n", '[server] allowed_hosts = "x": expected a list of texts'),
        ("[server]\nallowed_hosts = ['x', 1]\n", "expected a list of texts"),
        ("[[kernels.gateway]]\nname = 'a'\nurl = 'ftp://x'\n", 'url = "ftp://x": expected an address like https://'),
        ("[instances]\nnamespace = 'A b'\n", "expected a Kubernetes name"),
    ],
)
def test_mistakes_in_the_file_are_named_with_file_section_and_key(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path}/site.toml: ")
    assert said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[site]\ntitle = \n", "not valid TOML: Invalid value (at line 2"),
        (b"[site]\ntitle = '\xff'\n", "not UTF-8 text (line 2)"),
        (b"x = " + b"[" * 100_000, "not valid TOML: a value is too deep"),
        (b"[server]\nport = " + b"9" * 10_000, "not valid TOML: a value is too deep or too long"),
        (b"#" * (1 << 20) + b"#", "longer than 1 MB"),
    ],
)
def test_files_that_are_no_settings_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "site.toml").write_bytes(content)
    assert said in refusal(tmp_path)


def test_settings_that_are_a_folder_a_pipe_or_a_dead_link_are_refused(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.mkdir()
    assert "cannot be read: Is a directory" in refusal(tmp_path)
    site.rmdir()
    os.mkfifo(site)
    assert "not a file" in refusal(tmp_path)
    site.unlink()
    site.symlink_to(tmp_path / "gone")
    assert "cannot be read: No such file" in refusal(tmp_path)


def test_windows_files_with_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_bytes(b"\xef\xbb\xbf[site]\r\ntitle = 'T'\r\n")
    assert load(tmp_path).site.title == "T"


def test_a_mistake_is_found_although_the_value_is_overridden(tmp_path: Path) -> None:
    assert "[server] port" in refusal(tmp_path, "[server]\nport = 'x'\n", {"NBFOLIO_SERVER__PORT": "1"}, server__port=2)


def test_unknown_and_wrong_overrides_are_refused(tmp_path: Path) -> None:
    assert 'did you mean "server.port"?' in refusal(tmp_path, server__prot=1)
    assert "command line: server.port = 70000" in refusal(tmp_path, server__port=70000)


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[auth]\napi_token = 123456\n")
    assert "api_token: expected a text" in message
    assert "123456" not in message


# Environment


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("YES", True), ("1", True), ("on", True), ("False", False), (" no ", False), ("0", False)],
)
def test_environment_has_the_usual_words_for_truth(tmp_path: Path, text: str, value: bool) -> None:
    assert load(tmp_path, environ={"NBFOLIO_BUILD__DOWNLOAD": text}).build.download is value


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("A.example.org", ("a.example.org",)),
        ("a, b ,,c", ("a", "b", "c")),
        ('["a", "b"]', ("a", "b")),
        ("['a', 'b',]", ("a", "b")),
        ("[::1]", ("[::1]",)),
        ("[::1], [::2]", ("[::1]", "[::2]")),
        ("[]", ()),
    ],
)
def test_environment_lists_are_arrays_or_have_commas(tmp_path: Path, text: str, hosts: tuple[str, ...]) -> None:
    assert load(tmp_path, environ={"NBFOLIO_SERVER__ALLOWED_HOSTS": text}).server.allowed_hosts == hosts


def test_environment_tables_are_json(tmp_path: Path) -> None:
    text = '[{"name": "ci", "value": "abc", "scopes": ["publish"], "owner": "bot"}]'
    (token,) = load(tmp_path, environ={"NBFOLIO_AUTH__TOKEN": text}).auth.token
    assert (token.name, token.value, token.scopes, token.owner) == ("ci", "abc", ("publish",), "bot")


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("NBFOLIO_SERVER__PRT", "1", "did you mean NBFOLIO_SERVER__PORT?"),
        ("NBFOLIO_PORT", "1", "NBFOLIO_PORT is not a setting"),
        ("NBFOLIO_QQQQQQQQQQ", "1", "the form is NBFOLIO_SECTION__KEY"),
        ("NBFOLIO_SERVER__PORT", "", 'NBFOLIO_SERVER__PORT = "": expected a whole number'),
        ("NBFOLIO_SERVER__PORT", "1_0", "expected a whole number"),
        ("NBFOLIO_SERVER__PORT", "١", "expected a whole number"),
        ("NBFOLIO_SERVER__PORT", "9" * 5000, "expected a whole number"),
        ("NBFOLIO_BUILD__DOWNLOAD", "maybe", 'NBFOLIO_BUILD__DOWNLOAD = "maybe": expected true or false'),
        ("NBFOLIO_SITE__CODE", "Shown", 'expected one of "shown", "folded", "hidden"'),
        ("NBFOLIO_SITE__TITLE", "a\udcff", "expected a text without control characters, in UTF-8"),
        ("NBFOLIO_SERVER__ALLOWED_HOSTS", '["a", b]', "expected a list of texts"),
        ("NBFOLIO_AUTH__TOKEN", "ci", "expected an array of tables"),
        ("NBFOLIO_AUTH__TOKEN", '{"name": "ci"}', "expected an array of tables"),
        ("NBFOLIO_AUTH__TOKEN", "[" * 100_000, "expected an array of tables"),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(tmp_path: Path, variable: str, text: str, said: str) -> None:
    message = refusal(tmp_path, environ={variable: text})
    assert message.startswith("environment: NBFOLIO_")
    assert said in message
    assert len(message) < 400


def test_what_shim_admin_reads_from_the_environment_is_no_setting(tmp_path: Path) -> None:
    environ = {"NBFOLIO_URL": "https://example.org", "NBFOLIO_TOKEN": "secret"}
    assert load(tmp_path, environ=environ) == load(tmp_path)


def test_other_variables_are_not_ours(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"PATH": "/bin", "MY_NBFOLIO_X": "1"}).server.port == 3000


# Forms of values


@pytest.mark.parametrize(
    ("given_url", "normal", "path", "strips"),
    [
        ("", "", "", False),
        ("/", "", "", False),
        ("[/]", "", "", False),
        ("/db", "/db", "/db", False),
        ("/db/", "/db", "/db", False),
        ("/a/b-c.d~e_f", "/a/b-c.d~e_f", "/a/b-c.d~e_f", False),
        ("[/db]", "[/db]", "/db", True),
        ("[/db/]", "[/db]", "/db", True),
    ],
)
def test_base_url_has_three_forms(tmp_path: Path, given_url: str, normal: str, path: str, strips: bool) -> None:
    site = load(tmp_path, site__base_url=given_url).site
    assert (site.base_url, site.base_path, site.strips_prefix) == (normal, path, strips)


@pytest.mark.parametrize(
    "value",
    ["db", "//evil.example", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/a#b", '/a"b', "/é", "[/db", "[db]", "/%61"],
)
def test_base_url_is_a_plain_path(tmp_path: Path, value: str) -> None:
    assert 'expected "", "/prefix" or "[/prefix]"' in refusal(tmp_path, site__base_url=value)


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_whatever_passes_as_base_url_is_safe_in_a_url(value: str) -> None:
    try:
        site = load_config(Path("/"), None, {}, {"site.base_url": value, "server.state_dir": "/tmp/s"}).site
    except ConfigError:
        return
    assert site.base_path == "" or (site.base_path[0] == "/" and site.base_path[1] not in "/.")
    assert site.base_path.isascii()
    assert not set(site.base_path) & set(" \"'<>?#\\[]%")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site.url", "notebooks.example.org"),
        ("site.url", "https://user:secret@example.org"),
        ("site.url", "https://"),
        ("site.url", "https://a:99999/"),
        ("site.url", "https://a/?b"),
        ("site.url", "https://a/<b>"),
        ("server.host", ""),
        ("server.host", "a b"),
        ("server.host", "http://a"),
        ("server.allowed_hosts", ["*"]),
        ("server.allowed_hosts", ["https://a"]),
        ("server.public_link_pattern", "https://{hots}/"),
        ("server.public_link_pattern", "https://a b/"),
        ("server.public_link_pattern", "https://[::1/"),
        ("server.trusted_proxies", ["10.0.0.300"]),
        ("server.trusted_proxies", ["10.0.0.1/8"]),
        ("server.frame_ancestors", ["self"]),
        ("server.frame_ancestors", ["'none'", "https://a.example"]),
        ("server.frame_ancestors", ["a; script-src *"]),
        ("server.frame_ancestors", ["a b"]),
        ("server.frame_ancestors", ["a,b"]),
        ("instances.public_url", "https://nb.example.org"),
        ("instances.public_url", "https://nb.example.org/{instance}"),
    ],
)
def test_values_of_the_wrong_form_are_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"command line: {name} = .*: expected "):
        load_config(tmp_path, None, {}, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("site.url", "https://example.org/nb/", "https://example.org/nb"),
        ("server.host", "[::1]", "::1"),
        ("server.host", "LocalHost", "localhost"),
        ("server.allowed_hosts", ["Example.org", "[::1]:80"], ("example.org", "[::1]:80")),
        ("server.trusted_proxies", ["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1")),
        ("server.frame_ancestors", ["'self'", "https://*.example.org:*"], ("'self'", "https://*.example.org:*")),
        ("server.frame_ancestors", [], ()),
        ("instances.public_url", "https://{instance}.nb.example.org", "https://{instance}.nb.example.org"),
    ],
)
def test_values_are_kept_in_their_normal_form(tmp_path: Path, name: str, value: object, normal: object) -> None:
    section, _, key = name.partition(".")
    config = load_config(tmp_path, None, {}, {name: value})
    assert getattr(getattr(config, section), key) == normal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def outcome(environ: dict[str, str], overrides: dict[str, object]) -> tuple[str, str]:
    """The settings as printed, and the sentence with which they were refused; one of the two."""
    try:
        return print_config(load_config(Path("/"), None, environ, {"server.state_dir": "/tmp/s", **overrides})), ""
    except ConfigError as error:
        return "", str(error)


@given(st.sampled_from(all_names()), JSON)
@settings(deadline=None, max_examples=300)
def test_any_value_is_taken_or_refused_in_one_line(name: str, value: Any) -> None:
    printed, refused = outcome({}, {name: value})
    tomllib.loads(printed)
    assert refused.isprintable()
    assert len(refused) < 600


@given(st.sampled_from(all_names()), st.text(max_size=40))
@settings(deadline=None, max_examples=300)
def test_any_text_in_the_environment_is_taken_or_refused_in_one_line(name: str, text: str) -> None:
    printed, refused = outcome({f"NBFOLIO_{name.replace('.', '__').upper()}": text}, {})
    tomllib.loads(printed)
    assert refused.isprintable()
    assert len(refused) < 600


# Secrets


def test_secrets_come_from_files_beside_the_settings(tmp_path: Path) -> None:
    for name in ("api", "ci", "ada", "gate"):
        (tmp_path / f"{name}.secret").write_text(f"{name}-secret\n")
    text = """
    [auth]
    api_token_file = "api.secret"
    [[auth.token]]
    name = "ci"
    value_file = "ci.secret"
    [[auth.user]]
    name = "ada"
    password_hash_file = "ada.secret"
    [[kernels.gateway]]
    name = "main"
    url = "http://127.0.0.1:8888/"
    token_file = "gate.secret"
    """
    config = load(tmp_path, text)
    assert config.auth.api_token == "api-secret"
    assert (config.auth.token[0].value, config.auth.token[0].owner) == ("ci-secret", "ci")
    assert config.auth.user[0].password_hash == "ada-secret"
    assert (config.kernels.gateway[0].token, config.kernels.gateway[0].url) == ("gate-secret", "http://127.0.0.1:8888")
    assert config.origins["auth.api_token"] == "site.toml"


@pytest.mark.parametrize("file", ["ca.pem", "certificates/../ca.pem", "{}/elsewhere.pem"])
def test_the_certificates_of_a_gateway_lie_beside_the_settings(tmp_path: Path, file: str) -> None:
    file = file.format(tmp_path)
    text = f'[[kernels.gateway]]\nname = "main"\nurl = "https://gate.example.org"\nca_file = "{file}"\n'
    assert load(tmp_path, text).kernels.gateway[0].ca_file == str(tmp_path / file)
    assert load(tmp_path, text.replace(file, "")).kernels.gateway[0].ca_file == ""


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    said = "both api_token and api_token_file are given"
    assert said in refusal(tmp_path, '[auth]\napi_token = "x"\napi_token_file = "a"\n')
    token = '[[auth.token]]\nname = "ci"\nvalue = "x"\nvalue_file = "a"\n'
    assert 'token "ci": both value and value_file' in refusal(tmp_path, token)


def test_a_secret_in_the_environment_replaces_the_file_that_the_settings_name(tmp_path: Path) -> None:
    text = '[auth]\napi_token_file = "gone"\n'
    assert load(tmp_path, text, {"NBFOLIO_AUTH__API_TOKEN": "mine"}).auth.api_token == "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"", "empty"), (b"\n", "empty"), (b"a\nb\n", "one line"), (b"\xff", "not UTF-8")],
)
def test_secret_files_without_a_secret_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    message = refusal(tmp_path, '[auth]\napi_token_file = "token"\n')
    assert "api_token_file" in message
    assert said in message


@pytest.mark.parametrize("content", [b"secret", b"secret\n", b"secret\r\n"])
def test_the_last_line_end_is_no_part_of_a_secret(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert load(tmp_path, '[auth]\napi_token_file = "token"\n').auth.api_token == "secret"


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        ('[auth]\napi_token = "x"\n', 0o644, True),
        ('[auth]\napi_token = "x"\n', 0o640, True),
        ('[auth]\napi_token = "x"\n', 0o600, False),
        ('[[kernels.gateway]]\nname = "a"\nurl = "http://a"\ntoken = "x"\n', 0o604, True),
        ('[auth]\napi_token = ""\n', 0o644, False),
        ('[site]\ntitle = "x"\n', 0o644, False),
    ],
)
def test_secrets_in_a_file_that_others_can_read_are_warned_about(
    tmp_path: Path, text: str, mode: int, warned: bool
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    file.chmod(mode)
    warnings = load(tmp_path).warnings
    assert bool(warnings) is warned
    assert all("others can read it" in warning and '"x"' not in warning for warning in warnings)


def test_secrets_are_neither_printed_nor_in_a_repr(tmp_path: Path) -> None:
    secrets = ("Token-1", "Token-2", "$argon2id$3", "Token-4", "Token-5")
    (tmp_path / "five").write_text(secrets[4])
    text = f"""
    [auth]
    api_token = "{secrets[0]}"
    [[auth.token]]
    name = "ci"
    value = "{secrets[1]}"
    [[auth.token]]
    name = "cd"
    value_file = "five"
    [[auth.user]]
    name = "ada"
    password_hash = "{secrets[2]}"
    [[kernels.gateway]]
    name = "main"
    url = "http://a"
    token = "{secrets[3]}"
    """
    config = load(tmp_path, text)
    for shown in (print_config(config), repr(config)):
        assert "****" in shown
        assert not [secret for secret in secrets if secret in shown]


# --print-config and help


def test_printed_settings_are_toml_with_every_value_and_origin(tmp_path: Path) -> None:
    text = '[site]\ntitle = "a \\"b\\" \\\\ é"\n[[instances.environment]]\nname = "x"\ndockerImage = "y"\n'
    config = load(tmp_path, text, {"NBFOLIO_SERVER__PORT": "4"}, build__jobs=2)
    printed = print_config(config)
    tables = tomllib.loads(printed)
    assert set(tables) == set(SECTIONS)
    assert tables["site"]["title"] == 'a "b" \\ é'
    assert tables["instances"]["environment"] == [{"name": "x", "dockerImage": "y", "description": ""}]
    assert (tables["server"]["port"], tables["build"]["jobs"]) == (4, 2)
    assert {f"{name}.{key}" for name, table in tables.items() for key in table} == set(all_names())
    lines = printed.splitlines()
    assert "port = 4  # environment NBFOLIO_SERVER__PORT" in lines
    assert "jobs = 2  # command line" in lines
    assert 'theme = "paper"  # default' in lines
    assert "# below  # site.toml" in lines


def test_printed_settings_without_secrets_can_be_read_again(tmp_path: Path) -> None:
    config = load(tmp_path, '[site]\nbase_url = "/db"\n[server]\nallowed_hosts = ["a", "b"]\n')
    again = load(tmp_path, print_config(config))
    assert (again.site, again.server, again.build, again.kernels) == (
        config.site,
        config.server,
        config.build,
        config.kernels,
    )


def test_every_setting_is_explained_in_one_sentence() -> None:
    records = list(SECTIONS.values())
    for record in records:
        for setting in structs.fields(record):
            text = help_text(setting)
            assert text[:1].isupper(), f"{record.__name__}.{setting.name}"
            assert text.endswith("."), f"{record.__name__}.{setting.name}"
            if inner := element(setting):
                records.append(inner)
    assert len(records) == 10


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        load(tmp_path).site.title = "x"  # type: ignore[misc]


def test_loading_settings_imports_none_of_the_large_libraries(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from builder.config import load_config
load_config(Path(sys.argv[1]), None, {}, {"server.port": 1})
print(*sorted(name for name in ("click", "rich", "pydantic", "tomllib", "difflib", "nbformat") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == []


# folder.toml


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "folder.toml"
    file.write_text('title = "T"\ndescription = "D."\norder = 3\ncode = "hidden"\nlive = "off"\ndraft = true\n')
    folder = load_folder(file)
    assert (folder.title, folder.description, folder.order) == ("T", "D.", 3)
    assert (folder.code, folder.live, folder.draft) == ("hidden", "off", True)
    file.write_text("")
    folder = load_folder(file)
    assert (folder.title, folder.description, folder.order) == ("", "", None)
    assert (folder.code, folder.live, folder.draft) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel = 'x'", '"titel" is not a setting; did you mean "title"?'),
        ("order = 'first'", 'order = "first": expected a number'),
        ("order = nan", "order = nan: expected a number"),
        ("code = 'x'", 'code = "x": expected one of "shown", "folded", "hidden"'),
        ("draft = 'x'", 'draft = "x": expected true or false'),
        ("[site]\ntitle = 'x'", '"site" is not a setting'),
        ("x", "not valid TOML"),
    ],
)
def test_mistakes_in_a_folder_are_said_without_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "folder.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_folder(file)
    assert str(error.value).startswith("folder.toml: ")
    assert said in str(error.value)
    assert str(tmp_path) not in str(error.value)


# Found by tests/benchmarks/fuzz.py


@pytest.mark.parametrize("digits", ["0x" + "f" * 5000, "0b1" + "0" * 20000, "[" * 50 + "0o" + "7" * 6000 + "]" * 50])
def test_a_number_of_thousands_of_digits_is_refused_in_words(tmp_path: Path, digits: str) -> None:
    assert "[server] port: expected a whole number" in refusal(tmp_path, f"[server]\nport = {digits}\n")
    assert "number from 0 to 65535" in refusal(tmp_path, "", server__port=1 << 20000)


def test_lists_in_lists_are_refused_in_words_however_deep(tmp_path: Path) -> None:
    for depth in range(600, 1001, 2):
        environ = {"NBFOLIO_SERVER__ALLOWED_HOSTS": "[" * depth + "]" * depth}
        assert refusal(tmp_path, "", environ).startswith("environment: NBFOLIO_SERVER__ALLOWED_HOSTS")


@pytest.mark.parametrize("name", ["AUTH__USER", "SERVER__ALLOWED_HOSTS", "SITE__TITLE"])
def test_a_variable_that_is_no_utf8_is_refused_in_words(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, "", {f"NBFOLIO_{name}": '["\udcff"]'}).startswith(f"environment: NBFOLIO_{name}")


@pytest.mark.parametrize(
    "text", ["[{key}]\n[{key}]\n", "{key} = 1\n{key} = 2\n", "[site]\n{key}.a = 1\n{key}.a.b = 1\n"]
)
def test_what_is_wrong_with_a_file_is_said_in_a_short_line(tmp_path: Path, text: str) -> None:
    sentence = refusal(tmp_path, text.format(key="k" * 100_000))
    assert len(sentence) < 300 + len(str(tmp_path))
    assert sentence.endswith(")")
    assert "(at " in sentence


def test_names_of_tokens_and_users_stand_in_messages_escaped_and_cut(tmp_path: Path) -> None:
    name = "a\\u202eb" + "x" * 5000
    sentence = refusal(tmp_path, f'[[auth.token]]\nname = "{name}"\nvalue_file = "missing"\n')
    assert "a\\u202eb" in sentence
    assert sentence.isprintable()
    assert len(sentence) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("character", ["\\u0080", "\\u0085", "\\u009b", "\\u009f"])
def test_no_text_has_control_characters_of_the_second_kind_either(tmp_path: Path, character: str) -> None:
    assert "control characters" in refusal(tmp_path, f'[site]\ntitle = "a{character}b"\n')


@pytest.mark.parametrize(
    "text",
    [
        '[site.title]\ntoken = "hush-hush"\n',
        '[[server.allowed_hosts]]\nvalue = "hush-hush"\n',
        '[build]\njobs = {api_token = "hush-hush"}\n',
        '[build]\njobs = [[{api_token = "hush-hush"}]]\n',
    ],
)
def test_a_table_in_the_wrong_place_is_not_shown_as_it_may_hold_a_secret(tmp_path: Path, text: str) -> None:
    sentence = refusal(tmp_path, text)
    assert "hush-hush" not in sentence
    assert "{...}" in sentence


@pytest.mark.parametrize("pattern", ["http://[x/{baseUrl}", "http://a]"])
def test_a_link_pattern_that_is_no_address_is_refused_in_our_words(tmp_path: Path, pattern: str) -> None:
    sentence = refusal(tmp_path, f'[server]\npublic_link_pattern = "{pattern}"\n')
    assert sentence.endswith("its variables are {protocol}, {host}, {port} and {baseUrl}")
    assert len(sentence) < 400 + len(str(tmp_path))
