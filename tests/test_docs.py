"""The documentation is complete and true: it names what there is and nothing else, and what it says to type works."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from dashboards import Shim, bundle, page_of, running
from making import write

from builder.cli import build, check
from builder.config import load_config
from builder.settings import SECTIONS, all_names
from builder.values import element, settings_of
from shim import server, throttle
from shim.admin import command as shim_admin
from shim.app import parts_of, routes
from shim.background import Finished
from shim.cli import command as run_shim
from shim.interface import ANYWHERE, PUBLISHING
from shim.logs import JsonLines, log_request
from shim.metrics import METRICS, Metrics
from shim.names import MAX_DEPTH
from shim.publishing import AT_WORK, READERS
from shim.server import THREADS
from shim.staging import STAGING
from shim.startup import startup_problems
from shim.state import FILE as STATE_FILE
from shim.state import State

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "site/guide"
ADDRESS = "https://notebooks.example.org"
"""The server of all examples; they are run with the variables NBFOLIO_URL and NBFOLIO_TOKEN, which they use."""
TOKEN = "a token for examples"
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo"


def guide(page: str) -> str:
    """The Markdown of a page of the guide."""
    cells = json.loads((GUIDE / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def section(source: str, heading: str) -> str:
    """What stands below a heading, to the next one of its level."""
    return re.split(rf"(?m)^## {re.escape(heading)}$", source)[1].split("\n## ")[0]


def blocks(source: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", source)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def rows(source: str) -> list[list[str]]:
    """The cells of all rows of all tables, without their heads."""
    tables = re.findall(r"(?m)^\|.*\n\|[-:| ]+\|\n((?:\|.*\|(?:\n|\Z))+)", source)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


# Settings


@pytest.mark.parametrize("name", all_names())
def test_every_setting_is_explained(name: str) -> None:
    table, _, key = name.partition(".")
    text = section(guide("configuration"), table)
    assert f"`[[{name}]]`" in text if element(settings_of(SECTIONS[table])[key]) else f"| `{key}` |" in text


def settings_files() -> list[tuple[str, str]]:
    """All settings that the documentation shows, with their page."""
    pages = ["configuration", "deploying", "embedding", "instances", "migrating", "publishing"]
    sources = {page: guide(page) for page in pages} | {"README": (ROOT / "README.md").read_text(encoding="utf-8")}
    return [(page, text) for page, source in sources.items() for text in blocks(source, "toml")]


@pytest.mark.parametrize(("page", "text"), settings_files())
def test_settings_that_are_shown_are_understood(page: str, text: str, tmp_path: Path) -> None:
    for name in ("ci.token", "api.token"):
        write(tmp_path, name, f"{name} of somebody").chmod(0o600)
    text = re.sub(r"\$argon2id[^\"]*", HASH, text)
    file = write(tmp_path, "site.toml", text)
    file.chmod(0o600)
    assert tomllib.loads(text)
    config = load_config(tmp_path, file, {}, {})
    assert not config.warnings
    assert startup_problems(config) == []


def test_every_old_option_has_a_new_setting_that_exists_or_none() -> None:
    table = rows(section(guide("migrating"), "Options"))
    old = {option for row in table for option in spans(row[0])}
    assert old >= {
        *("NODE_ENV", "IP", "PORT", "HTTPS_PORT", "HTTPS_KEY_FILE", "HTTPS_CERT_FILE", "BASE_URL", "TRUST_PROXY"),
        *("PUBLIC_LINK_PATTERN", "SESSION_SECRET_TOKEN", "NOTEBOOKS_DIR", "AUTH_TOKEN", "AUTH_STRATEGY", "USERNAME"),
        *("PASSWORD", "PRESENTATION_MODE", "KERNEL_GATEWAY_URL", "KG_AUTH_TOKEN", "KG_BASE_URL", "PROXY_SETTINGS"),
        *("KG_KERNEL_RETENTIONTIME", "KG_FORWARD_USER_AUTH", "TWITTER_*", "BOX_*", "AUTH0_*", "LDAP_*"),
    }
    for _, new, differs in table:
        assert new or differs
        if match := re.fullmatch(r"`(\w+)` of `\[\[(\w+)\.(\w+)\]\]`", new):
            key, name, inner = match.groups()
            record = element(settings_of(SECTIONS[name])[inner])
            assert record and key in settings_of(record)
        else:
            assert set(spans(new)) <= set(all_names())


# Routes


def test_every_route_is_in_the_guide(tmp_path: Path) -> None:
    auth = {"auth.user_header": "X-Forwarded-User", "auth.api_token": TOKEN, "server.trusted_proxies": ["127.0.0.1"]}
    config = load_config(tmp_path, None, {}, auth)
    state = State(config.state_dir)
    try:
        rules = {route.rule for route in routes(parts_of(config, Finished(config), Metrics(), state)).routes}
    finally:
        state.close()
    tables = (
        section(guide("deploying"), "run-shim"),
        section(guide("live-cells"), "Programs"),
        section(guide("instances"), "Programs"),
    )
    documented = {span.split()[-1] for table in tables for row in rows(table) for span in spans(row[0])}
    assert {"/login", "/_api/notebooks", "/metrics"} <= rules
    assert {re.sub(r"<(\w+):[^>]*>", r"<\1>", rule).rstrip("/") for rule in rules} <= documented


def test_every_status_of_the_api_is_explained() -> None:
    explained = {int(row[0]) for row in rows(section(guide("publishing"), "Answers")) if row[0].isdigit()}
    possible = {status for one in PUBLISHING for status in (*one.answers, *one.refusals)}
    assert explained == {*possible, *ANYWHERE, 401, 405}


def test_limits_and_names_are_those_of_the_program() -> None:
    publishing, configuration = guide("publishing"), guide("configuration")
    assert f"| changes at the same time | {THREADS - READERS}, of which {AT_WORK} are" in publishing
    assert f"at most {MAX_DEPTH} segments" in publishing
    assert f"`{STAGING}`" in publishing
    assert f"After {throttle.PER_USER} wrong passwords" in configuration
    assert f"or {throttle.PER_ADDRESS} from one address" in configuration
    assert f"up to {throttle.WINDOW / 60:.0f}\n" in configuration
    assert f"`{STATE_FILE}`" in configuration
    assert server.DRAIN == 3
    assert "gives answers under way three seconds" in guide("deploying")


# Operation


def test_every_metric_is_explained_with_its_labels() -> None:
    metrics = Metrics()
    metrics.started()
    metrics.request("page", "GET", 200, 0.1)
    found: dict[str, set[str]] = {}
    for metric in metrics.collect():
        for sample in metric.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name)
            if not name.startswith("process_"):
                found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    table = [row for row in rows(section(guide("deploying"), "Metrics")) if row[0].startswith("`nbfolio_")]
    assert {row[0].strip("`"): set(spans(row[1])) for row in table} == found
    assert set(found) == set(METRICS)


def test_every_field_of_the_log_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/x", "REMOTE_ADDR": "127.0.0.1"}
    with caplog.at_level(logging.INFO, "shim.requests"):
        log_request(environ, 500, 0.1, "Something went wrong.", ValueError("a reason"))
    written = json.loads(JsonLines().format(caplog.records[0]))
    documented = {span for row in rows(section(guide("deploying"), "Logs")) for span in spans(row[0])}
    assert documented == set(written)


# Commands


def options(command: click.Command) -> set[str]:
    """All options of a command and of those below it."""
    found = {name for one in command.params if isinstance(one, click.Option) for name in (*one.opts, "--help")}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options, below))


@pytest.mark.parametrize(
    ("name", "commands"), [("build-site", [build, check]), ("run-shim", [run_shim]), ("shim-admin", [shim_admin])]
)
def test_guide_names_every_option_of_a_command_and_no_other(name: str, commands: list[click.Command]) -> None:
    found = [span.split()[0] for row in rows(section(guide("commands"), name)) for span in spans(row[0])]
    assert {span for span in found if span.startswith("-")} == set().union(*map(options, commands))


def test_guide_names_every_command_and_variable_of_shim_admin() -> None:
    assert isinstance(shim_admin, click.Group)
    text = section(guide("commands"), "shim-admin")
    lines = blocks(text, "text")[0].splitlines()
    assert {line.split()[1] for line in lines} == set(shim_admin.commands)
    variables = {span for row in rows(text) for span in spans(row[0]) if span.isupper()}
    assert variables == set(re.findall(r"NBFOLIO_[A-Z]+", (ROOT / "shim/admin_options.py").read_text(encoding="utf-8")))


# What people type


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server as the examples expect it, and the files they send in a folder beside its own."""
    folder = tmp_path_factory.mktemp("examples")
    write(folder, "ci/report.ipynb", page_of("# Report"))
    write(folder, "ci/quarter.zip", bundle("# Quarter", ("data.csv", "1,2\n")))
    with running(folder, auth__api_token=TOKEN) as shim:
        yield shim


