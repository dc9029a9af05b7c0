"""The HTTP interface of instances as data; see `shim.interface`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from shim.describing import Access, Answer, Content, Json, Method, Operation, number, record, schema, text
from shim.instances.backend import Status

_ENVELOPE = "status code success message result attributes"


def _or_null(described: Json) -> Json:
    return {"anyOf": [described, {"type": "null"}]}


def _enveloped(result: Json, message: Json | None = None) -> Json:
    """The schema of an answer that is no error."""
    return record(
        _ENVELOPE,
        status={"const": "OK"},
        code={"const": 200},
        success={"const": True},
        message=message or {"type": ["string", "null"]},
        result=result,
        attributes=record(""),
    )


def _list(described: Json) -> Json:
    return {"type": "array", "items": described}


_TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_NULL_OR_TEXT: Json = {"type": ["string", "null"]}
_DEPENDENCIES = _or_null(_list({"type": "string"}))
_KERNEL_SPEC = record(
    "",
    name=_NULL_OR_TEXT,
    channels=_DEPENDENCIES,
    condaDependencies=_DEPENDENCIES,
    pipDependencies=_DEPENDENCIES,
)
SCHEMAS: Json = {
    "InstanceRefusal": record(
        _ENVELOPE,
        status=text("Name of the status, like `NOT_FOUND`."),
        code=number("The status."),
        success={"const": False},
        message=text("What is wrong, and what to do about it."),
        result={"type": "null"},
        attributes=record(""),
    ),
    "InstanceWanted": record(
        "meta environment spec",
        meta=record(
            "name",
            name=text("Name of the instance: a DNS label, unique in its namespace."),
            namespace=text("The one of the settings."),
            ownerId=text("Whose it is; the owner of the token unless it is said."),
            labels=_or_null(_TEXTS),
        ),
        environment=record("name", name=text("Name of an environment.")),
        spec=record(
            "resources",
            envVars=_or_null(_TEXTS),
            resources=text("Like `cpu=1,memory=1.0Gi,nvidia.com/gpu=1`."),
        ),
    ),
    "Instance": record(
        "notebookId name uid url status reason createdTime deletedTime spec",
        notebookId=text("Its id."),
        name=text("Its name, in lower case."),
        uid=_NULL_OR_TEXT,
        url=text("Where it is opened, below the prefix of the site."),
        status=text("How it is.", enum=list(get_args(Status))),
        reason=text("Why."),
        createdTime=text("When it was created, in UTC."),
        deletedTime={"type": "null"},
        spec={"type": "object", "description": "What was asked for, with the environment as it was then."},
    ),
    "InstanceAnswer": _enveloped(schema("Instance")),
    "InstancesAnswer": _enveloped(_list(schema("Instance"))),
    "PongAnswer": _enveloped({"const": "Pong"}),
    "EnvironmentWanted": record(
        "name dockerImage",
        name=text("Its name."),
        dockerImage=text("The container image."),
        kernelSpec=_or_null(_KERNEL_SPEC),
        description=_NULL_OR_TEXT,
        image=_NULL_OR_TEXT,
    ),
    "EnvironmentChange": record("", dockerImage=text("The container image."), description=_NULL_OR_TEXT),
    "Environment": record(
        "environmentId environmentSpec",
        environmentId=text("Its id."),
        environmentSpec=record("name dockerImage kernelSpec description image", name=text("Its name.")),
    ),
    "OpeningForm": record(
        "", token=text("A token of this server.", format="password"), start=text("There: start a stopped instance.")
    ),
    "EnvironmentAnswer": _enveloped(schema("Environment")),
    "EnvironmentsAnswer": _enveloped(_list(schema("Environment"))),
}
PARAMETERS: Json = {
    "notebook": text("Id of an instance.", minLength=1),
    "environment": text("Name of an environment.", minLength=1),
    "namespace": text("Namespace of an instance.", minLength=1),
    "instance": text("Name of an instance.", minLength=1),
}
QUERY: Json = {
    "id": text("Whose instances; all that the caller may see unless it is said."),
    "keepVolumes": text("Whether its files stay; the settings say unless this does.", enum=["true", "false"]),
    "ticket": text("What the page gave whoever showed it a token."),
}

_HTML: Content = {"text/html": {}}
_NOTEBOOK = "/api/v1/notebook"
_ENVIRONMENT = "/api/v1/environment"


def _operation(
    method: Method,
    path: str,
    summary: str,
    answer: str,
    refusals: tuple[int, ...] = (),
    access: Access = "instances",
    body: str = "",
    query: tuple[str, ...] = (),
) -> Operation:
    answers: Mapping[int, Answer] = {200: Answer("It is done.", {"application/json": schema(answer)})}
    content = {kind: schema(body) for kind in ("application/json", "application/yaml")} if body else None
    return Operation(method, path, summary, access, answers, refusals, (), content, query)


OPERATIONS = (
    _operation("get", f"{_NOTEBOOK}/ping", "Whether the API is there", "PongAnswer"),
    _operation(
        "post", _NOTEBOOK, "Create an instance", "InstanceAnswer", (404, 409, 413, 415, 502, 503, 507),
        body="InstanceWanted",
    ),
    _operation("get", _NOTEBOOK, "All instances of the caller", "InstancesAnswer", (503,), query=("id",)),
    _operation("get", f"{_NOTEBOOK}/{{notebook}}", "An instance", "InstanceAnswer", (404, 503)),
    _operation(
        "delete", f"{_NOTEBOOK}/{{notebook}}", "Delete an instance", "InstanceAnswer", (404, 502, 503, 507),
        query=("keepVolumes",),
    ),
    _operation(
        "post", f"{_NOTEBOOK}/{{notebook}}/start", "Run a stopped instance again", "InstanceAnswer",
        (404, 502, 503, 507),
    ),
    _operation(
        "post", f"{_NOTEBOOK}/{{notebook}}/stop", "Stop an instance and keep its files", "InstanceAnswer",
        (404, 502, 503, 507),
    ),
    _operation(
        "post", _ENVIRONMENT, "Add an environment", "EnvironmentAnswer", (409, 413, 415, 507), "admin",
        "EnvironmentWanted",
    ),
    _operation("get", _ENVIRONMENT, "All environments", "EnvironmentsAnswer"),
    _operation("get", f"{_ENVIRONMENT}/{{environment}}", "An environment", "EnvironmentAnswer", (404,)),
    _operation(
        "patch", f"{_ENVIRONMENT}/{{environment}}", "Change an environment; what is not sent stays",
        "EnvironmentAnswer", (404, 409, 413, 415, 507), "admin", "EnvironmentChange",
    ),
    _operation(
        "delete", f"{_ENVIRONMENT}/{{environment}}", "Remove an environment", "EnvironmentAnswer",
        (404, 409, 507), "admin",
    ),
)  # fmt: skip
_OPENED = Answer("On to the instance, with its own token in the address.", {}, ("Location",))
OPENING = (
    Operation(
        "get", "/notebook/{namespace}/{instance}/lab", "Open an instance in the browser", "instances",
        {200: Answer("It does not run; the page says why, and waits where it may.", _HTML), 302: _OPENED},
        (404, 409, 502, 503), query=("ticket",),
    ),
    Operation(
        "post", "/notebook/{namespace}/{instance}/lab", "What the forms of its page send", "instances",
        {303: Answer("Back to the page.", {}, ("Location",))}, (404, 413, 415, 502, 503, 507), (),
        {"application/x-www-form-urlencoded": schema("OpeningForm")}, ("ticket",),
    ),
)  # fmt: skip
