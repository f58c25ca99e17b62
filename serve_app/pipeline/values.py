"""Columns on their way between steps: picked by row, fanned out into items and put together again.

A column is `[rows, …]`, or an array of `rows` objects, each a row, where the rows differ in shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.errors import InvalidInput
from deployments.tensors import STRING, Array, TensorSpec, strings


def is_ragged(column: Array) -> bool:
    """Return whether rows differ in shape; an array of strings has dtype object as well."""
    return column.dtype == object and column.ndim == 1 and any(isinstance(row, np.ndarray) for row in column)


def gathered(rows: Sequence[Array]) -> Array:
    """Return rows as one column."""
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    column = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        column[index] = row
    return column


def free(result: Any, count: int) -> Array | None:
    """Return what a function returned for `count` rows without a declaration; None where it is no such column."""
    if isinstance(result, (list, tuple)) and len(result) == count:
        if all(isinstance(row, (str, bytes)) for row in result):
            return strings([row.encode() if isinstance(row, str) else row for row in result])
        rows = [np.asarray(row) for row in result]
        return None if any(row.dtype == object for row in rows) else gathered(rows)
    column = np.asarray(result)
    return column if column.ndim and len(column) == count else None


def items_of(column: Array) -> tuple[Array, list[int]]:
    """Return the items of all rows in one column, and how many each row has."""
    if not is_ragged(column):
        return column.reshape(-1, *column.shape[2:]), [column.shape[1]] * len(column)
    return np.concatenate(list(column)), [len(row) for row in column]


def in_rows(items: Array, counts: Sequence[int]) -> Array:
    """Return items, put together again by row: what `items_of` undid."""
    if len(set(counts)) == 1:
        return items.reshape(len(counts), counts[0], *items.shape[1:])
    return gathered(np.split(items, np.cumsum(counts)[:-1]))


def scattered(column: Array, rows: Array, count: int, fill: Any) -> Array:
    """Return `count` rows: those of `column` at `rows`, the others filled."""
    if is_ragged(column):
        whole = np.empty(count, dtype=object)
        example: Array = column[0]
        for index in range(count):
            whole[index] = np.empty((0, *example.shape[1:]), example.dtype)
        whole[rows] = column
        return whole
    whole = np.full((count, *column.shape[1:]), fill, column.dtype)
    whole[rows] = column
    return whole


def filled(spec: TensorSpec, count: int, fill: Any) -> Array:
    """Return `count` rows of nothing but `fill`, no item where there may be several."""
    shape = (count, *(0 if axis is None else axis for axis in spec.row_shape))
    return np.full(shape, fill, spec.dtype)


def filler(spec_dtype: np.dtype[Any], otherwise: float | str) -> Any:
    """Return what fills rows of a dtype."""
    if spec_dtype == STRING:
        return b"" if otherwise == 0 else str(otherwise).encode()
    return otherwise


def answered(column: Array, name: str) -> Array:
    """Return a column as the tensor it is answered as; raises `InvalidInput` where the rows' items differ in number."""
    if not is_ragged(column):
        return column
    sizes = sorted({len(row) for row in column})
    raise InvalidInput(
        f"output '{name}': the rows of this request have different numbers of items ({sizes[0]} to {sizes[-1]}), which "
        "no tensor holds: send them one by one"
    )
