"""The HTTP interface as data: every operation with its answers, and the schemas of what is sent; `openapi` words it."""

from __future__ import annotations

from collections.abc import Mapping

from shim.describing import Access, Answer, Content, Json, Operation, json_answer, number, record, schema, text
from shim.instances import interface as instances
from shim.kernels import interface as kernels

ABOUT = """\
Notebooks as pages, and the ways to publish them.

A `path` may hold slashes, sent as they are or as `%2F`. Addresses of the program, unlike those of pages and files, \
are the same with a slash at the end. HEAD is answered wherever GET is; other methods than those described get 405.

Requests that browsers send for pages of other sites change nothing, they get 403. Requests that are too large or too \
slow are refused before anything else happens (400, 408, 413, 431, 501)."""

REFUSALS = {
    400: "The request cannot be understood, the path cannot be used, or the server does not answer for that host.",
    401: "It takes a login, or a token in the Authorization header.",
    403: "A page of another site or a service worker asks for it, the token lacks the scope, or the page is not live.",
    404: "There is nothing of that name.",
    409: "The name is that of a folder with content of its own or taken, or the page was updated meanwhile.",
    412: "The condition in the head of the request does not hold.",
    413: "The body of the request is larger than it may be.",
    415: "The body of the request is of a kind that is not taken here.",
    416: "The file has no such part.",
    422: "The file cannot be published; the message says why.",
    426: "The address is for WebSockets alone.",
    429: "There were too many failed logins.",
    500: "Something went wrong; the log of the server says what, under the id of the request.",
    502: "What runs kernels or instances does not answer as it should.",
    503: "The site is being built, there is too much to do, or the instance does not run yet.",
    507: "The server has no space left.",
}
"""What errors mean; all have the same body."""
ANYWHERE = (400, 403, 500)
"""What every operation may refuse."""


_NAME = text("Name of the user.")
_PASSWORD = text("Password of the user.", format="password")
SCHEMAS: Json = {
    "Error": record(
        "message status url error",
        message=text("What is wrong, and what to do about it."),
        status={"type": "integer"},
        url=text("The path that was asked for, below the prefix of the site."),
        error=text("The usual name of the status."),
        queue=number("Place in the line for a kernel, 1 for the first; only where there is one."),
    ),
    "Status": record("status", status=text("How the server is.", enum=["ok", "ready"])),
    "Upload": record(
        "file",
        file=text("A notebook (.ipynb) or a bundle (.zip with index.ipynb in it).", format="binary"),
    ),
    "Published": record(
        "message status url",
        message=text("That it worked."),
        status={"const": 201},
        url=text("The address of the upload below `/_api`."),
        link=text("The public address of the page; drafts have none, nor has an empty server.public_link_pattern."),
    ),
    "Notebooks": record("notebooks", notebooks={"type": "array", "items": schema("Notebook")}),
    "Notebook": record(
        "path title kind published message link",
        path=text("Path of the dashboard."),
        title=text("Title of its page."),
        kind=text("Of bundles zip or folder.", enum=["notebook", "zip", "folder", "index"]),
        published={"type": "boolean"},
        message=text("Why it is not published, or what its author may want to mend."),
        link={"type": ["string", "null"], "description": "The public address of its page."},
    ),
    "Credentials": record("username password", username=_NAME, password=_PASSWORD),
    "LoginForm": record(
        "username password", username=_NAME, password=_PASSWORD, next=text("Where to go then: a path of this site.")
    ),
    "User": record("user", user=_NAME),
    **kernels.SCHEMAS,
    **instances.SCHEMAS,
}  # fmt: skip

PARAMETERS: Json = {
    "path": text("Path of a dashboard, a folder or a file.", minLength=1),
    "name": text("Name of a file; pages have links to it.", minLength=1),
    **kernels.PARAMETERS,
    **instances.PARAMETERS,
}
QUERY: Json = instances.QUERY
REQUEST_HEADERS: Json = {
    "If-None-Match": text("`*`: publish only where there is no dashboard of that name.", enum=["*"]),
    "Range": text("The part of the file that is wanted, like `bytes=0-99`."),
    **kernels.REQUEST_HEADERS,
}

