"""What a replica carries, as two shares of its capacity: the device's and the event loop's."""

from __future__ import annotations

import time
from collections.abc import Callable

from deployments.coalescing import CoalesceOptions
from deployments.coalescing.plan_times import PlanTimes
from deployments.coalescing.splitting import Splitter
from deployments.errors import ConfigError
from deployments.servable import Servable
from serve_app.autoscaling import DEVICE_LOAD, LOOP_LOAD


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
