"""What people have (lists, arrays of a near dtype, text) as an array of a tensor's dtype, where no value is lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from deployments.errors import InvalidInput
from deployments.tensors import STRING, Array, TensorSpec, dtype_name

_TAKES = {"b": "b", "i": "bi", "f": "bif", "s": "s"}
"""Which kinds of values (bool, integer, float, string) an input of each kind takes; the rest would lose them."""


def converts(wanted: np.dtype[Any], given: np.dtype[Any]) -> bool:
    """Return whether values of dtype `given` may become `wanted`: as `to_array` does, which looks at the values too."""
    return _kind(given) in _TAKES.get(_kind(wanted), "")


def to_array(spec: TensorSpec, value: Any) -> Array:
    """Return one input's array-like as an array of its dtype; raise `InvalidInput` where that would change a value."""
    array = _as_array(spec, value)
    if array.dtype == spec.dtype != STRING:
        return array
    if not converts(spec.dtype, array.dtype):
        raise InvalidInput(
            f"input '{spec.name}': expected dtype {dtype_name(spec.dtype)}, got {dtype_name(array.dtype)}, "
            "which does not convert without loss"
        )
    return _to_bytes(spec, array) if spec.dtype == STRING else _to_number(spec, array)


def _as_array(spec: TensorSpec, value: Any) -> Array:
    try:
        if spec.dtype == STRING and not hasattr(value, "dtype"):
            # numpy's own string dtypes drop trailing NULs, which bytes may end in.
            return np.array(value, dtype=object)
        return np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"input '{spec.name}': expected an array or a list of equal rows: {error}") from None


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.name == "bfloat16":
        return "f"
    return {"b": "b", "i": "i", "u": "i", "f": "f", "O": "s", "S": "s", "U": "s"}.get(dtype.kind, "?")


def _to_number(spec: TensorSpec, array: Array) -> Array:
    if _kind(spec.dtype) == "i" and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            beyond = low if low < limits.min else high
            raise InvalidInput(f"input '{spec.name}': {beyond} is beyond {dtype_name(spec.dtype)}")
    try:
        with np.errstate(over="raise"):
            return array.astype(spec.dtype)
    except FloatingPointError:
        raise InvalidInput(f"input '{spec.name}': a value is beyond {dtype_name(spec.dtype)}") from None


def _to_bytes(spec: TensorSpec, array: Array) -> Array:
    """Return strings as `bytes`, text in UTF-8."""
    items = array.ravel().tolist()
    if wrong := [type(item).__name__ for item in items if not isinstance(item, (str, bytes))]:
        raise InvalidInput(f"input '{spec.name}': expected strings, got {wrong[0]}")
    encoded = np.empty(array.shape, dtype=object)
    encoded.reshape(-1)[:] = [item.encode() if isinstance(item, str) else item for item in items]
    return encoded
