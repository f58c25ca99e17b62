"""Sample rows that somebody has given: a file beside the config, or requests that a SavedModel brings along."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deployments.errors import InvalidInput, LoadError
from deployments.planning.samples import ROWS
from deployments.tensors import STRING, Array, Arrays, Signature, TensorSpec, strings


def read(path: Path, signature: Signature) -> Arrays:
    """Return `ROWS` rows out of a file of samples, `[ROWS, ...]` an input; fewer there are repeated.

    `.npz` has an array an input, by name, `.npy` the only input's; `.parquet` a column an input. `.json` is a list of
    rows, or what a client would send: `{"instances": […]}`, `{"inputs": {name: […]}}`, or with `{name: […]}` alone;
    bytes are `{"b64": "…"}`. Raises `LoadError` that names the file, the input and what was expected.
    """
    try:
        columns = _columns(path, [spec.name for spec in signature.inputs])
        return fitted(columns, signature)
    except (InvalidInput, ValueError, OSError, KeyError, TypeError) as error:
        raise LoadError(f"samples: '{path}': {error}") from None


def fitted(columns: Mapping[str, Any], signature: Signature) -> Arrays:
    """Return rows by input name as checked arrays of the signature's dtypes; raises `InvalidInput`, `ValueError`."""
    arrays = {spec.name: _array(spec, columns[spec.name]) for spec in signature.inputs if spec.name in columns}
    unknown = {name: np.asarray(values) for name, values in columns.items() if name not in arrays}
    rows = signature.opened().check(arrays | unknown)
    fixed = signature.inputs[0].shape[0]
    return tuple(np.ascontiguousarray(np.take(a, np.arange(fixed or ROWS) % len(a), axis=0)) for a in rows.arrays)


def _array(spec: TensorSpec, values: Any) -> Array:
    if spec.dtype != STRING:
        return np.asarray(values).astype(spec.dtype, casting="unsafe")
    array = np.asarray(values, dtype=object)
    flat = [value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel()]
    return strings(flat).reshape(array.shape)


def _columns(path: Path, names: list[str]) -> Mapping[str, Any]:
    if path.suffix == ".json":
        return _of_json(json.loads(path.read_bytes()), names)
    if path.suffix == ".parquet":
        return _of_parquet(path)
    loaded = np.load(path, allow_pickle=False)
    if path.suffix == ".npy":
        return {_only(names): loaded}
    columns = {name: loaded[name] for name in loaded.files}
    return {_only(names): next(iter(columns.values()))} if len(columns) == len(names) == 1 else columns


def _of_json(said: Any, names: list[str]) -> Mapping[str, Any]:
    said = _bytes_in(said)
    if isinstance(said, dict):
        said = said.get("instances", said.get("inputs", said))
    if isinstance(said, dict):
        return said
    if not isinstance(said, list) or not said:
        raise ValueError("expected a list of rows, or an object of rows by input")
    if isinstance(said[0], dict) and {"name", "data"} <= said[0].keys():
        return {str(each["name"]): np.asarray(each["data"]).reshape(each["shape"]) for each in said}
    if isinstance(said[0], dict):
        return {name: [row[name] for row in said] for name in said[0]}
    return {_only(names): said}


def _of_parquet(path: Path) -> Mapping[str, Any]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise LoadError(f"samples: '{path}': .parquet needs pyarrow: pip install 'keras-solo[parquet]'") from None
    columns: Mapping[str, Any] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


def _only(names: list[str]) -> str:
    if len(names) > 1:
        raise ValueError(f"expected rows by input: {', '.join(names)}")
    return names[0]


def _bytes_in(said: Any) -> Any:
    if isinstance(said, list):
        return [_bytes_in(each) for each in said]
    if isinstance(said, dict):
        if said.keys() == {"b64"}:
            return base64.b64decode(said["b64"])
        return {key: _bytes_in(value) for key, value in said.items()}
    return said
