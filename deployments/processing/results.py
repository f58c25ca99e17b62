"""What a user's function returned, as one column a tensor: checked by name, number of rows, dtype and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from deployments.conversion import to_array
from deployments.errors import InvalidInput, PredictionFailed
from deployments.tensors import STRING, Array, Arrays, Shape, TensorSpec, shape_text, strings


class WrongResult(PredictionFailed):
    """A function returned something else than it should: its author's fault, whatever the request."""


def columns_of(result: Any, specs: Sequence[TensorSpec], count: int, per_row: bool, owner: str) -> Arrays:
    """Return `result` as a column `[count, …]` a spec.

    Rows whose shapes differ from one another, where the tensor's inner axes are open, come as an array of `count`
    objects, each a row. Raises `WrongResult`, naming `owner` and the tensor.
    """
    names = [spec.name for spec in specs]
    if per_row:
        rows = [_named(row, names, specs, owner) for row in result]
        columns: Mapping[str, Any] = {name: [row[name] for row in rows] for name in names}
    else:
        columns = _named(result, names, specs, owner)
    return tuple(_column(columns[spec.name], spec, count, owner) for spec in specs)


def discovered(result: Any, per_row: bool, fallback: str) -> tuple[TensorSpec, ...]:
    """Return what a result of an undeclared function is: names, dtypes and shapes, with an open batch axis."""
    first = result[0] if per_row else result
    if not isinstance(first, Mapping):
        return (_found(fallback, result, per_row),)
    pairs = [(str(name), [row[name] for row in result] if per_row else first[name]) for name in first]
    return tuple(_found(name, values, per_row) for name, values in pairs)


def _found(name: str, values: Any, per_row: bool) -> TensorSpec:
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], Mapping):
        return TensorSpec(name, STRING, (None,), is_json=True)
    array = np.stack([np.asarray(value) for value in values]) if per_row else np.asarray(values)
    dtype = STRING if array.dtype.kind in "OSU" else array.dtype
    return TensorSpec(name, dtype, (None, *array.shape[1:]))


def _named(result: Any, names: list[str], specs: Sequence[TensorSpec], owner: str) -> Mapping[str, Any]:
    """Return one result by tensor: a mapping as it is, a tuple in order, anything else as the sole tensor."""
    is_sole = len(specs) == 1
    if isinstance(result, Mapping) and not (is_sole and specs[0].is_json and result.keys() != {names[0]}):
        if result.keys() != set(names):
            raise WrongResult(f"{owner} returned {_quoted(result)}, expected {_quoted(names)}")
        return result
    if is_sole:
        return {names[0]: result}
    if isinstance(result, (tuple, list)) and len(result) == len(names):
        return dict(zip(names, result, strict=True))
    raise WrongResult(f"{owner} returned a {type(result).__name__}, expected a dict of {_quoted(names)}")


def _column(values: Any, spec: TensorSpec, count: int, owner: str) -> Array:
    if spec.is_json:
        return _json(values, spec, count, owner)
    try:
        array = to_array(spec, values)
    except InvalidInput as error:
        if (ragged := _ragged(values, spec, count)) is not None:
            return ragged
        raise WrongResult(f"{owner} returned no '{spec.name}': {error}") from None
    if array.ndim != len(spec.shape) or len(array) != count or not _fits(array.shape, spec.shape):
        expected = shape_text((count, *spec.row_shape))
        raise WrongResult(f"{owner} returned '{spec.name}' of shape {shape_text(array.shape)}, expected {expected}")
    return array


def _fits(shape: Shape, wanted: Shape) -> bool:
    return all(want in (None, got) for got, want in zip(shape[1:], wanted[1:], strict=True))


def _json(values: Any, spec: TensorSpec, count: int, owner: str) -> Array:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise WrongResult(f"{owner} returned no '{spec.name}': expected a list of {count} JSON values")
    try:
        texts = [orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY) for value in values]
    except TypeError as error:
        raise WrongResult(f"{owner} returned no '{spec.name}': {error}") from None
    return strings(texts)


def _ragged(values: Any, spec: TensorSpec, count: int) -> Array | None:
    """Return rows of different shapes as objects; None where that is not what `values` are."""
    if not isinstance(values, (list, tuple)) or len(values) != count or spec.dtype == STRING:
        return None
    row_spec = TensorSpec(spec.name, spec.dtype, spec.row_shape)
    column = np.empty(count, dtype=object)
    try:
        for index, value in enumerate(values):
            row = to_array(row_spec, value)
            if row.ndim != len(spec.row_shape) or any(
                want not in (None, got) for got, want in zip(row.shape, spec.row_shape, strict=True)
            ):
                return None
            column[index] = row
    except InvalidInput:
        return None
    return column


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"
