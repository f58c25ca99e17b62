"""What a plan measured, in the form that the simulation and the coalescer's own rule read it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from deployments.coalescing.splitting import Splitter
from deployments.errors import ConfigError
from deployments.execution import Executor


@dataclass(frozen=True)
class PlanTimes:
    """Seconds per run by allowed batch size."""

    batch_sizes: tuple[int, ...]
    """Ascending."""
    p50_s: tuple[float, ...]
    p99_s: tuple[float, ...]
    inline: tuple[bool, ...]
    """Whether a run of that size is made on the event loop, where it holds up decoding."""
    on_cpu: bool = False
    """Whether they were measured on a CPU; a plan that does not say was measured on a GPU."""

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> PlanTimes:
        """Return the chosen runs' times out of a plan's JSON; where there are lengths, the slowest counts.

        Raises `ConfigError` naming what the JSON lacks.
        """
        try:
            rows = [_row(report, key) for key in report["chosen"]]
            inline = report.get("inline", {})
        except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
            raise ConfigError(f"not a plan's JSON: {type(error).__name__}: {error}; see `solo plan --json`") from None
        if not rows:
            raise ConfigError("not a plan's JSON: 'chosen' is empty; see `solo plan --json`")
        sizes = sorted({size for size, _, _ in rows})
        p50_s, p99_s = (tuple(max(row[i] for row in rows if row[0] == size) for size in sizes) for i in (1, 2))
        on_cpu = report.get("device_kind") == "cpu"
        return cls(tuple(sizes), p50_s, p99_s, tuple(bool(inline.get(str(size))) for size in sizes), on_cpu)

    def expected_s(self, count: int) -> float:
        """Return the p50, in seconds, of running `count` rows in one call."""
        return self.p50_s[bisect_left(self.batch_sizes, count)]

    def splitter(self) -> Splitter:
        """Return the coalescer's own rule over these times."""
        # It asks for nothing but `batch_sizes` and `expected_s`.
        return Splitter(cast(Executor, self), self.batch_sizes[-1])

    def up_to(self, max_batch_size: int) -> PlanTimes:
        """Return the times of the batch sizes up to `max_batch_size`; raises `ConfigError` where none is."""
        kept = sum(size <= max_batch_size for size in self.batch_sizes)
        if not kept:
            raise ConfigError(f"--max-batch-size: the plan's smallest batch size is {self.batch_sizes[0]}")
        times = (self.p50_s[:kept], self.p99_s[:kept], self.inline[:kept])
        return PlanTimes(self.batch_sizes[:kept], *times, self.on_cpu)


def _row(report: Mapping[str, Any], key: str) -> tuple[int, float, float]:
    """Return batch size, p50 and p99 in seconds of what was chosen for one bucket (`8`, or `8x128` with lengths)."""
    row = next(row for row in report["candidates"][key] if row["name"] == report["chosen"][key])
    if row["p50_ms"] is None:
        raise ValueError(f"batch size {key} was not timed (plan_budget_s is 0)")
    p50_s = float(row["p50_ms"]) / 1e3
    return int(key.partition("x")[0]), p50_s, max(p50_s, float(row["p99_ms"] or 0.0) / 1e3)
