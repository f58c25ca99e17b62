"""The picture of `bench/coalescing.py`: latency against throughput, and the course of the overload."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG with a row per model: one line per setting (1, 16, 64 clients), and the overload by seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    size = (13, 5 * len(results))
    figure, rows = plt.subplots(len(results), 2, figsize=size, squeeze=False, constrained_layout=True)
    for (left, right), (model, result) in zip(rows, results.items(), strict=True):
        _latency_throughput(left, result["closed_loops"])
        left.set_title(f"{model}: a batch of 32 costs {result['about']['batch_32_over_1']} x one; numbers are clients")
        _overload(right, _median_overload(result["overloads"]))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _latency_throughput(axes: Any, closed_loops: Mapping[str, Mapping[Any, list[Mapping[str, float]]]]) -> None:
    for name, by_clients in closed_loops.items():
        per_s = [statistics.median(loop["per_s"] for loop in loops) for loops in by_clients.values()]
        p50_ms = [statistics.median(loop["p50_ms"] for loop in loops) for loops in by_clients.values()]
        style = {"linestyle": "--"} if name.startswith("window") else {"linewidth": 2.5}
        axes.plot(per_s, p50_ms, marker="o", label=name, **style)
        for clients, x, y in zip(by_clients, per_s, p50_ms, strict=True):
            axes.annotate(str(clients), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="requests per second", ylabel="p50 latency, ms")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()


def _median_overload(overloads: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return sorted(overloads, key=lambda each: each["in_time_per_s"])[len(overloads) // 2]


def _overload(axes: Any, overload: Mapping[str, Any]) -> None:
    axes.plot(overload["in_time_by_second"], label="answered in time", linewidth=2.5)
    axes.plot(overload["refused_by_second"], label="refused", linestyle="--")
    for per_s, when in zip(overload["closed_loops_per_s"], ("before", "after"), strict=True):
        axes.axhline(per_s, color="grey", linestyle=":", label=f"64 clients in a closed loop, {when}")
    axes.set(xlabel="seconds", ylabel="requests per second", ylim=(0, None))
    p99_ms = overload["refused_ms"].get("p99", float("nan"))
    axes.set_title(f"open loop at {overload['offered_per_s']:.0f}/s; refusals' p99 {p99_ms:.0f} ms")
    axes.grid(True, alpha=0.3)
    axes.legend()
