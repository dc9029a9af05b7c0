"""Logging in and out: what browsers and scripts get, and what nobody gets by any request."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from argon2 import PasswordHasher
from bottle import Bottle
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.config import Config, load_config
from builder.theme import load_theme
from shim.accounts import BusyError
from shim.answers import CLOSED, HttpError, send_error
from shim.client import Client
from shim.cookies import Cookies
from shim.identity import Logins, wants_logins
from shim.login import LONGEST_BODY, WRONG, add_login_routes
from shim.state import State
from shim.targets import LONGEST, asked_target, login_location, return_target
from shim.throttle import PER_ADDRESS, PER_USER

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
ADA, GRUEN = HASHER.hash("lovelace"), HASHER.hash("pässword 1")
USERS = f'[[auth.user]]\nname = "ada"\npassword_hash = "{ADA}"\n[[auth.user]]\nname = "grün; <b>"\npassword_hash = "{GRUEN}"\n'
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"
HOSTILE = '"><script>alert(1)</script>'


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2
        return values[0] if values else None

    @property
    def cookies(self) -> dict[str, tuple[str, set[str]]]:
        """By name: value and attributes."""
        found = {}
        for name, header in self.headers:
            if name.lower() == "set-cookie":
                pair, *attributes = header.split("; ")
                key, _, value = pair.partition("=")
                found[key] = (value, set(attributes))
        return found

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """An application with logins, called as the front of the server does it."""

    config: Config
    logins: Logins
    client: Client = field(default_factory=lambda: Client("10.0.0.1", "http", "localhost", "", True))
    accept: str = BROWSER
    tried: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = Bottle()
        self.app.catchall = False
        add_login_routes(self.app, self.logins, self.config, self.tried.append)

    def _front(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def closed(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*CLOSED, *headers], exc_info)

        environ["nbfolio.client"] = self.client
        try:
            answer: Iterable[bytes] = self.app(environ, closed)
        except HttpError as error:
            answer = send_error(environ, start_response, error, lambda: None)
        return answer

    def __call__(
        self, url: str, method: str = "GET", body: bytes = b"", kind: str = "", cookie: str = "", **changes: str
    ) -> Answer:
        path, _, query = url.partition("?")
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
        environ |= {"HTTP_COOKIE": cookie, "HTTP_ACCEPT": self.accept, "SCRIPT_NAME": ""}
        setup_testing_defaults(environ)
        environ.update(changes)
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started.append((status, headers))
            return lambda data: None

        result = validator(self._front)(environ, start_response)
        try:
            data = b"".join(result)
        finally:
            result.close()  # type: ignore[attr-defined]
        ((status, headers),) = started
        return Answer(int(status[:3]), headers, data)

    def form(self, username: str = "ada", password: str = "lovelace", cookie: str = "", **fields: str) -> Answer:
        body = urlencode({"username": username, "password": password, **fields}).encode()
        return self("/login", "POST", body, FORM, cookie)

    def script(self, document: object, cookie: str = "") -> Answer:
        return self("/login", "POST", json.dumps(document).encode(), "application/json", cookie)

    def user(self, cookie: str) -> str | None:
        return self.logins.user_of({"HTTP_COOKIE": cookie}, self.client)

    def log_in(self, **fields: str) -> str:
        """The Cookie header of a browser that has logged in."""
        answer = self.form(**fields)
        assert answer.status == 302
        return "; ".join(f"{name}={value}" for name, (value, _) in answer.cookies.items())


Make = Callable[..., Site]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes sites on the same records; each argument is the text of a settings file."""
    opened = []

    def make(text: str = USERS, **changes: Any) -> Site:
        (tmp_path / "site.toml").write_text(text)
        (tmp_path / "site.toml").chmod(0o600)
        config = load_config(tmp_path, None, {}, {})
        opened.append(State(tmp_path / ".nbfolio"))
        logins = Logins.open(config, opened[-1])
        assert logins
        return Site(config, logins, **changes)

    yield make
    for state in opened:
        state.close()


@pytest.fixture
def site(make: Make) -> Site:
    """A site with two users, reached by http and without a prefix."""
    return make()


# The page


