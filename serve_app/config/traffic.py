"""Several versions of one model, each an application of its own: who gets what part of the traffic.

A version beside others answers under `/v2/models/NAME/versions/V`. What asks for the model without a version goes to
the application at `/v2/models/NAME` where there is one; where there is none, the gateway gets it and chooses by the
weights in its `traffic`, or takes the newest version.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deployments.errors import ConfigError
from serve_app.config.args import ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.paths import version_path

Weights = Mapping[str, float]
Traffic = Mapping[str, Weights]
"""Model name to version to its part; parts need not add up to 1."""


def newest_first(version: str) -> tuple[int, str]:
    """Return a sort key under which the newest version is the largest: by number, and names below numbers."""
    return (int(version) if version.isdigit() else -1, version)


def choose(weights: Weights, draw: Callable[[], float] = random.random) -> str:
    """Return a version with the probability of its weight."""
    point = draw() * sum(weights.values())
    for version, weight in weights.items():
        if weight and point < weight:
            return version
        point -= weight
    return max(weights, key=lambda version: weights[version])


def check_traffic(
    models: Iterable[tuple[Mapping[str, Any], ModelArgs]], apps: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """Raise `ConfigError` where a gateway's `traffic` names what is not deployed, or could never see the traffic."""
    models = list(models)
    for where, app in apps:
        if app.get("import_path") == "serve_app:gateway_app":
            args = GatewayArgs.parse(app.get("args") or {}, f"{where}.args")
            for name, weights in args.traffic.items():
                _check_weights(name, weights, models, f"{where}.args.traffic.{name}")


def _check_weights(
    name: str, weights: Weights, models: Iterable[tuple[Mapping[str, Any], ModelArgs]], where: str
) -> None:
    prefixes = {model.version: app.get("route_prefix", "/") for app, model in models if model.name == name}
    if missing := sorted(set(weights) - set(prefixes)):
        known = ", ".join(sorted(prefixes)) or "none"
        raise ConfigError(f"{where}: no application serves version '{missing[0]}' of '{name}'; declared: {known}")
    for version, prefix in prefixes.items():
        if prefix != version_path(name, version):
            raise ConfigError(
                f"{where}: '{prefix}' takes all traffic before it can be split; expected version '{version}' under "
                f"route_prefix '{version_path(name, version)}'"
            )
