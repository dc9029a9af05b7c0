"""The description of the HTTP interface: it is valid, complete, and what the application does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from argon2 import PasswordHasher
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from making import markdown, notebook, png, write
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sites import config_of
from werkzeug.test import Client

from builder.config import Config
from shim.app import create_app, parts_of, routes
from shim.background import BackgroundBuilder
from shim.interface import PARAMETERS, REQUEST_HEADERS, SCHEMAS, SITE
from shim.metrics import Metrics
from shim.openapi import description
from shim.pages import is_static
from shim.state import State

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN = "s3cret"
PASSWORD = "lovelace"
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
ADA = {"name": "ada", "password_hash": HASH}
BY_TOKEN = {"Authorization": f"token {TOKEN}"}


class Late:
    """An application that is known only once a test runs; schemathesis wants one while tests are collected."""

    app: WSGIApplication

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("REMOTE_ADDR", "127.0.0.1")
        return self.app(environ, start_response)


def site_config(source: Path, *, logins: bool = False, **overrides: Any) -> Config:
    """The settings of a site whose API takes a token."""
    if logins:
        overrides["auth__user"] = [ADA]
    return config_of(source, auth__api_token=TOKEN, build__jobs=1, **overrides)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two notebooks and a picture."""
    folder = tmp_path_factory.mktemp("site")
    write(folder, "one.ipynb", notebook(markdown("# One\n\n![](picture.png)")))
    write(folder, "picture.png", png())
    write(folder, "more/two.ipynb", notebook(markdown("# Two")))
    return folder


@pytest.fixture(scope="module")
def builder(source: Path) -> Iterator[BackgroundBuilder]:
    """What builds the site in the folder."""
    with BackgroundBuilder(site_config(source), lambda report: None, print) as builder:
        assert builder.ready.wait(60)
        yield builder


@pytest.fixture(scope="module")
def applications(source: Path, builder: BackgroundBuilder) -> Iterator[None]:
    """Bring the two applications to life."""
    with ExitStack() as stack:
        for late, logins in ((OPEN, False), (CLOSED, True)):
            config = site_config(source, logins=logins)
            state = stack.enter_context(closing(State(config.state_dir)))
            late.app = create_app(parts_of(config, builder, Metrics(), state))
        yield


OPEN, CLOSED = Late(), Late()
"""The same site for everybody, and with logins."""


def interface(late: Late, *, logins: bool) -> Any:
    """What schemathesis makes tests of."""
    schema = schemathesis.openapi.from_dict(described(logins=logins))
    schema.app = late
    return schema


def described(**settings: Any) -> dict[str, Any]:
    """The description of a site; it does not depend on what is in the folder."""
    return description(site_config(Path(__file__).parent, **settings), instances=True)


open_site = interface(OPEN, logins=False)
closed_site = interface(CLOSED, logins=True)

# The document


@pytest.mark.parametrize("logins", [False, True])
def test_the_description_is_valid_openapi(logins: bool) -> None:
    document = described(logins=logins)
    schemathesis.openapi.from_dict(document).validate()
    for schema in (*SCHEMAS.values(), *PARAMETERS.values(), *REQUEST_HEADERS.values()):
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_everything_that_is_defined_is_used_and_the_other_way_round() -> None:
    document = described(logins=True)
    used = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(document)))
    schemes = {
        name for path in document["paths"].values() for one in path.values() for way in one["security"] for name in way
    }
    used |= {("securitySchemes", name) for name in schemes}
    assert used == {(kind, name) for kind, defined in document["components"].items() for name in defined}


def test_every_route_is_described_and_every_described_operation_exists(
    source: Path, builder: BackgroundBuilder
) -> None:
    with closing(State(site_config(source).state_dir)) as state:
        for logins in (False, True):
            app = routes(parts_of(site_config(source, logins=logins), builder, Metrics(), state))
            exists = {(re.sub(r"<(\w+)(:[^>]+)?>", r"{\1}", route.rule), route.method.lower()) for route in app.routes}
            # each of them is there with a slash at its end, too
            exists = {(path.removesuffix("/"), method) for path, method in exists}
            told = {(path, method) for path, item in described(logins=logins)["paths"].items() for method in item}
            files = {(operation.path, "get") for operation in SITE} - {("/{path}", "get")}
            assert exists == told - files
            assert all(is_static(path[1:].format(path="a", name="a")) for path, _ in files)


