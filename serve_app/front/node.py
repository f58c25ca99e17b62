"""The environment of one node of a cluster: `eval "$(solo environment)"` before `ray start`, on every node.

`solo serve` alone picks free side ports, since several servers may share a machine. Nodes of a cluster must instead
agree on them, and a firewall must know them: so here they are fixed, and `PORTS` is the whole list.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.front.environment import FAST, front
from serve_app.front.ports import FIRST_GRPC_PORT, GRPC_PORTS

FIRST_HTTP_PORT, HTTP_PORTS = 30_000, 200
METRICS_PORT, STATS_PORT = 9101, 8404
FALLBACK_HTTP_PORT, FALLBACK_GRPC_PORT = 8500, 9500


@dataclass(frozen=True)
class Ports:
    """TCP ports that other nodes must reach on a node, `first` to `last`."""

    first: int
    last: int
    what: str
    setting: str
    head_only: bool = False


PORTS = (
    Ports(6379, 6379, "Ray's control store", "ray start --port", head_only=True),
    Ports(6380, 6380, "raylet", "ray start --node-manager-port"),
    Ports(6381, 6381, "objects between nodes", "ray start --object-manager-port"),
    Ports(6382, 6382, "Ray's agent (gRPC)", "ray start --dashboard-agent-grpc-port"),
    Ports(6383, 6383, "Ray's agent (HTTP)", "ray start --dashboard-agent-listen-port"),
    Ports(6384, 6384, "metrics for Prometheus", "ray start --metrics-export-port"),
    Ports(6385, 6385, "runtime environments", "ray start --runtime-env-agent-port"),
    Ports(8265, 8265, "Ray's dashboard, `serve deploy`", "ray start --dashboard-port", head_only=True),
    Ports(10_002, 10_999, "Ray's workers: replicas, proxies, controller", "ray start --min/max-worker-port"),
    Ports(FIRST_GRPC_PORT, FIRST_GRPC_PORT + GRPC_PORTS, "replicas' gRPC", "solo environment"),
    Ports(FIRST_HTTP_PORT, FIRST_HTTP_PORT + HTTP_PORTS, "replicas' HTTP", "solo environment"),
    Ports(FALLBACK_HTTP_PORT, FALLBACK_HTTP_PORT, "requests while a model has no replica", "solo environment", True),
    Ports(FALLBACK_GRPC_PORT, FALLBACK_GRPC_PORT, "the same for gRPC", "solo environment", True),
)
"""Beside 8000 and 9000 (`http_options.port`, `grpc_options.port`), where clients come in."""

KEPT_CLOSED = {
    METRICS_PORT: "HAProxy's metrics",
    STATS_PORT: "HAProxy's statistics",
    10_001: "Ray Client, head only",
    44_217: "the autoscaler's metrics, head only",
    44_227: "the dashboard's metrics, head only",
}
"""What listens on every address although no other node needs it: a firewall should keep these closed."""


def variables(folder: Path | None = None) -> Mapping[str, str]:
    """Return the environment of this node's `ray start`, with HAProxy's files in `folder`, which is made."""
    folder = folder or Path.home() / ".cache" / "keras-solo" / "node"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        **FAST,
        **front(folder),
        # `ray start --head` (2.60) turns tokens on by itself; a node that joins without this is refused.
        "RAY_AUTH_MODE": "token",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(METRICS_PORT),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(STATS_PORT),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(FIRST_HTTP_PORT),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(FIRST_HTTP_PORT + HTTP_PORTS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(FIRST_GRPC_PORT),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(FIRST_GRPC_PORT + GRPC_PORTS),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(FALLBACK_HTTP_PORT),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(FALLBACK_GRPC_PORT),
    }


def ray_ports() -> list[str]:
    """Return the options of `ray start` that keep Ray to `PORTS`."""
    known = {ports.setting.removeprefix("ray start "): ports for ports in PORTS if ports.setting.startswith("ray ")}
    workers = known.pop("--min/max-worker-port")
    single = [f"{option}={ports.first}" for option, ports in known.items() if not ports.head_only]
    return [*single, f"--min-worker-port={workers.first}", f"--max-worker-port={workers.last}"]


def shell(folder: Path | None = None) -> str:
    """Return the environment as lines for `eval`, the ports' options of `ray start` among them."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(folder).items()]
    return "\n".join([*lines, f"export SOLO_RAY_PORTS={shlex.quote(' '.join(ray_ports()))}"])
