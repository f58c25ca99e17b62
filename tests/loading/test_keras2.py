"""HDF5 files with what Keras 1 and 2 wrote into them load unchanged and answer the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from deployments.errors import LoadError
from deployments.loading import Source, load

Layer = dict[str, Any]


def written_by_keras_2(model: keras.Model, path: Path, change: Callable[[Layer], None]) -> str:
    """Save `model` as HDF5 with every layer's config changed to what Keras 2 would have written."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            change(layer)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
    return str(path)


def assert_same(path: str, model: keras.Model) -> None:
    before = Path(path).read_bytes()
    loaded = load(Source(path))
    shape = [2, *(axis or 4 for axis in model.input_shape[1:])]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(loaded.call(x)[0], model(x, training=False), rtol=1e-5, atol=1e-6)
    assert Path(path).read_bytes() == before


def groups(layer: Layer) -> None:
    """Keras 2.3 and later wrote `groups` into every convolution, and kernel arguments into separable ones."""
    if "Conv2D" in layer["class_name"] and layer["class_name"] != "Conv2D":
        layer["config"]["groups"] = 1
    if layer["class_name"] == "SeparableConv2D":
        glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
        layer["config"].update(kernel_initializer=glorot, kernel_regularizer=None, kernel_constraint=None)


def test_convolutions(tmp_path: Path) -> None:
    x = image = keras.Input((6, 6, 2), name="image")
    for layer in (
        keras.layers.DepthwiseConv2D(3),
        keras.layers.SeparableConv2D(3, 2),
        keras.layers.Conv2DTranspose(2, 2),
    ):
        x = layer(x)
    model = keras.Model(image, x)
    assert_same(written_by_keras_2(model, tmp_path / "m.h5", groups), model)


def time_major(layer: Layer) -> None:
    """Keras 2 wrote `time_major` into recurrent layers, and wrapped layers without their module."""
    if layer["class_name"] in ("LSTM", "GRU", "SimpleRNN"):
        layer["config"]["time_major"] = False
    inner = layer["config"].get("layer")
    if inner:
        inner.pop("module", None)
        inner.pop("registered_name", None)
        inner.pop("build_config", None)
        time_major(inner)
    backward = layer["config"].get("backward_layer")
    if backward:
        layer["config"].pop("backward_layer")


def test_recurrent_layers_and_wrappers(tmp_path: Path) -> None:
    layers = [
        keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True)),
        keras.layers.TimeDistributed(keras.layers.Dense(4)),
        keras.layers.GRU(3, return_sequences=True),
        keras.layers.LSTM(2),
    ]
    model = keras.Sequential([keras.Input((None, 2), name="series"), *layers])
    assert_same(written_by_keras_2(model, tmp_path / "m.h5", time_major), model)


def test_time_major_that_changes_the_meaning_is_refused(tmp_path: Path) -> None:
    def change(layer: Layer) -> None:
        if layer["class_name"] == "LSTM":
            layer["config"]["time_major"] = True

    model = keras.Sequential([keras.Input((4, 2), name="series"), keras.layers.LSTM(2)])
    path = written_by_keras_2(model, tmp_path / "m.h5", change)
    with pytest.raises(LoadError, match="time_major"):
        load(Source(path))


def batch_input_shape(layer: Layer) -> None:
    """Keras 1 and 2 wrote `batch_input_shape`, a list as BatchNormalization's axis, and policies as objects."""
    config = layer["config"]
    if layer["class_name"] == "InputLayer":
        config["batch_input_shape"] = config.pop("batch_shape")
    if layer["class_name"] == "BatchNormalization":
        config["axis"] = [3]
    config["dtype"] = "float32"
    if layer["class_name"] == "Conv2D":
        config["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}


def test_shapes_axes_and_policies(tmp_path: Path) -> None:
    image = keras.Input((5, 5, 2), name="image")
    model = keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 2)(image)))
    assert_same(written_by_keras_2(model, tmp_path / "m.hdf5", batch_input_shape), model)


def test_names_with_slashes(tmp_path: Path) -> None:
    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(value) for key, value in node.items()}
        if isinstance(node, list):
            return [replaced(item) for item in node]
        return "block/scores" if node == "block_scores" else node

    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="last")(keras.layers.Dense(4, name="block_scores")(x)))
    path = written_by_keras_2(model, tmp_path / "m.h5", lambda layer: layer.update(replaced(layer)))
    assert_same(path, model)