@pytest.mark.parametrize("url", ["/login", "/login/"])
def test_the_form_is_complete_without_any_other_file(site: Site, url: str) -> None:
    page = site(url)
    assert (page.status, page["content-type"]) == (200, "text/html; charset=utf-8")
    assert page["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in (page["content-security-policy"] or "")
    assert '<form method="post" action="/login">' in page.text
    for name in ("username", "password"):
        assert f'<label for="{name}">' in page.text
        assert f'id="{name}" name="{name}"' in page.text
    assert 'autocomplete="username"' in page.text and 'autocomplete="current-password"' in page.text
    assert page.text.count("autofocus") == 1
    assert "<script" not in page.text
    assert 'role="alert"' not in page.text
    assert re.findall(r'(?:src|href)="(?!data:)', page.text) == []


def test_nobody_gets_a_cookie_before_logging_in(site: Site) -> None:
    answers = [site("/login"), site("/login?next=/x"), site("/logout"), site.form(password="wrong")]
    assert [answer.cookies for answer in answers] == [{}] * 4


def test_what_comes_in_never_becomes_markup(make: Make) -> None:
    site = make(f"[site]\ntitle = '{HOSTILE}'\n{USERS}")
    for page in (
        site(f"/login?next={quote('/' + HOSTILE)}"),
        site.form(HOSTILE, "x", next=f"/{HOSTILE}"),
        site.form(HOSTILE, "x", next="/a'onclick='b"),
    ):
        assert "<script" not in page.text
        assert HOSTILE in unescape(page.text)
    cookie = site.log_in(username="grün; <b>", password="pässword 1")
    page = site("/logout", cookie=cookie)
    assert "<b>" not in page.text
    assert "grün; &lt;b&gt;" in page.text


def test_after_a_failure_the_name_is_still_there_and_the_password_is_not(site: Site) -> None:
    page = site.form("ada", "not lovelace", next="/dashboards/a/?x=1&y=2")
    assert page.status == 401
    assert f'role="alert" id="message">{WRONG}<' in page.text
    assert 'value="ada"' in page.text
    assert 'name="next" value="/dashboards/a/?x=1&amp;y=2"' in page.text
    assert "not lovelace" not in page.text
    password = page.text[page.text.index('id="password"') :]
    assert "autofocus" in password[: password.index(">")]


def test_the_page_is_in_the_theme_of_the_site(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "themes" / "ours"
    (folder / "templates").mkdir(parents=True)
    (folder / "theme.toml").write_text("")
    (folder / "templates" / "login.html.j2").write_text("<h1>Ours</h1>{{ action }}")
    assert make(f'[site]\ntheme = "ours"\nbase_url = "/db"\n{USERS}')("/login").text == "<h1>Ours</h1>/db/login"


def test_full_pages_hold_a_hidden_button_to_log_out() -> None:
    header = load_theme("paper", []).template("macros.html.j2").module.header  # type: ignore[attr-defined]
    html = header({"title": "Team"}, "../../", [])
    assert '<form class="account" method="post" action="../../logout" hidden><span></span><button>' in html


# Logging in


def test_a_form_logs_in_and_leads_back(site: Site) -> None:
    answer = site.form(next="/dashboards/a/?x=%20")
    assert (answer.status, answer["location"], answer.body) == (302, "/dashboards/a/?x=%20", b"")
    assert answer["cache-control"] == "no-store"
    assert site.user(f"nbfolio={answer.cookies['nbfolio'][0]}") == "ada"
    assert site.form()["location"] == "/"


def test_a_script_logs_in_with_json(site: Site) -> None:
    site.accept = "*/*"
    answer = site.script({"username": "grün; <b>", "password": "pässword 1", "next": "/x"})
    assert (answer.status, answer.json()) == (200, {"user": "grün; <b>"})
    assert answer["content-type"] == "application/json"
    assert site.user(f"nbfolio={answer.cookies['nbfolio'][0]}") == "grün; <b>"
    refused = site.script({"username": "ada", "password": "wrong"})
    assert (refused.status, refused.json()["message"], refused.json()["status"]) == (401, WRONG, 401)
    assert refused.cookies == {}


def test_who_is_logged_in_sees_no_form(site: Site) -> None:
    answer = site("/login?next=%2Fdashboards%2F", cookie=site.log_in())
    assert (answer.status, answer["location"]) == (302, "/dashboards/")
    assert site("/login?next=//evil.example", cookie=site.log_in())["location"] == "/"


@pytest.mark.parametrize(
    ("scheme", "base_url", "name", "path"),
    [
        ("http", "", "nbfolio", "/"),
        ("http", "/db", "nbfolio", "/db"),
        ("http", "[/db]", "nbfolio", "/db"),
        ("https", "", "__Host-nbfolio", "/"),
        ("https", "/db", "__Secure-nbfolio", "/db"),
        ("https", "[/db/x]", "__Secure-nbfolio", "/db/x"),
    ],
)
def test_cookies_are_as_narrow_as_the_site(make: Make, scheme: Any, base_url: str, name: str, path: str) -> None:
    site = make(f'[site]\nbase_url = "{base_url}"\n[auth]\nsession_max_hours = 2\n{USERS}')
    site.client = replace(site.client, scheme=scheme)
    answer = site.form("grün; <b>", "pässword 1")
    expected = {f"Path={path}", "Max-Age=7200", "SameSite=Lax"} | ({"Secure"} if scheme == "https" else set())
    assert answer.cookies.keys() == {name, "nbfolio_user"}
    session_id, attributes = answer.cookies[name]
    assert attributes == expected | {"HttpOnly"}
    assert len(session_id) == 43
    assert answer.cookies["nbfolio_user"] == ("gr%C3%BCn%3B%20%3Cb%3E", expected)
    assert answer["location"] == path.rstrip("/") + "/"
    out = site("/logout", "POST", cookie=f"{name}={session_id}")
    gone = (expected - {"Max-Age=7200"}) | {"Max-Age=0"}
    assert out.cookies == {name: ("", gone | {"HttpOnly"}), "nbfolio_user": ("", gone)}
    assert out["location"] == path.rstrip("/") + "/"


def test_under_tls_the_cookie_of_plain_http_is_no_login(site: Site) -> None:
    cookie = site.log_in()
    assert site.user(cookie) == "ada"
    site.client = replace(site.client, scheme="https")
    assert site.user(cookie) is None
    assert site.user(cookie.replace("nbfolio=", "__Secure-nbfolio=")) is None
    assert site.user(cookie.replace("nbfolio=", "__Host-nbfolio=", 1)) == "ada"


def test_a_session_id_chosen_before_the_login_is_worth_nothing_after_it(site: Site) -> None:
    chosen = "A" * 43
    cookie = site.log_in(cookie=f"nbfolio={chosen}")
    assert chosen not in cookie
    assert site.user(f"nbfolio={chosen}") is None
    again = site.log_in(cookie=cookie)
    assert again != cookie
    assert (site.user(cookie), site.user(again)) == (None, "ada")
    third = site.script({"username": "ada", "password": "lovelace"}, again)
    assert third.status == 200
    assert site.user(again) is None


def test_a_failed_login_ends_no_session(site: Site) -> None:
    cookie = site.log_in()
    assert site.form(password="wrong", cookie=cookie).status == 401
    assert site.user(cookie) == "ada"


# What ends a login


@pytest.mark.parametrize("url", ["/logout", "/logout/"])
def test_the_cookie_of_before_the_logout_is_refused(site: Site, url: str) -> None:
    cookie, elsewhere = site.log_in(), site.log_in()
    answer = site(url, "POST", cookie=cookie)
    assert (answer.status, answer["location"]) == (302, "/")
    assert site.user(cookie) is None
    assert site.user(elsewhere) == "ada"


def test_a_logout_empties_what_the_browser_kept_of_the_site(site: Site) -> None:
    assert site("/logout", "POST", cookie=site.log_in())["clear-site-data"] == '"cache"'


def test_scripts_log_out_without_a_redirect(site: Site) -> None:
    site.accept = "*/*"
    answer = site("/logout", "POST", cookie=site.log_in())
    assert (answer.status, answer.body, answer["location"]) == (204, b"", None)
    assert answer.cookies["nbfolio"][0] == ""
    assert site("/logout", "POST").status == 204


def test_a_link_to_logout_logs_nobody_out(site: Site) -> None:
    cookie = site.log_in()
    page = site("/logout", cookie=cookie)
    assert page.status == 200
    assert '<form method="post" action="/logout">' in page.text
    assert "<strong>ada</strong>" in page.text
    assert site("/logout", "HEAD", cookie=cookie).body == b""
    assert site.user(cookie) == "ada"
    assert (site("/logout").status, site("/logout")["location"]) == (302, "/")


def test_a_new_password_ends_the_sessions_of_the_old_one(make: Make) -> None:
    before = make()
    ada, other = before.log_in(), before.log_in(username="grün; <b>", password="pässword 1")
    after = make(USERS.replace(ADA, HASHER.hash("lovelace")))
    assert (after.user(ada), after.user(other)) == (None, "grün; <b>")
    assert make().user(ada) is None, "the session is gone for good"


def test_a_user_who_was_removed_is_logged_out(make: Make) -> None:
    cookie = make().log_in()
    without = make(f'[[auth.user]]\nname = "bob"\npassword_hash = "{ADA}"\n')
    assert without.user(cookie) is None
    assert without.form().status == 401


def test_a_restart_keeps_logins(make: Make) -> None:
    cookie = make().log_in()
    assert make().user(cookie) == "ada"


@pytest.mark.parametrize(("idle", "longest", "hours"), [(1, 5, 1), (9, 2, 2)])
def test_logins_end_when_the_settings_say(make: Make, idle: int, longest: int, hours: int) -> None:
    site = make(f"[auth]\nsession_idle_hours = {idle}\nsession_max_hours = {longest}\n{USERS}")
    time = [1e9]
    site.logins.sessions._now = lambda: time[0]
    cookie = site.log_in()
    time[0] += hours * 3600 - 1
    assert site.user(cookie) == "ada"
    time[0] += 3600 if idle < longest else 1
    assert site.user(cookie) is None


# Cookies that come in


def test_among_other_cookies_ours_is_found(site: Site) -> None:
    cookie = site.log_in()
    for other in (f"a=1; {cookie}; b=2", f"nbfolio=other;{cookie}", f' "=; {cookie}', f"b; =c;{cookie}"):
        assert site.user(other) == "ada"
    assert site.user(cookie.replace("nbfolio=", "nbfolio =")) is None
    assert site.user(cookie.replace("nbfolio=", "Nbfolio=")) is None


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255)), st.sampled_from(["http", "https"]))
@example("nbfolio=x" + ";nbfolio=x" * 100_000, "http")
@example("nbfolio=\0; nbfolio==", "http")
def test_no_cookie_header_is_an_error_and_few_ids_are_looked_at(header: str, scheme: Any) -> None:
    client = Client("10.0.0.1", scheme, "localhost", "", True)
    ids = Cookies("/db", 1).session_ids({"HTTP_COOKIE": header}, client)
    assert len(ids) <= 4 and all(ids)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["", "/db"]))
