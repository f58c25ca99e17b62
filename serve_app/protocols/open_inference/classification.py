"""The classification extension: an output's best `n` of each row as text, `value:index[:label]`.

Source: Triton's `docs/protocol/extension_classification.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.errors import InvalidInput
from deployments.tensors import Array


def classify(name: str, values: Array, count: int, labels: Sequence[str] = ()) -> Array:
    """Return the `count` largest values of each row of output `name`, `[rows, ...]`, as `[rows, count]` byte strings.

    A row is taken flat; fewer are returned where it has fewer. Equal values are in the order of their index; NaN
    comes last. Labels are added where there is one for every value of a row. Raises `InvalidInput` for strings.
    """
    if values.dtype == object:
        raise InvalidInput(f"output '{name}': BYTES values cannot be classified")
    rows = values.reshape(len(values), -1)
    scores = rows.astype(np.float64)
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=1, kind="stable")[:, :count]
    named = labels if len(labels) == rows.shape[1] else ()
    picked = [_entry(rows[row, index], index, named) for row in range(len(rows)) for index in order[row].tolist()]
    return np.array(picked, dtype=object).reshape(order.shape)


def _entry(value: Any, index: int, labels: Sequence[str]) -> bytes:
    number = str(int(value)) if isinstance(value, (np.integer, np.bool_)) else f"{float(value):f}"
    return (f"{number}:{index}:{labels[index]}" if labels else f"{number}:{index}").encode()