def typed(shim: Shim, script: str) -> subprocess.CompletedProcess[str]:
    """What came of lines of the documentation, run as they stand there."""
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    address = {"NBFOLIO_URL": f"http://127.0.0.1:{shim.server.port}", "NBFOLIO_TOKEN": TOKEN}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}
    return subprocess.run(
        ["bash", "-euc", script], env={**environ, **address, "PATH": path, "NO_PROXY": "127.0.0.1"},
        cwd=shim.surroundings / "ci", capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def answers(shim: Shim, text: str) -> Any:
    """JSON with the address of this server for the one of the examples."""
    return json.loads(text.replace(ADDRESS, f"http://127.0.0.1:{shim.server.port}"))


def test_readme_publishes_with_one_line(shim: Shim) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (script,) = [block for block in blocks(text, "bash") if "curl" in block]
    (shown,) = blocks(text, "json")
    done = typed(shim, script)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answers(shim, shown)
    assert "Report" in shim.page("sales/report").text


def test_lines_of_the_publishing_page_do_what_it_says(shim: Shim) -> None:
    text = guide("publishing")
    examples = [block for block in blocks(text, "bash") if "$NBFOLIO_URL" in block or block.startswith("shim-admin")]
    upload, upload_zip, delete, rebuild, listing, admin = examples
    uploaded, listed, refused, *_ = [json.loads(block) for block in blocks(text, "json")]
    done = typed(shim, upload)
    assert json.loads(done.stdout) == answers(shim, json.dumps(uploaded)), done.stderr
    assert json.loads(typed(shim, upload_zip).stdout)["link"].endswith("/dashboards/sales/quarter")
    assert shim.file("sales/quarter/data.csv").text == "1,2\n"
    done = typed(shim, delete)
    assert (done.returncode, done.stdout) == (0, "")
    assert shim.page("sales/quarter").status == 404
    assert typed(shim, rebuild).stdout == "OK"
    (entry,) = answers(shim, json.dumps(listed))["notebooks"]
    assert entry in json.loads(typed(shim, listing).stdout)["notebooks"]
    done = typed(shim, delete.replace("sales/quarter", "sales/nothing"))
    assert (done.returncode != 0, json.loads(done.stdout)) == (True, refused)
    done = typed(shim, admin)
    assert done.returncode == 0, done.stderr
    assert "sales/quarter" not in shim.listed()


def test_the_line_for_ci_is_the_one_that_was_tried() -> None:
    (job,) = [block for block in blocks(guide("publishing"), "yaml") if "curl" in block]
    command = job.split("- run: >\n")[1].split("  env:")[0]
    tried = next(block for block in blocks(guide("publishing"), "bash") if "report.ipynb" in block)
    assert command.split() == tried.replace("\\\n", "").split()
