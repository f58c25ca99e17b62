"""The serve config: whether it is valid, and whether this machine has the GPUs that it asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.errors import ConfigError
from serve_app import serve_config
from serve_app.checks import Check
from serve_app.checks.probes import Machine
from serve_app.serve_config import ServeConfig

DEPLOYMENT = "KerasReplica"


def read(path: Path | None) -> tuple[ServeConfig | None, list[Check]]:
    """Return the config at `path` (None: none was asked for) and the row on it."""
    if path is None:
        return None, [Check("serve config", "n/a", "none given: solo doctor CONFIG checks one")]
    try:
        config = serve_config.read(path)
    except ConfigError as error:
        return None, [Check("serve config", "fail", str(error), "mend the key named here")]
    except ImportError as error:
        return None, [Check("serve config", "fail", f"{path}: not checked, Ray Serve is missing: {error}")]
    names = ", ".join(model.name for model in config.models) or "no models"
    return config, [Check("serve config", "ok", f"{path}: {names}")]


def gpus(config: ServeConfig, machine: Machine) -> Check:
    """Check that this machine has as many GPUs as the config's replicas reserve."""
    available = len(machine.gpus)
    wanted = sum(_wanted(app, model.device, available) for app, model in _models(config))
    found = f"{wanted:g} requested, {available} on this machine"
    if wanted <= available:
        return Check("GPUs requested", "ok", found)
    advice = "device: cpu or auto, fewer replicas, or a fraction (num_gpus: 0.5) under ray_actor_options"
    if os.environ.get("RAY_ADDRESS"):
        return Check("GPUs requested", "warn", f"{found}; other nodes of the cluster must have them", advice)
    return Check("GPUs requested", "fail", f"{found}: replicas would wait for ever", advice)


def _models(config: ServeConfig) -> list[tuple[Mapping[str, Any], Any]]:
    apps = [app for app in config.raw["applications"] if app.get("import_path") == serve_config.MODEL_APP]
    return list(zip(apps, config.models, strict=True))


def _wanted(app: Mapping[str, Any], device: str, available: int) -> float:
    """Return how many GPUs one application reserves: `ray_actor_options` win over what `device` means."""
    default = 1 if device == "gpu" or (device == "auto" and available) else 0
    override: Mapping[str, Any] = next((d for d in app.get("deployments") or [] if d.get("name") == DEPLOYMENT), {})
    each = (override.get("ray_actor_options") or {}).get("num_gpus", default)
    return float(each) * _replicas(override)


def _replicas(override: Mapping[str, Any]) -> int:
    scaling = override.get("autoscaling_config") or {}
    number = override.get("num_replicas", scaling.get("min_replicas", 1))
    return number if isinstance(number, int) else 1
