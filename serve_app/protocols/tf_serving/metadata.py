"""TensorFlow Serving's REST status and metadata, in the exact JSON of its protobuf printer."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.protocols.tf_serving.predict import SIGNATURE_NAME

_DT_NAMES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", "bool": "DT_BOOL"}


def status(version: str) -> bytes:
    """Return the answer to `GET /v1/models/NAME` for one available version."""
    return orjson.dumps(
        {
            "model_version_status": [
                {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        }
    )


def metadata(
    name: str,
    version: str,
    signature: Signature,
    signature_name: str = SIGNATURE_NAME,
    method_name: str = "tensorflow/serving/predict",
) -> bytes:
    """Return the answer to `GET /v1/models/NAME/metadata`: the model's spec and its one signature."""
    method = {
        "inputs": {spec.name: _tensor_info(spec, signature_name) for spec in signature.inputs},
        "outputs": {spec.name: _tensor_info(spec, "StatefulPartitionedCall") for spec in signature.outputs},
        "method_name": method_name,
    }
    return orjson.dumps(
        {
            "model_spec": {"name": name, "signature_name": "", "version": version},
            # Twice on purpose: a map of metadata by kind, whose one kind is a message with a map of signatures.
            "metadata": {"signature_def": {"signature_def": {signature_name: method}}},
        }
    )


def dt_name(dtype: np.dtype[Any]) -> str:
    """Return TensorFlow's `DataType` enum name for a dtype: DT_FLOAT, DT_INT32, DT_STRING."""
    if dtype == STRING:
        return "DT_STRING"
    return _DT_NAMES.get(dtype.name, f"DT_{dtype.name.upper()}")


def _tensor_info(spec: TensorSpec, prefix: str) -> dict[str, Any]:
    sizes = [-1 if axis is None else axis for axis in spec.shape]
    return {
        "dtype": dt_name(spec.dtype),
        "tensor_shape": {
            # int64 is a string in protobuf's JSON form.
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": f"{prefix}_{spec.name}:0",
    }
