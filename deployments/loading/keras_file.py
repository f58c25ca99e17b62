"""Reads `.keras` and legacy HDF5 files, and says plainly why one cannot be read."""

from __future__ import annotations

import errno
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from deployments.errors import LoadError
from deployments.formats import Format
from deployments.loading import keras2, keras2_safety, precision
from deployments.source import HDF5_SUFFIXES, Precision

REASON_CHARS = 400
"""Keras repeats whole configs in its messages; this much of the innermost one says what is wrong."""

MISSING_CLASS = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '([^']+)'")

OTHER_BACKENDS = {"JaxLayer": "JAX", "FlaxLayer": "JAX", "TorchModuleWrapper": "PyTorch"}
"""Layers that wrap another framework's code."""

CODE = (
    "it carries Python code of its own (a Lambda layer), which runs on loading and on every prediction. "
    "Replace it by a registered layer; or, if you trust whoever made the file, set `safe_mode: false`"
)


@contextmanager
def as_file(path: Path, found: Format) -> Iterator[Path]:
    """Yield the model as a file whose name says its format, as Keras has it: itself, a link to it, or an archive."""
    suffixes = {"keras": (".keras",), "hdf5": HDF5_SUFFIXES, "unpacked": (), "saved_model": ()}[found]
    if path.suffix in suffixes:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"{path.name}{HDF5_SUFFIXES[0] if found == 'hdf5' else '.keras'}"
        if path.is_dir():
            with zipfile.ZipFile(named, "w") as archive:
                for member in sorted(path.rglob("*")):
                    archive.write(member, member.relative_to(path))
        else:
            named.symlink_to(path.absolute())
        yield named


def read(
    path: Path,
    custom_objects: dict[str, Any],
    wanted: Precision = "float32",
    *,
    safe_mode: bool,
    shown: str | None = None,
) -> Any:
    """Return the model in a file, uncompiled, computing in `wanted`: a `keras.Model`, or one of `tf_keras`.

    The file's own `keras_version` says which is tried first; what the first cannot read is tried with the other.
    Raises `LoadError` naming the file, as `shown`, and the remedy.
    """
    shown = shown or str(path)
    if path.suffix in HDF5_SUFFIXES:
        _check_hdf5(path, shown)
    architecture = _architecture(path)
    if safe_mode and keras2.holds_code(architecture):
        raise LoadError(f"'{shown}' cannot be loaded: {CODE}")
    if wrapper := _wrapper(architecture):
        raise LoadError(
            f"'{shown}' cannot be loaded: its {wrapper} runs on Keras's {OTHER_BACKENDS[wrapper]} backend alone, and "
            "keras-solo serves with TensorFlow; export it there with model.export('folder') and serve the folder"
        )

    def modern() -> Any:
        loaded = keras.saving.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=safe_mode)
        return precision.apply(loaded, wanted)

    def older() -> Any:
        if safe_mode:
            _check_safe(path, custom_objects, shown)
        return keras2.read(path, custom_objects, wanted)

    version = keras2.version(path)
    # HDF5 files of Keras 1 and early 2 do not say; files of Keras 3 always do.
    is_older = path.suffix in HDF5_SUFFIXES if not version else not version.startswith("3")
    return _first_read(shown, version, [older, modern] if is_older else [modern, older])


def _first_read(shown: str, version: str, readers: list[Callable[[], Any]]) -> Any:
    """Return what the first reader that succeeds returns; raises `LoadError` with the first one's reason."""
    errors: list[Exception] = []
    for reader in readers:
        try:
            return reader()
        except (LoadError, PermissionError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            errors.append(error)
    written = f" (written by Keras {version})" if version else ""
    raise LoadError(f"'{shown}'{written} cannot be loaded: {_explain(str(errors[0]), version)}") from errors[0]


def _check_safe(path: Path, custom_objects: dict[str, Any], shown: str) -> None:
    """Raise `LoadError` where Keras 2 would import or call what is no layer, which Keras 3 refuses by itself."""
    registered = {name.rpartition(">")[2] for name in keras2.registered()}
    found = keras2_safety.code_in(keras2.config(path), {*custom_objects, *registered})
    if found is not None:
        raise LoadError(
            f"'{shown}' cannot be loaded: it names {found}, which could do more than compute. If it is a layer or "
            "function of yours, name the module that defines it: `custom_objects: your_module`; or, if you trust "
            "whoever made the file, set `safe_mode: false`"
        )


def _architecture(path: Path) -> Any:
    """Return a file's architecture; None where it is damaged, of which its reader says how."""
    try:
        return keras2.config(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _wrapper(architecture: Any) -> str | None:
    """Return the layer of another backend that an architecture has, None where there is none."""
    text = json.dumps(architecture)
    return next((name for name in OTHER_BACKENDS if f'"class_name": "{name}"' in text), None)


def _check_hdf5(path: Path, shown: str) -> None:
    """Tell a damaged file, and weights alone, from a model that Keras refuses."""
    try:
        with h5py.File(path, "r") as file:
            has_architecture = "model_config" in file.attrs
    except PermissionError:
        raise
    except OSError as error:
        size = path.stat().st_size
        raise LoadError(f"'{shown}' is not a readable HDF5 file: it may be cut off ({size} bytes)") from error
    if not has_architecture:
        raise LoadError(
            f"'{shown}' holds weights but no architecture; build the model in a function, load the weights there, "
            "and name it as 'module:function'"
        )


def _explain(text: str, version: str) -> str:
    """Return what to do about Keras's message: the known cases by name, else its innermost reason."""
    if "safe_mode" in text:
        return CODE
    newer = ""
    if _number(version) > _number(keras.__version__):
        newer = f"; Keras here is {keras.__version__}, older than the file's: pip install 'keras>={version}'"
    if missing := MISSING_CLASS.search(text):
        return (
            f"it uses '{missing[1]}', which Keras {keras.__version__} does not know. If it is a custom layer or "
            f"function of yours, name the module that defines it: `custom_objects: your_module`{newer}"
        )
    innermost = text.rsplit("Exception encountered:", 1)[-1].strip()
    return (" ".join(innermost.split())[:REASON_CHARS] or "Keras gave no reason") + newer


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
