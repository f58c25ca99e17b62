"""The JSON shapes of requests and answers, as JSON Schema 2020-12 for the OpenAPI description.

NaN and infinity pass as the tokens `NaN`, `Infinity` and `-Infinity` wherever a schema says number: they are no JSON,
so no schema can say so.
"""

from __future__ import annotations

from typing import Any

from serve_app.protocols.datatypes import BY_NAME

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
STATES = ["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]


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


_SHAPE: Json = array(COUNT)
_DIMS: Json = {**array({"type": "integer", "minimum": -1}), "description": "-1 is an open axis"}
_DATATYPE: Json = {"type": "string", "enum": sorted(BY_NAME)}
_PARAMETERS: Json = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "shared_memory_* is refused",
}
_BINARY_SIZE: Json = {**COUNT, "description": "bytes of this tensor behind the JSON; `data` is left out then"}
_VALUES = ref("Values")
_DURATION = record(count=COUNT, ns=COUNT)
_TENSOR_SPEC = record(name=TEXT, datatype=_DATATYPE, shape=_DIMS)
_CONFIG_TENSOR = record(name=TEXT, data_type=TEXT, dims=_DIMS)
_TF_TENSOR = record(
    dtype=TEXT,
    tensor_shape=record(dim=array(record(size=TEXT, name=TEXT)), unknown_rank=FLAG),
    name=TEXT,
)
_REQUEST_PARAMETERS: Json = {
    **_PARAMETERS,
    "properties": {
        "binary_data_output": {**FLAG, "description": "answer in binary, unless an output says otherwise"},
        "timeout": {**COUNT, "description": "microseconds from the request's arrival; 0 is none"},
    },
}
_OUTPUT_PARAMETERS: Json = {
    **_PARAMETERS,
    "properties": {
        "binary_data": FLAG,
        "classification": {**COUNT, "description": "the best n values as `value:index[:label]`; 0 is none"},
    },
}

_PROTOCOL: dict[str, Json] = {
    "Error": {**record(error=TEXT), "additionalProperties": False},
    "Values": {
        **array({"anyOf": [NUMBER, TEXT, FLAG, _VALUES]}),
        "description": "row-major, flat or nested as the shape says; the tokens NaN, Infinity and -Infinity pass",
    },
    "InferInput": optional(
        record(name=TEXT, shape=_SHAPE, datatype=_DATATYPE),
        data=_VALUES,
        parameters={**_PARAMETERS, "properties": {"binary_data_size": _BINARY_SIZE}},
    ),
    "InferRequestedOutput": optional(record(name=TEXT), parameters=_OUTPUT_PARAMETERS),
    "InferRequest": optional(
        record(inputs=array(ref("InferInput"), minItems=1)),
        id=nullable(TEXT),
        parameters=_REQUEST_PARAMETERS,
        outputs={**array(ref("InferRequestedOutput")), "description": "which outputs, in which order; none is all"},
    ),
    "InferOutput": optional(
        record(name=TEXT, datatype=_DATATYPE, shape=_SHAPE),
        data=_VALUES,
        parameters=record(binary_data_size=_BINARY_SIZE),
    ),
    "InferResponse": optional(
        record(model_name=TEXT, model_version=TEXT, outputs=array(ref("InferOutput"), minItems=1)), id=TEXT
    ),
    "ImageLabels": record(
        model_name=TEXT,
        label=TEXT,
        score=NUMBER,
        top=array(record(label=TEXT, score=NUMBER), minItems=1, maxItems=5),
    ),
    "ImageOutputs": {
        **record(model_name=TEXT, outputs=array(record(name=TEXT, datatype=_DATATYPE, shape=_SHAPE, data={}))),
        "description": "the answer to an image where the model is no classifier",
    },
}

_ABOUT: dict[str, Json] = {
    "ServerMetadata": record(name=TEXT, version=TEXT, extensions=array(TEXT)),
    "Health": record(live=FLAG, ready=FLAG),
    "ModelReady": record(name=TEXT, ready=FLAG),
    "ModelMetadata": record(
        name=TEXT, versions=array(TEXT), platform=TEXT, inputs=array(_TENSOR_SPEC), outputs=array(_TENSOR_SPEC)
    ),
    "ModelConfig": record(
        name=TEXT,
        platform=TEXT,
        backend=TEXT,
        version_policy={"type": "object"},
        max_batch_size=COUNT,
        input=array(_CONFIG_TENSOR),
        output=array(_CONFIG_TENSOR),
        parameters=mapping(record(string_value=TEXT)),
    ),
    "ModelStatistics": record(
        name=TEXT,
        version=TEXT,
        last_inference={**COUNT, "description": "milliseconds since 1970; 0 is never"},
        inference_count=COUNT,
        execution_count=COUNT,
        inference_stats=record(
            **dict.fromkeys(
                ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"), _DURATION
            ),
            cache_hit=_DURATION,
            cache_miss=_DURATION,
        ),
        batch_stats=array(
            record(batch_size=COUNT, compute_input=_DURATION, compute_infer=_DURATION, compute_output=_DURATION)
        ),
        fail_causes=mapping(COUNT),
        replica={**TEXT, "description": "the replica whose counters these are"},
    ),
    "Statistics": record(model_stats=array(ref("ModelStatistics"))),
    "Plan": record(
        device=TEXT,
        precision=TEXT,
        chosen={**mapping(TEXT), "description": "by batch size, or BATCHxLENGTH"},
        candidates=mapping(
            array(
                record(
                    name=TEXT,
                    p50_ms=nullable(NUMBER),
                    p99_ms=nullable(NUMBER),
                    max_abs_error=nullable(NUMBER),
                    status=TEXT,
                )
            )
        ),
        tolerance={"description": "the largest error that a way of running may make"},
        inline=mapping(FLAG),
        predict_p50_ms=nullable(NUMBER),
        factor_over_predict=nullable(NUMBER),
        traces_after_ready=COUNT,
        memory={"type": "object"},
        from_cache=FLAG,
        seconds=NUMBER,
    ),
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

_TF_SERVING: dict[str, Json] = {
    "PredictRequest": {
        "oneOf": [
            optional(record(instances=array({}, minItems=1)), signature_name=TEXT),
            optional(record(inputs={}), signature_name=TEXT),
        ],
        "description": '`instances` (a row each) or `inputs` (columns), never both; {"b64": "…"} is a byte string',
    },
    "PredictResponse": {"oneOf": [record(predictions=array({})), record(outputs={})]},
    "ModelStatus": record(
        model_version_status=array(
            record(version=TEXT, state=TEXT, status=record(error_code=TEXT, error_message=TEXT)), minItems=1
        )
    ),
    "SignatureMetadata": record(
        model_spec=record(name=TEXT, signature_name=TEXT, version=TEXT),
        metadata=record(
            signature_def=record(
                signature_def=mapping(record(inputs=mapping(_TF_TENSOR), outputs=mapping(_TF_TENSOR), method_name=TEXT))
            )
        ),
    ),
}

SCHEMAS: dict[str, Json] = {**_PROTOCOL, **_ABOUT, **_TF_SERVING}
