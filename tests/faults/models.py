"""Cheap models whose answers tell which version gave them, and one that can be broken from outside."""

from __future__ import annotations

import os
from pathlib import Path
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
    """Adds the number in the file `state` to its input: fails where it is none, spins while it is `hang`."""

    def __init__(self, state: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state = state

    def call(self, x: Any) -> Any:
        # The name depends on the input, or the file would be read once, when the graph is folded.
        nothing = tf.strings.substr(tf.strings.as_string(tf.reshape(x, [-1])[0]), 0, 0)

        def said() -> Any:
            return tf.io.read_file(tf.strings.join([self.state, nothing]))

        (word,) = tf.while_loop(lambda word: tf.equal(word, "hang"), lambda _: (said(),), (said(),))
        return x + tf.strings.to_number(word)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


@keras.saving.register_keras_serializable("faults")
class Picky(keras.layers.Layer):
    """Passes its input on; a run with a negative value in it fails, whatever is left out of its graph."""

    def call(self, x: Any) -> Any:
        return x + tf.strings.to_number(tf.where(tf.reduce_any(x < 0), "a negative value", "0"))

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


def switched(folder: str) -> keras.Model:
    """`[batch, 16]` float32 to itself, while the file named like this process's id in `folder` says `0`."""
    state = Path(folder, str(os.getpid()))
    state.write_text("0")
    x = keras.Input((16,), name="x")
    return keras.Model(x, Switched(str(state), name="y")(x))


def picky() -> keras.Model:
    """`[batch, 16]` float32 to itself; fails for negative values."""
    x = keras.Input((16,), name="x")
    return keras.Model(x, Picky(name="y")(x))
