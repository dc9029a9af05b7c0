"""A real nginx in front of a real run-shim: prefix kept and prefix stripped, TLS at the proxy, and who is believed.

nginx listens on 127.0.0.1 and is the one listed proxy; visitors come from 127.0.0.2.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from pathlib import Path
from socket import create_connection, create_server
from threading import Thread
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from argon2 import PasswordHasher
from making import code, display, markdown, notebook, png, png64, write
from sites import urls_in

from shim.client import Client, Proxies
from shim.server import Server

HOST = "notebooks.example.org"
VISITOR = "127.0.0.2"
TOKEN = "the token of these tests"
PASSWORD = "correct horse"
HTML = {"Accept": "text/html"}
PAGES = ("one", "with space", "100%", "été", "folder/two", "bundle")
MODES = ("/db", "[/db]")

NGINX = """\
daemon off;
master_process off;
pid "{folder}/nginx.pid";
error_log "{folder}/error.log";
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path "{folder}/body";
  proxy_temp_path "{folder}/proxy";
  fastcgi_temp_path "{folder}/fastcgi";
  uwsgi_temp_path "{folder}/uwsgi";
  scgi_temp_path "{folder}/scgi";
  client_max_body_size 0;
  ssl_certificate "{certificate}";
  ssl_certificate_key "{certificate}";
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_request_buffering {buffering};
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-User $remote_user;
    location /db/ {{ proxy_pass http://127.0.0.1:{upstream}{path}; {more} }}
  }}
}}
"""


def _tool(name: str) -> str:
    """A program of this machine; skipped without it, unless this is CI."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found
    message = f"no {name} on this machine (Debian: apt-get install {name})"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1, signed by itself."""
    file = tmp_path_factory.mktemp("tls") / "proxy.pem"
    key, signed = file.with_suffix(".key"), file.with_suffix(".crt")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=proxy", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [_tool("openssl"), "req", "-x509", *curve, *names, "-keyout", str(key), "-out", str(signed)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    file.write_bytes(key.read_bytes() + signed.read_bytes())
    return file


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def location(self) -> str | None:
        return self.headers["Location"]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A site behind nginx, asked by somebody on another machine."""

    plain: int
    tls: int
    upstream: int
    context: ssl.SSLContext

    def __call__(
        self,
        path: str,
        method: str = "GET",
        *,
        tls: bool = False,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        source: str = VISITOR,
    ) -> Answer:
        address = (source, 0)
        if tls:
            connection: HTTPConnection = HTTPSConnection(
                "127.0.0.1", self.tls, timeout=60, source_address=address, context=self.context
            )
        else:
            connection = HTTPConnection("127.0.0.1", self.plain, timeout=60, source_address=address)
        return _ask(connection, path, method, body, {"Host": HOST, **headers})

    def around(self, path: str, headers: Mapping[str, str], source: str = VISITOR) -> Answer:
        """The answer to somebody who asks the server itself."""
        connection = HTTPConnection("127.0.0.1", self.upstream, timeout=60, source_address=(source, 0))
        return _ask(connection, path, "GET", None, {"Host": HOST, **headers})


