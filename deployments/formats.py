"""What lies at a path: a model of a format that is read here, or what it is instead and what to do about it.

Looks at first bytes and at names, so it takes milliseconds and imports no TensorFlow: whoever checks a config and
whoever loads a model say the same.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Literal

from deployments.errors import LoadError
from deployments.source import MODEL_SUFFIXES, is_saved_model

Format = Literal["keras", "hdf5", "saved_model", "unpacked"]
"""A `.keras` archive, an HDF5 file, a SavedModel folder, or the folder that a `.keras` archive unpacks to."""

ACCEPTED = (
    "expected a .keras, .h5 or .hdf5 file, a SavedModel folder, a folder of numbered versions, or module:function"
)
KERAS_CONFIG = "config.json"
"""What every `.keras` archive holds: the architecture."""
_PRESET = frozenset({"task.json", "preprocessor.json", "tokenizer.json"})
"""What tells a preset of keras-hub, which holds an architecture and weights besides, from an unpacked `.keras`."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 512
_WEIGHTS = (
    "weights without an architecture; build the model in a function, load the weights there, and name it as "
    "'module:function'"
)
_EXPORT = "export it from Keras or TensorFlow, with model.save('model.keras') or model.export('folder')"
_BY_SUFFIX = {
    **dict.fromkeys((".pt", ".pth"), f"a PyTorch file, which keras-solo does not read; {_EXPORT}"),
    ".ckpt": f"a checkpoint: {_WEIGHTS}",
    ".index": f"part of a TensorFlow checkpoint: {_WEIGHTS}",
    ".safetensors": f"a safetensors file: {_WEIGHTS}",
    ".npz": f"a file of arrays: {_WEIGHTS}",
    ".onnx": f"an ONNX model, which keras-solo does not read; {_EXPORT}",
    ".tflite": f"a LiteRT model, already converted; name the Keras model that it was made of, or {_EXPORT}",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), f"a pickle, which would run whatever code it holds; {_EXPORT}"),
    ".pb": "a frozen TensorFlow graph, which says neither what goes in nor what comes out; save it as a SavedModel "
    "with a signature: tf.compat.v1.saved_model.simple_save",
    ".json": "an architecture without weights; save the whole model with model.save('model.keras')",
    ".py": "a Python file; name the function in it that returns the model, as 'module:function'",
}
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def format_of(path: Path) -> Format | None:
    """Return the format of the model at `path`, by its content; None where no model lies there.

    The name does not count: a `.keras` file of Keras 2's early days is often HDF5. Raises `OSError` where `path`
    cannot be read.
    """
    if path.is_dir():
        return "saved_model" if is_saved_model(path) else "unpacked" if _is_unpacked(path) else None
    if not path.is_file():
        return None
    if _head(path).startswith(_HDF5):
        return "hdf5"
    return "keras" if KERAS_CONFIG in _members(path) else None


def is_model(path: Path) -> bool:
    """Return whether a model lies at `path`; what cannot be read is none."""
    try:
        return format_of(path) is not None
    except OSError:
        return False


def versions(folder: Path) -> dict[int, Path]:
    """Return the models in TensorFlow Serving's numbered folders, ascending: the folders, or the one file in each."""
    found: dict[int, Path] = {}
    with contextlib.suppress(OSError):
        for child in folder.iterdir() if folder.is_dir() else ():
            if child.name.isascii() and child.name.isdigit() and child.is_dir() and (model := _model_in(child)):
                found[int(child.name)] = model
    return dict(sorted(found.items()))


def refusal(path: Path) -> str:
    """Return why no model can be read at `path`, where `format_of` finds none, in words that follow its name."""
    try:
        if not path.exists():
            return f"does not exist (looked at {path.absolute()}); {ACCEPTED}"
        if path.is_dir():
            return _of_folder(path)
        return _of_file(path, _head(path))
    except PermissionError as error:
        return denied(path, error)


def denied(path: Path, error: OSError) -> str:
    """Return what to do where `path` may not be read, in words that follow its name."""
    user = getattr(os, "geteuid", lambda: "?")()
    name = error.filename or path
    return f"may not be read by the user that serves (number {user}): let it read {name}"