def test_no_name_of_a_user_can_add_to_a_cookie(name: str, base_path: str) -> None:
    name = name.encode(errors="replace").decode()
    client = Client("10.0.0.1", "https", "localhost", "", True)
    for header, value in Cookies(base_path, 60).begin(client, "id", name):
        assert header == "Set-Cookie"
        assert re.fullmatch(r"[A-Za-z_-]+=[A-Za-z0-9._~%-]*(; [A-Za-z-]+(=[A-Za-z0-9/]+)?){4,5}", value)
    assert unquote(value.partition(";")[0].partition("=")[2]) == name


# No way to guess


def test_nobody_learns_which_names_there_are(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    verify = PasswordHasher.verify

    def noted(self: PasswordHasher, hash: Any, password: Any) -> Any:
        verified.append(hash.split("$")[:4])
        return verify(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    pages = [site.form(name, "wrong password") for name in ("ada", "eve")]
    assert [page.status for page in pages] == [401, 401]
    assert pages[0].text.replace('value="ada"', 'value="eve"') == pages[1].text
    headers = [[pair for pair in page.headers if pair[0] != "X-Request-Id"] for page in pages]
    assert headers[0] == headers[1]
    assert len(verified) == 2
    assert verified[0] == verified[1]


def test_too_many_failures_stop_one_address_and_nobody_else(site: Site) -> None:
    for _ in range(PER_USER):
        assert site.form(password="wrong").status == 401
    stopped = site.form()
    assert stopped.status == 429
    assert 0 < int(stopped["retry-after"] or 0) <= 600
    assert 'role="alert"' in stopped.text and "Try again in 10 minutes." in stopped.text
    assert stopped.cookies == {}
    site.accept = "*/*"
    refused = site.script({"username": "ada", "password": "lovelace"})
    assert (refused.status, refused.json()["status"]) == (429, 429)
    assert refused["retry-after"]
    site.client = replace(site.client, address="10.0.0.2")
    assert site.form().status == 302


def test_guessing_names_stops_the_address(site: Site) -> None:
    for number in range(PER_ADDRESS):
        assert site.form(f"user {number}", "x").status == 401
    assert site.form().status == 429


def test_people_who_log_in_often_are_not_stopped(site: Site) -> None:
    assert {site.form().status for _ in range(2 * PER_ADDRESS)} == {302}


def test_when_too_many_log_in_at_once_the_attempt_does_not_count(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(name: str, password: str) -> bool:
        raise BusyError("Too many people are logging in. Try again in a moment.")

    with monkeypatch.context() as patched:
        patched.setattr(site.logins.accounts, "check", busy)
        answers = [site.form() for _ in range(PER_USER + 1)]
    assert {answer.status for answer in answers} == {503}
    assert answers[0]["retry-after"] == "5"
    assert "Too many people" in answers[0].text
    assert site.form().status == 302


def test_the_log_names_no_password_and_no_name_that_may_be_one(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    site.form("my-secret-password", "x")
    site.form("ada", "my-secret-password")
    site.form()
    said = [record.getMessage() for record in caplog.records if record.name == "shim.login"]
    assert said == [
        "A login from 10.0.0.1 as nobody known failed.",
        "A login from 10.0.0.1 as 'ada' failed.",
        "'ada' logged in from 10.0.0.1.",
    ]
    assert "my-secret-password" not in caplog.text


# Hostile bodies


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("", b"username=ada&password=lovelace", 415),
        ("text/plain", b"username=ada&password=lovelace", 415),
        ("multipart/form-data; boundary=x", b"", 415),
        ("application/json-seq", b"{}", 415),
        (FORM, b"x" * (LONGEST_BODY + 1), 413),
        ("application/json", b" " * (LONGEST_BODY + 1), 413),
        (FORM, b"", 401),
        (FORM, b"username=ada", 401),
        (FORM, b"password=lovelace", 401),
        (FORM, b"username=ada&password=", 401),
        (FORM, b"username=ada%00&password=lovelace", 401),
        (FORM, b"username=ada&password=lovelace%00", 401),
        (FORM, b"username=\xff&password=x", 400),
        (FORM, b"username=%ff&password=x", 400),
        (FORM, b"a=1&" * 1000, 400),
        (FORM, b"&" * LONGEST_BODY, 400),
        (FORM, b"username=" + b"x" * 16000 + b"&password=x", 401),
        (FORM, b"username=ada&password=" + b"x" * 16000, 401),
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"null", 400),
        ("application/json", b'"ada"', 400),
        ("application/json", b'{"username": "ada"}', 400),
        ("application/json", b'{"username": "ada", "password": null}', 400),
        ("application/json", b'{"username": ["ada"], "password": "lovelace"}', 400),
        ("application/json", b'{"username": true, "password": 1}', 400),
        ("application/json", b"\xff\xfe{\0}\0", 400),
        ("application/json", b'{"username": "\xff", "password": "x"}', 400),
        ("application/json", b"[" * LONGEST_BODY, 400),
        ("application/json", b"1" * LONGEST_BODY, 400),
        ("application/json", b'{"username": "\\ud800", "password": "\\udfff"}', 401),
        ("application/json", b'{"username": "ada\\u0000", "password": "lovelace"}', 401),
        ("application/json", b'{"username": "", "password": ""}', 401),
    ],
)
def test_what_is_no_login_is_refused_in_a_sentence(site: Site, kind: str, body: bytes, status: int) -> None:
    for accept in (BROWSER, "*/*"):
        site.accept = accept
        answer = site("/login", "POST", body, kind)
        assert (answer.status, answer.cookies) == (status, {})
        assert b"Traceback" not in answer.body
        assert b"\0" not in answer.body
        assert b"lovelace" not in answer.body
        if accept == "*/*" and kind != FORM:
            assert answer.json()["message"].endswith(".")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "٣", "9" * 30])
