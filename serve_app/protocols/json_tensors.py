"""Tensors inside plain JSON: nested lists to an array of a known dtype, and back with NaN and Infinity kept.

Numbers are converted by numpy and orjson in C; only strings pass through Python one by one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from itertools import chain
from typing import Any

import numpy as np
import orjson

from deployments.errors import InvalidInput
from deployments.tensors import STRING, Array, TensorSpec, dtype_name, strings
from serve_app.protocols import json_numbers
from serve_app.protocols.datatypes import BY_DTYPE

_MAX_AXES = 64
"""As many as numpy's arrays can have."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Which Windows puts before UTF-8; RFC 8259, section 8.1: a parser may ignore it."""
_NONFINITE_TOKENS = (b"NaN", b"Infinity")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> Any:
    """Return the JSON document `body`, the tokens NaN, Infinity and -Infinity allowed as TF Serving allows them.

    So is a byte-order mark before it. Raises `InvalidInput` for anything that is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if body.startswith(BYTE_ORDER_MARK):
            return parse(body[len(BYTE_ORDER_MARK) :])
        if not any(token in body for token in _NONFINITE_TOKENS):
            raise InvalidInput(f"JSON Parse error: {error}") from None
    try:
        # 40 times slower than orjson, so only for bodies that name a token that orjson refuses.
        document = json.loads(body.decode())
        if _SURROGATE.search(body):
            # Halves of a pair, which json lets pass and orjson does not, are no text: no answer could hold them.
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"JSON Parse error: {error}") from None


def decode_values(values: Any, spec: TensorSpec, booleans: bool = True) -> Array:
    """Return nested lists (or one scalar) as an array of `spec`'s dtype; the shape is theirs.

    `booleans=False` vouches that no boolean is among them (`json_numbers.may_hold_booleans`), which saves a walk.

    Raises `InvalidInput` where lists are ragged or a value is of another type or beyond the dtype's range: `true`
    is no number, 1.5 no integer, null nothing.
    """
    if spec.is_json:
        return json_rows(values, spec.name)
    shape, flat = _flatten(values, spec)
    if spec.dtype == STRING:
        return _decode_strings(flat, spec).reshape(shape)
    where, called = f"input '{spec.name}'", dtype_name(spec.dtype)
    if spec.dtype.kind == "b":
        return json_numbers.flags(flat, where, called).reshape(shape)
    return json_numbers.numbers(flat, BY_DTYPE[spec.dtype], where, called, booleans).reshape(shape)


def json_rows(values: Any, name: str) -> Array:
    """Return a list of JSON values as the strings that they are written as, `[rows]`."""
    if not isinstance(values, list):
        raise InvalidInput(f"input '{name}': expected a list with a JSON value for each row")
    try:
        return strings([orjson.dumps(value) for value in values])
    except TypeError as error:  # an integer beyond 64 bits
        raise InvalidInput(f"input '{name}': {error}") from None


def encode_json_rows(rows: Array) -> bytes:
    """Return strings that are JSON values, `[rows]` or one alone, as these values."""
    return b"[%b]" % b",".join(rows.tolist()) if rows.ndim else bytes(rows[()])


def encode_values(values: Array, as_bytes: bool = False) -> bytes:
    """Return an array as JSON: nested lists, or one scalar for zero axes.

    Non-finite numbers become the tokens NaN, Infinity and -Infinity. Byte strings become text, and
    `{"b64": …}` with `as_bytes` or where they are not UTF-8, which JSON cannot hold otherwise.
    """
    if values.dtype == STRING:
        return orjson.dumps(_strings(values.tolist(), as_bytes))
    if values.dtype.kind == "V":
        values = values.astype(np.float32)
    values = np.ascontiguousarray(values).reshape(values.shape)
    text = orjson.dumps(values if values.ndim else values[()], option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for what is not finite, and for nothing else among numbers.
    return _restore_nonfinite(text, values) if b"null" in text else text


def is_b64(value: Any) -> bool:
    """Return whether a JSON value is TF Serving's form of a byte string."""
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def _flatten(values: Any, spec: TensorSpec) -> tuple[list[int], list[Any]]:
    """Return the shape of nested lists and their values in one list, by walks in C."""
    if not isinstance(values, list):
        return [], [values]
    shape, flat = [len(values)], values
    while flat and isinstance(flat[0], list):
        lengths = set(map(len, flat)) if set(map(type, flat)) == {list} else set()
        if len(lengths) != 1:
            raise InvalidInput(f"input '{spec.name}': expected lists of equal lengths, got ragged ones")
        if len(shape) >= _MAX_AXES:
            raise InvalidInput(f"input '{spec.name}': expected {len(spec.shape)} axes, got lists nested far deeper")
        shape.append(lengths.pop())
        flat = list(chain.from_iterable(flat))
    return shape, flat


def _decode_strings(flat: list[Any], spec: TensorSpec) -> Array:
    return strings([_byte_string(value, spec.name) for value in flat])


def _byte_string(value: Any, name: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if is_b64(value) and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"input '{name}': Unable to base64 decode: {value['b64'][:40]!r}") from None
    raise InvalidInput(f'input \'{name}\': expected strings or {{"b64": "…"}}, got {type(value).__name__}')


def _strings(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_strings(item, as_bytes) for item in value]
    raw = value.encode() if isinstance(value, str) else bytes(value)
    if not as_bytes:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(raw).decode()}


def _restore_nonfinite(text: bytes, values: Array) -> bytes:
    """Return `text` with each null replaced by the number it stands for."""
    numbers = values[~np.isfinite(values)].tolist()
    tokens = [b"NaN" if x != x else b"Infinity" if x > 0 else b"-Infinity" for x in numbers]
    pieces = text.split(b"null")
    return b"".join(piece + token for piece, token in zip(pieces, [*tokens, b""], strict=True))
