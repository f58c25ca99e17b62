"""The OpenAPI 3.1 description of the REST surface, answered at `/openapi.json`.

One description for all models: a model's name is a parameter, with the deployed ones as examples. GET includes HEAD.
Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable

from serve_app.openapi.operations import operations
from serve_app.openapi.schemas import SCHEMAS
from serve_app.protocols.description import Json, Operation, as_json, as_text
from serve_app.protocols.server import server_metadata

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("BadRequest", "the request does not fit the model or the protocol; the text says where"),
    401: (
        "Unauthorized",
        "a token is needed, or the one sent is not accepted; only where tokens are configured",
    ),
    404: ("NotFound", "unknown model, version or path"),
    405: ("MethodNotAllowed", "the path has another method"),
    408: ("TimedOut", "the time limit passed, or could not be met"),
    409: ("Busy", "the model is on its way to another state already"),
    413: ("TooLarge", "the body, or what it inflates to, is over the limit"),
    415: ("UnsupportedEncoding", "another Content-Encoding than gzip and deflate"),
    500: ("Failed", "the model failed, or the server did; its log has it"),
    503: ("Unavailable", "the queue is full, or the model is not ready"),
}
_FURTHER = {304: "unchanged: the ETag is the one that If-None-Match names", 503: "some model does not answer"}

_FROM_SERVE = (408, 503)
"""Ray Serve 2.60 answers these as plain text where its own time limit or queue limit ends a request."""

_ERROR_HEADERS: dict[int, tuple[str, Json]] = {
    401: ("WWW-Authenticate", {"type": "string"}),
    405: ("Allow", {"type": "string"}),
    415: ("Accept-Encoding", {"type": "string"}),
    503: ("Retry-After", {"type": "integer", "minimum": 1}),
}

_ANSWER_HEADERS: dict[str, Json] = {
    "Inference-Header-Content-Length": {
        "description": "bytes of JSON before the binary tensors; only on binary answers",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Server-Timing": {
        "description": "decode, queue, batch, compute, encode and total, in milliseconds",
        "schema": {"type": "string"},
    },
    "Content-Encoding": {
        "description": "for an Accept-Encoding of exactly one coding, and an answer over 1 KiB",
        "schema": {"type": "string", "enum": ["gzip", "deflate"]},
    },
}

_TAGS = {
    "server": "The server as a whole.",
    "repository": "Which models there are.",
    "model": "The Open Inference Protocol for one model, with or without its version.",
    "TensorFlow Serving": "The same models by TensorFlow Serving's REST API. A model answers these paths below its own "
    "`/v2/models/NAME` too, where the front door sends them.",
    "pages": "Pages for people; nothing in them comes from elsewhere.",
}


def document(model_names: Iterable[str] = ()) -> Json:
    """Return the description; `model_names` become the examples of the parameter `name`."""
    paths: dict[str, Json] = {}
    for operation in operations():
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras-solo",
            "version": server_metadata()["version"],
            "description": "Keras models over the Open Inference Protocol and TensorFlow Serving's REST API. "
            'GET includes HEAD. Every error is `{"error": text}`; where Ray Serve itself ends a request '
            "(408, 503) it is plain text.",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "parameters": _parameters(model_names),
            "headers": _ANSWER_HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {name: _error(status, text) for status, (name, text) in _ERRORS.items()},
            "schemas": SCHEMAS,
        },
    }


def _operation(operation: Operation) -> Json:
    rendered: Json = {
        "tags": [operation.tag],
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if not operation.is_open:
        # The empty one: a server without tokens asks for none.
        rendered["security"] = [{"bearer": []}, {}]
    if operation.parameters:
        rendered["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    if operation.body is not None:
        rendered["requestBody"] = {"required": operation.body_needed, "content": operation.body}
    return rendered


def _responses(operation: Operation) -> Json:
    """Return the answers by status, ascending."""
    found: dict[int, Json] = {
        status: {"$ref": f"#/components/responses/{_ERRORS[status][0]}"}
        for status in (*operation.errors, *(() if operation.is_open else (401,)))
    }
    for status, content in operation.further:
        found[status] = {"description": _FURTHER[status], **({"content": content} if content else {})}
    if operation.answer:
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in operation.answer_headers}
        found[200] = {"description": "the answer", **({"headers": headers} if headers else {})}
        found[200]["content"] = operation.answer
    return {str(status): found[status] for status in sorted(found)}


def _error(status: int, text: str) -> Json:
    answer: Json = {"description": text, "content": as_json("Error")}
    if status in _FROM_SERVE:
        answer["content"] = {**answer["content"], **as_text("text/plain")}
    if status in _ERROR_HEADERS:
        name, schema = _ERROR_HEADERS[status]
        answer["headers"] = {name: {"schema": schema}}
    return answer


def _parameters(model_names: Iterable[str]) -> dict[str, Json]:
    """Return the parameters by the name that operations call them."""
    examples = {name: {"value": name} for name in sorted(model_names)}
    return {
        "name": {**_path("name", "a model of the serve config"), **({"examples": examples} if examples else {})},
        "version": _path("version", "the deployed version; another one is a 404"),
        "file": _path("file", "a file's name"),
        "json_bytes": _header(
            "Inference-Header-Content-Length",
            "bytes of JSON before the binary tensors; 0: the body is the sole input, raw",
            {"type": "integer", "minimum": 0},
        ),
        "timeout_s": _header(
            "x-request-timeout-seconds", "seconds to answer within; 0 or less is no limit", {"type": "number"}
        ),
        "request_id": _header("x-request-id", "what the server's log calls this request", {"type": "string"}),
        "content_encoding": _header(
            "Content-Encoding", "how the body is compressed", {"enum": ["gzip", "deflate", "identity"]}
        ),
    }


def _path(name: str, text: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1, "pattern": "^[^/:]+$"},
    }


def _header(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