def test_a_length_that_is_none_is_refused(site: Site, length: str) -> None:
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/login", "CONTENT_TYPE": FORM, "CONTENT_LENGTH": length}
    environ |= {"wsgi.input": BytesIO(b"x"), "HTTP_ACCEPT": "*/*"}  # type: ignore[dict-item]
    setup_testing_defaults(environ)
    started: list[str] = []
    list(site._front(environ, lambda status, headers, exc_info=None: started.append(status)))  # type: ignore[arg-type, return-value]
    assert started == ["400 Bad Request"]


def test_parameters_and_case_of_a_content_type_do_not_matter(site: Site) -> None:
    body = b"username=ada&password=lovelace"
    assert site("/login", "POST", body, "Application/X-WWW-Form-Urlencoded; charset=UTF-8").status == 302
    body = b'{"username": "ada", "password": "lovelace"}'
    assert site("/login/", "POST", body, "application/json;charset=utf-8").status == 200


# Where a login leads back to

EVIL = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%2f%2fevil.example",
    "/%2Fevil.example",
    "/%5cevil.example",
    "/x/%5c%5cevil.example",
    "https://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/x\r\nSet-Cookie: a=b",
    "/x%0d%0aSet-Cookie:%20a=b",
    "/x\0",
    "/x%00",
    "/\t/evil.example",
    "/%09/evil.example",
    " /x",
    "/x y",
    "/été",
    "/../x",
    "/a/../../x",
    "/%2e%2e/x",
    "/.%2E/x",
    "/a/%2e%2e%2f..%2fx",
    "/./x",
    "\ud800",
    "/\u2028",
    "?x",
    "#x",
    ".",
    "",
    "/" + "x" * LONGEST,
]  # fmt: skip


