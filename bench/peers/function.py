"""The function that every peer serves, compiled the way each would be told to: one XLA function, warm."""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

ROWS = {"mlp": (16,), "digits": (28, 28, 1), "mobilenet": (224, 224, 3), "pixels": (224, 224, 3)}
"""Model name to the shape of one row, float32."""
SIZES = (1, 2, 4, 8, 16)
"""Of a server that batches by itself."""
Function = Callable[[np.ndarray], np.ndarray]


def load(name: str) -> keras.Model:
    """Return the model `name` with the weights that every server under test has."""
    keras.utils.set_random_seed(7)
    if name == "digits":
        return keras.saving.load_model("models/digits.keras")
    if name == "mobilenet":
        return keras.applications.MobileNetV2(weights=None)
    if name == "pixels":  # as large an input as MobileNetV2's, and nearly no model behind it
        pooled = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, name="y")]
        return keras.Sequential([keras.Input((224, 224, 3), name="x"), *pooled])
    layers = [keras.layers.Dense(64, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((16,), name="x"), *layers, keras.layers.Dense(10, name="y")])


def compiled(name: str, batch_sizes: tuple[int, ...] = (1,)) -> Function:
    """Return a warm function `[batch, ...] -> [batch, classes]`, float32; a batch between sizes is padded to the next.

    XLA except for MobileNetV2, which XLA's CPU compiler makes nine times slower than a plain `tf.function`.
    """
    import tensorflow as tf

    model = load(name)
    run = tf.function(lambda x: model(x, training=False), jit_compile=name != "mobilenet")
    for size in batch_sizes:
        run(tf.zeros((size, *ROWS[name])))
    if batch_sizes == (1,):
        return lambda x: run(tf.constant(x, tf.float32)).numpy()

    def padded(x: np.ndarray) -> np.ndarray:
        rows = np.zeros((next(size for size in batch_sizes if size >= len(x)), *x.shape[1:]), np.float32)
        rows[: len(x)] = x
        return run(tf.constant(rows)).numpy()[: len(x)]

    return padded


def predict(name: str) -> Function:
    """Return `model.predict`, warm."""
    model = load(name)
    model.predict(np.zeros((1, *ROWS[name]), np.float32), verbose=0)
    return lambda x: model.predict(x, verbose=0)
