"""The HTTP interface of kernels as data; see `shim.interface`."""

from __future__ import annotations

from collections.abc import Mapping

from shim.describing import Answer, Content, Json, Method, Operation, json_answer, number, record, schema, text

_TIME = text("A time.", format="date-time")
SCHEMAS: Json = {
    "Version": record("version", version=text("That of nbfolio.")),
    "Identity": record(
        "identity permissions",
        identity=record("username", username=text("Name of the user or token, `reader` without.")),
        permissions=record(""),
    ),
    "KernelStatus": record(
        "connections kernels last_activity started",
        connections=number("Open WebSockets of the caller."),
        kernels=number("Kernels of the caller."),
        last_activity=_TIME,
        started=_TIME,
    ),
    "KernelSpecs": record(
        "default kernelspecs",
        default=text("Name of the kernel of notebooks that name none."),
        kernelspecs={"type": "object", "additionalProperties": schema("KernelSpec")},
    ),
    "KernelSpec": record(
        "name spec resources",
        name=text("Name of the kernel."),
        spec=record("display_name language", display_name=text("Its title."), language=text("What it speaks.")),
        resources=record(""),
    ),
    "KernelWanted": record(
        "",
        path=text("Path of the page or its notebook in any form; the header goes before it."),
        query=text("Query of the page's address, with values for the parameters of the notebook."),
    ),
    "Kernel": record(
        "id name last_activity execution_state connections",
        id=text("Whoever has it may use the kernel, where nobody logs in."),
        name=text("Name of the kernel that runs."),
        last_activity=_TIME,
        execution_state=text("What it does: `starting`, `idle`, `busy`, ..."),
        connections=number("Open WebSockets."),
    ),
    "Kernels": {"type": "array", "items": schema("Kernel")},
    "SessionWanted": record(
        "",
        path=text("As for kernels."),
        query=text("As for kernels."),
        name=text("What the client calls the session."),
        type=text("What it is to the client; `notebook` unless it says so."),
    ),
    "SessionNames": record("", path=text("A new path."), name=text("A new name."), type=text("A new type.")),
    "Session": record(
        "id path name type kernel notebook",
        id=text("Of the session."),
        path=text("What the client gave as path."),
        name=text("What the client calls it."),
        type=text("What it is to the client."),
        kernel=schema("Kernel"),
        notebook=record("path name", path=text("The path again."), name=text("The name again.")),
    ),
    "Sessions": {"type": "array", "items": schema("Session")},
}  # fmt: skip
PARAMETERS: Json = {
    "kernel": text("Id of a kernel.", minLength=1),
    "session": text("Id of a session.", minLength=1),
}
REQUEST_HEADERS: Json = {
    "X-Jupyter-Notebook-Path": text("Path of the page or its notebook."),
    "X-Jupyter-Session-Id": text("What the client calls the visit of its page.", pattern="^[A-Za-z0-9-]{0,64}$"),
    "X-Nbfolio-Page-Version": text("That of the page that is shown, its `data-version`."),
}

_NOTHING: Content = {}
_STARTING = (404, 409, 413, 502, 503)
_VISIT = ("X-Jupyter-Session-Id",)
_START = ("X-Jupyter-Notebook-Path", "X-Jupyter-Session-Id", "X-Nbfolio-Page-Version")
_ENDED = {204: Answer("It has ended.", _NOTHING)}


def _kernels(
    method: Method,
    path: str,
    summary: str,
    answers: Mapping[int, Answer],
    refusals: tuple[int, ...] = (404,),
    headers: tuple[str, ...] = _VISIT,
    body: str = "",
) -> Operation:
    """One of those below /api; bodies may be left out and are JSON whatever their media type."""
    content = {"application/json": schema(body)} if body else None
    return Operation(method, path, summary, "kernels", answers, refusals, headers, content)


OPERATIONS = (
    _kernels("get", "/api", "The version", {200: json_answer("The version.", "Version")}, (), ()),
    _kernels("get", "/api/me", "Who the caller is", {200: json_answer("The caller.", "Identity")}, ()),
    _kernels("get", "/api/status", "What runs for the caller", {200: json_answer("It runs.", "KernelStatus")}, ()),
    _kernels("get", "/api/kernelspecs", "What notebooks can run on", {200: json_answer("All.", "KernelSpecs")}, (), ()),
    _kernels("get", "/api/kernels", "The kernels of the caller", {200: json_answer("The kernels.", "Kernels")}, ()),
    _kernels(
        "post", "/api/kernels", "Start the kernel of a page",
        {201: Answer("It runs.", {"application/json": schema("Kernel")}, ("Location",))}, _STARTING, _START,
        "KernelWanted",
    ),
    _kernels("get", "/api/kernels/{kernel}", "A kernel", {200: json_answer("The kernel.", "Kernel")}),
    _kernels("delete", "/api/kernels/{kernel}", "End a kernel", _ENDED),
    _kernels(
        "post", "/api/kernels/{kernel}/interrupt", "Interrupt what a kernel does",
        {204: Answer("It was told to.", _NOTHING)}, (404, 502),
    ),
    _kernels(
        "post", "/api/kernels/{kernel}/restart", "Begin a kernel anew",
        {200: json_answer("It began anew.", "Kernel")}, (404, 502),
    ),
    _kernels(
        "get", "/api/kernels/{kernel}/channels", "Talk to a kernel over a WebSocket",
        {101: Answer("It is open.", _NOTHING)}, (404, 426, 502, 503),
    ),
    _kernels("get", "/api/sessions", "The sessions of the caller", {200: json_answer("The sessions.", "Sessions")}, ()),
    _kernels(
        "post", "/api/sessions", "Start the kernel of a page under a name",
        {201: Answer("It runs.", {"application/json": schema("Session")}, ("Location",))}, _STARTING, _START,
        "SessionWanted",
    ),
    _kernels("get", "/api/sessions/{session}", "A session", {200: json_answer("The session.", "Session")}),
    _kernels(
        "patch", "/api/sessions/{session}", "Rename a session",
        {200: json_answer("The session.", "Session")}, (404, 413), _VISIT, "SessionNames",
    ),
    _kernels("delete", "/api/sessions/{session}", "End a session and its kernel", _ENDED),
)  # fmt: skip
