"""From one sample a request to rates and percentiles."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np


class Sample(NamedTuple):
    """One request; seconds."""

    start_s: float
    """When it was sent (closed loop) or due (open loop), from the start."""
    latency_s: float
    status: int
    """The answer's; 0: the connection was lost; negative: no answer."""
    late_s: float = 0.0
    """How much later than due it was sent."""


Seen = list[Sample]


@dataclass(frozen=True)
class Summary:
    """What one load met. A percentile is None where so many requests were not answered with 200."""

    clients: int | None
    """Of a closed loop."""
    rate_per_s: float | None
    """That an open loop was asked for."""
    seconds: float
    count: int
    per_s: float
    """Requests answered with 200, a second."""
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    most_ms: float | None
    errors: dict[str, int]
    """Other outcomes: how many by status, `lost` connections, `unanswered`."""
    late_p99_ms: float
    """The generator's own lateness, which an open loop's latencies include."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def summarise(seen: Seen, seconds: float, clients: int | None = None, rate_per_s: float | None = None) -> Summary:
    """Return rates and latencies; a request without a 200 counts as one that never ended."""
    status = np.array([sample.status for sample in seen], int)
    latency_ms = np.array([sample.latency_s for sample in seen]) * 1e3
    latency_ms[status != 200] = np.inf
    good = int((status == 200).sum())
    late_ms = [sample.late_s * 1e3 for sample in seen]
    errors = Counter(_outcome(code) for code in status[status != 200].tolist())
    return Summary(
        clients=clients,
        rate_per_s=rate_per_s,
        seconds=seconds,
        count=len(seen),
        per_s=good / seconds,
        p50_ms=_percentile(latency_ms, 50),
        p90_ms=_percentile(latency_ms, 90),
        p99_ms=_percentile(latency_ms, 99),
        most_ms=_percentile(latency_ms, 100),
        errors=dict(errors),
        late_p99_ms=float(np.percentile(late_ms, 99)) if late_ms else 0.0,
    )


def _percentile(values: np.ndarray[Any, Any], q: float) -> float | None:
    """Return a value that was really met: between two there may be one without an end."""
    if not len(values):
        return None
    value = float(np.percentile(values, q, method="higher"))
    return value if np.isfinite(value) else None


def _outcome(status: int) -> str:
    return {0: "lost", -1: "unanswered"}.get(status, str(status))
