"""Every operation of the REST surface: the server's own here, and those that the protocols bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from serve_app.protocols.description import READ_ERRORS, Operation, as_json, as_text, ref
from serve_app.protocols.open_inference import description as open_inference
from serve_app.protocols.tf_serving import description as tf_serving

SERVER_ERRORS = (405, 408, 500, 503)
_CONTROL_ERRORS = (400, 404, 405, 408, 409, 413, 500, 503)

_OF_SERVER = (
    Operation("get", "/v2", "server", "serverMetadata", "Name, version and protocol extensions of the server",
              as_json("ServerMetadata"), SERVER_ERRORS),
    Operation("get", "/v2/health/live", "server", "serverLive", "Whether the server answers",
              as_json("Health"), SERVER_ERRORS),
    Operation("get", "/v2/health/ready", "server", "serverReady", "Whether every model answers; 503 while one does not",
              as_json("Health"), (405, 408, 500), further=((503, {"application/json": {"schema": {"anyOf": [
                  ref("Health"), ref("Error")]}}, **as_text("text/plain")}),)),
    Operation("get", "/v2/models", "server", "models", "The models' names", as_json("ModelNames"), SERVER_ERRORS),
    Operation("get", "/v2/models/stats", "server", "allStatistics", "Statistics of every model that is ready",
              as_json("Statistics"), SERVER_ERRORS),
    Operation("get", "/metrics", "server", "metrics", "The models' metrics of every node, for Prometheus",
              as_text("text/plain"), SERVER_ERRORS),
    Operation("get", "/overview", "server", "overview", "What the web page draws its table from",
              as_json("Overview"), SERVER_ERRORS),
    Operation("post", "/v2/repository/index", "repository", "repositoryIndex", "The models and their states",
              as_json("RepositoryIndex"), (400, 405, 408, 413, 500, 503), body=as_json("RepositoryIndexRequest"),
              body_needed=False),
    Operation("post", "/v2/repository/models/{name}/load", "repository", "loadModel",
              "Load a model of the folder, or what has changed of it; refused unless model_control is explicit", {},
              _CONTROL_ERRORS, ("name",), body=as_json("ModelControlRequest"), body_needed=False),
    Operation("post", "/v2/repository/models/{name}/unload", "repository", "unloadModel",
              "Take a model away after its last request; refused unless model_control is explicit", {},
              _CONTROL_ERRORS, ("name",), body=as_json("ModelControlRequest"), body_needed=False),
)  # fmt: skip

_FILES = ("text/html", "text/css", "text/javascript", "image/svg+xml")
_PAGES = (
    Operation("get", "/", "pages", "page", "The web page", as_text("text/html"), SERVER_ERRORS, further=((304, {}),)),
    Operation("get", "/docs", "pages", "docsPage", "This description, for people", as_text("text/html"), SERVER_ERRORS,
              further=((304, {}),)),
    Operation("get", "/page/{file}", "pages", "pageFile", "A file of the pages", as_text(*_FILES), READ_ERRORS,
              ("file",), further=((304, {}),)),
    Operation("get", "/openapi.json", "pages", "openapi", "This description",
              {"application/json": {"schema": {"type": "object"}}}, SERVER_ERRORS),
)  # fmt: skip


def _of_version(operation: Operation) -> Operation:
    """Return the form of a model's operation that names the version."""
    return replace(
        operation,
        path=operation.path.replace("/models/{name}", "/models/{name}/versions/{version}", 1),
        name=f"{operation.name}OfVersion",
        parameters=("name", "version", *operation.parameters[1:]),
    )


def operations() -> Iterator[Operation]:
    """Yield every operation, in the order in which the document lists them."""
    yield from _OF_SERVER
    for operation in (*open_inference.OPERATIONS, *tf_serving.OPERATIONS):
        yield operation
        yield _of_version(operation)
    yield from _PAGES
