"""From what a user has (lists, arrays of a near dtype, names or none) to checked rows, and back to what they expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deployments.errors import InvalidInput, PredictionFailed
from deployments.tensors import STRING, Array, Arrays, Rows, Signature, TensorSpec, dtype_name

_TAKES = {"b": "b", "i": "bi", "f": "bif", "s": "s"}
"""Which kinds of values (bool, integer, float, string) an input of each kind takes; the rest would lose them."""


def to_rows(signature: Signature, inputs: object) -> Rows:
    """Return `inputs`, one `[rows, ...]` array-like or a mapping of them by name, in the signature's dtypes.

    Arrays that already fit are not copied. Raises `InvalidInput` for a wrong name or shape, a ragged list, and
    where a value would change its meaning: floats for an integer input, numbers beyond its range.
    """
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
            raise InvalidInput(f"the model has {len(signature.inputs)} inputs: expected a dict of {names}")
        inputs = {signature.inputs[0].name: inputs}
    specs = {spec.name: spec for spec in signature.inputs}
    return signature.check(
        {name: to_array(specs[name], value) if name in specs else np.empty(0) for name, value in inputs.items()}
    )


def to_array(spec: TensorSpec, value: Any) -> Array:
    """Return one input's array-like as an array of its dtype; raise `InvalidInput` where that would change a value."""
    array = _as_array(spec, value)
    if array.dtype == spec.dtype != STRING:
        return array
    if _kind(array.dtype) not in _TAKES.get(_kind(spec.dtype), ""):
        raise InvalidInput(
            f"input '{spec.name}': expected dtype {dtype_name(spec.dtype)}, got {dtype_name(array.dtype)}, "
            "which does not convert without loss"
        )
    return _to_bytes(spec, array) if spec.dtype == STRING else _to_number(spec, array)


def split(rows: Rows, size: int) -> Iterator[Arrays]:
    """Yield `rows` in order, in pieces of at most `size` rows each: views."""
    for start in range(0, rows.count, size):
        yield tuple(array[start : start + size] for array in rows.arrays)


def join(pieces: Sequence[Arrays]) -> Arrays:
    """Return the pieces' outputs as one, `[all rows, ...]` each."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
    except ValueError as error:
        raise PredictionFailed(f"the pieces of this batch have answers of different shapes: {error}") from None


def to_answer(signature: Signature, outputs: Arrays) -> Array | dict[str, Array]:
    """Return a sole output bare, several by name; every array is writable and the caller's own."""
    # What Ray deserializes is read-only: a view of the object store, which the caller would keep full.
    owned = [array if array.flags.writeable and array.flags.aligned else array.copy() for array in outputs]
    if len(owned) == 1:
        return owned[0]
    return {spec.name: array for spec, array in zip(signature.outputs, owned, strict=True)}


def size_bytes(arrays: Arrays) -> int:
    """Return roughly how many bytes `arrays` travel as; strings are measured one by one."""
    return sum(
        sum(4 + len(item) for item in array.ravel()) if array.dtype == STRING else array.nbytes for array in arrays
    )


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