def _ask(connection: HTTPConnection, path: str, method: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def _free_ports() -> tuple[int, int]:
    with create_server(("127.0.0.1", 0)) as one, create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def behind_nginx(
    folder: Path, certificate: Path, upstream: int, *, strips: bool = False, more: str = ""
) -> Iterator[Site]:
    """nginx before a port of this machine."""
    folder.mkdir()
    context = ssl.create_default_context(cafile=str(certificate))
    for _ in range(5):  # somebody else may take a port that was free
        plain, tls = _free_ports()
        settings = {"plain": plain, "tls": tls, "upstream": upstream, "path": "/" if strips else "", "more": more}
        buffering = "off" if strips else "on"  # both ways in which uploads arrive
        text = NGINX.format(folder=folder, certificate=certificate, buffering=buffering, **settings)
        file = write(folder, "nginx.conf", text)
        with open(folder / "stderr.log", "wb") as log:
            command = [_tool("nginx"), "-p", str(folder), "-c", str(file)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            if _listens(process, plain) and _listens(process, tls):
                yield Site(plain, tls, upstream, context)
                return
        finally:
            process.terminate()
            process.wait(30)
    pytest.fail(f"nginx does not start: {(folder / 'stderr.log').read_text()}")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), create_connection(("127.0.0.1", port), timeout=60):
            return True
        time.sleep(0.01)
    return False


@contextmanager
def run_shim(folder: Path, *args: str) -> Iterator[int]:
    """The port of run-shim in a folder, once its site is built."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}
    command = [sys.executable, "-m", "shim", str(folder), "--port", "0", *args]
    with open(folder.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=ours)
    assert process.stdout
    try:
        address = urlsplit(process.stdout.readline().strip())
        assert address.port, folder.with_suffix(".log").read_text()
        _wait_until_ready(address.port, address.path)
        yield address.port
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _wait_until_ready(port: int, prefix: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        if _ask(connection, f"{prefix}readyz", "GET", None, {"Host": "127.0.0.1"}).status == 200:
            return
        time.sleep(0.05)
    pytest.fail("the site is not built")


def settings(folder: Path, base_url: str, more: str = "") -> None:
    """The settings file of a site behind our nginx."""
    server = f'trusted_proxies = ["127.0.0.1"]\nallowed_hosts = ["{HOST}", "127.0.0.1"]\n'
    file = write(folder, "site.toml", f'[site]\nbase_url = "{base_url}"\n[server]\n{server}[auth]\n')
    file.write_text(f'{file.read_text()}api_token = "{TOKEN}"\n{more}')
    file.chmod(0o600)


def form(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an upload."""
    head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=edge", "Authorization": f"token {TOKEN}"}
    return head.encode() + content + b"\r\n--edge--\r\n", headers


def upload(site: Site, path: str) -> Answer:
    """The answer to the upload of a small notebook."""
    body, headers = form("any.ipynb", json.dumps(notebook(markdown("Text"))).encode())
    return site(f"/db/_api/notebooks/{path}", "POST", body=body, headers=headers)


@pytest.fixture(scope="module", params=MODES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Site]:
    """A site that everybody may read, in both modes."""
    folder = tmp_path_factory.mktemp("open")
    source = folder / "source"
    settings(source, request.param)
    for page in PAGES[:-1]:
        write(source, f"{page}.ipynb", notebook(markdown(f"# About {page}")))
    write(source, "chart.ipynb", notebook(code("draw()", display({"image/png": png64(40, 40)}))))
    write(source, "bundle/index.ipynb", notebook(markdown("![picture](shots/first%20shot.png)")))
    write(source, "bundle/shots/first shot.png", png(30, 30))
    with run_shim(source) as port:
        strips = request.param.startswith("[")
        with behind_nginx(folder / "nginx", certificate, port, strips=strips) as site:
            # Renderers start with the first upload, and stay: they belong to no single test.
            assert upload(site, "first").status == 201
            yield site


# Pages


@pytest.mark.parametrize("tree", ["dashboards", "dashboards-plain"])
@pytest.mark.parametrize("page", PAGES)
def test_pages_are_there_below_the_prefix(site: Site, tree: str, page: str) -> None:
    answer = site(f"/db/{tree}/{quote(page)}/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page == "bundle" or f"About {page}".encode() in answer.body


def test_every_link_of_every_page_stays_below_the_prefix_and_works(site: Site) -> None:
    seen: dict[str, Answer] = {}
    left = ["/db/", "/db/dashboards-plain/"]
    while left:
        path = left.pop()
        if path in seen:
            continue
        answer = seen[path] = site(path)
        assert answer.status == 200, path
        if answer.headers["Content-Type"].startswith("text/html"):
            for url in urls_in(answer.body.decode()):
                target = urlsplit(urljoin(f"http://{HOST}{path}", url))
                if target.netloc == HOST:
                    assert target.path.startswith("/db/"), f"{path} refers to {url}"
                    left.append(target.path)
    kinds = {path.split("/")[2] for path in seen}
    assert {"dashboards", "dashboards-plain", "assets", "media"} <= kinds
    assert {f"/db/dashboards/{quote(page)}/index.html" for page in PAGES} <= set(seen)
    assert "/db/dashboards/bundle/shots/first%20shot.png" in seen


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("dashboards/one", 301, "/db/dashboards/one/"),
        ("dashboards/one?a=1&b=%20", 301, "/db/dashboards/one/?a=1&b=%20"),
        ("dashboards/with%20space", 301, "/db/dashboards/with%20space/"),
        ("dashboards/100%25", 301, "/db/dashboards/100%25/"),
        ("dashboards/%C3%A9t%C3%A9", 301, "/db/dashboards/%C3%A9t%C3%A9/"),
        ("dashboards-plain/folder/two", 301, "/db/dashboards-plain/folder/two/"),
        ("dashboards/bundle", 301, "/db/dashboards/bundle/"),
        ("one", 302, "/db/dashboards/one/"),
        ("with%20space/", 302, "/db/dashboards/with%20space/"),
        ("folder/two?x=1", 302, "/db/dashboards/folder/two/?x=1"),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_redirects_are_path_absolute_with_the_prefix(
    site: Site, path: str, status: int, location: str, tls: bool
) -> None:
    answer = site(f"/db/{path}", tls=tls)
    assert (answer.status, answer.location) == (status, location)
    assert site(location, tls=tls).status == 200


def test_what_is_not_there_is_404_with_a_way_back_below_the_prefix(site: Site) -> None:
    answer = site("/db/dashboards/nothing/", headers=HTML)
    assert answer.status == 404
    assert b'href="/db/"' in answer.body
    assert site("/db/nothing").json()["status"] == 404


def test_the_prefix_is_there_once(site: Site) -> None:
    assert site("/db/db/").status == 404
    assert site("/db/").status == 200
    assert urlsplit(site("/db").location or "").path == "/db/"


@pytest.mark.parametrize("host", ["evil.example", f"{HOST}.evil.example", "evil.example:80"])
def test_a_foreign_host_is_refused_through_the_proxy_too(site: Site, host: str) -> None:
    for tls in (False, True):
        answer = site("/db/dashboards/one", tls=tls, headers={"Host": host})
        assert (answer.status, answer.location) == (400, None)
    assert site.around("/db/", {"X-Forwarded-Host": host}, "127.0.0.1").status == 400


def test_escapes_do_not_lead_out_of_the_site(site: Site) -> None:
    for path in (
        "%2e%2e/site.toml",
        "..%2fsite.toml",
        "dashboards/%2e%2e%2f%2e%2e%2fsite.toml",
        "dashboards/..%5csite.toml",
    ):
        answer = site(f"/db/{path}")
        assert answer.status in (400, 404)
        assert TOKEN.encode() not in answer.body


# Who is believed


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Site]:
    """A server of this process behind nginx, which answers with the client it sees."""
    proxies = Proxies(("127.0.0.1",), "X-Forwarded-User")

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        body = json.dumps(vars(proxies.client(environ))).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    server = Server(app, "127.0.0.1", 0)
    thread = Thread(target=server.run)
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(server.stop)
        folder = tmp_path_factory.mktemp("echo") / "nginx"
        yield stack.enter_context(behind_nginx(folder, certificate, server.port))


SPOOFED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-User": "root",
    "X_Forwarded_User": "root",
}


