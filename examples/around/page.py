"""A page of handwritten digits: a detector finds them, Python cuts them out, a classifier reads each one.

The steps of the pipeline `page` in serve_config.yaml; `digits` is the model of the quick start.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

SIDE = 28
"""Of a digit, in pixels."""
MOST = 24
"""Places that the detector tells, the same digit's neighbours among them."""
FAINT = 0.05
"""What has less ink is no digit."""


@keras.saving.register_keras_serializable("examples")
class Peaks(keras.layers.Layer):
    """The strongest places of a heat map that are the strongest of their neighbourhood."""

    def call(self, heat: Any) -> Any:
        """Return `[batch, MOST, 2]` int32 rows and columns, and `[batch, MOST]` scores."""
        around = keras.ops.max_pool(heat, (SIDE // 2 + 1, SIDE // 2 + 1), 1, "same")
        peaks = keras.ops.where(heat >= around, heat, keras.ops.zeros_like(heat))
        width = keras.ops.shape(heat)[2]
        scores, places = keras.ops.top_k(keras.ops.reshape(peaks, (keras.ops.shape(heat)[0], -1)), MOST)
        return keras.ops.stack([places // width, places % width], -1), scores

    def compute_output_spec(self, heat: Any) -> Any:
        """Say what `call` returns."""
        return keras.KerasTensor((heat.shape[0], MOST, 2), "int32"), keras.KerasTensor(
            (heat.shape[0], MOST), heat.dtype
        )


def detector() -> keras.Model:
    """Return what finds digits on a page `[batch, height, width]` uint8, light ink on dark paper."""
    page = keras.Input((64, 256), dtype="uint8", name="page")
    ink = keras.layers.Rescaling(1 / 255)(page)
    # A digit's middle is where a window of its size holds most ink, and its border least.
    ink = keras.layers.Reshape((64, 256, 1))(ink)
    heat = keras.layers.AveragePooling2D(SIDE - 7, 1, "same")(ink)
    heat = keras.layers.AveragePooling2D(5, 1, "same")(heat)
    centers, scores = Peaks(name="peaks")(heat)
    return keras.Model(page, {"centers": centers, "scores": scores})


def crops(page: np.ndarray, centers: np.ndarray, scores: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Return the digits of each page, from left to right: `crops` `[digits, 28, 28, 1]`, and their `columns`."""
    cut, columns = [], []
    for image, places, strength in zip(page, centers, scores, strict=True):
        found = sorted(_apart(places[strength > FAINT]), key=lambda place: place[1])
        padded = np.pad(image, SIDE // 2).astype(np.float32)[..., None] / 255
        pieces = [padded[row : row + SIDE, column : column + SIDE] for row, column in found]
        cut.append(np.stack(pieces) if pieces else np.zeros((0, SIDE, SIDE, 1), np.float32))
        columns.append(np.array([column for _, column in found], np.int32))
    return {"crops": cut, "columns": columns}


def _apart(places: np.ndarray) -> list[tuple[int, int]]:
    """Return places, strongest first, without those that are nearer than half a digit to a stronger one."""
    kept: list[tuple[int, int]] = []
    for row, column in places.tolist():
        if all(max(abs(row - other), abs(column - another)) > SIDE // 2 for other, another in kept):
            kept.append((row, column))
    return kept


def read(scores: list[np.ndarray], columns: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return what stands on each page."""
    return [
        {"text": "".join(map(str, each.argmax(axis=-1))), "columns": places.tolist()}
        for each, places in zip(scores, columns, strict=True)
    ]
