"""Models of Keras 2, read by `tf_keras`, which is Keras 2 as TensorFlow's makers keep it."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from deployments.source import HDF5_SUFFIXES, Precision

CONFIG = "config.json"
"""Where a `.keras` file holds the model's architecture."""


def is_keras2(model: Any) -> bool:
    """Return whether `model` is one of `tf_keras`, without importing that package."""
    return any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__)


def version(path: Path) -> str:
    """Return the Keras version that a `.keras` or HDF5 file says it was written by; "" where it does not say."""
    try:
        if path.suffix in HDF5_SUFFIXES:
            with h5py.File(path, "r") as file:
                return _text(file.attrs.get("keras_version", ""))
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
    except (OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile):
        return ""


def config(path: Path) -> Any:
    """Return a file's architecture as JSON's own types; raises what h5py, zipfile and json raise."""
    if path.suffix in HDF5_SUFFIXES:
        with h5py.File(path, "r") as file:
            return json.loads(_text(file.attrs["model_config"]))
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(CONFIG))


def holds_code(node: Any) -> bool:
    """Return whether an architecture carries Python byte code, as a Lambda layer over a lambda does."""
    if isinstance(node, list):
        return any(holds_code(item) for item in node)
    if not isinstance(node, dict):
        return False
    if node.get("class_name") == "__lambda__" or node.get("function_type") == "lambda":
        return True
    return any(holds_code(value) for value in node.values())


def registered() -> list[str]:
    """Return the names under which custom classes and functions are registered with `tf_keras`, `package>name`."""
    import tf_keras

    return list(tf_keras.saving.get_custom_objects())


def read(path: Path, objects: dict[str, Any], precision: Precision) -> Any:
    """Return the `tf_keras.Model` in a file, uncompiled, its layers computing in `precision`.

    Runs the byte code that the file may carry: `holds_code` is asked before. Raises what `tf_keras` raises.
    """
    import tf_keras  # half a second, for those files alone

    with _in_precision(path, precision) as readable:
        return tf_keras.models.load_model(readable, custom_objects=objects, compile=False, safe_mode=False)


@contextmanager
def _in_precision(path: Path, precision: Precision) -> Iterator[Path]:
    """Yield the file itself, or a copy whose float32 layers have `precision` as their policy.

    Keras 2 decides when a layer makes its weights whether they are cast, so a policy set later changes nothing.
    """
    if precision == "float32":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        _copied(path, copy, lambda found: _with_policy(found, precision))
        yield copy


def _copied(path: Path, copy: Path, change: Callable[[Any], Any]) -> None:
    text = json.dumps(change(config(path)))
    if path.suffix in HDF5_SUFFIXES:
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = text
        return
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(copy, "w") as after:
        for member in before.namelist():
            after.writestr(member, text if member == CONFIG else before.read(member))


def _with_policy(node: Any, precision: Precision) -> Any:
    """Return a copy of an architecture, its layers of policy float32 with `precision` instead."""
    if isinstance(node, list):
        return [_with_policy(item, precision) for item in node]
    if not isinstance(node, dict):
        return node
    changed = {key: _with_policy(value, precision) for key, value in node.items()}
    own: Any = changed.get("config")
    is_layer = isinstance(own, dict) and "trainable" in own and node.get("class_name") != "InputLayer"
    if is_layer and _policy_name(own.get("dtype")) == "float32":
        changed["config"] = {**own, "dtype": precision}
    return changed


def _policy_name(dtype: Any) -> Any:
    return dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
