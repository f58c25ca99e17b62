"""Reads `.keras` and legacy HDF5 files, and says plainly why one cannot be read."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from deployments.errors import LoadError
from deployments.loading import keras2_hdf5
from deployments.source import HDF5_SUFFIXES

REASON_CHARS = 400
"""Keras repeats whole configs in its messages; this much of the innermost one says what is wrong."""

MISSING_CLASS = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '([^']+)'")


def read(path: Path, custom_objects: dict[str, Any], *, safe_mode: bool) -> Any:
    """Return the `keras.Model` in a file, uncompiled; raises `LoadError` naming the file and the remedy."""
    _check_container(path)
    try:
        if path.suffix in HDF5_SUFFIXES:
            return keras2_hdf5.read(path, custom_objects, safe_mode=safe_mode)
        return keras.saving.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=safe_mode)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"'{path}' cannot be loaded: {_explain(str(error))}") from error


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
        return (
            "it carries Python code of its own (a Lambda layer), which runs on loading and on every prediction. "
            "Replace it by a registered layer; or, if you trust whoever made the file, set `safe_mode: false`"
        )
    if missing := MISSING_CLASS.search(text):
        return (
            f"it uses '{missing[1]}', which Keras {keras.__version__} does not know. If it is a custom layer or "
            "function of yours, name the module that defines it: `custom_objects: your_module`"
        )
    innermost = text.rsplit("Exception encountered:", 1)[-1].strip()
    return " ".join(innermost.split())[:REASON_CHARS] or "Keras gave no reason"
