"""The soak as one picture: memory of every process, and latency of every kind of request, over the requests sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw memory above and latency below; p50 is a line, p99 a dotted one of the same colour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = result["points"]
    sent = [point["requests"] for point in points]
    figure, (memory, latency) = pyplot.subplots(2, 1, figsize=(10, 8), sharex=True)
    for name in points[0]["rss_mb"]:
        memory.plot(sent, [point["rss_mb"][name] for point in points], label=name)
    memory.set(ylabel="resident memory, MB", ylim=(0, None))
    for name in result["mix"]:
        known = [point for point in points if name in point["ms"]]
        x = [point["requests"] for point in known]
        (line,) = latency.plot(x, [point["ms"][name][0] for point in known], label=name)
        latency.plot(x, [point["ms"][name][1] for point in known], ":", color=line.get_color())
    latency.set(ylabel=f"latency at {result['clients']} clients, ms", yscale="log", xlabel="requests")
    for axis in (memory, latency):
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{result['requests']:,} requests in {result['seconds']:,.0f} s; p50 solid, p99 dotted")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
