"""Models of eighteen kinds, each with what makes its conversion to ONNX a case of its own; `[batch, …]` in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as L  # noqa: N812
from keras import ops


def mobilenet_v2() -> Any:
    return keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), alpha=0.35)


def resnet50() -> Any:
    return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))


def efficientnet_v2() -> Any:
    return keras.applications.EfficientNetV2B0(weights=None, input_shape=(64, 64, 3))


def convnext() -> Any:
    """Its grouped convolutions stand in calls that Keras marks for XLA."""
    return keras.applications.ConvNeXtTiny(weights=None, input_shape=(64, 64, 3))


def vit() -> Any:
    """Exact GELU: Erfc, which ONNX lacks."""
    inputs = keras.Input((32, 32, 3))
    x = L.Reshape((16, 64))(L.Conv2D(64, 8, 8)(inputs))
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = x + L.MultiHeadAttention(4, 16)(y, y)
        x = x + L.Dense(64)(L.Dense(128, activation="gelu")(L.LayerNormalization()(x)))
    return keras.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling1D()(x)))


def masked_attention() -> Any:
    """Open lengths, and a mask that follows from the tokens."""
    inputs = keras.Input((None,), dtype="int32")
    x = L.Embedding(100, 32, mask_zero=True)(inputs)
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 16)(x, x))))


def bert() -> Any:
    from bench import models

    return models.transformer(32, 64, 4, 2)


def unet() -> Any:
    inputs = keras.Input((32, 32, 3))
    down = L.Conv2D(8, 3, padding="same", activation="gelu")(inputs)
    middle = L.Conv2D(16, 3, padding="same", activation="silu")(L.MaxPool2D()(down))
    up = L.Conv2DTranspose(8, 2, 2)(middle)
    return keras.Model(inputs, L.Conv2D(2, 1)(L.Concatenate()([down, up])))


def lstm() -> Any:
    inputs = keras.Input((12, 8))
    return keras.Model(inputs, L.Dense(3)(L.LSTM(16)(L.LSTM(8, return_sequences=True)(inputs))))


def gru() -> Any:
    inputs = keras.Input((12, 8))
    return keras.Model(inputs, L.GRU(16, return_sequences=True)(inputs))


def bidirectional() -> Any:
    inputs = keras.Input((12, 8))
    return keras.Model(inputs, L.Dense(2)(L.Bidirectional(L.LSTM(16))(inputs)))


def conv_lstm() -> Any:
    inputs = keras.Input((5, 16, 16, 1))
    return keras.Model(inputs, L.ConvLSTM2D(4, 3, padding="same")(inputs))


def tcn() -> Any:
    x = inputs = keras.Input((32, 8))
    for rate in (1, 2, 4):
        x = L.Conv1D(16, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(x[:, -1]))


def several() -> Any:
    numbers, tokens = keras.Input((4,), name="numbers"), keras.Input((3,), dtype="int32", name="tokens")
    x = L.Concatenate()([numbers, L.Flatten()(L.Embedding(10, 4)(tokens))])
    return keras.Model([numbers, tokens], [L.Dense(2)(x), L.Dense(3, activation="softmax")(x)])


def picture() -> Any:
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Conv2D(4, 3)(L.Rescaling(1 / 255.0)(inputs)))))


def top_k() -> Any:
    inputs = keras.Input((20,))
    return keras.Model(inputs, list(ops.top_k(L.Dense(50)(inputs), 5)))


def mlp() -> Any:
    return keras.Sequential([keras.Input((16,)), L.Dense(64, activation="relu"), L.Dense(10)])


def argmax() -> Any:
    """Keras looks at the sign of zeros by a Bitcast, which tf2onnx does not know."""
    inputs = keras.Input((20,))
    return keras.Model(inputs, ops.argmax(L.Dense(50)(inputs), -1))


LARGE: dict[str, Callable[[], Any]] = {
    make.__name__: make for make in (mobilenet_v2, resnet50, efficientnet_v2, convnext)
}
SMALL: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        mlp,
        unet,
        vit,
        bert,
        masked_attention,
        lstm,
        gru,
        bidirectional,
        conv_lstm,
        tcn,
        several,
        picture,
        top_k,
    )
}
