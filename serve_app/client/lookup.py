"""Where a model is in this cluster: its application, and the front door of this node if that is the fast way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from deployments.errors import NotReady, UnknownModel
from serve_app.client import background
from serve_app.client.handle_way import DEPLOYMENTS, HandleWay
from serve_app.cluster import controller
from serve_app.cluster.directory import DeployedModel, deployed, models_in, pick
from serve_app.config.paths import model_path, version_path

DESCRIBE_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployed model answers."""

    name: str
    version: str
    app_name: str
    front_door: tuple[str, int] | None
    """Host and port of an HAProxy on this node that routes to the model's replicas; None where there is none."""
    path: str
    """The model's path under the Open Inference Protocol, with the version where the caller insists on one."""
    deployment: str = DEPLOYMENTS[0]
    """Serve's name of what answers there."""
    has_lane: bool = False
    """Whether this application answers every request for the model, so that its replicas may be asked directly."""


def find(name: str, version: str | None) -> Place:
    """Ask Serve's controller where model `name` is: about 10 ms, once a process.

    Raises `UnknownModel`, naming those that exist, and `NotReady` where it cannot answer, or Ray or Serve do not run.
    """
    cluster_id()
    details = controller.serve_details()
    models = models_in(details)
    if pick(models, name) is None:
        models |= _composed(details, models)
    model = pick(models, name, version)
    if model is None:
        found = ", ".join(sorted(f"'{known.version}'" for known in models.values() if known.name == name))
        if found:
            raise UnknownModel(f"model '{name}' has no version '{version}'; deployed: {found}")
        known_names = ", ".join(sorted({known.name for known in models.values()})) or "none"
        raise UnknownModel(f"unknown model '{name}'; deployed: {known_names}")
    if model.state != "READY":
        raise NotReady(f"model '{name}' is not ready: {model.reason}")
    # A model whose versions all have paths of their own is the gateway's to split, request by request.
    path = model_path(name) if version is None else version_path(name, version)
    # Only these prefixes lead to that path over HTTP.
    is_routed = model.route_prefix.rstrip("/") in ("", model_path(name), version_path(name, model.version))
    front_door = _front_door(details, model.app_name) if is_routed else None
    deployment = deployment_of(details["applications"][model.app_name]) or DEPLOYMENTS[0]
    has_lane = version is not None or model.route_prefix.rstrip("/") in ("", model_path(name))
    return Place(name, model.version, model.app_name, front_door, path, deployment, has_lane)


def deployment_of(app: Mapping[str, Any]) -> str | None:
    """Return the name of the deployment that answers for a model in an application; None where it holds none."""
    return next((name for name in DEPLOYMENTS if name in app["deployments"]), None)


def state_of(name: str, version: str | None) -> str:
    """Return a deployed model's state, as in Triton's repository index; `UNAVAILABLE` where there is none."""
    model = pick(models_in(controller.serve_details()), name, version)
    return "UNAVAILABLE" if model is None else model.state


def _composed(details: Mapping[str, Any], known: Mapping[str, DeployedModel]) -> dict[str, DeployedModel]:
    """Return the models deployed from Python or by a builder of the user's: only their replicas know their names."""
    names = {model.app_name for model in known.values()}
    found = {}
    for app in details["applications"].values():
        deployment = deployment_of(app)
        if app["name"] not in names and deployment is not None and app["status"] == "RUNNING":
            told = background.run(HandleWay(app["name"], deployment).describe(time.monotonic() + DESCRIBE_S))
            found[told["name"]] = deployed(app, told["name"], told["version"])
    return found


def cluster_id() -> str:
    """Return what tells this process's connection to a cluster from an earlier one."""
    if not ray.is_initialized():
        raise NotReady('no Ray cluster: call ray.init(address="auto") first')
    return str(ray.get_runtime_context().get_worker_id())


def _front_door(details: Mapping[str, Any], app_name: str) -> tuple[str, int] | None:
    """Return this node's front door if an HAProxy stands there: Serve's Python proxy is slower than a handle."""
    if not controller.is_reached_directly(app_name):
        return None
    if not controller.is_proxy_healthy(details, ray.get_runtime_context().get_node_id()):
        return None
    return controller.http_address(details)
