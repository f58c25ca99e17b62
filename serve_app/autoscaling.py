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

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from deployments.coalescing import CoalesceOptions
from deployments.coalescing.splitting import Splitter
from deployments.errors import ConfigError
from deployments.servable import Servable
from serve_app.sizing_times import PlanTimes

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


class LoadMeter:
    """Measures a replica's load between two readings; for the event loop's own thread."""

    def __init__(
        self,
        servable: Servable,
        options: Callable[[], CoalesceOptions],
        clock: Callable[[], float] = time.monotonic,
        thread_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._servable = servable
        self._options = options
        self._clock = clock
        self._thread_clock = thread_clock
        self._splitter = _splitter(servable)
        self._last: tuple[float, float, float] | None = None

    def read(self) -> dict[str, float]:
        """Return `DEVICE_LOAD` and `LOOP_LOAD` since the last reading; zeros at the first."""
        now = (self._clock(), self._device_s(), self._thread_clock())
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return {DEVICE_LOAD: 0.0, LOOP_LOAD: 0.0}
        elapsed_s = now[0] - last[0]
        return {DEVICE_LOAD: (now[1] - last[1]) / elapsed_s, LOOP_LOAD: (now[2] - last[2]) / elapsed_s}

    def _device_s(self) -> float:
        """Return what the rows so far would have taken at the best batch size, in seconds.

        Not what they took: continuous coalescing runs small batches while it can, so that a device is busy all the
        time at half of its capacity.
        """
        counters = self._servable.run_counters
        if counters is None:
            return 0.0
        if self._splitter is None:
            return sum(run_ns for _, run_ns in dict(counters.sizes).values()) / 1e9
        most = 1 if self._options().mode == "off" else self._splitter.max_rows
        return counters.rows * self._splitter.cost_s(most) / most


def _splitter(servable: Servable) -> Splitter | None:
    """Return the coalescer's rule over the plan's times; None where nothing was timed (`plan_budget_s: 0`)."""
    try:
        return None if servable.plan_report is None else PlanTimes.of(servable.plan_report()).splitter()
    except ConfigError:
        return None
