"""Serve's latency histograms of a replica take a sample of its requests where these are many; its counters count all.

Serve (2.60) keeps each request's latency and hands all of them to two histograms ten times a second, on the replica's
event loop: 6 µs each. The node's agent turns the buckets back into single observations, every ten seconds: 7 µs each.
At 3,000 requests a second that is a stall of 3.6 ms every 100, and 8 % of a core. Quantiles need no such numbers.
"""

from __future__ import annotations

import random
from typing import Any

OBSERVATIONS_PER_S = 250
"""What a histogram takes of one set of tags; below it, Serve's histograms hold every request."""
_USED = (
    *("_cached_latencies", "_cached_ingress_processing_latencies", "_cached_metrics_interval_s"),
    "_report_cached_metrics",
)


def sample_latencies(metrics: Any) -> None:
    """Have a replica's metrics manager hand over at most `OBSERVATIONS_PER_S` latencies for each set of tags.

    Nothing changes where Serve keeps them in another way, or not at all (`RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=0`).
    """
    if any(not hasattr(metrics, name) for name in _USED):
        return
    report = metrics._report_cached_metrics
    most = max(1, int(OBSERVATIONS_PER_S * metrics._cached_metrics_interval_s))

    def report_sample() -> None:
        for latencies in (metrics._cached_latencies, *metrics._cached_ingress_processing_latencies.values()):
            for tags, seen_ms in latencies.items():
                if len(seen_ms) > most:
                    latencies[tags] = random.sample(list(seen_ms), most)
        report()

    metrics._report_cached_metrics = report_sample
