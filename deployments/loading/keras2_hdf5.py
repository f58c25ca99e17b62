"""HDF5 files of Keras 1 and 2: their configs brought to what Keras 3 accepts.

Keras 3.15 reads the format but refuses arguments that Keras 2 wrote into every file and that no longer exist.
Only values that mean what Keras 3 does anyway are dropped; anything else is left for Keras to refuse.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import keras

NO_GROUPS = {"groups": 1}
NO_TIME_MAJOR = {"time_major": False}
DROPPED: dict[str, dict[str, Any]] = {
    "DepthwiseConv1D": NO_GROUPS,
    "DepthwiseConv2D": NO_GROUPS,
    "SeparableConv1D": NO_GROUPS,
    "SeparableConv2D": NO_GROUPS,
    "Conv1DTranspose": NO_GROUPS,
    "Conv2DTranspose": NO_GROUPS,
    "Conv3DTranspose": NO_GROUPS,
    "RNN": NO_TIME_MAJOR,
    "SimpleRNN": NO_TIME_MAJOR,
    "LSTM": NO_TIME_MAJOR,
    "GRU": NO_TIME_MAJOR,
}
"""Per layer class: arguments that Keras 3 does not take, with the value at which they change nothing."""

SEPARABLE_UNUSED = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
"""Inherited by Keras 2's separable convolutions, which have depthwise and pointwise kernels instead; never used."""

WRAPPED_KEYS = ("layer", "backward_layer", "cell", "cells")
"""Where a wrapper's config holds other layers; Keras 3 looks these up by module, which Keras 2 did not write."""


def read(path: Path, custom_objects: dict[str, Any], *, safe_mode: bool) -> Any:
    """Return the `keras.Model` in an HDF5 file of any Keras version, uncompiled; raises what Keras raises."""
    with h5py.File(path, "r") as file:
        text = file.attrs["model_config"]
    config = json.loads(text)
    modern = modernise(config)
    options = {"custom_objects": custom_objects, "compile": False, "safe_mode": safe_mode}
    if modern == config:
        return keras.saving.load_model(path, **options)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.h5"
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(modern)
        return keras.saving.load_model(copy, **options)


def modernise(config: Any) -> Any:
    """Return a copy of a model's config with the quirks of Keras 1 and 2 removed."""
    return _modern(config, {name: name.replace("/", "_") for name in _layer_names(config) if "/" in name})


def _modern(node: Any, renamed: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_modern(item, renamed) for item in node]
    if isinstance(node, str):
        # Keras 3 allows no slash in a layer's name; the name also stands wherever another layer refers to it.
        return renamed.get(node, node)
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "Policy":
        return node["config"]["name"]
    fields = {key: _modern(value, renamed) for key, value in node.items()}
    if isinstance(fields.get("config"), dict):
        fields["config"] = _modern_config(str(fields.get("class_name")), fields["config"])
    return fields


def _modern_config(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return one layer's config without arguments that are gone, and its wrapped layers with their module."""
    gone = DROPPED.get(class_name, {})
    unused = SEPARABLE_UNUSED if class_name.startswith("SeparableConv") else ()
    kept = {
        key: value for key, value in config.items() if key not in unused and not (key in gone and gone[key] == value)
    }
    return {key: _with_module(value) if key in WRAPPED_KEYS else value for key, value in kept.items()}


def _with_module(wrapped: Any) -> Any:
    if isinstance(wrapped, list):
        return [_with_module(item) for item in wrapped]
    if not isinstance(wrapped, dict) or "module" in wrapped or not hasattr(keras.layers, str(wrapped["class_name"])):
        return wrapped
    return {"module": "keras.layers", "registered_name": None, **wrapped}


def _layer_names(node: Any) -> set[str]:
    """Return every layer's name in a config, nested models included."""
    if isinstance(node, list):
        return set().union(*(_layer_names(item) for item in node))
    if not isinstance(node, dict):
        return set()
    own = {node["config"]["name"]} if isinstance(node.get("config"), dict) and "name" in node["config"] else set()
    return own.union(*(_layer_names(value) for value in node.values()))