def problem(path: Path) -> str | None:
    """Return why nothing at `path` can be served, in words that follow its name; None where something can."""
    try:
        return None if format_of(path) is not None or versions(path) else refusal(path)
    except OSError as error:
        return denied(path, error)


def check(uri: str) -> None:
    """Raise `LoadError` where a local source can be no model; URIs and `module:function` are for others to judge."""
    path = Path(uri).expanduser()
    if "://" in uri or (":" in uri and not path.exists()):
        return
    if found := problem(path):
        raise LoadError(f"'{uri}' {found}")


def _of_file(path: Path, head: bytes) -> str:
    size = path.stat().st_size
    if not size:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return f"is a Git LFS pointer ({size} bytes), not the file that it stands for; run `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"is a web page ({size} bytes), not the file that it was to be; download it again"
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        return f"is only the graph of a SavedModel; name the folder that it lies in: '{path.parent}'"
    if path.name.lower().endswith(_ARCHIVES):
        return f"is an archive; unpack it, or name it as a URI: file://{path.absolute()}"
    return _by_content(path, head, size) or (
        f"is {_BY_SUFFIX[path.suffix.lower()]}"
        if path.suffix.lower() in _BY_SUFFIX
        else f"ends in '{path.suffix}'; {ACCEPTED}"
    )


def _by_content(path: Path, head: bytes, size: int) -> str | None:
    """Return what a file is by its bytes, None where they do not tell."""
    if b"TFL3" in head[4:8]:
        return f"is {_BY_SUFFIX['.tflite']}"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"is {_BY_SUFFIX['.pkl']}"
    if inside := _members(path):
        return _of_archive(inside)
    if head.startswith(b"PK") or path.suffix == ".keras":
        return f"is not a .keras file (a zip archive with {KERAS_CONFIG}): it may be cut off ({size} bytes)"
    if path.suffix in MODEL_SUFFIXES:
        return f"is not an HDF5 file: it may be cut off ({size} bytes)"
    return None


def _of_archive(members: list[str]) -> str:
    if any(name.endswith("data.pkl") for name in members):
        return f"is {_BY_SUFFIX['.pt']}"
    if any(name.endswith(("saved_model.pb", ".keras", ".h5")) for name in members):
        return "is an archive with a model in it; unpack it"
    shown = ", ".join(members[:3]) + (", …" if len(members) > 3 else "")
    return f"is a zip archive, but no .keras file: it holds {shown} and no {KERAS_CONFIG}"


def _of_folder(folder: Path) -> str:
    names = {child.name for child in folder.iterdir()}
    if _PRESET & names or {KERAS_CONFIG, "metadata.json"} <= names:
        return (
            "is a preset of keras-hub; load it in a function with from_preset and name that as 'module:function', or "
            "save the model with model.save('model.keras')"
        )
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        return f"is a folder with a checkpoint: {_WEIGHTS}"
    if "model.json" in names:
        return f"is a model of TensorFlow.js; {_EXPORT}"
    if KERAS_CONFIG in names:
        return f"is a folder of Hugging Face's transformers; {_EXPORT}"
    models = sorted(name for name in names if name.endswith(MODEL_SUFFIXES))
    hint = f"; did you mean '{folder / models[0]}'?" if models else f"; {ACCEPTED}"
    return f"is a folder without saved_model.pb{hint}"


def _is_unpacked(folder: Path) -> bool:
    """Return whether a `.keras` archive was unpacked here, as some browsers do on their own."""
    names = {child.name for child in folder.iterdir()}
    return names >= {KERAS_CONFIG, "metadata.json", "model.weights.h5"} and not names & _PRESET


def _model_in(folder: Path) -> Path | None:
    """Return the model of a version: its folder, or the only model file in it."""
    if is_saved_model(folder):
        return folder
    files = [child for child in folder.iterdir() if child.suffix in MODEL_SUFFIXES]
    return files[0] if len(files) == 1 else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return []
