"""`solo serve FOLDER`: the config of a folder of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployments import formats
from deployments.errors import ConfigError, LoadError
from deployments.fetching import Folder, is_remote, shown
from serve_app.config import composing, repository, serve_yaml
from serve_app.config.composing import Common
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.serve_yaml import ServeConfig

SMALL_CPUS = 0.01
"""What a replica of a folder reserves unless its YAML says otherwise: many small models share a few cores, and a new
version needs a place beside the old one."""


def is_folder(words: Sequence[str]) -> bool:
    """Return whether the words name a folder of models, not one that is a model, or a model's numbered versions."""
    if len(words) != 1:
        return False
    if is_remote(words[0]):
        return words[0].endswith("/")
    path = Path(words[0]).expanduser()
    return path.is_dir() and not formats.is_model(path) and not formats.versions(path)


def config_of(root: str, common: Common, gateway: Mapping[str, Any], say: Callable[[str], None]) -> ServeConfig:
    """Return the config that serves the folder at `root`; `say` is told of what in it cannot be served.

    Raises `ConfigError` where nothing can, unless models are to be loaded later.
    """
    options = dict(common.args.get("source_options") or {})
    args = {"num_cpus": SMALL_CPUS, **{key: value for key, value in common.args.items() if key != "source_options"}}
    common = Common(args, common.deployment)
    root = root if is_remote(root) else str(Path(root).expanduser().resolve())
    said = {
        "repository": root,
        "model_defaults": {"args": dict(args), "deployment": dict(common.deployment)},
        **({"repository_options": options} if options else {}),
        **({"shared_memory": True} if args.get("shared_memory") else {}),
        **gateway,
    }
    control = GatewayArgs.parse(said, "folder").model_control
    try:
        found = repository.read(Folder(root, options), common)
    except LoadError as error:
        raise ConfigError(str(error)) from None
    for name, reason in sorted(found.problems.items()):
        say(f"{name}: left out: {reason}")
    applications = [] if control == "explicit" else [app for apps in found.applications.values() for app in apps]
    if not applications and control == "none":
        raise ConfigError(
            f"{shown(root)}: no model in this folder can be served; expected .keras or .h5 files, SavedModel folders, "
            "or folders of numbered versions"
        )
    say(f"{len(applications)} of {shown(root)}'s models; model_control is {control}")
    return serve_yaml.check(composing.serve_config(applications, said))
