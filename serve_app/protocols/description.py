"""The words in which a protocol describes itself for OpenAPI: JSON Schema 2020-12, and operations.

A protocol's folder has a `description` with its `SCHEMAS` and `OPERATIONS`; `serve_app.openapi` joins them. NaN and
infinity pass as the tokens `NaN`, `Infinity` and `-Infinity` wherever a schema says number: they are no JSON, so no
schema can say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}


def ref(name: str) -> Json:
    """Return a reference to the schema `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(**members: Json) -> Json:
    """Return an object that has all of `members`, and may have more: answers grow."""
    return {"type": "object", "required": list(members), "properties": members}


def optional(schema: Json, **members: Json) -> Json:
    """Return the object `schema` with further members that may be missing."""
    return {**schema, "properties": {**schema["properties"], **members}}


def array(items: Json, **bounds: int) -> Json:
    """Return a list of `items`."""
    return {"type": "array", "items": items, **bounds}


def mapping(values: Json) -> Json:
    """Return an object of any names to `values`."""
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Json) -> Json:
    """Return `schema`, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


BINARY: Json = {"type": "string", "format": "binary"}
INFER_HEADERS = ("timeout_s", "request_id", "content_encoding")
INFER_ERRORS = (400, 404, 405, 408, 413, 415, 500, 503)
READ_ERRORS = (404, 405, 408, 500, 503)
TIMED = ("Server-Timing", "Content-Encoding")
"""Headers of every answer to a prediction."""


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
