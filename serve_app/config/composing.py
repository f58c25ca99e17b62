"""From models named on a command line to the serve config that serves them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployments.errors import ConfigError
from serve_app.config import paths
from serve_app.config.args import ModelArgs
from serve_app.config.grpc_options import SERVICER
from serve_app.config.naming import suggested_name
from serve_app.config.placement import DEPLOYMENT
from serve_app.config.serve_yaml import GATEWAY_APP, MODEL_APP
from serve_app.config.sources import check_source

GATEWAY = "gateway"

_NAMED = re.compile(r"([^/:=?]*)=(.+)", re.DOTALL)
"""`name=source`; what has one of these characters before its first `=` is a source alone, such as a signed URL."""


@dataclass(frozen=True)
class Common:
    """What is said of all models at once."""

    args: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a model's `args`."""
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """Serve's own options of the model's deployment: `num_replicas`, `ray_actor_options`, …"""


def from_sources(words: Sequence[str], common: Common, *, strict: bool = True) -> dict[str, Any]:
    """Return the serve config of the models that `words` name, each `source` or `name=source`.

    Raises `ConfigError`, which names the model, for a wrong key, a name given twice, or a source that can be none; the
    last unless `strict` only where there is no other model.
    """
    applications: list[dict[str, Any]] = []
    sources: dict[str, str] = {}
    for word in words:
        name, source = named_source(word)
        if name in sources:
            raise ConfigError(
                f"two models are called '{name}': '{sources[name]}' and '{source}'; expected a name of its own for "
                f"one, e.g. {name}-2={source}"
            )
        sources[name] = source
        application = model_application({"name": name, "source": source, **common.args}, common.deployment)
        where = f"model '{name}'"
        args = ModelArgs.parse(application["args"], where)
        if strict or len(words) == 1:
            check_source(args, where)
        applications.append(application)
    shared = {"shared_memory": True} if common.args.get("shared_memory") else {}
    return serve_config(applications, shared)


def named_source(word: str) -> tuple[str, str]:
    """Return the name and the source in `name=source`; a source alone is called like its file."""
    found = None if Path(word).expanduser().exists() else _NAMED.fullmatch(word)
    return (found[1], found[2]) if found else (suggested_name(word), word)


def model_application(
    args: Mapping[str, Any], deployment: Mapping[str, Any], is_versioned: bool = False
) -> dict[str, Any]:
    """Return the application of one model; `is_versioned`: at the path of its version, beside others."""
    name, version = str(args["name"]), str(args.get("version", "1"))
    path = paths.version_path(name, version) if is_versioned else paths.model_path(name)
    application: dict[str, Any] = {
        "name": app_name(name, version) if is_versioned else app_name(name),
        "import_path": MODEL_APP,
        "route_prefix": path,
        "args": dict(args),
    }
    if deployment:
        application["deployments"] = [{"name": DEPLOYMENT, **deployment}]
    return application


def app_name(name: str, version: str | None = None) -> str:
    """Return what the application of a model is called: unlike the gateway, and unlike every other model."""
    if version is not None:
        return f"{name}:{version}"
    return f"{name}:model" if name == GATEWAY else name


def serve_config(applications: Iterable[Mapping[str, Any]], gateway: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a whole serve config: the models' applications, and the gateway at `/` with its `args`."""
    return {
        "proxy_location": "EveryNode",
        "grpc_options": {"grpc_servicer_functions": [SERVICER]},
        "applications": [
            *map(dict, applications),
            {"name": GATEWAY, "import_path": GATEWAY_APP, "route_prefix": "/", "args": dict(gateway or {})},
        ],
    }


def key_value(option: str, text: str) -> tuple[str, Any]:
    """Return the key and the value, a YAML one, in `key=value`; raise `ConfigError` that names the option."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError(f"{option}: expected KEY=VALUE, got '{text}'")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{option} {key}: expected a YAML value, got '{value}'") from None