@pytest.mark.parametrize(("base_url", "url"), [("", "/"), ("/db", "/db"), ("[/db]", "/db")])
def test_the_address_of_the_server_has_the_prefix_whoever_strips_it(base_url: str, url: str) -> None:
    assert described(site__base_url=base_url)["servers"] == [{"url": url}]


def test_logins_and_tokens_are_described_where_there_are_any() -> None:
    for settings_, ways in (
        ({}, set()),
        ({"auth__api_token": TOKEN}, {"token", "bearer"}),
        ({"auth__user": [ADA]}, {"session"}),
        ({"auth__user_header": "X-Forwarded-User"}, set()),
    ):
        document = description(config_of(Path(__file__).parent, **settings_), instances=True)
        assert set(document["components"]["securitySchemes"]) == ways
        has_logins = "auth__user" in settings_ or "auth__user_header" in settings_
        assert ("/login" in document["paths"]) == has_logins
        assert ("302" in document["paths"]["/media/{name}"]["get"]["responses"]) == has_logins
        assert "302" not in document["paths"]["/assets/{name}"]["get"]["responses"]


def test_no_secret_is_in_the_description() -> None:
    text = json.dumps(described(logins=True))
    assert TOKEN not in text
    assert "argon2" not in text
    assert "ada" not in re.findall(r"\w+", text)


# The application


def ask(site: Any, method: str, path: str, url: str, **request: Any) -> int:
    """The status of an answer that is as described for the operation `path`."""
    site.app.client = client = getattr(site.app, "client", None) or Client(site.app)
    response = client.open(url, method=method, **request)
    operation = site[path][method]
    assert str(response.status_code) in operation.definition.raw["responses"], response.status
    operation.validate_response(response)
    return response.status_code


def upload(content: bytes, **headers: str) -> dict[str, Any]:
    """The body and headers of an upload."""
    return {"data": {"file": (BytesIO(content), "new.ipynb")}, "headers": {**BY_TOKEN, **headers}}


@pytest.mark.usefixtures("applications")
def test_what_is_described_can_be_had_one_after_the_other(source: Path) -> None:
    page, path = "/dashboards/{path}", "/_api/notebooks/{path}"
    new = json.dumps(notebook(markdown("# New"))).encode()
    only_new = {"If-None-Match": "*"}
    etag = Client(OPEN).get("/dashboards/one/").headers["ETag"]
    steps = [
        ask(open_site, "GET", "/", "/"),
        ask(open_site, "GET", "/dashboards/", "/dashboards/"),
        ask(open_site, "GET", "/dashboards-plain/", "/dashboards-plain/"),
        ask(open_site, "GET", page, "/dashboards/one/", headers={"Range": "bytes=0-9"}),
        ask(open_site, "GET", page, "/dashboards/one/", headers={"Range": "bytes=99999999-"}),
        ask(open_site, "GET", page, "/dashboards/one/", headers={"If-None-Match": etag}),
        ask(open_site, "GET", page, "/dashboards/one/", headers={"If-Match": '"other"'}),
        ask(open_site, "GET", page, "/dashboards/more%2Ftwo"),
        ask(open_site, "GET", "/{path}", "/more/two"),
        ask(open_site, "GET", "/_api/notebooks", "/_api/notebooks", headers=BY_TOKEN),
        ask(open_site, "GET", "/_api/notebooks", "/_api/notebooks"),
        ask(open_site, "POST", path, "/_api/notebooks/sub/new", **upload(new)),
        ask(open_site, "POST", path, "/_api/notebooks/sub/new", **upload(new, **only_new)),
        ask(open_site, "POST", path, "/_api/notebooks/sub/bad", **upload(b"no notebook")),
        ask(open_site, "DELETE", path, "/_api/notebooks/sub/new", headers=BY_TOKEN),
        ask(open_site, "DELETE", path, "/_api/notebooks/sub/new", headers=BY_TOKEN),
        ask(open_site, "DELETE", "/_api/cache", "/_api/cache", headers=BY_TOKEN),
        ask(open_site, "DELETE", "/_api/cache/{path}", "/_api/cache/one", headers=BY_TOKEN),
        ask(open_site, "GET", "/metrics", "/metrics"),
        ask(open_site, "GET", "/openapi.json", "/openapi.json"),
    ]
    assert steps == [200, 200, 200, 206, 416, 304, 412, 301, 302, 200, 401, 201, 412, 422, 204, 404, 200, 200, 200, 200]


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize("name", ["%E6%95%B0", "%C3%A9", "%C4%80/%20", "a%2Fb"])
def test_names_of_any_alphabet_come_back_as_they_were_sent(name: str) -> None:
    for path in ("/_api/notebooks/{path}", "/_api/cache/{path}"):
        url = path.format(path=name)
        answer = Client(CLOSED).delete(url)
        assert (answer.status_code, answer.json["url"]) == (401, url.replace("%2F", "/"))


