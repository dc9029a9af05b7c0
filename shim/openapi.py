"""The HTTP interface in OpenAPI 3.1, for `/openapi.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from builder import __version__
from builder.settings import Scope
from shim import interface
from shim.describing import Access, Answer, Content, Json, Operation
from shim.identity import wants_logins

if TYPE_CHECKING:
    from builder.config import Config

_SCOPES = get_args(Scope)


def description(config: Config, *, instances: bool) -> Json:
    """The OpenAPI document of a site: with its prefix, and with logins and tokens if the settings have any."""
    access = _Access(config)
    left_out = {
        "login": not access.by_login,
        "kernels": not config.kernels.enabled,
        "instances": not instances,
        "opening": not instances,
    }
    paths: Json = {}
    for group, operations in interface.GROUPS.items():
        if left_out.get(group):
            continue
        for operation in operations:
            paths.setdefault(operation.path, {})[operation.method] = _operation(operation, group, access)
    return {
        "openapi": "3.1.0",
        "info": {"title": config.site.title, "version": __version__, "description": interface.ABOUT},
        "servers": [{"url": config.site.base_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": interface.SCHEMAS,
            "responses": _refusals(),
            "securitySchemes": access.schemes(),
        },
    }


class _Access:
    """Who may do what with these settings."""

    def __init__(self, config: Config) -> None:
        auth = config.auth
        self.by_login = wants_logins(config)
        self._passwords = bool(auth.user)
        self._tokens = bool(auth.api_token or auth.token)

    def schemes(self) -> Json:
        """The ways to say who asks."""
        header = "A token, as `Authorization: token X`."
        cookie = "A login. Under TLS the cookie is called __Host-nbfolio, or __Secure-nbfolio below a prefix."
        schemes: Json = {}
        if self._tokens:
            schemes["token"] = {"type": "apiKey", "in": "header", "name": "Authorization", "description": header}
            schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": "The same, as `Bearer X`."}
        if self._passwords:
            schemes["session"] = {"type": "apiKey", "in": "cookie", "name": "nbfolio", "description": cookie}
        return schemes

    def security(self, access: Access) -> list[Json]:
        """What somebody has to show, any of these; nothing where the list is empty or has an empty one."""
        by_token: list[Json] = [{"token": []}, {"bearer": []}] if self._tokens else []
        match access:
            case "publish" | "cache" | "instances" | "admin":
                return by_token
            case "operators" if self.by_login:
                return [{}, *by_token]
            case "readers" if self._passwords:
                return [{"session": []}]
            case "kernels" if self._passwords:
                return [{"session": []}, *by_token]
        return []

    def answers(self, access: Access) -> Iterator[tuple[str, Json]]:
        """What those get who may not."""
        if access in _SCOPES or (self.by_login and access in ("readers", "kernels", "operators")):
            yield "401", _reference(401)
        if self.by_login and access in ("readers", "kernels"):
            yield "302", _answer(Answer("To the login, for browsers.", {}, ("Location",)))


def _operation(operation: Operation, group: str, access: _Access) -> Json:
    answers = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    refusals = {str(status): _reference(status) for status in (*interface.ANYWHERE, *operation.refusals)}
    responses = {**dict(access.answers(operation.access)), **refusals}
    if group == interface.ENVELOPED:
        responses = {status: _reference(f"{group}-{status}") for status in responses}
    described: Json = {
        "tags": [group],
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "security": access.security(operation.access),
        "parameters": [
            *_path_parameters(operation.path),
            *map(_header, operation.headers),
            *map(_query, operation.query),
        ],
        "responses": dict(sorted({**responses, **answers}.items())),
    }
    if operation.access in _SCOPES:
        described["description"] = f"Takes a token with the scope {operation.access}, where the server has tokens."
    if operation.body:
        described["requestBody"] = {"required": operation.access != "kernels", "content": _content(operation.body)}
    return described


def _identifier(operation: Operation) -> str:
    """A name for generated clients, like `delete_api_notebooks_path`."""
    words = re.findall(r"[a-z]+", operation.path) or ["root"]
    return "_".join([operation.method, *words, *(["root"] if operation.path[1:].endswith("/") else [])])


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": interface.PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query(name: str) -> Json:
    return {"name": name, "in": "query", "schema": interface.QUERY[name]}


def _header(name: str) -> Json:
    return {"name": name, "in": "header", "schema": interface.REQUEST_HEADERS[name]}


def _answer(answer: Answer) -> Json:
    described: Json = {"description": answer.meaning}
    if answer.content:
        described["content"] = _content(answer.content)
    return described | _response_headers(*answer.headers)


def _refusals() -> Json:
    """All errors, once as they are everywhere and, for one group, in the envelope."""
    plain = {str(status): _refusal(status, meaning) for status, meaning in interface.REFUSALS.items()}
    content = _content({"application/json": {"$ref": "#/components/schemas/InstanceRefusal"}})
    possible = {str(status) for one in interface.GROUPS[interface.ENVELOPED] for status in one.refusals}
    possible |= {"401", *map(str, interface.ANYWHERE)}
    enveloped = {f"{interface.ENVELOPED}-{status}": {**plain[status], "content": content} for status in possible}
    return plain | enveloped


def _refusal(status: int, meaning: str) -> Json:
    headers = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
    content = {"application/json": {"$ref": "#/components/schemas/Error"}, "text/html": {}}
    return {
        "description": meaning,
        "content": _content(content),
        **_response_headers("X-Request-Id", *headers),
    }


def _response_headers(*names: str) -> Json:
    return {"headers": {name: {"required": True, "schema": {"type": "string"}} for name in names}} if names else {}


def _content(content: Content) -> Json:
    return {kind: {"schema": schema} if schema else {} for kind, schema in content.items()}


def _reference(status: int | str) -> Json:
    return {"$ref": f"#/components/responses/{status}"}
