"""The correctness matrix's models: small variants of what people serve, with weights that make outputs differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

L = keras.layers


def randomised(model: Any) -> Any:
    """Give every weight a value of its own, batch norm's statistics too: fresh ones make all outputs alike."""
    random = np.random.default_rng(7)
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        value = np.asarray(variable)
        if not np.issubdtype(value.dtype, np.floating):
            continue
        if "moving_variance" in variable.path:
            value = random.uniform(0.5, 1.5, value.shape)
        elif value.ndim < 2:
            value = value + 0.1 * random.standard_normal(value.shape)
        variable.assign(value.astype("float32"))
    return model


def mlp() -> Any:
    hidden = [L.Dense(64, activation="relu") for _ in range(4)]
    return keras.Sequential([L.Input((16,)), *hidden, L.Dense(10, activation="softmax")])


def cnn() -> Any:
    return keras.Sequential(
        [
            L.Input((28, 28, 1)),
            L.Conv2D(8, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )


def lstm() -> Any:
    return keras.Sequential([L.Input((12, 6)), L.LSTM(16, return_sequences=True), L.LSTM(8), L.Dense(3)])


def gru() -> Any:
    return keras.Sequential([L.Input((12, 6)), L.Bidirectional(L.GRU(8)), L.Dense(3, activation="sigmoid")])


def transformer() -> Any:
    tokens = L.Input((10,), dtype="int32", name="tokens")
    x = L.Embedding(50, 16)(tokens) + L.Embedding(10, 16)(np.arange(10)[None])
    attended = L.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)
    x = L.LayerNormalization()(x + attended)
    x = L.LayerNormalization()(x + L.Dense(16)(L.Dense(32, activation="gelu")(x)))
    return keras.Model(tokens, L.Dense(50)(x))


def embedding() -> Any:
    return keras.Sequential(
        [L.Input((7,), dtype="int64"), L.Embedding(23, 8, mask_zero=True), L.GlobalAveragePooling1D(), L.Dense(2)]
    )


def text() -> Any:
    lookup = L.StringLookup(vocabulary=["the", "model", "answers", "Zürich"])
    layers = [lookup, L.Embedding(lookup.vocabulary_size(), 8), L.GlobalMaxPooling1D(), L.Dense(3)]
    return keras.Sequential([keras.Input((5,), dtype="string"), *layers])


def several() -> Any:
    image, number = L.Input((8, 8, 3), name="image"), L.Input((4,), name="number")
    flag = L.Input((1,), dtype="bool", name="flag")
    x = L.GlobalAveragePooling2D()(L.Conv2D(6, 3, activation="relu")(image))
    joined = L.Concatenate()([x, number, L.Lambda(lambda one: keras.ops.cast(one, "float32"))(flag)])
    outputs = {"score": L.Dense(1, name="score")(joined), "kind": L.Dense(5, activation="softmax", name="kind")(joined)}
    return keras.Model([image, number, flag], outputs)


@keras.saving.register_keras_serializable("architectures")
class Scaled(keras.layers.Layer):
    """A custom layer with a weight and a Python branch."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x: Any, training: bool = False) -> Any:
        return x * self.scale if not training else x


def custom() -> Any:
    return keras.Sequential([L.Input((9,)), L.Dense(9), Scaled(), L.Activation("tanh")])


def regularised() -> Any:
    return keras.Sequential(
        [L.Input((9,)), L.Dense(16), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5), L.GaussianNoise(1.0), L.Dense(4)]
    )


@keras.saving.register_keras_serializable("architectures")
class NoisyInTraining(keras.layers.Layer):
    """Stateful randomness of its own: draws only in training, but carries the seed's state always."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(tf.shape(x), seed=self.seeds) if training else x


def seeded() -> Any:
    return keras.Sequential([L.Input((9,)), L.Dense(9), NoisyInTraining(), L.Dense(4)])


def attention_over_any_length() -> Any:
    tokens = L.Input((None,), dtype="int32", name="tokens")
    x = L.Embedding(40, 16, mask_zero=True)(tokens)
    x = L.MultiHeadAttention(2, 8)(x, x)
    return keras.Model(tokens, L.Dense(6)(x))


SIDE = 96
"""Pixels of the real architectures' images: every layer is there, at a fifth of 224 pixels' work."""
IMAGE = (SIDE, SIDE, 3)


def mobilenet_v2() -> Any:
    return calibrated(keras.applications.MobileNetV2(IMAGE, weights=None, classifier_activation=None))


def resnet50() -> Any:
    return calibrated(
        keras.applications.ResNet50(input_shape=(SIDE, SIDE, 3), weights=None, classifier_activation=None)
    )


def efficientnet_b0() -> Any:
    return calibrated(keras.applications.EfficientNetB0(input_shape=IMAGE, weights=None, classifier_activation=None))


def calibrated(model: Any) -> Any:
    """Set batch norm's statistics to those of some images, as training would: else activations die out or explode."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(images(8, seed=3), training=True)
    for layer in norms:
        layer.momentum = 0.99
    return model


def images(count: int, seed: int) -> Any:
    """Return `[count, SIDE, SIDE, 3]` float32 in 0..255: random squares, so that images differ in more than noise."""
    squares = np.random.default_rng(seed).uniform(0, 255, (count, 6, 6, 3))
    return squares.repeat(SIDE // 6, axis=1).repeat(SIDE // 6, axis=2).astype(np.float32)


SMALL: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (mlp, cnn, lstm, gru, transformer, embedding, text, several, custom, regularised, seeded)
}
LARGE: dict[str, Callable[[], Any]] = {make.__name__: make for make in (mobilenet_v2, resnet50, efficientnet_b0)}


def build(name: str) -> Any:
    """Return the named model with seeded, randomised weights."""
    keras.utils.set_random_seed(11)
    if name in LARGE:
        return LARGE[name]()
    return randomised({**SMALL, "any_length": attention_over_any_length}[name]())
