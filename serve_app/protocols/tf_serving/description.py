"""TensorFlow Serving's REST operations and JSON shapes, for the OpenAPI description."""

from __future__ import annotations

from serve_app.protocols.description import (
    FLAG,
    INFER_ERRORS,
    INFER_HEADERS,
    READ_ERRORS,
    TEXT,
    TIMED,
    Json,
    Operation,
    array,
    as_json,
    mapping,
    optional,
    record,
)

_TF_TENSOR = record(
    dtype=TEXT,
    tensor_shape=record(dim=array(record(size=TEXT, name=TEXT)), unknown_rank=FLAG),
    name=TEXT,
)
SCHEMAS: dict[str, Json] = {
    "PredictRequest": {
        "oneOf": [
            optional(record(instances=array({}, minItems=1)), signature_name=TEXT),
            optional(record(inputs={}), signature_name=TEXT),
        ],
        "description": '`instances` (a row each) or `inputs` (columns), never both; {"b64": "…"} is a byte string',
    },
    "PredictResponse": {"oneOf": [record(predictions=array({})), record(outputs={})]},
    "ExamplesRequest": optional(
        record(examples=array(mapping({}), minItems=1)), context=mapping({}), signature_name=TEXT
    ),
    "ClassifyResponse": record(results=array(array(array({}, minItems=2)))),
    "RegressResponse": record(results=array({"type": "number"})),
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

_V1 = "/v1/models/{name}"
OPERATIONS = (
    Operation("get", _V1, "TensorFlow Serving", "tfStatus", "The version's status", as_json("ModelStatus"),
              (*READ_ERRORS, 413), ("name",)),
    Operation("get", f"{_V1}/metadata", "TensorFlow Serving", "tfMetadata", "The model's signature",
              as_json("SignatureMetadata"), (*READ_ERRORS, 413), ("name",)),
    Operation("post", f"{_V1}:predict", "TensorFlow Serving", "tfPredict",
              "Predict rows (`instances`) or columns (`inputs`); the Content-Type does not matter",
              as_json("PredictResponse"), INFER_ERRORS, ("name", *INFER_HEADERS), as_json("PredictRequest"),
              answer_headers=TIMED),
    *(
        Operation("post", f"{_V1}:{verb}", "TensorFlow Serving", f"tf{verb.title()}",
                  f"{told}, where that is the signature's method; an example is an object of features, a `tf.Example`",
                  as_json(answer), INFER_ERRORS, ("name", *INFER_HEADERS), as_json("ExamplesRequest"),
                  answer_headers=TIMED)
        for verb, told, answer in (("classify", "Labels with scores", "ClassifyResponse"),
                                   ("regress", "A number for each example", "RegressResponse"))
    ),
)  # fmt: skip