@pytest.mark.parametrize("headers", [{}, SPOOFED])
@pytest.mark.parametrize(("tls", "scheme"), [(False, "http"), (True, "https")])
def test_a_listed_proxy_says_who_asks_and_visitors_do_not(
    echo: Site, tls: bool, scheme: str, headers: dict[str, str]
) -> None:
    client = Client(**echo("/db/", tls=tls, headers=headers).json())
    assert client == Client(VISITOR, "https" if scheme == "https" else "http", HOST, "", is_direct=False)


def test_somebody_who_goes_around_the_proxy_is_not_believed(echo: Site) -> None:
    client = Client(**echo.around("/", SPOOFED).json())
    assert client == Client(VISITOR, "http", HOST, "", is_direct=False)
    assert Client(**echo.around("/", {}).json()).is_direct


# Publishing


@pytest.mark.parametrize(("tls", "scheme"), [(False, "http"), (True, "https")])
def test_an_upload_answers_with_a_link_that_works(site: Site, tls: bool, scheme: str) -> None:
    picture = display({"image/png": png64(700, 700, 7)})
    content = json.dumps(notebook(markdown("Published"), code("draw()", picture))).encode()
    body, headers = form("any.ipynb", content)
    answer = site(f"/db/_api/notebooks/new/a%20page%20by%20{scheme}", "POST", tls=tls, body=body, headers=headers)
    assert answer.status == 201, answer.body
    assert answer.json() == {
        "message": "Notebook successfully uploaded",
        "status": 201,
        "url": f"/notebooks/new/a%20page%20by%20{scheme}",
        "link": f"{scheme}://{HOST}/db/dashboards/new/a%20page%20by%20{scheme}",
    }
    path = urlsplit(answer.json()["link"]).path
    assert b"Published" in site(f"{path}/", tls=tls).body
    assert site(f"/db/_api/notebooks/new/a%20page%20by%20{scheme}", "DELETE", tls=tls, headers=headers).status == 204
    assert site(f"{path}/", tls=tls).status == 404


