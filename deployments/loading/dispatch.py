"""Finds out what a source is and hands it to the reader for that format."""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path

from deployments import formats
from deployments.errors import LoadError
from deployments.loading import importing, keras_file, keras_model, precision, saved_model
from deployments.model import LoadedModel
from deployments.source import Precision, Source

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def load(source: Source, wanted: Precision = "float32") -> LoadedModel:
    """Return the model at `source`, computing in `wanted` precision; raises `LoadError`."""
    path = Path(source.uri).expanduser()
    try:
        if FACTORY.fullmatch(source.uri) and not path.exists():
            return _factory(source, wanted)
        if source.arguments:
            raise LoadError(f"'{source.uri}': arguments are for 'module:function' sources, a file takes none")
        return _found(source, path, wanted)
    except OSError as error:
        raise LoadError(f"'{source.uri}' {_system(path, error)}") from error
    except LoadError as error:
        if source.uri in str(error):
            raise
        raise LoadError(f"'{source.uri}': {error}") from error


def _found(source: Source, path: Path, wanted: Precision) -> LoadedModel:
    kind = formats.format_of(path)
    if kind is None:
        if versions := formats.versions(path):
            return _found(source, versions[max(versions)], wanted)
        raise LoadError(f"'{source.uri}' {formats.refusal(path)}")
    if kind == "saved_model":
        return _saved_model(source, path, wanted)
    objects = importing.custom_objects(source.custom_objects)
    with keras_file.as_file(path, kind) as file:
        model = keras_file.read(file, objects, wanted, safe_mode=source.safe_mode, shown=str(path))
    return keras_model.from_keras(model, source.uri, wanted)


def _factory(source: Source, wanted: Precision) -> LoadedModel:
    importing.custom_objects(source.custom_objects)
    model = importing.call_factory(source.uri, dict(source.arguments))
    return keras_model.from_keras(precision.apply(model, wanted), source.uri)


def _saved_model(source: Source, path: Path, wanted: Precision) -> LoadedModel:
    if wanted != "float32":
        raise LoadError(
            f"'{source.uri}' is a SavedModel, whose graph has its precision fixed; precision '{wanted}' needs a "
            ".keras or HDF5 file or a factory"
        )
    return saved_model.load(path, source)


def _system(path: Path, error: OSError) -> str:
    """Return what the operating system has against reading `path`, and what to do."""
    if isinstance(error, PermissionError):
        return formats.denied(path, error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot be loaded: no space left on the disk of {error.filename or tempfile.gettempdir()}; make room"
    return f"cannot be read: {error}"
