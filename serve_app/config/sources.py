"""Whether a model's source can be what it claims, as far as that shows within seconds and without TensorFlow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from deployments import fetching, formats
from deployments.errors import ConfigError, LoadError
from deployments.fetching import addresses
from deployments.source import MODEL_SUFFIXES, SAVED_MODEL_FILES
from serve_app.config.args import ModelArgs


def check_source(args: ModelArgs, where: str) -> str | None:
    """Raise `ConfigError` unless `source` can be a model; return a remote source's revision, None for others."""
    if args.custom_objects is not None:
        _check_module(args.custom_objects, f"{where}.custom_objects")
    for key, function in (("before", args.before), ("after", args.after)):
        if function is not None:
            _check_module(function.function.partition(":")[0], f"{where}.{key}")
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
    if ":" in source and "/" not in source and not path.exists():
        _check_module(source.partition(":")[0], f"{where}.source")
        return
    if problem := formats.problem(path):
        raise ConfigError(f"{where}.source: '{shown}' {problem}")


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
