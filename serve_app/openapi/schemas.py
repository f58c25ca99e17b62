"""Every JSON shape of the surface: the server's own here, and those that the protocols bring."""

from __future__ import annotations

from serve_app.protocols.description import COUNT, FLAG, TEXT, Json, array, record
from serve_app.protocols.image import description as image
from serve_app.protocols.open_inference import description as open_inference
from serve_app.protocols.tf_serving import description as tf_serving

STATES = ["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]

_OF_SERVER: dict[str, Json] = {
    "Error": {**record(error=TEXT), "additionalProperties": False},
    "ServerMetadata": record(name=TEXT, version=TEXT, extensions=array(TEXT)),
    "Health": record(live=FLAG, ready=FLAG),
    "ModelNames": record(models=array(TEXT)),
    "ModelControlRequest": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": "object",
                "properties": {"config": TEXT, "unload_dependents": FLAG},
                "additionalProperties": False,
            }
        },
    },
    "RepositoryIndexRequest": {"type": "object", "properties": {"ready": FLAG}},
    "RepositoryIndex": array(record(name=TEXT, version=TEXT, state={"type": "string", "enum": STATES}, reason=TEXT)),
    "Overview": record(
        server=record(name=TEXT, version=TEXT),
        ready=FLAG,
        models=array(
            record(
                name=TEXT,
                version=TEXT,
                path=TEXT,
                state={"type": "string", "enum": STATES},
                reason=TEXT,
                replicas=COUNT,
            )
        ),
    ),
}

SCHEMAS: dict[str, Json] = {**_OF_SERVER, **open_inference.SCHEMAS, **image.SCHEMAS, **tf_serving.SCHEMAS}
