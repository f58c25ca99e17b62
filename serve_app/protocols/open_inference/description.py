"""The Open Inference Protocol's operations and JSON shapes, for the OpenAPI description."""

from __future__ import annotations

from serve_app.protocols.datatypes import BY_NAME
from serve_app.protocols.description import (
    BINARY,
    COUNT,
    FLAG,
    INFER_ERRORS,
    INFER_HEADERS,
    NUMBER,
    READ_ERRORS,
    TEXT,
    TIMED,
    Json,
    Operation,
    array,
    as_json,
    mapping,
    nullable,
    optional,
    record,
    ref,
)
from serve_app.protocols.image import description as image

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
_REQUEST_PARAMETERS: Json = {
    **_PARAMETERS,
    "properties": {
        "binary_data_output": {**FLAG, "description": "answer in binary, unless an output says otherwise"},
        "sequence_id": {
            "type": ["integer", "string"],
            "description": "of a model that keeps states; 0 is none",
        },
        "sequence_start": FLAG,
        "sequence_end": FLAG,
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

SCHEMAS: dict[str, Json] = {
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
    "ModelReady": record(name=TEXT, ready=FLAG),
    "ModelMetadata": record(
        name=TEXT, versions=array(TEXT), platform=TEXT, inputs=array(_TENSOR_SPEC), outputs=array(_TENSOR_SPEC)
    ),
    "ModelConfig": optional(
        record(
            name=TEXT,
            platform=TEXT,
            backend=TEXT,
            version_policy={"type": "object"},
            max_batch_size=COUNT,
            input=array(_CONFIG_TENSOR),
            output=array(_CONFIG_TENSOR),
            parameters=mapping(record(string_value=TEXT)),
        ),
        sequence_batching={"type": "object"},
    ),
    "ModelStatistics": record(
        name=TEXT,
        version=TEXT,
        last_inference={**COUNT, "description": "milliseconds since 1970; 0 is never"},
        inference_count=COUNT,
        execution_count=COUNT,
        inference_stats=optional(
            record(
                **dict.fromkeys(
                    ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"), _DURATION
                ),
                cache_hit=_DURATION,
                cache_miss=_DURATION,
            ),
            before=_DURATION,
            after=_DURATION,
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
        precisions={**mapping(TEXT), "description": "what each choice computes in"},
        chosen={**mapping(TEXT), "description": "by batch size, or BATCHxLENGTH"},
        devices={**mapping(TEXT), "description": "which device answers: gpu or cpu"},
        fastest_ms={**mapping(mapping(NUMBER)), "description": "the fastest way's median on each device tried"},
        advice={**nullable(TEXT), "description": "what the operator should know, if anything"},
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
}

_INFER_ANSWER: Json = {
    "application/json": {"schema": {"anyOf": [ref("InferResponse"), *image.ANSWERS]}},
    "application/octet-stream": {"schema": BINARY},
}
_INFER_BODY: Json = {**as_json("InferRequest"), "application/octet-stream": {"schema": BINARY}, **image.BODY}

_V2 = "/v2/models/{name}"
OPERATIONS = (
    Operation("get", _V2, "model", "modelMetadata", "Inputs and outputs of a model", as_json("ModelMetadata"),
              READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/ready", "model", "modelReady", "Whether a model answers; 503 while it does not",
              as_json("ModelReady"), READ_ERRORS, ("name",)),
    Operation("post", f"{_V2}/infer", "model", "infer",
              "Predict: JSON, JSON with binary tensors behind it, one raw tensor, or a picture. A body of any other "
              "Content-Type is read as JSON", _INFER_ANSWER, INFER_ERRORS, ("name", "json_bytes", *INFER_HEADERS),
              _INFER_BODY,
              answer_headers=("Inference-Header-Content-Length", *TIMED)),
    Operation("get", f"{_V2}/config", "model", "modelConfig", "Triton's model configuration", as_json("ModelConfig"),
              READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/stats", "model", "modelStatistics", "Counts and times since the replica was loaded",
              as_json("Statistics"), READ_ERRORS, ("name",)),
    Operation("get", f"{_V2}/plan", "model", "modelPlan", "The measured execution plan; 404 for a model without one",
              as_json("Plan"), READ_ERRORS, ("name",)),
)  # fmt: skip