@pytest.mark.parametrize("base_path", ["", "/db"])
@pytest.mark.parametrize("target", EVIL)
def test_a_target_that_could_leave_the_site_becomes_its_root(target: str, base_path: str) -> None:
    for asked in {target, f"{base_path}{target}"}:
        assert return_target(asked, base_path) == f"{base_path}/"


@pytest.mark.parametrize(
    "target", ["/", "/other/", "/dbx/", "/db", "/db?x", "/db/../other/", "/db/%2e%2e/other/", "/dashboards/"]
)
def test_another_prefix_is_another_site(target: str) -> None:
    assert return_target(target, "/db") == "/db/"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/dashboards/with%20space/",
        "/dashboards/%C3%A9t%C3%A9/?a=http://other.example//&b=%0d%5c..#part-%C3%A9",
        "/dashboards/100%25/",
        "/dashboards/a.b/..c/d..",
        "/%252e%252e/",
    ],
)
def test_pages_of_the_site_are_led_back_to(target: str) -> None:
    assert return_target(target, "") == target
    assert return_target(f"/db{target}", "/db") == f"/db{target}"
    assert return_target(f"/db{target}", "") == f"/db{target}"


def as_browsers_do(location: str, base: str) -> str:
    """The URL that a browser goes to, by the rules of the URL standard where they differ from Python's."""
    location = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33)))))
    path, mark, rest = location.partition("?")
    path = re.sub("%2e", ".", path, flags=re.IGNORECASE).replace("\\", "/")
    path = re.sub(r"^/{2,}", "//", path)
    return urljoin(base, path + mark + rest)


