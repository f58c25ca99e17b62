"""Every operation of the REST surface, as a table that `serve_app.openapi` renders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from serve_app.openapi.schemas import Json, ref

BINARY: Json = {"type": "string", "format": "binary"}
IMAGES: Json = {"image/png": {"schema": BINARY}, "image/jpeg": {"schema": BINARY}}
INFER_HEADERS = ("json_bytes", "timeout_s", "request_id", "content_encoding")
INFER_ERRORS = (400, 404, 405, 408, 413, 415, 500, 503)
READ_ERRORS = (404, 405, 408, 500, 503)
SERVER_ERRORS = (405, 408, 500, 503)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: what it takes, and what it answers."""

    method: str
    path: str
    tag: str
    name: str
    summary: str
    answer: Json
    """Content by media type of the 200; empty where there is none."""
    errors: tuple[int, ...]
    parameters: tuple[str, ...] = ()
    body: Json | None = None
    """Content by media type of the request."""
    body_needed: bool = True
    answer_headers: tuple[str, ...] = ()
    further: tuple[tuple[int, Json], ...] = ()
    """Statuses that answer something else than the error form, with their content."""

    @property
    def is_open(self) -> bool:
        """Whether it asks for no token: health, and the files of the pages, which hold nothing of a model."""
        return self.path.endswith(("/live", "/ready", "/", "/docs", "/page/{file}"))


def as_json(schema: str) -> Json:
    """Return JSON content of the named schema."""
    return {"application/json": {"schema": ref(schema)}}


def as_text(*media_types: str) -> Json:
    """Return content of a file's text in the given kinds."""
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


_INFER_ANSWER: Json = {
    "application/json": {"schema": {"anyOf": [ref("InferResponse"), ref("ImageLabels"), ref("ImageOutputs")]}},
    "application/octet-stream": {"schema": BINARY},
}
_INFER_BODY: Json = {**as_json("InferRequest"), "application/octet-stream": {"schema": BINARY}, **IMAGES}
_ANSWER_HEADERS = ("Server-Timing", "Content-Encoding")

_OF_SERVER = (
    Operation("get", "/v2", "server", "serverMetadata", "Name, version and protocol extensions of the server",
              as_json("ServerMetadata"), SERVER_ERRORS),
    Operation("get", "/v2/health/live", "server", "serverLive", "Whether the server answers",
              as_json("Health"), SERVER_ERRORS),
    Operation("get", "/v2/health/ready", "server", "serverReady", "Whether every model answers; 503 while one does not",
              as_json("Health"), (405, 408, 500), further=((503, {"application/json": {"schema": {"anyOf": [
                  ref("Health"), ref("Error")]}}, **as_text("text/plain")}),)),
    Operation("get", "/v2/models/stats", "server", "allStatistics", "Statistics of every model that is ready",
              as_json("Statistics"), SERVER_ERRORS),
    Operation("get", "/overview", "server", "overview", "What the web page draws its table from",
              as_json("Overview"), SERVER_ERRORS),
    Operation("post", "/v2/repository/index", "repository", "repositoryIndex", "The models and their states",
              as_json("RepositoryIndex"), (400, 405, 408, 413, 500, 503), body=as_json("RepositoryIndexRequest"),
              body_needed=False),
    Operation("post", "/v2/repository/models/{name}/load", "repository", "loadModel",
              "Refused: models are declared in the serve config", {}, (400, 405, 408, 500, 503), ("name",)),
    Operation("post", "/v2/repository/models/{name}/unload", "repository", "unloadModel",
              "Refused: models are declared in the serve config", {}, (400, 405, 408, 500, 503), ("name",)),
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

_V2 = "/v2/models/{name}"
_OF_MODEL = (
    Operation("get", _V2, "model", "modelMetadata", "Inputs and outputs of a model", as_json("ModelMetadata"),
              READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/ready", "model", "modelReady", "Whether a model answers; 503 while it does not",
              as_json("ModelReady"), READ_ERRORS, ("name",)),
    Operation("post", f"{_V2}/infer", "model", "infer",
              "Predict: JSON, JSON with binary tensors behind it, one raw tensor, or a picture. A body of any other "
              "Content-Type is read as JSON", _INFER_ANSWER, INFER_ERRORS, ("name", *INFER_HEADERS), _INFER_BODY,
              answer_headers=("Inference-Header-Content-Length", *_ANSWER_HEADERS)),
    Operation("get", f"{_V2}/config", "model", "modelConfig", "Triton's model configuration", as_json("ModelConfig"),
              READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/stats", "model", "modelStatistics", "Counts and times since the replica was loaded",
              as_json("Statistics"), READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/plan", "model", "modelPlan", "The measured execution plan; 404 for a model without one",
              as_json("Plan"), READ_ERRORS, ("name",)),
)  # fmt: skip

_V1 = "/v1/models/{name}"
_TF_SERVING = (
    Operation("get", _V1, "TensorFlow Serving", "tfStatus", "The version's status", as_json("ModelStatus"),
              (*READ_ERRORS, 413), ("name",)),
    Operation("get", f"{_V1}/metadata", "TensorFlow Serving", "tfMetadata", "The model's signature",
              as_json("SignatureMetadata"), (*READ_ERRORS, 413), ("name",)),
    Operation("post", f"{_V1}:predict", "TensorFlow Serving", "tfPredict",
              "Predict rows (`instances`) or columns (`inputs`); the Content-Type does not matter",
              as_json("PredictResponse"), INFER_ERRORS, ("name", *INFER_HEADERS[1:]), as_json("PredictRequest"),
              answer_headers=_ANSWER_HEADERS),
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
    for operation in (*_OF_MODEL, *_TF_SERVING):
        yield operation
        yield _of_version(operation)
    yield from _PAGES
