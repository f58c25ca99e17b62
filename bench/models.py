"""Models that benchmarks serve: factories for `source: bench.models:NAME`, built from fixed seeds."""

from __future__ import annotations

from typing import Any


def wide_mlp(width: int = 4096) -> Any:
    """Return an MLP of 34 million weights (134 MB of float32): a run reads them all, whatever the batch.

    `[batch, 64] float32` to `[batch, 16] float32`.
    """
    import keras

    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((64,), name="x"), *layers, keras.layers.Dense(16, name="y")])


def sensor_gru(steps: int = 1000) -> Any:
    """Return a small GRU over a long signal: a thousand dependent small steps, whatever the batch.

    `[batch, steps, 2] float32` to `[batch, 4] float32`.
    """
    import keras

    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [keras.Input((steps, 2), name="x"), keras.layers.GRU(8), keras.layers.Dense(4, activation="softmax", name="y")]
    )