PIECES = st.lists(
    st.sampled_from(
        ["/", "//", "\\", "..", ".", "%2f", "%2F", "%5c", "%2e", "%00", "%0a", "%25", "\r\n", "\t", "\0", " ", "@", ":", "?", "#", ";", "https:", "javascript:", "evil.example", "db", "/db/", "dashboards", "é"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(PIECES | st.text() | PIECES.map("/db/".__add__), st.sampled_from(["", "/db"]))
def test_whatever_is_asked_for_the_redirect_stays_on_the_site(asked: str, base_path: str) -> None:
    target = return_target(asked, base_path)
    assert re.fullmatch(r"[!-~]+", target)
    for decoded in (target, "".join((unquote(target.partition("?")[0]), *target.partition("?")[1:]))):
        went = urlsplit(as_browsers_do(decoded, "https://site.example/db/login"))
        assert (went.scheme, went.netloc) == ("https", "site.example")
        assert went.path.startswith(f"{base_path}/")
    assert return_target(target, base_path) == target


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255)) | PIECES.map("next=".__add__))
def test_no_query_of_the_login_page_is_an_error(query: str) -> None:
    target = asked_target(query, "")
    assert target == return_target(target, "")


@pytest.mark.parametrize("target", EVIL)
def test_hostile_targets_go_nowhere_by_any_route(site: Site, target: str) -> None:
    sent = quote(target, safe="", errors="replace")
    cookie = site.log_in()
    assert site(f"/login?next={sent}", cookie=cookie)["location"] == "/"
    assert 'name="next" value="/"' in site(f"/login?next={sent}").text
    body = f"username=ada&password=lovelace&next={sent}".encode()
    assert site("/login", "POST", body, FORM)["location"] == "/"


