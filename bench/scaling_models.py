"""A model whose predictions wait instead of computing, so that two cores can show what many replicas do."""

from __future__ import annotations

import time
from typing import Any


def napping(base_ms: float = 20.0, row_ms: float = 2.5, width: int = 16) -> Any:
    """Return a model that sleeps `base_ms + rows × row_ms` a run: `[batch, width] float32` to the same.

    `time.sleep` lets go of the interpreter's lock as a GPU does: the event loop goes on meanwhile.
    """
    import keras
    import tensorflow as tf

    def nap(rows: Any) -> Any:
        time.sleep((base_ms + rows.shape[0] * row_ms) / 1e3)
        return rows

    class Nap(keras.layers.Layer):  # type: ignore[misc]
        def call(self, rows: Any) -> Any:
            slept = tf.py_function(nap, [rows], tf.float32)
            slept.set_shape(rows.shape)
            return slept

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    rows = keras.Input((width,), name="x")
    return keras.Model(rows, Nap(name="y")(rows))