def test_the_link_has_the_port_that_was_asked_for(site: Site) -> None:
    body, headers = form("a.ipynb", json.dumps(notebook(markdown("Text"))).encode())
    answer = site("/db/_api/notebooks/port", "POST", body=body, headers={**headers, "Host": f"{HOST}:8443"})
    assert answer.json()["link"] == f"http://{HOST}:8443/db/dashboards/port"


def test_without_a_token_nothing_is_published_through_the_proxy(site: Site) -> None:
    body, headers = form("a.ipynb", json.dumps(notebook(markdown("Text"))).encode())
    for wrong in ({}, {"Authorization": "token wrong"}):
        answer = site(
            "/db/_api/notebooks/refused", "POST", body=body, headers={"Content-Type": headers["Content-Type"], **wrong}
        )
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="nbfolio"')
    assert site("/db/dashboards/refused/").status == 404


@pytest.mark.parametrize(("tls", "scheme"), [(False, "http"), (True, "https")])
def test_pages_of_other_sites_publish_nothing_even_with_the_token(site: Site, tls: bool, scheme: str) -> None:
    body, headers = form("a.ipynb", json.dumps(notebook(markdown("Text"))).encode())
    for foreign in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"{scheme}://{HOST}:4000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": f"{scheme}://{HOST}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    ):
        answer = site("/db/_api/notebooks/foreign", "POST", tls=tls, body=body, headers={**headers, **foreign})
        assert answer.status == 403
    own = {"Origin": f"{scheme}://{HOST}", "Sec-Fetch-Site": "same-origin"}
    answer = site(f"/db/_api/notebooks/own-{scheme}", "POST", tls=tls, body=body, headers={**headers, **own})
    assert answer.status == 201


# Login


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a site of one page, built."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("index.html", "dashboards/a b/index.html", "dashboards/a b/data.csv", "media/0.png", "assets/0.css"):
        write(folder / "_site", name, b"Secret" * 200)
    return folder


@pytest.fixture(scope="module", params=MODES)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, finished: Path, certificate: Path
) -> Iterator[Site]:
    """A site with logins, in both modes."""
    folder = tmp_path_factory.mktemp("guarded")
    source = folder / "source"
    shutil.copytree(finished, source)
    password_hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    settings(source, request.param, f'[[auth.user]]\nname = "ada"\npassword_hash = "{password_hash}"\n')
    with run_shim(source, "--no-build") as port:
        strips = request.param.startswith("[")
        with behind_nginx(folder / "nginx", certificate, port, strips=strips) as site:
            yield site


def log_in(
    site: Site, password: str = PASSWORD, target: str = "", *, tls: bool = True, source: str = VISITOR, **headers: str
) -> Answer:
    """The answer to a login form."""
    body = f"username=ada&password={quote(password)}&next={quote(target)}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return site("/db/login", "POST", tls=tls, body=body, headers={**HTML, **kind, **headers}, source=source)


