"""An inference request made up from a served model's own metadata."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from serve_app.load.request import Request
from serve_app.protocols.datatypes import BY_NAME
from serve_app.protocols.open_inference import binary

INLINE_VALUES = 1024
"""Inputs up to this many values travel as JSON, larger ones as binary tensors."""
DYNAMIC = 16
"""How long an open inner axis is made."""
Array = np.ndarray[Any, Any]


def of_model(url: str, rows: int = 1, form: str | None = None, headers: Mapping[str, str] | None = None) -> Request:
    """Return a request of `rows` seeded random rows for the model at `url`, `…/v2/models/NAME`.

    `form` is `json` or `binary`, by size where None. Raises `OSError` where nothing answers, `ValueError` where
    what answers is no model.
    """
    tensors = metadata(url, headers or {})["inputs"]
    random = np.random.default_rng(7)
    arrays = [_random(tensor, rows, random) for tensor in tensors]
    few = sum(array.size for array in arrays) <= INLINE_VALUES
    encode = _json if form == "json" or (form is None and few) else _binary
    made = encode(f"{url}/infer", tensors, arrays)
    return Request(made.url, made.body, {**made.headers, **(headers or {})})


def metadata(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of the model at `url`."""
    told = _ask(url, None, headers)
    if not isinstance(told, dict) or "inputs" not in told:
        raise ValueError(f"{url} answers, but not as a model of the Open Inference Protocol")
    return told


def models(url: str, headers: Mapping[str, str]) -> list[str]:
    """Return the names of the ready models of the server at `url`."""
    return [model["name"] for model in _ask(f"{url}/v2/repository/index", b'{"ready": true}', headers)]


def _ask(url: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    context = ssl.create_default_context() if url.startswith("https:") else None
    with urllib.request.urlopen(asked, timeout=30, context=context) as answer:
        return json.load(answer)


def _json(url: str, tensors: list[dict[str, Any]], arrays: list[Array]) -> Request:
    inputs = [{**_head(t, a), "data": a.ravel().tolist()} for t, a in zip(tensors, arrays, strict=True)]
    return Request(url, orjson.dumps({"inputs": inputs}), {"Content-Type": "application/json"})


def _binary(url: str, tensors: list[dict[str, Any]], arrays: list[Array]) -> Request:
    data = [bytes(binary.encode_tensor(array)) for array in arrays]
    sized = zip(tensors, arrays, data, strict=True)
    inputs = [{**_head(t, a), "parameters": {"binary_data_size": len(raw)}} for t, a, raw in sized]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(url, head + b"".join(data), headers)


def _head(tensor: Mapping[str, Any], array: Array) -> dict[str, Any]:
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": list(array.shape)}


def _random(tensor: Mapping[str, Any], rows: int, random: np.random.Generator) -> Array:
    shape = [rows, *(DYNAMIC if axis < 0 else axis for axis in tensor["shape"][1:])]
    dtype = BY_NAME[tensor["datatype"]].dtype
    if tensor["datatype"] == "BYTES":
        return np.full(shape, "text", object)
    if dtype.kind in "iub":
        return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
