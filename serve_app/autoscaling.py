"""Autoscaling by what a replica carries, not only by how many requests are open in it.

Serve's default policy divides the open requests by `target_ongoing_requests`. Behind HAProxy (Ray 2.60) those are the
requests that a replica has taken up, the coalescer's queue included. What that number cannot show is a replica whose
event loop is the limit: its requests wait in sockets, and each is answered before the next is counted. So replicas
report two shares of their capacity as custom metrics (`record_autoscaling_stats`, a public hook of Serve), and
`ByLoad` is a policy that asks for enough replicas by all three:

    autoscaling_config:
      min_replicas: 0
      max_replicas: 4
      target_ongoing_requests: 8
      policy: {policy_function: "serve_app.autoscaling:ByLoad", policy_kwargs: {target_load: 0.7}}

Imported by Serve's controller: nothing here may import Ray or TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from deployments.errors import ConfigError

DEVICE_LOAD = "device_load"
"""Rows per second over the most that the plan's best batch size carries."""
LOOP_LOAD = "loop_load"
"""Share of one core that the replica's event loop uses; runs made on it included."""
IDLE_LOAD = 0.05
"""Below it a replica counts as idle: health checks and metrics take 1 to 2 % of a core."""


class ByLoad:
    """Serve autoscaling policy: the most replicas that open requests, devices or event loops ask for."""

    def __init__(self, target_load: float = 0.7) -> None:
        if not 0 < target_load <= 1:
            raise ConfigError(f"target_load: expected more than 0 and at most 1, got {target_load}")
        self.target_load = target_load

    def __call__(self, context: Context) -> tuple[float, dict[str, Any]]:
        """Return the replicas wanted, unrounded; Serve applies factors, delays and bounds."""
        wanted = context.total_num_requests / context.config.get_target_ongoing_requests()
        measured = context.aggregated_metrics or {}
        for name in (DEVICE_LOAD, LOOP_LOAD):
            used = sum(load for load in measured.get(name, {}).values() if load > IDLE_LOAD)
            wanted = max(wanted, used / self.target_load)
        return wanted, {}


class Context(Protocol):
    """What `ByLoad` reads of Serve's `AutoscalingContext`."""

    total_num_requests: float
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None
    config: Any
