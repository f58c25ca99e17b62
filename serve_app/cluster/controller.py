"""What Serve's controller knows: the one place that asks it.

The dashboard's REST API answers `GET /api/serve/applications/` from the same call; `serve.status()` leaves out the
route prefixes and the addresses. Nothing here starts a cluster or Serve where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.errors import NotReady

LOOPBACK = "127.0.0.1"
_NAME, _NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"
_ANY_HOST = frozenset({"", "0.0.0.0", "::", "localhost", LOOPBACK})


def serve_details() -> Mapping[str, Any]:
    """Return the controller's details: `applications`, `proxies`, `http_options`, `grpc_options`; 2 ms.

    Raises `NotReady` where Ray or Serve do not run.
    """
    details: Mapping[str, Any] = _ask("get_serve_instance_details")
    return details


def applications() -> Mapping[str, Any]:
    """Return the controller's details of every application, by name."""
    apps: Mapping[str, Any] = serve_details()["applications"]
    return apps


def configured() -> list[dict[str, Any]]:
    """Return the applications as a serve config declared them, in its own form."""
    return [dict(app["deployed_app_config"]) for app in applications().values() if app.get("deployed_app_config")]


def is_first_replica(app_name: str, replica_id: str) -> bool:
    """Return whether no other replica of an application comes before this one: of several, one acts for all."""
    deployments = applications().get(app_name, {}).get("deployments", {}).values()
    others = [one["replica_id"] for deployment in deployments for one in deployment["replicas"]]
    return all(replica_id <= other for other in others)


def is_there() -> bool:
    """Return whether Serve's controller has been created; it may yet have to start."""
    import ray

    try:
        ray.get_actor(_NAME, namespace=_NAMESPACE)
    except ValueError:
        return False
    return True


def apply(raw: Any) -> None:
    """Have the controller bring about what a serve config says, a mapping or Serve's schema of it.

    Applications that it does not name are removed.
    """
    from ray.serve.schema import ServeDeploySchema

    _ask("apply_config", ServeDeploySchema.model_validate(raw))


def http_address(details: Mapping[str, Any]) -> tuple[str, int]:
    """Return host and port of this node's HTTP front door; loopback where it listens on every address."""
    http = details.get("http_options") or {}
    host = http.get("host") or LOOPBACK
    return LOOPBACK if host in _ANY_HOST else host, int(http.get("port") or 8000)


def grpc_address(details: Mapping[str, Any]) -> str:
    """Return the address of this node's gRPC front door as `host:port`."""
    options = details.get("grpc_options") or {}
    return f"{LOOPBACK}:{options.get('port') or 9000}"


def is_reached_directly(app_name: str) -> bool:
    """Return whether the front door routes to the application's replicas without Serve's own proxy between."""
    groups = _ask("get_target_groups", app_name, True)
    # What HAProxy routes to is named after the application only where replicas are reached directly.
    return any(group.app_name == app_name for group in groups)


def is_proxy_healthy(details: Mapping[str, Any], node_id: str) -> bool:
    """Return whether the proxy of a node says of itself that it is well."""
    proxy = details["proxies"].get(node_id)
    return proxy is not None and str(getattr(proxy["status"], "value", proxy["status"])) == "HEALTHY"


def _ask(method: str, *args: object) -> Any:
    """Call the controller, which Ray finds by its name, as it does any named actor."""
    import ray

    if not ray.is_initialized():
        raise NotReady('no Ray cluster: call ray.init(address="auto") first')
    try:
        controller = ray.get_actor(_NAME, namespace=_NAMESPACE)
    except ValueError:
        raise NotReady("Serve does not run on this Ray cluster: start it with `solo serve` or `serve run`") from None
    try:
        return ray.get(getattr(controller, method).remote(*args))
    except AttributeError:
        raise NotReady(f"this Ray's Serve controller has no {method}; keras-solo is made for Ray 2.60") from None
