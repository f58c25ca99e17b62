"""Finds out what a source is and hands it to the reader for that kind."""

from __future__ import annotations

import re
from pathlib import Path

from deployments.errors import LoadError
from deployments.loading import importing, keras_file, keras_model, precision, saved_model
from deployments.model import LoadedModel
from deployments.source import MODEL_SUFFIXES, Precision, Source, is_saved_model

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
ACCEPTED = "expected a .keras, .h5 or .hdf5 file, a SavedModel folder, or 'module:function'"


def load(source: Source, wanted: Precision = "float32") -> LoadedModel:
    """Return the model at `source`, computing in `wanted` precision; raises `LoadError`."""
    path = Path(source.uri).expanduser()
    try:
        if FACTORY.fullmatch(source.uri) and not path.exists():
            return _factory(source, wanted)
        if source.arguments:
            raise LoadError(f"'{source.uri}': arguments are for 'module:function' sources, a file takes none")
        if not path.exists():
            raise LoadError(f"'{source.uri}' does not exist (looked at {path.absolute()}); {ACCEPTED}")
        return _folder(source, path, wanted) if path.is_dir() else _file(source, path, wanted)
    except LoadError as error:
        if source.uri in str(error):
            raise
        raise LoadError(f"'{source.uri}': {error}") from error


def _factory(source: Source, wanted: Precision) -> LoadedModel:
    importing.custom_objects(source.custom_objects)
    model = importing.call_factory(source.uri, dict(source.arguments))
    return keras_model.from_keras(precision.apply(model, wanted), source.uri)


def _file(source: Source, path: Path, wanted: Precision) -> LoadedModel:
    if path.suffix not in MODEL_SUFFIXES:
        raise LoadError(f"'{source.uri}' ends in '{path.suffix}'; {ACCEPTED}")
    objects = importing.custom_objects(source.custom_objects)
    model = keras_file.read(path, objects, wanted, safe_mode=source.safe_mode)
    return keras_model.from_keras(model, source.uri, wanted)


def _folder(source: Source, path: Path, wanted: Precision) -> LoadedModel:
    if not is_saved_model(path):
        versions = sorted((child for child in path.iterdir() if is_saved_model(child)), key=_version)
        hint = f"; did you mean '{versions[-1]}'?" if versions else ""
        raise LoadError(f"'{source.uri}' is a folder without saved_model.pb{hint or '; ' + ACCEPTED}")
    if wanted != "float32":
        raise LoadError(
            f"'{source.uri}' is a SavedModel, whose graph has its precision fixed; precision '{wanted}' needs a "
            ".keras or HDF5 file or a factory"
        )
    return saved_model.load(path, source)


def _version(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdigit() else -1, folder.name)
