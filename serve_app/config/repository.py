"""A folder of models as applications of a serve config: what each entry is, pure over a listing of files.

    digits.keras                  a file, called like it; `digits.yaml` beside it may hold its args
    resnet/saved_model.pb         a SavedModel; likewise `resnet/model.yaml` for everything that is a folder
    mnist/1/…  mnist/2/…          TensorFlow Serving's layout: versions, each a SavedModel or one file
    bert/bert.keras               one file in a folder

What can be no model (a README, a name that begins with `_`, a file of another kind) is passed over; what looks like a
model and cannot be served is a `Problem`, which leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deployments.errors import ConfigError, SoloError
from deployments.fetching import Folder
from deployments.source import MODEL_SUFFIXES, SAVED_MODEL_FILES
from serve_app.config.args import ModelArgs
from serve_app.config.composing import Common, model_application
from serve_app.config.sources import check_source
from serve_app.config.version_policy import VersionPolicy

MODEL_YAML = "model.yaml"
_OWN_KEYS = ("version_policy", "deployment")
_GIVEN = ("name", "source", "version")
"""What the folder itself says."""

Files = Mapping[str, str]
"""Path below the root to the mark of its content."""


@dataclass(frozen=True)
class Entry:
    """One model of the folder."""

    name: str
    versions: Mapping[int, str]
    """Version to the path of its file or folder, below the root."""
    settings: str | None
    """The path of its YAML, None without one."""
    mark: str
    """Changes with any of its files."""


@dataclass
class Repository:
    """What a folder holds."""

    applications: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Model to the applications that serve its versions, the newest last."""
    problems: dict[str, str] = field(default_factory=dict)
    """Entry to why it cannot be served."""
    marks: dict[str, str] = field(default_factory=dict)
    """Model or broken entry to the mark of its files."""


def folder(root: str, options: Mapping[str, Any] | None = None) -> Folder:
    """Return the folder at a path or URI, with fsspec's options for the latter."""
    return Folder(root, dict(options or {}))


def read(folder: Folder, common: Common, only: str | None = None, args: Mapping[str, Any] | None = None) -> Repository:
    """Return what `folder` holds, or the model `only` of it, with `args` over its own; `LoadError` without a folder."""
    files = folder.files()
    found = Repository()
    entries, found.problems = entries_of(files)
    found.marks = {name: _mark(files, name) for name in found.problems}
    for entry in entries:
        if only not in (None, entry.name):
            continue
        found.marks[entry.name] = entry.mark
        try:
            found.applications[entry.name] = _applications(folder, entry, files, common, args or {})
        except SoloError as error:
            found.problems[entry.name] = str(error)
    return found


def entries_of(files: Files) -> tuple[list[Entry], dict[str, str]]:
    """Return the models in a listing by name, and what is wrong with the entries that are none."""
    by_top: dict[str, list[str]] = {}
    for path in files:
        by_top.setdefault(path.partition("/")[0], []).append(path)
    found: dict[str, list[Entry]] = {}
    problems: dict[str, str] = {}
    for top, paths in by_top.items():
        if top.startswith("_"):
            continue
        try:
            entry = _entry(top, paths, files)
        except ConfigError as error:
            problems[top] = str(error)
            continue
        if entry is not None:
            found.setdefault(entry.name, []).append(entry)
    for name, same in found.items():
        if len(same) > 1:
            where = " and ".join(f"'{next(iter(entry.versions.values()))}'" for entry in same)
            problems[name] = f"two entries are called '{name}': {where}; expected one"
    return [same[0] for _, same in sorted(found.items()) if len(same) == 1], problems


def _entry(top: str, paths: list[str], files: Files) -> Entry | None:
    if paths == [top]:
        if not top.endswith(MODEL_SUFFIXES):
            return None
        name = top.rpartition(".")[0]
        beside = f"{name}.yaml" if f"{name}.yaml" in files else None
        return Entry(name, {1: top}, beside, _marks(files, [top, *([beside] if beside else [])]))
    settings = f"{top}/{MODEL_YAML}"
    versions = {1: model} if (model := _model_in(top, paths)) else _versions(top, paths)
    if not versions:
        if settings not in files:
            return None
        raise ConfigError(f"{top}: {settings} has no model beside it")
    return Entry(top, versions, settings if settings in files else None, _marks(files, paths))


def _model_in(folder: str, paths: Iterable[str]) -> str | None:
    """Return the model that lies in `folder` itself: the folder, where it is a SavedModel, or its only file."""
    own = [path for path in paths if path.rpartition("/")[0] == folder]
    if any(path.endswith(SAVED_MODEL_FILES) for path in own):
        return folder
    models = [path for path in own if path.endswith(MODEL_SUFFIXES)]
    if len(models) > 1:
        raise ConfigError(f"{folder}: expected one model, got {', '.join(path.rpartition('/')[2] for path in models)}")
    return models[0] if models else None


def _versions(top: str, paths: Iterable[str]) -> dict[int, str]:
    below: dict[str, list[str]] = {}
    for path in paths:
        if path.count("/") > 1:
            below.setdefault(path.split("/")[1], []).append(path)
    found: dict[int, str] = {}
    for name, inside in below.items():
        if (model := _model_in(f"{top}/{name}", inside)) is None:
            continue
        if not name.isascii() or not name.isdigit():
            raise ConfigError(f"{top}/{name}: a version is a number, such as {top}/1")
        if int(name) in found:
            raise ConfigError(f"{top}: version {int(name)} is there twice")
        found[int(name)] = model
    return found


def _applications(
    folder: Folder, entry: Entry, files: Files, common: Common, over: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the applications of an entry's versions; raise `ConfigError` that names its YAML and the key."""
    where = entry.settings or entry.name
    said = _settings(folder.text, entry.settings)
    policy = VersionPolicy.parse(said.pop("version_policy", "latest"), f"{where}.version_policy")
    deployment = said.pop("deployment", {})
    if not isinstance(deployment, dict):
        raise ConfigError(f"{where}.deployment: expected Serve's options of KerasReplica, got {deployment!r}")
    chosen = policy.choose(entry.versions)
    if not chosen:
        there = ", ".join(map(str, sorted(entry.versions)))
        raise ConfigError(f"{where}.version_policy: none of the versions it names is there; found {there}")
    applications = []
    for version in chosen:
        path = entry.versions[version]
        args = {**common.args, **said, **over, "name": entry.name, "version": str(version), "source": folder.at(path)}
        args["source_revision"] = _mark(files, path)
        if folder.options:
            args.setdefault("source_options", dict(folder.options))
        check_source(ModelArgs.parse(args, where), where)
        # The new replica is ready before the old one goes.
        options = {"max_surge_percent": 100, **common.deployment, **deployment}
        applications.append(model_application(args, options, is_versioned=not policy.is_single))
    return applications


def _settings(text: Callable[[str], str], path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        said = yaml.safe_load(text(path)) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise ConfigError(f"{path}: expected keys of a model's args, got {type(said).__name__}")
    if given := [key for key in _GIVEN if key in said]:
        raise ConfigError(f"{path}.{given[0]}: the folder says it; expected no such key here")
    return said


def _mark(files: Files, path: str) -> str:
    return _marks(files, [name for name in files if name == path or name.startswith(f"{path}/")])


def _marks(files: Files, paths: Iterable[str]) -> str:
    """Return one short mark for those of several files."""
    import hashlib

    text = "\n".join(f"{path} {files[path]}" for path in sorted(paths))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
