"""The Open Inference Protocol's JSON tensors: `data` lists to arrays of a declared shape, and back, flat."""

from __future__ import annotations

from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from deployments.errors import InvalidInput
from deployments.tensors import Array, strings
from serve_app.protocols import json_numbers, json_tensors
from serve_app.protocols.datatypes import Datatype
from serve_app.protocols.open_inference.fields import MAX_DEPTH, too_deep


def decode_json_rows(name: str, data: Any) -> Array:
    """Return `data` of a tensor of JSON values, each as its text in a string or as it is, as strings `[rows]`."""
    if type(data) is not list:
        raise InvalidInput(f"input '{name}': expected 'data' to be a list")
    return strings([_utf8(name, item) if type(item) is str else orjson.dumps(item) for item in data])


def decode_data(name: str, datatype: Datatype, shape: list[int], data: Any, text: bytes) -> Array:
    """Return input `name`'s JSON `data`, row-major, flat or nested as `shape` says, as an array of `shape`.

    `text` is the JSON document that `data` came from: two scans of it at memory speed tell whether booleans or
    non-finite tokens need looking for. Raises `InvalidInput`.
    """
    flat, where = _flatten(name, shape, data), f"input '{name}'"
    if datatype.typecode is not None:
        booleans = json_numbers.may_hold_booleans(text)
        return json_numbers.numbers(flat, datatype, where, datatype.name, booleans).reshape(shape)
    if datatype.name == "BYTES":
        return _strings(name, flat).reshape(shape)
    return json_numbers.flags(flat, where, datatype.name).reshape(shape)


def encode_data(values: Array) -> bytes:
    """Return `values` (any shape) as one flat JSON list, row-major.

    NaN and infinities are written as the tokens NaN, Infinity and -Infinity, which Python's `json` and tritonclient
    read (orjson alone would write null); a stricter client such as KServe's SDK says so, and asks for binary
    instead. Raises `InvalidInput` for byte strings that are not UTF-8, which JSON cannot hold.
    """
    flat = values.reshape(-1)
    if flat.dtype == object:
        return _encode_strings(flat)
    if flat.dtype.kind == "V":
        flat = flat.astype(np.float32)  # bfloat16
    text = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
    return json_tensors.encode_values(flat) if b"null" in text else text


def _flatten(name: str, shape: list[int], data: Any) -> list[Any]:
    """Return `data` as a flat list of as many values as `shape` has.

    Nested lists must be regular and nested as `shape` is, axes of 1 aside, which Triton's own tests add and omit.
    """
    if type(data) is not list:
        raise InvalidInput(f"input '{name}': expected 'data' to be a list")
    flat: list[Any] = data
    nest = [len(flat)]
    while flat and type(flat[0]) is list:
        nest.append(_inner_length(name, shape, flat))
        flat = list(chain.from_iterable(flat))
        if len(nest) > MAX_DEPTH:
            raise too_deep(f"input '{name}'")
    count = prod(shape)
    if len(flat) != count:
        raise InvalidInput(f"input '{name}': expected {count} values for shape {shape}, got {len(flat)}")
    if (
        len(nest) > 1
        and nest != shape
        and [axis for axis in nest if axis != 1] != [axis for axis in shape if axis != 1]
    ):
        raise InvalidInput(f"input '{name}': expected 'data' flat or nested as shape {shape}, got {nest}")
    return flat


def _inner_length(name: str, shape: list[int], level: list[Any]) -> int:
    """Return the one length of all lists in `level`; two walks in C."""
    lengths = set(map(len, level)) if set(map(type, level)) == {list} else ()
    if len(lengths) != 1:
        raise InvalidInput(f"input '{name}': expected 'data' flat or nested as shape {shape}, got ragged lists")
    (length,) = lengths
    return length


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"input '{name}': expected BYTES values as JSON strings") from None


def _strings(name: str, flat: list[Any]) -> Array:
    try:
        return np.array(list(map(str.encode, flat)), dtype=object)
    except (TypeError, UnicodeEncodeError):
        raise InvalidInput(f"input '{name}': expected BYTES values as JSON strings") from None


def _encode_strings(flat: Array) -> bytes:
    try:
        return orjson.dumps([item if isinstance(item, str) else bytes(item).decode() for item in flat.tolist()])
    except UnicodeDecodeError:
        raise InvalidInput("an output holds bytes that are not UTF-8: ask for it with binary_data") from None
