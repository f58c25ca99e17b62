"""Models that public clients' examples expect, as factories for `source: tests.support.models:NAME`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tests")
class SumAndDifference(keras.layers.Layer):
    """Adds and subtracts two tensors."""

    def call(self, inputs: Any) -> Any:
        first, second = inputs
        return first + second, first - second

    def compute_output_spec(self, inputs: Any) -> Any:
        return tuple(keras.KerasTensor(inputs[0].shape, inputs[0].dtype) for _ in range(2))


@keras.saving.register_keras_serializable("tests")
class WordsSumAndDifference(SumAndDifference):
    """The same for integers written out as strings, answered as strings."""

    def call(self, inputs: Any) -> Any:
        numbers = [tf.strings.to_number(words, tf.int32) for words in inputs]
        return tuple(tf.strings.as_string(result) for result in super().call(numbers))


def simple() -> keras.Model:
    """Triton's `simple`: two INT32 `[batch, 16]` in, their sum and difference out."""
    return _two_by_two("int32", SumAndDifference())


def simple_string() -> keras.Model:
    """Triton's `simple_string`: the same with numbers written as strings."""
    return _two_by_two("string", WordsSumAndDifference())


def half_plus_two() -> keras.Model:
    """TensorFlow Serving's `half_plus_two`: `[batch]` float32 to x / 2 + 2."""
    x = keras.Input((), name="x", dtype="float32")
    half = keras.layers.Rescaling(0.5, offset=2.0, name="y")(x)
    return keras.Model(x, {"y": half})


def fails_on_negative() -> keras.Model:
    """`[batch, 2]` float32 to its square root's sum; a run with a negative value in it fails whole."""
    x = keras.Input((2,), name="x")
    return keras.Model(x, CheckedRoot(name="y")(x))


@keras.saving.register_keras_serializable("tests")
class CheckedRoot(keras.layers.Layer):
    """Fails the run for a negative value anywhere in the batch."""

    def call(self, x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x)]):
            return tf.reduce_sum(tf.sqrt(x), axis=-1, keepdims=True)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((*x.shape[:-1], 1), x.dtype)


def _two_by_two(dtype: str, layer: keras.layers.Layer) -> keras.Model:
    inputs = [keras.Input((16,), name=f"INPUT{i}", dtype=dtype) for i in range(2)]
    first, second = layer(inputs)
    return keras.Model(inputs, {"OUTPUT0": first, "OUTPUT1": second})