_ANYTHING: Content = {"*/*": {}}
_HTML: Content = {"text/html": {}}
_NOTHING: Content = {}
_SITE = Answer("On to the site.", _NOTHING, ("Location",))
_FILE = {
    200: Answer("The file.", _ANYTHING, ("ETag",)),
    206: Answer("The part of it that was asked for.", _ANYTHING, ("ETag", "Content-Range")),
    304: Answer("It is what the client has.", _NOTHING, ("ETag",)),
}
_PAGE = {**_FILE, 301: Answer("To the page, whose address ends with a slash.", _NOTHING, ("Location",))}
_SHORT = {**_PAGE, 302: Answer("To the dashboard, or to the login.", _NOTHING, ("Location",))}


def _read(path: str, summary: str, answers: Mapping[int, Answer], access: Access = "readers") -> Operation:
    """A file of the built site."""
    return Operation("get", path, summary, access, answers, (404, 412, 416, 503), ("Range",))


SITE = (
    _read("/", "The root of the site", _FILE),
    _read("/dashboards/", "The same", _FILE),
    _read("/dashboards/{path}", "A page, or a file beside it", _PAGE),
    _read("/dashboards-plain/", "The root of the site without frame, to embed it elsewhere", _FILE),
    _read("/dashboards-plain/{path}", "A page without frame, or a file beside it", _PAGE),
    _read("/media/{name}", "An image out of a notebook", _FILE),
    _read("/assets/{name}", "A style or script of the theme", _FILE, "everybody"),
    _read("/{path}", "Short address of a dashboard, or a file like robots.txt", _SHORT),
)
PUBLISHING = (
    Operation(
        "get", "/_api/notebooks", "All dashboards by path, published or not", "publish",
        {200: json_answer("All dashboards.", "Notebooks")}, (503,),
    ),
    Operation(
        "post", "/_api/notebooks/{path}", "Publish a dashboard, or replace it", "publish",
        {201: json_answer("Its page is served.", "Published")}, (409, 412, 413, 415, 422, 503, 507),
        ("If-None-Match",), {"multipart/form-data": schema("Upload")},
    ),
    Operation(
        "delete", "/_api/notebooks/{path}", "Delete a dashboard", "publish",
        {204: Answer("It is gone, and its page.", _NOTHING)}, (404, 503, 507),
    ),
    Operation(
        "delete", "/_api/cache", "Make all pages anew", "cache",
        {200: Answer("OK", {"text/plain": {"const": "OK"}})}, (503, 507),
    ),
    Operation(
        "delete", "/_api/cache/{path}", "Make one page anew; a name that nobody has is no error", "cache",
        {200: Answer("OK", {"text/plain": {"const": "OK"}})}, (503, 507),
    ),
)  # fmt: skip
LOGIN = (
    Operation("get", "/login", "The form", "everybody", {200: Answer("The form.", _HTML), 302: _SITE}),
    Operation(
        "post", "/login", "Log in, from the form or from a script", "everybody",
        {200: json_answer("Logged in, for scripts.", "User"), 302: _SITE}, (401, 413, 415, 429, 503), (),
        {"application/x-www-form-urlencoded": schema("LoginForm"), "application/json": schema("Credentials")},
    ),
    Operation("get", "/logout", "A page that asks", "everybody", {200: Answer("The page.", _HTML), 302: _SITE}),
    Operation(
        "post", "/logout", "Log out", "everybody",
        {204: Answer("Logged out, for scripts.", _NOTHING), 302: _SITE},
    ),
)  # fmt: skip
OPERATION = (
    Operation(
        "get", "/healthz", "Whether the server is alive", "everybody", {200: json_answer("It is.", "Status")},
    ),
    Operation(
        "get", "/readyz", "Whether the site is built and kept up to date", "everybody",
        {200: json_answer("It is.", "Status")}, (503,),
    ),
    Operation(
        "get", "/metrics", "What the server counts, for Prometheus", "operators",
        {200: Answer("The metrics.", {"text/plain": {}})},
    ),
    Operation(
        "get", "/openapi.json", "This description", "operators",
        {200: Answer("It is OpenAPI 3.1.", {"application/json": {}})},
    ),
)  # fmt: skip
GROUPS = {
    "site": SITE,
    "publishing": PUBLISHING,
    "kernels": kernels.OPERATIONS,
    "instances": instances.OPERATIONS,
    "opening": instances.OPENING,
    "login": LOGIN,
    "operation": OPERATION,
}
"""All there is; kernels, instances and logins only where there are any."""
ENVELOPED = "instances"
"""The group whose errors come in the envelope of its answers."""
