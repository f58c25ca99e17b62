"""Which models are deployed, and how they are: the gateway's view of Serve's controller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.errors import NotReady, UnknownModel
from serve_app.cluster import controller
from serve_app.cluster.redaction import without_folders
from serve_app.cluster.reports import reason_of
from serve_app.config.paths import MODELS_PREFIX, version_path
from serve_app.config.traffic import Traffic, choose, newest_first

__all__ = ["MODELS_PREFIX", "DeployedModel", "Directory", "deployed", "models_in", "pick", "read_models", "unknown"]

MODEL_BUILDERS = ("serve_app:model_app", "serve_app:pipeline_app")
REFRESH_S = 0.5
"""How old the view may be; a refresh is one actor call of about 2 ms."""


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """One model application as Serve's controller reports it."""

    name: str
    version: str
    app_name: str
    route_prefix: str
    state: str
    """`READY`, `LOADING`, `UNAVAILABLE` or `UNLOADING`: Triton's repository states."""
    reason: str
    replicas: int
    """Running replicas."""

    @property
    def key(self) -> str:
        """The model's name, and where another version may have that: name and version, as in the path."""
        return f"{self.name}/versions/{self.version}" if self.is_beside_others else self.name

    @property
    def is_beside_others(self) -> bool:
        """Whether it answers under its version's path alone."""
        return self.route_prefix.rstrip("/") == version_path(self.name, self.version)


class Directory:
    """The deployed models, refreshed from Serve's controller when older than `REFRESH_S`."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        self.traffic = traffic or {}
        self._models: dict[str, DeployedModel] = {}
        self._read_at_s = float("-inf")
        self._lock = asyncio.Lock()

    def expire(self) -> None:
        """Have the next look ask the controller, whatever the view's age: something has just changed."""
        self._read_at_s = float("-inf")

    async def models(self) -> Mapping[str, DeployedModel]:
        """Return the models by `DeployedModel.key`; keeps the last view while the controller is away."""
        if time.monotonic() - self._read_at_s > REFRESH_S:
            async with self._lock:
                if time.monotonic() - self._read_at_s > REFRESH_S:
                    self._models = await asyncio.to_thread(read_models)
                    self._read_at_s = time.monotonic()
        return self._models


def pick(
    models: Mapping[str, DeployedModel], name: str, version: str | None = None, traffic: Traffic | None = None
) -> DeployedModel | None:
    """Return the application that answers for a model, None where there is none.

    Without a version that is the one at the model's own path; else one of the versions that are ready, by the weights
    in `traffic`, or the newest.
    """
    same = [model for model in models.values() if model.name == name]
    if version is not None:
        return next((model for model in same if model.version == version), None)
    if name in models or not same:
        return models.get(name)
    ready = {model.version: model for model in same if model.state == "READY"}
    weights = {known: part for known, part in (traffic or {}).get(name, {}).items() if part and known in ready}
    if weights:
        return ready[choose(weights)]
    return max(ready.values() or same, key=lambda model: newest_first(model.version))


def unknown(models: Mapping[str, DeployedModel], name: str, version: str | None = None) -> UnknownModel:
    """Return what to raise for a model or a version that is not deployed; Triton's examples look for the words."""
    found = sorted(model.version for model in models.values() if model.name == name)
    if found and version is not None:
        text = f"'{name}' version '{version}' is not found; deployed: {', '.join(found)}"
    else:
        text = f"'{name}' is not found; deployed: {', '.join(sorted({m.name for m in models.values()})) or 'none'}"
    return UnknownModel(f"Request for unknown model: {text}")


def not_ready(model: DeployedModel) -> NotReady:
    """Return what to raise for a model that is deployed and cannot answer."""
    return NotReady(f"model '{model.name}' is not ready: {model.reason}")


def read_models() -> dict[str, DeployedModel]:
    """Ask Serve's controller for the deployed models, by key."""
    return models_in(controller.serve_details())


def models_in(details: Mapping[str, Any]) -> dict[str, DeployedModel]:
    """Return the models, by key, that a serve config declared, out of the controller's details."""
    found = [_model(app) for app in details["applications"].values()]
    return {model.key: model for model in found if model is not None}


def _model(app: Mapping[str, Any]) -> DeployedModel | None:
    """Return the model that one application serves, or None where it is not ours."""
    config = app.get("deployed_app_config") or {}
    args = config.get("args") or {}
    if config.get("import_path") not in MODEL_BUILDERS or "name" not in args:
        return None
    return deployed(app, str(args["name"]), str(args.get("version", "1")))


def deployed(app: Mapping[str, Any], name: str, version: str) -> DeployedModel:
    """Return how the model that application `app` of the controller's details serves is doing."""
    replicas = sum(
        replica["state"] == "RUNNING"
        for deployment in app["deployments"].values()
        for replica in deployment["replicas"]
    )
    state, reason = _state(app["status"], replicas, reason_of(app))
    return DeployedModel(
        name=name,
        version=version,
        app_name=app["name"],
        route_prefix=app.get("route_prefix") or (app.get("deployed_app_config") or {}).get("route_prefix") or "/",
        state=state,
        reason=reason,
        replicas=replicas,
    )


def _state(status: str, replicas: int, message: str) -> tuple[str, str]:
    """Map Serve's application status to Triton's repository state and its reason."""
    if status == "RUNNING":
        return "READY", ""
    if status in {"DEPLOYING", "NOT_STARTED"}:
        # A rolling update keeps its old replicas answering.
        return ("READY", "") if replicas else ("LOADING", "the model is loading")
    if status == "DELETING":
        return "UNLOADING", "the model is being removed"
    return ("READY", "") if replicas else ("UNAVAILABLE", without_folders(" ".join(message.split())) or status)