def session_of(answer: Answer) -> str:
    """The cookies that a login set, as a browser sends them."""
    return "; ".join(cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie", []))


@pytest.mark.parametrize("tls", [False, True])
def test_a_login_leads_back_to_the_page_with_its_prefix(guarded: Site, tls: bool) -> None:
    refused = guarded("/db/dashboards/a%20b/?x=1", tls=tls, headers=HTML)
    assert refused.status == 302
    login = urlsplit(refused.location or "")
    assert (login.netloc, login.path) == ("", "/db/login")
    assert guarded(refused.location or "", tls=tls, headers=HTML).status == 200
    answer = log_in(guarded, target="/db/dashboards/a%20b/?x=1", tls=tls)
    assert (answer.status, answer.location) == (302, "/db/dashboards/a%20b/?x=1")
    page = guarded(answer.location or "", tls=tls, headers={**HTML, "Cookie": session_of(answer)})
    assert (page.status, b"Secret" in page.body) == (200, True)


def test_the_cookie_is_for_tls_where_the_proxy_speaks_tls_and_for_the_prefix(guarded: Site) -> None:
    for tls in (False, True):
        cookies = log_in(guarded, tls=tls).headers.get_all("Set-Cookie", [])
        session = next(cookie for cookie in cookies if "HttpOnly" in cookie)
        attributes = {part.strip() for part in session.split(";")[1:]}
        assert {"Path=/db", "HttpOnly", "SameSite=Lax"} <= attributes
        assert ("Secure" in attributes) is tls
        assert session.startswith("__Secure-") is tls


def test_visitors_cannot_say_that_there_is_tls(guarded: Site) -> None:
    answer = log_in(guarded, tls=False, **{"X-Forwarded-Proto": "https"})
    assert answer.status == 302
    assert "Secure" not in "".join(answer.headers.get_all("Set-Cookie", []))


def test_nothing_but_assets_and_health_is_read_without_a_login(guarded: Site) -> None:
    for path in ("", "dashboards/a%20b/", "dashboards/a%20b/data.csv", "media/0.png", "dashboards/a%20b", "nothing"):
        for headers in ({}, HTML, {"X-Forwarded-User": "ada"}, {"Cookie": "__Secure-nbfolio=x; nbfolio=x"}):
            answer = guarded(f"/db/{path}", tls=True, headers=headers)
            assert answer.status == (302 if headers == HTML else 401)
            assert b"Secret" not in answer.body
    assert guarded("/db/assets/0.css", tls=True).status == 200
    assert guarded("/db/healthz", tls=True).status == 200


@pytest.mark.parametrize(
    "target", ["//evil.example/", "/\\evil.example/", "https://evil.example/", "/elsewhere/", "x", ""]
)
def test_a_login_does_not_lead_out_of_the_prefix(guarded: Site, target: str) -> None:
    assert log_in(guarded, target=target).location == "/db/"


def test_a_wrong_password_and_a_foreign_page_do_not_log_in(guarded: Site) -> None:
    assert not session_of(log_in(guarded, "wrong"))
    foreign = log_in(guarded, Origin="https://evil.example")
    assert (foreign.status, session_of(foreign)) == (403, "")
    assert session_of(log_in(guarded, Origin=f"https://{HOST}"))


def test_a_logout_ends_the_session_and_keeps_the_prefix(guarded: Site) -> None:
    cookie = {"Cookie": session_of(log_in(guarded))}
    assert guarded("/db/", tls=True, headers=cookie).status == 200
    answer = guarded("/db/logout", "POST", tls=True, headers={**HTML, **cookie})
    assert (answer.status, answer.location) == (302, "/db/")
    assert guarded("/db/", tls=True, headers=cookie).status == 401


def test_failures_of_one_address_do_not_lock_out_another(guarded: Site) -> None:
    source = "127.0.0.3"
    for _ in range(100):
        if log_in(guarded, "wrong", source=source).status == 429:
            break
    else:
        pytest.fail("failures are not limited")
    # A visitor cannot pass for another one.
    assert log_in(guarded, source=source, **{"X-Forwarded-For": "203.0.113.9"}).status == 429
    assert log_in(guarded, source=VISITOR).status == 302


@pytest.mark.parametrize("path", ["metrics", "openapi.json"])
def test_a_proxy_on_this_machine_does_not_make_visitors_part_of_it(guarded: Site, path: str) -> None:
    for spoofed in ("127.0.0.1", "::1", "garbage"):
        assert guarded(f"/db/{path}", headers={"X-Forwarded-For": spoofed}).status == 401
    assert guarded(f"/db/{path}", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


# Login at the proxy


def test_the_proxy_may_say_who_is_logged_in(tmp_path: Path, finished: Path, certificate: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(finished, source)
    settings(source, "/db", 'user_header = "X-Forwarded-User"\n')
    write(tmp_path, "users", f"ada:{{PLAIN}}{PASSWORD}\n")
    asks = f'auth_basic "notebooks"; auth_basic_user_file "{tmp_path}/users";'
    ada = {"Authorization": "Basic YWRhOmNvcnJlY3QgaG9yc2U="}
    with run_shim(source, "--no-build", "-v") as port:
        with behind_nginx(tmp_path / "asks", certificate, port, more=asks) as site:
            assert site("/db/", tls=True, headers={"X-Forwarded-User": "ada"}).status == 401
            assert b"Secret" in site("/db/", tls=True, headers=ada).body
            assert site("/db/nothing", headers={**ada, "X-Forwarded-User": "root"}).status == 404
        with behind_nginx(tmp_path / "asks-not", certificate, port) as site:
            assert b"Secret" not in site("/db/", headers={"X-Forwarded-User": "ada"}).body
            assert b"Secret" not in site.around("/db/", {"X-Forwarded-User": "ada"}).body
    log = source.with_suffix(".log").read_text()
    assert "user=ada" in log
    assert "user=root" not in log