# Where the front sends strangers


def asked(path: str, query: str = "", method: str = "GET") -> dict[str, str]:
    return {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/", "", "/db/login"),
        ("/dashboards/a/", "", "/db/login?next=/db/dashboards/a/"),
        ("/dashboards/a b/", "x=1&y=%2F", "/db/login?next=/db/dashboards/a%2520b/%3Fx%3D1%26y%3D%252F"),
        ("/", "x", "/db/login?next=/db/%3Fx"),
        ("/report", "", "/db/login?next=/db/report"),
        ("/api/kernels", "", "/db/login"),
        ("/_api/notebooks/a", "", "/db/login"),
        ("/login", "next=/db/x", "/db/login"),
        ("/logout/", "", "/db/login"),
        ("//evil.example/x", "", "/db/login"),
        ("/\\evil.example", "", "/db/login"),
        ("/../x", "", "/db/login"),
        ("/\xff", "", "/db/login"),
        ("/" + "x" * 5000, "", "/db/login"),
        ("", "", "/db/login"),
    ],
)
def test_strangers_come_back_to_the_page_they_asked_for(path: str, query: str, expected: str) -> None:
    for method in ("GET", "HEAD"):
        assert login_location(asked(path, query, method), "/db") == expected
    for method in ("POST", "DELETE"):
        assert login_location(asked(path, query, method), "/db") == "/db/login"


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
@example("/dashboards/été/".encode().decode("latin-1"), "q=ü&next=//x")
def test_the_way_to_the_login_and_back_is_the_page_or_the_root(path: str, query: str) -> None:
    place = login_location(asked(path, query), "/db")
    assert re.fullmatch(r"/db/login(\?next=/db/[!-~]*)?", place)
    back = asked_target(place.partition("?")[2], "/db")
    if "?" in place:
        assert back.startswith("/db/") and back != "/db/"
        assert unquote(back.partition("?")[0]) == "/db/" + path.removeprefix("/").encode("latin-1").decode()


# The second provider


PROXY = '[auth]\nuser_header = "X-Forwarded-User"\n'


def test_without_users_and_header_everybody_may_read(tmp_path: Path) -> None:
    assert not wants_logins(load_config(tmp_path, None, {}, {}))


def test_a_trusted_proxy_says_who_reads(make: Make) -> None:
    site = make(PROXY)
    assert site.user("") is None
    assert site("/login").status == 403
    assert site.form().status == 403
    site.client = replace(site.client, user="eve")
    assert site.user("") == "eve"
    assert (site("/login?next=/x").status, site("/login?next=/x")["location"]) == (302, "/x")
    assert site("/logout", "POST").status == 302


def test_a_name_from_a_proxy_counts_only_when_the_settings_name_the_header(site: Site) -> None:
    site.client = replace(site.client, user="eve")
    assert site.user("") is None


def test_proxy_and_password_can_be_used_together_and_the_proxy_comes_first(make: Make) -> None:
    site = make(PROXY + USERS)
    cookie = site.log_in()
    assert site.user(cookie) == "ada"
    site.client = replace(site.client, user="eve")
    assert site.user(cookie) == "eve"


def test_every_try_to_log_in_is_counted(site: Site) -> None:
    assert site.form(password="wrong").status == 401
    site.log_in()
    assert site.tried == [False, True]
