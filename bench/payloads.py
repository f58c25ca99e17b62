"""Requests made up from a served model's own metadata."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import numpy as np

from bench.http_load import Request

INLINE_VALUES = 1024
"""Inputs up to this many values travel as JSON, larger ones as binary tensors."""
DYNAMIC = 16
"""How long a dynamic inner axis is made."""
DTYPES = {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "BOOL": "?"}


def one_row(base: str, name: str, seed: int = 7) -> Request:
    """Return an inference request of one seeded random row for model `name` served at `base`."""
    url = f"{base}/v2/models/{name}"
    random = np.random.default_rng(seed)
    with urllib.request.urlopen(url, timeout=30) as answer:
        tensors = json.load(answer)["inputs"]
    arrays = [_row(tensor, random) for tensor in tensors]
    if sum(array.size for array in arrays) <= INLINE_VALUES:
        inputs = [{**_head(t, a), "data": a.ravel().tolist()} for t, a in zip(tensors, arrays, strict=True)]
        return Request(f"{url}/infer", json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"})
    inputs = [
        {**_head(t, a), "parameters": {"binary_data_size": a.nbytes}} for t, a in zip(tensors, arrays, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(array.tobytes() for array in arrays)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(f"{url}/infer", body, headers)


def _head(tensor: dict[str, Any], array: np.ndarray) -> dict[str, Any]:
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": list(array.shape)}


def _row(tensor: dict[str, Any], random: np.random.Generator) -> np.ndarray:
    shape = [1, *(DYNAMIC if axis < 0 else axis for axis in tensor["shape"][1:])]
    dtype = np.dtype(DTYPES[tensor["datatype"]])
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
