"""The side-by-side results as one picture: latency of a lone client, by server, on a log axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw one panel a model and form: p50 of one client, ours highlighted, limits in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lone = [row for row in rows if row["load"] == "1 client" and row["p50_ms"]]
    panels = sorted({(row["model"], row["form"]) for row in lone})
    if not panels:
        return
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 3.4 * len(panels)), squeeze=False)
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        shown = sorted((r for r in lone if (r["model"], r["form"]) == panel), key=lambda r: -r["p50_ms"])
        bars = axis.barh([r["server"] for r in shown], [r["p50_ms"] for r in shown], color=[_color(r) for r in shown])
        axis.bar_label(bars, [f"{r['p50_ms']:.2f} ms" for r in shown], padding=3, fontsize=8)
        axis.set(xscale="log", title=f"{panel[0]}, {panel[1]}: p50 of one client", xlabel="milliseconds")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _color(row: dict[str, Any]) -> str:
    if row["server"] == "keras-solo":
        return "#d2552d"
    return "#b8bec6" if row["server"].startswith("limit") else "#4a6fa5"
