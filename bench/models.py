"""Models that benchmarks serve: factories for `source: bench.models:NAME`, built from fixed seeds."""

from __future__ import annotations

from typing import Any


def wide_mlp() -> Any:
    """Return an MLP of 13 million weights (53 MB): `[batch, 64] float32` to `[batch, 16] float32`.

    More than most CPUs' caches hold: each run reads the weights from memory.
    """
    return _mlp(2560)


def wider_mlp() -> Any:
    """Return an MLP of 34 million weights (135 MB): `[batch, 64] float32` to `[batch, 16] float32`."""
    return _mlp(4096)


def _mlp(width: int) -> Any:
    """Return three hidden layers of `width`: a run reads all weights, whatever the batch, so batches are cheap."""
    import keras

    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((64,), name="x"), *layers, keras.layers.Dense(16, name="y")])


def mlp() -> Any:
    """Return the MLP 16-64-64-64-64-10: microseconds of arithmetic, so that all else shows.

    `[batch, 16] float32` to `[batch, 10] float32`.
    """
    import keras

    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(64, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((16,), name="x"), *layers, keras.layers.Dense(10, name="y")])


def mobilenet_v2(size: int = 224, alpha: float = 1.0) -> Any:
    """Return MobileNetV2 with random weights: `[batch, size, size, 3] float32` to `[batch, 1000] float32`."""
    import keras

    keras.utils.set_random_seed(7)
    return keras.applications.MobileNetV2(input_shape=(size, size, 3), alpha=alpha, weights=None)


def resnet50(size: int = 224) -> Any:
    """Return ResNet50 with random weights: `[batch, size, size, 3] float32` to `[batch, 1000] float32`."""
    import keras

    keras.utils.set_random_seed(7)
    return keras.applications.ResNet50(input_shape=(size, size, 3), weights=None)


def transformer(length: int = 128, width: int = 256, heads: int = 4, depth: int = 4, vocabulary: int = 8192) -> Any:
    """Return a small text classifier with attention: `[batch, length] int32` tokens to `[batch, 10] float32`."""
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(7)
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(vocabulary, width)(tokens) + layers.Embedding(length, width)(positions)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(y))
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(tokens, layers.Dense(10, name="classes")(pooled))
