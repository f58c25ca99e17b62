"""Models of Keras 2, as `tf_keras` makes them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

L = tf_keras.layers


def recurrent() -> Any:
    x = L.Input((7, 3), name="series")
    y = L.Bidirectional(L.LSTM(4, return_sequences=True, time_major=False))(x)
    return tf_keras.Model(x, L.Dense(2, name="scores")(L.GRU(3)(y)))


def nested() -> Any:
    image = L.Input((8, 8, 3))
    base = tf_keras.Model(image, L.DepthwiseConv2D(3)(L.Conv2D(4, 3, activation="relu")(image)), name="base")
    return tf_keras.Sequential([base, L.GlobalAveragePooling2D(), L.Dense(3)])


def functions() -> Any:
    x = L.Input((6, 4), name="x")
    y = tf.nn.relu(tf.reduce_mean(x, axis=1)) + x[:, 0, :] * 2.0
    return tf_keras.Model(x, tf.concat([y, tf.math.sin(y)], -1))


def convolutions() -> Any:
    x = image = L.Input((6, 6, 2), name="image")
    for layer in (L.DepthwiseConv2D(3), L.SeparableConv2D(3, 2), L.Conv2DTranspose(2, 2), L.BatchNormalization()):
        x = layer(x)
    return tf_keras.Model(image, x)


def slashes() -> Any:
    x = L.Input((3,), name="x")
    return tf_keras.Model(x, L.Dense(2, name="last")(L.Dense(4, name="block/scores")(x)))


def several() -> Any:
    left, right = L.Input((3,), name="left"), L.Input((2,), name="right")
    joined = L.Concatenate()([left, right])
    return tf_keras.Model({"l": left, "r": right}, {"sum": L.Dense(1)(joined), "all": joined})


def text() -> Any:
    words = L.Input((1,), dtype="string", name="text")
    vectorised = L.TextVectorization(vocabulary=["good", "bad", "film"], output_sequence_length=5)(words)
    return tf_keras.Model(words, L.Dense(2)(L.GlobalAveragePooling1D()(L.Embedding(6, 4)(vectorised))))


ALL = (recurrent, nested, functions, convolutions, slashes, several, text)
PLANNED = (recurrent, nested, functions, text)
"""One of each kind that Keras 3 does not read, for what takes seconds a model."""
