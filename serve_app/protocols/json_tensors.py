"""Tensors inside plain JSON: nested lists to an array of a known dtype, and back with NaN and Infinity kept.

Numbers are converted by numpy and orjson in C; only strings pass through Python one by one.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np
import orjson

from deployments.errors import InvalidInput
from deployments.tensors import STRING, Array, TensorSpec, dtype_name

_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu", "V": "fiu"}
"""Kind of the model's dtype to the kinds of JSON values it takes. bfloat16 (ml_dtypes) has kind V."""

_NONFINITE_TOKENS = (b"NaN", b"Infinity")


def parse(body: bytes) -> Any:
    """Return the JSON document `body`, the tokens NaN, Infinity and -Infinity allowed as TF Serving allows them.

    Raises `InvalidInput` for anything that is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not any(token in body for token in _NONFINITE_TOKENS):
            raise InvalidInput(f"JSON Parse error: {error}") from None
    try:
        # 40 times slower than orjson, so only for bodies that name a token that orjson refuses.
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"JSON Parse error: {error}") from None


def may_hold_booleans(body: bytes) -> bool:
    """Return whether JSON text could hold a boolean: two scans at memory speed."""
    return b"true" in body or b"false" in body


def decode_values(values: Any, spec: TensorSpec, booleans: bool = True) -> Array:
    """Return nested lists (or one scalar) as an array of `spec`'s dtype; the shape is theirs.

    `booleans=False` vouches that no boolean is among them (`may_hold_booleans`), which saves a walk.

    Raises `InvalidInput` where lists are ragged or a value is of another type or beyond the dtype's range: `true`
    is no number, 1.5 no integer, null nothing.
    """
    if spec.dtype == STRING:
        return _decode_strings(values, spec)
    try:
        natural = np.array(values)
        if spec.dtype == np.uint64 and natural.dtype.kind == "f":
            natural = _widest_unsigned(values, natural)
    except ValueError:
        raise InvalidInput(f"input '{spec.name}': expected lists of equal lengths, got ragged ones") from None
    if natural.size and natural.dtype.kind not in _KINDS[spec.dtype.kind]:
        raise InvalidInput(_type_text(spec, natural))
    if booleans and spec.dtype.kind != "b" and _has_bool(values):
        raise InvalidInput(f"input '{spec.name}': expected {dtype_name(spec.dtype)} values, got a boolean")
    return _cast(natural, spec)


def encode_values(array: Array, as_bytes: bool = False) -> bytes:
    """Return an array as JSON: nested lists, or one scalar for zero axes.

    Non-finite numbers become the tokens NaN, Infinity and -Infinity. Byte strings become text, and
    `{"b64": …}` with `as_bytes` or where they are not UTF-8, which JSON cannot hold otherwise.
    """
    if array.dtype == STRING:
        return orjson.dumps(_strings(array.tolist(), as_bytes))
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    array = np.ascontiguousarray(array).reshape(array.shape)
    text = orjson.dumps(array if array.ndim else array[()], option=orjson.OPT_SERIALIZE_NUMPY)
    return text if array.dtype.kind != "f" else _restore_nonfinite(text, array)


def is_b64(value: Any) -> bool:
    """Return whether a JSON value is TF Serving's form of a byte string."""
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def _cast(natural: Array, spec: TensorSpec) -> Array:
    if natural.dtype == spec.dtype:
        return natural
    if spec.dtype.kind in "iu" and natural.size:
        limits = np.iinfo(spec.dtype)
        if natural.max() > limits.max or natural.min() < limits.min:
            raise InvalidInput(f"input '{spec.name}': a value is beyond the range of {dtype_name(spec.dtype)}")
    try:
        with np.errstate(over="raise"):
            return natural.astype(spec.dtype)
    except FloatingPointError:
        raise InvalidInput(f"input '{spec.name}': a value is beyond the range of {dtype_name(spec.dtype)}") from None


def _widest_unsigned(values: Any, natural: Array) -> Array:
    """Return integers that numpy made float64 because some need uint64 and others fit int64, as uint64."""
    exact = np.array(values, dtype=object)
    try:
        return exact.astype(np.uint64) if set(map(type, exact.flat)) == {int} else natural
    except OverflowError:
        return natural


def _has_bool(values: Any) -> bool:
    """Return whether a boolean hides among numbers, where numpy would read it as 0 or 1."""
    if not isinstance(values, list):
        return isinstance(values, bool)
    if values and isinstance(values[0], list):
        return any(map(_has_bool, values))
    return bool in set(map(type, values))


def _type_text(spec: TensorSpec, natural: Array) -> str:
    got = {"b": "booleans", "f": "fractions", "U": "strings"}.get(natural.dtype.kind, "mixed values, null or objects")
    return f"input '{spec.name}': expected {dtype_name(spec.dtype)} values, got {got}"


def _decode_strings(values: Any, spec: TensorSpec) -> Array:
    try:
        array = np.array(values, dtype=object)
    except ValueError:
        raise InvalidInput(f"input '{spec.name}': expected lists of equal lengths, got ragged ones") from None
    flat = [_byte_string(value, spec.name) for value in array.ravel()]
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(array.shape)


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


def _restore_nonfinite(text: bytes, array: Array) -> bytes:
    """Return `text` with each null, orjson's form of a non-finite number, replaced by what it was."""
    finite = np.isfinite(array)
    if finite.all():
        return text
    tokens = [b"NaN" if x != x else b"Infinity" if x > 0 else b"-Infinity" for x in array[~finite].tolist()]
    pieces = text.split(b"null")
    return b"".join(piece + token for piece, token in zip(pieces, [*tokens, b""], strict=True))
