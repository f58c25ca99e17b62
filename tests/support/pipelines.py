"""Functions between a pipeline's models."""

from __future__ import annotations

from typing import Any

import numpy as np

from deployments.tensors import Array


def halve(x: Array) -> Array:
    return x / 2


def crops(image: Array, boxes: Any) -> list[Array]:
    """As many crops as there are boxes with something in them."""
    return [np.array([[box.sum()] * 4 for box in row if box.any()], np.float32).reshape(-1, 4) for row in boxes]


def lengths(text: list[str]) -> Array:
    return np.array([[len(each)] * 4 for each in text], np.float32)


def repeated(count: Array) -> list[Array]:
    """`count` items a row, numbered from the row's count on."""
    return [np.arange(n, 2 * n, dtype=np.float32)[:, None] * np.ones(4, np.float32) for n in count.reshape(-1)]


def whole(x: Array) -> Array:
    return x.astype(np.int32)


def fails(x: Array) -> Array:
    if (x < 0).any():
        raise ValueError("negative")
    return x
