"""Reading a serve config and saying, before anything starts, what is wrong with it."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployments.errors import ConfigError
from serve_app.config import GatewayArgs, ModelArgs

MODEL_APP = "serve_app:model_app"
GATEWAY_APP = "serve_app:gateway_app"


@dataclass(frozen=True)
class ServeConfig:
    """A checked serve config."""

    raw: Mapping[str, Any]
    """The whole YAML, as Serve takes it."""
    models: tuple[ModelArgs, ...]
    prefixes: Mapping[str, str]
    """Model name to its application's route prefix."""


def read(path: str | Path) -> ServeConfig:
    """Read and check a serve config; raise `ConfigError` naming the file, the key and what was expected."""
    raw = _load(Path(path))
    try:
        return check(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check(raw: Mapping[str, Any]) -> ServeConfig:
    """Check every application's arguments, then names and prefixes across applications, then Serve's own schema."""
    models, prefixes = [], {}
    for where, app in _applications(raw):
        args = app.get("args") or {}
        if app.get("import_path") == GATEWAY_APP:
            GatewayArgs.parse(args, f"{where}.args")
        if app.get("import_path") != MODEL_APP:
            continue
        model = ModelArgs.parse(args, f"{where}.args")
        check_route(model.name, app.get("route_prefix", "/"), f"{where}.route_prefix")
        if model.name in prefixes:
            raise ConfigError(f"{where}.args.name: model '{model.name}' is declared twice; expected unique names")
        check_source(model, f"{where}.args")
        models.append(model)
        prefixes[model.name] = app.get("route_prefix", "/")
    _check_schema(raw)
    return ServeConfig(raw, tuple(models), prefixes)


def check_route(name: str, prefix: str, where: str) -> None:
    """Raise unless `prefix` is where clients of model `name` look: its own path, or `/` for a single model."""
    expected = f"/v2/models/{name}"
    if prefix not in {expected, "/"}:
        raise ConfigError(f"{where}: expected '{expected}' (or '/' where this is the only application), got '{prefix}'")


def check_source(args: ModelArgs, where: str) -> None:
    """Raise `ConfigError` unless `source` can be what it claims, as far as that shows without TensorFlow."""
    source = args.source
    path = Path(source).expanduser()
    if path.suffix == ".keras":
        _expect(path.is_file(), f"{where}.source: expected a .keras file, found none at '{source}'")
        _expect(
            _is_keras_archive(path),
            f"{where}.source: expected a Keras 3 archive (a zip with config.json), '{source}' is not one",
        )
    elif path.suffix in {".h5", ".hdf5"}:
        _expect(path.is_file(), f"{where}.source: expected an HDF5 file, found none at '{source}'")
        with path.open("rb") as file:
            _expect(file.read(8) == b"\x89HDF\r\n\x1a\n", f"{where}.source: '{source}' is not an HDF5 file")
    elif path.is_dir():
        is_saved_model = (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file()
        _expect(is_saved_model, f"{where}.source: expected a SavedModel folder (with saved_model.pb), got '{source}'")
    elif ":" in source and "/" not in source:
        _check_module(source.partition(":")[0], f"{where}.source")
    else:
        raise ConfigError(
            f"{where}.source: expected a .keras, .h5 or .hdf5 file, a SavedModel folder or "
            f"module:function, found nothing at '{source}'"
        )
    if args.custom_objects is not None:
        _check_module(args.custom_objects, f"{where}.custom_objects")


def _load(path: Path) -> Mapping[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the serve config: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected a mapping with 'applications', got {type(raw).__name__}")
    return raw


def _applications(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    apps = raw.get("applications")
    if not isinstance(apps, list) or not apps:
        raise ConfigError("applications: expected a list with at least one application")
    for index, app in enumerate(apps):
        where = f"applications[{index}]"
        if not isinstance(app, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {type(app).__name__}")
        yield where, app


def _check_schema(raw: Mapping[str, Any]) -> None:
    """Let Serve's own schema judge the rest: http_options, deployments, duplicate names and prefixes."""
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        ServeDeploySchema.model_validate(raw)
    except ValidationError as error:
        details = error.errors()
        lines = [f"{'.'.join(map(str, d['loc'])) or 'config'}: {d['msg']}" for d in details]
        raise ConfigError("; ".join(lines)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


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
