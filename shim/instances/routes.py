"""The routes of instances and environments, in the envelope of Apache Submarine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse  # type: ignore[import-untyped]

from shim.envelope import envelope
from shim.instances.asking import Asking, answered
from shim.instances.backend import CREATING, TERMINATING, Observed
from shim.instances.instances import Instances, keep_volume_of
from shim.instances.models import environment_model, notebook_model
from shim.instances.opening import add_opening_routes
from shim.instances.specs import environment_spec

if TYPE_CHECKING:
    from builder.config import Config
    from shim.instances.records import Instance
    from shim.tokens import Tokens


def add_instance_routes(app: Bottle, config: Config, instances: Instances, tokens: Tokens) -> None:
    """Add everything below /api/v1, and /notebook, to an application whose front words the errors."""
    asking = Asking(tokens)
    _add_notebooks(app, instances, asking)
    _add_use(app, instances, asking)
    _add_environments(app, instances, asking)
    add_opening_routes(app, config, instances, tokens)


def _both(path: str) -> list[str]:
    return [path, f"{path}/"]


def _answer(message: str | None, result: Any) -> HTTPResponse:
    return HTTPResponse(envelope(200, message, result), 200, [("Content-Type", "application/json; charset=utf-8")])


def _shown(instances: Instances, instance: Instance) -> dict[str, Any]:
    return notebook_model(instance, instances.observe(instance))


def _add_notebooks(app: Bottle, instances: Instances, asking: Asking) -> None:
    @app.get(_both("/api/v1/notebook/ping"))  # type: ignore[untyped-decorator]
    def ping() -> HTTPResponse:
        asking.actor()
        return _answer(None, "Pong")

    @app.post(_both("/api/v1/notebook"))  # type: ignore[untyped-decorator]
    def create() -> HTTPResponse:
        actor = asking.actor()
        with answered():
            instance = instances.create(actor, asking.document())
        # What it is a moment later is asked for.
        return _answer("Create a notebook instance", notebook_model(instance, Observed("creating", CREATING)))

    @app.get(_both("/api/v1/notebook"))  # type: ignore[untyped-decorator]
    def everything() -> HTTPResponse:
        actor = asking.actor()
        with answered():
            found = instances.all(actor, asking.query("id"))
        return _answer("List all notebook instances", [_shown(instances, instance) for instance in found])

    @app.get(_both("/api/v1/notebook/<notebook:re:(?!ping/?$)[^/]+>"))  # type: ignore[untyped-decorator]
    def one(notebook: str) -> HTTPResponse:
        actor = asking.actor()
        with answered():
            return _answer("Get the notebook instance", _shown(instances, instances.get(actor, notebook)))

    @app.delete(_both("/api/v1/notebook/<notebook:re:(?!ping/?$)[^/]+>"))  # type: ignore[untyped-decorator]
    def delete(notebook: str) -> HTTPResponse:
        actor = asking.actor()
        with answered():
            instance = instances.delete(actor, notebook, keep_volume_of(asking.query("keepVolumes")))
        model = notebook_model(instance, Observed("terminating", TERMINATING))
        return _answer("Delete the notebook instance", model)


def _add_use(app: Bottle, instances: Instances, asking: Asking) -> None:
    @app.post(_both("/api/v1/notebook/<notebook:re:(?!ping/?$)[^/]+>/start"))  # type: ignore[untyped-decorator]
    def start(notebook: str) -> HTTPResponse:
        actor = asking.actor()
        with answered():
            return _answer("Start the notebook instance", _shown(instances, instances.start(actor, notebook)))

    @app.post(_both("/api/v1/notebook/<notebook:re:(?!ping/?$)[^/]+>/stop"))  # type: ignore[untyped-decorator]
    def stop(notebook: str) -> HTTPResponse:
        actor = asking.actor()
        with answered():
            return _answer("Stop the notebook instance", _shown(instances, instances.stop(actor, notebook)))


def _add_environments(app: Bottle, instances: Instances, asking: Asking) -> None:
    environments = instances.environments

    @app.post(_both("/api/v1/environment"))  # type: ignore[untyped-decorator]
    def create() -> HTTPResponse:
        asking.administrator()
        with answered():
            return _answer(None, environment_model(environments.add(environment_spec(asking.document(), None))))

    @app.get(_both("/api/v1/environment"))  # type: ignore[untyped-decorator]
    def everything() -> HTTPResponse:
        asking.actor()
        with answered():
            return _answer(None, [environment_model(one) for one in environments.all()])

    @app.get(_both("/api/v1/environment/<environment>"))  # type: ignore[untyped-decorator]
    def one(environment: str) -> HTTPResponse:
        asking.actor()
        with answered():
            return _answer(None, environment_model(environments.get(environment)))

    @app.route(_both("/api/v1/environment/<environment>"), "PATCH")  # type: ignore[untyped-decorator]
    def change(environment: str) -> HTTPResponse:
        asking.administrator()
        with answered():
            return _answer(None, environment_model(environments.change(environment, asking.document())))

    @app.delete(_both("/api/v1/environment/<environment>"))  # type: ignore[untyped-decorator]
    def delete(environment: str) -> HTTPResponse:
        asking.administrator()
        with answered():
            return _answer(None, environment_model(environments.remove(environment)))
