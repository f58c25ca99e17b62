"""Whether a model's source can be what it claims, as far as that shows within seconds and without TensorFlow."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

from deployments import fetching
from deployments.errors import ConfigError, LoadError
from deployments.fetching import addresses
from deployments.source import HDF5_SUFFIXES, MODEL_SUFFIXES, SAVED_MODEL_FILES, is_saved_model
from serve_app.config.args import ModelArgs


def check_source(args: ModelArgs, where: str) -> str | None:
    """Raise `ConfigError` unless `source` can be a model; return a remote source's revision, None for others."""
    if args.custom_objects is not None:
        _check_module(args.custom_objects, f"{where}.custom_objects")
    if not fetching.is_remote(args.source):
        _check_local(args.source, args.source, where)
        return None
    try:
        local = addresses.local_path(args.source)
        if local is None:
            return _check_remote(args, f"{where}.source")
    except LoadError as error:
        raise ConfigError(f"{where}.source: {error}") from None
    _check_local(str(local), args.source, where)
    return None


def _check_remote(args: ModelArgs, where: str) -> str:
    """Ask the source's server what lies there: within seconds, and before any replica starts."""
    remote, shown = fetching.describe(args.source, args.source_options), fetching.shown(args.source)
    is_file = addresses.is_archive(args.source) or Path(addresses.file_name(args.source)).suffix in MODEL_SUFFIXES
    if remote.files:
        has_graph = any(name.endswith(SAVED_MODEL_FILES) for name in remote.files)
        _expect(has_graph, f"{where}: no saved_model.pb in '{shown}'")
    else:
        expected = f"expected {', '.join(MODEL_SUFFIXES)}, {', '.join(addresses.ARCHIVES)} or a SavedModel folder"
        _expect(is_file, f"{where}: {expected}, got '{shown}'")
    return remote.revision if args.source_sha256 else fetching.require_sign(args.source, remote.revision)


def _check_local(source: str, shown: str, where: str) -> None:
    path = Path(source).expanduser()
    if path.suffix == ".keras":
        _expect(path.is_file(), f"{where}.source: expected a .keras file, found none at '{shown}'")
        _expect(
            _is_keras_archive(path),
            f"{where}.source: expected a Keras 3 archive (a zip with config.json), '{shown}' is not one",
        )
    elif path.suffix in HDF5_SUFFIXES:
        _expect(path.is_file(), f"{where}.source: expected an HDF5 file, found none at '{shown}'")
        with path.open("rb") as file:
            _expect(file.read(8) == b"\x89HDF\r\n\x1a\n", f"{where}.source: '{shown}' is not an HDF5 file")
    elif path.is_dir():
        expected = f"expected a SavedModel folder (with saved_model.pb), got '{shown}'{_versions_in(path)}"
        _expect(is_saved_model(path), f"{where}.source: {expected}")
    elif ":" in source and "/" not in source:
        _check_module(source.partition(":")[0], f"{where}.source")
    else:
        raise ConfigError(
            f"{where}.source: expected a .keras, .h5 or .hdf5 file, a SavedModel folder or "
            f"module:function, found nothing at '{shown}'"
        )


def _versions_in(folder: Path) -> str:
    """Name the versions in a folder of TensorFlow Serving's layout: one of them is what `source` should name."""
    versions = sorted(child.name for child in folder.iterdir() if is_saved_model(child))
    return f"; its versions are {', '.join(versions)}: name one, e.g. '{folder / versions[-1]}'" if versions else ""


def _is_keras_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _check_module(module: str, where: str) -> None:
    """Raise unless the top-level package of `module` can be found where Python looks, the current folder included."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        found = False
    _expect(found, f"{where}: no module named '{module}' can be imported")


def _expect(condition: bool, text: str) -> None:
    if not condition:
        raise ConfigError(text)