@pytest.mark.usefixtures("applications")
def test_logging_in_and_out_is_as_described(source: Path) -> None:
    right, wrong = ({"username": "ada", "password": password} for password in (PASSWORD, "wrong"))
    html = {"Accept": "text/html"}
    steps = [
        ask(closed_site, "GET", "/", "/"),
        ask(closed_site, "GET", "/", "/", headers=html),
        ask(closed_site, "GET", "/login", "/login"),
        ask(closed_site, "POST", "/login", "/login", json=wrong),
        ask(closed_site, "POST", "/login", "/login", data=wrong, headers=html),
        ask(closed_site, "POST", "/login", "/login", data=right),
        ask(closed_site, "GET", "/login", "/login"),
        ask(closed_site, "GET", "/", "/"),
        ask(closed_site, "GET", "/logout", "/logout"),
        ask(closed_site, "POST", "/logout", "/logout", headers=html),
        ask(closed_site, "GET", "/", "/"),
        ask(closed_site, "POST", "/login", "/login", json=right),
        ask(closed_site, "POST", "/logout", "/logout"),
    ]
    assert steps == [401, 302, 200, 401, 401, 302, 302, 200, 200, 302, 401, 200, 204]


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize("logins", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
def test_strangers_are_turned_away_exactly_where_a_login_or_token_is_described(address: str, logins: bool) -> None:
    client = Client(CLOSED if logins else OPEN)
    for path, item in described(logins=logins)["paths"].items():
        for method, operation in item.items():
            url = path.format(**dict.fromkeys(PARAMETERS, "one"))
            status = client.open(url, method=method.upper(), environ_base={"REMOTE_ADDR": address}).status_code
            # one that may be empty is for programs on this machine
            free = {} in operation["security"] and address == "127.0.0.1"
            assert (status == 401) == (bool(operation["security"]) and not free), (method, path, status)


@pytest.mark.usefixtures("applications")
def test_the_server_gives_this_very_description() -> None:
    assert Client(OPEN).get("/openapi.json").json == described()


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize("logins", [False, True])
def test_methods_that_are_not_described_are_refused_with_those_that_are(logins: bool) -> None:
    client = Client(CLOSED if logins else OPEN)
    for path, item in described(logins=logins)["paths"].items():
        answer = client.open(path.format(**dict.fromkeys(PARAMETERS, "one")), method="OPTIONS")
        if answer.status_code == 401:
            continue
        methods = {method.upper() for method in item}
        assert answer.status_code == 405, path
        assert set(answer.headers["Allow"].split(", ")) == methods | ({"HEAD"} if "GET" in methods else set()), path


def operations(site: Any) -> list[tuple[str, str]]:
    """Path and method of everything that is described; each is a test of its own, with a name of its own."""
    return [(path, method) for path in site for method in site[path]]


def fuzz(site: Any, path: str, method: str, **request: Any) -> None:
    """Send what the description allows, and what it does not, and compare the answers with it."""
    operation = site[path][method]

    # What fails is shown as it was found: to make it smaller takes minutes.
    @settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE))
    def answers_as_described(case: schemathesis.Case) -> None:
        # A name can be unusable and a file no notebook; no schema says that.
        case.call_and_validate(excluded_checks=[positive_data_acceptance], **request)

    answers_as_described()


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize(("path", "method"), operations(open_site))
def test_the_application_answers_as_described(path: str, method: str) -> None:
    fuzz(open_site, path, method, headers=BY_TOKEN)


@pytest.mark.usefixtures("applications")
@pytest.mark.parametrize(("path", "method"), operations(closed_site))
def test_the_application_with_logins_answers_strangers_as_described(path: str, method: str) -> None:
    fuzz(closed_site, path, method)
