"""The single-prediction results as one picture: every way of every model, on a log axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLUMNS = 3
OURS, PREDICT, OTHERS = "#d2552d", "#8a8f98", "#4a6fa5"


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw one panel a model: the median of each way in milliseconds, ours and `model.predict` highlighted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(results) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 3.8 * rows), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, result in zip(axes.flat, results, strict=False):
        shown = sorted(result["p50_ms"].items(), key=lambda pair: -pair[1])
        names = [f"plan: {result['chosen']}" if name == "plan" else name for name, _ in shown]
        bars = axis.barh(names, [p50_ms for _, p50_ms in shown], color=[_color(name) for name, _ in shown])
        axis.bar_label(bars, [f"{p50_ms:.3g} ms" for _, p50_ms in shown], padding=3, fontsize=8)
        factor = result["p50_ms"]["model.predict"] / result["p50_ms"]["plan"]
        axis.set(xscale="log", title=f"{result['model']}: {factor:,.0f} times as fast as model.predict")
        axis.set_xlabel("median of one prediction, milliseconds")
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _color(name: str) -> str:
    return {"plan": OURS, "model.predict": PREDICT}.get(name, OTHERS)
