"""Subclassed Keras models: served by the shapes Keras recorded, refused with the remedy where it recorded none."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import Source, from_keras, load
from deployments.tensors import TensorSpec


class Tower(keras.Model):
    """A subclassed model with two named inputs and a dictionary of outputs."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"sum": self.dense(inputs["p"]) + self.dense(inputs["q"])}


def test_a_subclassed_model_that_was_called_is_served(tmp_path: Path) -> None:
    original = Tower()
    inputs = {"p": np.ones((8, 3), np.float32), "q": np.zeros((8, 3), np.float32)}
    expected = original(inputs)["sum"]
    original.save(tmp_path / "tower.keras")
    loaded = load(Source(str(tmp_path / "tower.keras"), custom_objects=__name__))
    assert loaded.signature.inputs[0] == TensorSpec("p", np.dtype(np.float32), (None, 3))
    assert [spec.name for spec in loaded.signature.outputs] == ["sum"]
    np.testing.assert_allclose(loaded.call(inputs["p"], inputs["q"])[0], expected, rtol=1e-6)


class TwoArguments(keras.Model):
    """A subclassed model whose inputs are two arguments, and whose shapes Keras learns from `build`."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.dense = keras.layers.Dense(2)

    def build(self, left_shape: tuple[int, ...], right_shape: tuple[int, ...]) -> None:
        self.dense.build(left_shape)

    def call(self, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.dense(left), right


def test_a_subclassed_model_with_two_arguments_is_served() -> None:
    model = TwoArguments()
    left, right = np.ones((2, 3), np.float32), np.zeros((2, 5), np.float32)
    expected = model(left, right)[0]
    loaded = from_keras(model)
    assert [(spec.name, spec.shape) for spec in loaded.signature.inputs] == [("left", (None, 3)), ("right", (None, 5))]
    assert [spec.name for spec in loaded.signature.outputs] == ["output_1", "output_2"]
    np.testing.assert_allclose(tf.function(loaded.call)(left, right)[0], expected, rtol=1e-6)
    assert loaded.predict is None


class Unrecorded(TwoArguments):
    """The same without `build`: Keras records the first argument's shape only."""

    build = keras.Model.build


def test_a_subclassed_model_whose_inputs_are_half_known_is_refused() -> None:
    model = Unrecorded()
    model(np.ones((2, 3), np.float32), np.zeros((2, 5), np.float32))
    with pytest.raises(LoadError, match=r"'Unrecorded' cannot be called with float32\[None, 3\](.|\n)*keras.Input"):
        from_keras(model)


def test_a_subclassed_model_that_was_never_called_is_refused() -> None:
    with pytest.raises(LoadError, match=r"'Tower' has no known input shape(.|\n)*keras.Input"):
        from_keras(Tower())
