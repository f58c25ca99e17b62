"""Pictures in, labels out: their part of the OpenAPI description."""

from __future__ import annotations

from serve_app.protocols.description import BINARY, NUMBER, TEXT, Json, array, record, ref
from serve_app.protocols.image.codec import CONTENT_TYPES

BODY: Json = {content_type: {"schema": BINARY} for content_type in CONTENT_TYPES}
"""Content by media type of a request."""
ANSWERS: tuple[Json, ...] = (ref("ImageLabels"), ref("ImageOutputs"))

SCHEMAS: dict[str, Json] = {
    "ImageLabels": record(
        model_name=TEXT,
        label=TEXT,
        score=NUMBER,
        top=array(record(label=TEXT, score=NUMBER), minItems=1, maxItems=5),
    ),
    "ImageOutputs": {
        **record(
            model_name=TEXT,
            outputs=array(record(name=TEXT, datatype=TEXT, shape=array({"type": "integer", "minimum": 0}), data={})),
        ),
        "description": "the answer to an image where the model is no classifier",
    },
}
