"""Draws measured against forecast latencies by load and number of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one panel per number of replicas: p50 and p99, dots measured, lines forecast."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = sorted({point["replicas"] for point in points})
    figure, panels = pyplot.subplots(1, len(counts), figsize=(3.6 * len(counts), 3.4), sharey=True, squeeze=False)
    for count, panel in zip(counts, panels[0], strict=True):
        own = [point for point in points if point["replicas"] == count and point["share"] is not None]
        for key, colour in (("p50_ms", "tab:blue"), ("p99_ms", "tab:red")):
            rates = [point["forecast"]["per_s"] for point in own]
            panel.plot(rates, [point["forecast"][key] for point in own], color=colour, label=f"{key[:3]} forecast")
            panel.plot(rates, [point["measured"][key] for point in own], "o", color=colour, label=f"{key[:3]} measured")
        panel.set_title(f"{count} replica{'s' if count > 1 else ''}")
        panel.set_xlabel("requests per second")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("latency, ms")
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
