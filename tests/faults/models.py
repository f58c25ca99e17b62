"""Cheap models whose answers tell which version gave them, and one that can be broken from outside."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("faults")
class Scaled(keras.layers.Layer):
    """The largest value over all axes but the last, times `scale`: exact whatever the order of computing."""

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x: Any) -> Any:
        axes = list(range(1, len(x.shape) - 1))
        return (tf.reduce_max(x, axis=axes) if axes else x) * self.scale

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((x.shape[0], x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable("faults")
class Switched(keras.layers.Layer):
    """Passes its input on while the file `state` says `well`; fails for `fail`, spins for `hang`."""

    def __init__(self, state: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state = state

    def call(self, x: Any) -> Any:
        def says(word: str) -> Any:
            return tf.equal(tf.io.read_file(self.state), word)

        still = tf.while_loop(lambda _: says("hang"), lambda i: (i + 1,), (tf.constant(0),))
        with tf.control_dependencies([*still, tf.debugging.Assert(tf.logical_not(says("fail")), ["told to fail"])]):
            return tf.identity(x)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def numbers(scale: float = 1.0) -> keras.Model:
    """`[batch, 16]` float32 to itself times `scale`."""
    x = keras.Input((16,), name="x")
    return keras.Model(x, Scaled(scale, name="y")(x))


def picture(scale: float = 1.0) -> keras.Model:
    """`[batch, 224, 224, 3]` float32, 602 KB a row, to each channel's largest value times `scale`."""
    x = keras.Input((224, 224, 3), name="x")
    return keras.Model(x, Scaled(scale, name="y")(x))


def switched(state: str) -> keras.Model:
    """`[batch, 16]` float32 to itself, as long as the file `state` says so."""
    x = keras.Input((16,), name="x")
    return keras.Model(x, Switched(state, name="y")(x))
