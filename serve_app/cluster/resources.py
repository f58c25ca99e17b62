"""What the cluster's nodes have and have left, against what the replicas of a config ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deployments.errors import LoadError
from serve_app.cluster.options import Options
from serve_app.config import placement
from serve_app.config.serve_yaml import ServeConfig
from serve_app.front import environment


def require_room(config: ServeConfig, options: Options, say: Callable[[str], None]) -> None:
    """Raise `LoadError` where replicas would wait for ever; a cluster that was joined may yet grow."""
    lacks = placement.shortages(demands_of(config), [node["Resources"] for node in nodes()])
    text = "; ".join(lack.text for lack in lacks)
    if lacks and options.address == "local":
        raise LoadError(f"{text}; {placement.ADVICE}")
    if lacks:
        say(f"warning: {text}; waiting for nodes to join")


def demands_of(config: ServeConfig) -> list[placement.Demand]:
    """Return what the replicas of `config` ask for."""
    import ray

    return placement.demands(config.reserving, ray.cluster_resources().get("GPU", 0))


def nodes() -> list[dict[str, Any]]:
    """Return Ray's reports of the nodes that are alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def cluster_address() -> str:
    """Return the address of the cluster that this process is in, as `ray.init` takes it."""
    import ray

    address: str = ray.get_runtime_context().gcs_address
    return address


def exporters() -> list[str]:
    """Return where each node's agent exports metrics for Prometheus; Ray chose the ports. None outside a cluster."""
    import ray

    if not ray.is_initialized():
        return []
    return [f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes()]


def shared_memory_folder() -> Path:
    """Return where this node's processes keep what shared memory is registered."""
    return environment.shared_memory_folder()


def free() -> list[Mapping[str, float]]:
    """Return what each node has left, by resource; where Ray does not tell by node, all of it as one node's."""
    import ray

    try:
        from ray._private import state

        return list(state.available_resources_per_node().values())
    except (ImportError, AttributeError):
        return [ray.available_resources()]
