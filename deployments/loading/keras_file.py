"""Reads `.keras` and legacy HDF5 files, and says plainly why one cannot be read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras

from deployments.errors import LoadError
from deployments.loading import keras2, keras2_safety, precision
from deployments.source import HDF5_SUFFIXES, Precision

REASON_CHARS = 400
"""Keras repeats whole configs in its messages; this much of the innermost one says what is wrong."""

MISSING_CLASS = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '([^']+)'")


CODE = (
    "it carries Python code of its own (a Lambda layer), which runs on loading and on every prediction. "
    "Replace it by a registered layer; or, if you trust whoever made the file, set `safe_mode: false`"
)


def read(path: Path, custom_objects: dict[str, Any], wanted: Precision = "float32", *, safe_mode: bool) -> Any:
    """Return the model in a file, uncompiled, computing in `wanted`: a `keras.Model`, or one of `tf_keras`.

    The file's own `keras_version` says which is tried first; what the first cannot read is tried with the other.
    Raises `LoadError` naming the file and the remedy.
    """
    _check_container(path)
    if safe_mode and _holds_code(path):
        raise LoadError(f"'{path}' cannot be loaded: {CODE}")

    def modern() -> Any:
        loaded = keras.saving.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=safe_mode)
        return precision.apply(loaded, wanted)

    def older() -> Any:
        if safe_mode:
            _check_safe(path, custom_objects)
        return keras2.read(path, custom_objects, wanted)

    version = keras2.version(path)
    # HDF5 files of Keras 1 and early 2 do not say; files of Keras 3 always do.
    is_older = path.suffix in HDF5_SUFFIXES if not version else not version.startswith("3")
    return _first_read(path, version, [older, modern] if is_older else [modern, older])


def _first_read(path: Path, version: str, readers: list[Callable[[], Any]]) -> Any:
    """Return what the first reader that succeeds returns; raises `LoadError` with the first one's reason."""
    errors: list[Exception] = []
    for reader in readers:
        try:
            return reader()
        except LoadError:
            raise
        except Exception as error:
            errors.append(error)
    written = f" (written by Keras {version})" if version else ""
    raise LoadError(f"'{path}'{written} cannot be loaded: {_explain(str(errors[0]))}") from errors[0]


def _check_safe(path: Path, custom_objects: dict[str, Any]) -> None:
    """Raise `LoadError` where Keras 2 would import or call what is no layer, which Keras 3 refuses by itself."""
    registered = {name.rpartition(">")[2] for name in keras2.registered()}
    found = keras2_safety.code_in(keras2.config(path), {*custom_objects, *registered})
    if found is not None:
        raise LoadError(
            f"'{path}' cannot be loaded: it names {found}, which could do more than compute. If it is a layer or "
            "function of yours, name the module that defines it: `custom_objects: your_module`; or, if you trust "
            "whoever made the file, set `safe_mode: false`"
        )


def _holds_code(path: Path) -> bool:
    try:
        return keras2.holds_code(keras2.config(path))
    except (OSError, KeyError, ValueError):
        return False  # a damaged file: its reader says how


def _check_container(path: Path) -> None:
    """Tell a damaged file from a model that Keras refuses."""
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise LoadError(
            f"'{path}' is not a .keras file (a zip archive): it may be cut off, or be a Git LFS pointer "
            f"({path.stat().st_size} bytes)"
        )
    if path.suffix in HDF5_SUFFIXES:
        _check_hdf5(path)


def _check_hdf5(path: Path) -> None:
    try:
        with h5py.File(path, "r") as file:
            has_architecture = "model_config" in file.attrs
    except OSError as error:
        raise LoadError(
            f"'{path}' is not a readable HDF5 file: it may be cut off, or be a Git LFS pointer "
            f"({path.stat().st_size} bytes)"
        ) from error
    if not has_architecture:
        raise LoadError(
            f"'{path}' holds weights but no architecture; build the model in a function, load the weights there, "
            "and name it as 'module:function'"
        )


def _explain(text: str) -> str:
    """Return what to do about Keras's message: the known cases by name, else its innermost reason."""
    if "safe_mode" in text:
        return CODE
    if missing := MISSING_CLASS.search(text):
        return (
            f"it uses '{missing[1]}', which Keras {keras.__version__} does not know. If it is a custom layer or "
            "function of yours, name the module that defines it: `custom_objects: your_module`"
        )
    innermost = text.rsplit("Exception encountered:", 1)[-1].strip()
    return " ".join(innermost.split())[:REASON_CHARS] or "Keras gave no reason"
