"""The pictures of `bench/gpu.py`: latency by model and precision, and what coalescing does under load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {"float32": "#0b7a4b", "mixed_float16": "#3a7ca5", "mixed_bfloat16": "#8fb8d0", "model.predict": "#d9534f"}
MODES = {"off": "#d9534f", "continuous": "#0b7a4b"}
OURS, THEIRS = "#0b7a4b", "#d9534f"
INK, FAINT = "#1d2733", "#6b7785"


def draw(results: Mapping[str, Any], out: Path) -> None:
    """Write `plans.png` and `serving.png`, each where there is something to show."""
    import matplotlib

    matplotlib.use("Agg")
    if results.get("ratios"):
        _ratios(results, out / "by_hand.png")
    if results["plans"]:
        _plans(results, out / "plans.png")
    if any(row["loads"] for row in results["serving"]):
        _serving(results, out / "serving.png")


def _ratios(results: Mapping[str, Any], path: Path) -> None:
    """Bars of our best way over the graph written by hand: left of the line we are faster."""
    from matplotlib import pyplot

    rows = results["ratios"]
    figure, axis = pyplot.subplots(figsize=(12.8, 7.2))
    names = [f"{row['model']}, {row['precision']}, {row['rows']} row{'s' * (row['rows'] > 1)}" for row in rows]
    names = [name + " *" * bool(row.get("is_across_runs")) for name, row in zip(names, rows, strict=True)]
    axis.barh(names, [row["ratio"] for row in rows], color=[OURS if row["ratio"] <= 1 else THEIRS for row in rows])
    for place, row in enumerate(rows):
        text = f"{row['ratio']:.2f}: {row['p50_ms']:.3g} ms {row['way']}, by hand {row['by_hand_ms']:.3g}"
        end = (max(1.0, row["ratio"]), place)
        axis.annotate(text, end, (6, 0), textcoords="offset points", va="center", color=INK)
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_xlim(0, max(1.0, *(row["ratio"] for row in rows)) * 1.7)
    axis.invert_yaxis()
    across = "; * on two machines of one kind" if any(row.get("is_across_runs") for row in rows) else ""
    axis.set_xlabel(f"median of one call over that of a CUDA graph written by hand, in one run{across}", color=FAINT)
    _plain(axis, "x")
    _finish(figure, "One prediction against a CUDA graph written by hand", results, path)


def _plans(results: Mapping[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    models = list(dict.fromkeys(row["model"] for row in results["plans"]))
    figure, axis = pyplot.subplots(figsize=(12.8, 7.2))
    place = 0.0
    ticks: list[float] = []
    shown: set[str] = set()
    for model in models:
        rows = [row for row in results["plans"] if row["model"] == model]
        bars = [(row["precision"], *_best(row["report"])) for row in rows]
        predict_ms = rows[0]["report"]["predict_p50_ms"]
        bars += [("model.predict", predict_ms, "")] if predict_ms else []
        ticks.append(place + (len(bars) - 1) / 2)
        shown |= {label for label, _, _ in bars}
        for label, p50_ms, way in bars:
            axis.barh(place, p50_ms, color=COLOURS.get(label, "#999999"), height=0.82)
            axis.annotate(f"{p50_ms:.3g} ms  {way}", (p50_ms, place), (5, 0), textcoords="offset points", va="center")
            place += 1
        place += 0.7
    axis.set_yticks(ticks, models, fontsize=13)
    axis.set_xscale("log")
    axis.set_xlim(right=axis.get_xlim()[1] * 6)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds for one prediction in the process, median (log scale)", color=FAINT)
    axis.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    present = [label for label in COLOURS if label in shown]
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[label]) for label in present]
    figure.legend(handles, present, frameon=False, loc="upper right", ncols=2, bbox_to_anchor=(0.985, 0.985))
    _plain(axis, "x")
    _finish(figure, "One prediction by model and precision", results, path)


def _best(report: Mapping[str, Any]) -> tuple[float, str]:
    key, name = next(iter(report["chosen"].items()))
    return next(row["p50_ms"] for row in report["candidates"][key] if row["name"] == name), name


def _serving(results: Mapping[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    rows = [row for row in results["serving"] if row["loads"]]
    figure, axes = pyplot.subplots(2, len(rows), figsize=(12.8, 7.2), squeeze=False, sharex=True)
    for column, row in enumerate(rows):
        for mode, colour in MODES.items():
            loads = [load for load in row["loads"] if load["mode"] == mode]
            clients = [str(load["clients"]) for load in loads]
            top, bottom = axes[0][column], axes[1][column]
            top.plot(clients, [load["per_s"] for load in loads], "o-", color=colour, label=f"coalesce: {mode}")
            bottom.plot(clients, [load["p50_ms"] for load in loads], "o-", color=colour, label="median")
            bottom.plot(clients, [load["p99_ms"] for load in loads], "o:", color=colour, label="99th percentile")
        axes[0][column].set_title(row["model"], color=INK, fontsize=13)
        axes[0][column].set_ylim(bottom=0)
        axes[1][column].set_yscale("log")
        axes[1][column].set_xlabel("clients", color=FAINT)
        for axis in axes[:, column]:
            _plain(axis)
    axes[0][0].set_ylabel("requests a second", color=FAINT)
    axes[1][0].set_ylabel("milliseconds (dotted: 99th percentile)", color=FAINT)
    axes[0][0].legend(frameon=False)
    _finish(figure, "Served over HTTP, one row a request", results, path)


def _plain(axis: Any, grid: str = "both") -> None:
    axis.grid(axis=grid, color="#e6eaee", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _finish(figure: Any, title: str, results: Mapping[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure.text(0.03, 0.945, title, fontsize=18, weight="bold", color=INK)
    figure.text(0.03, 0.905, _where(results), fontsize=11, color=FAINT)
    figure.tight_layout(rect=(0.01, 0.01, 0.99, 0.89))
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


def _where(results: Mapping[str, Any]) -> str:
    machine = results.get("machine", {})
    gpus = [gpu["name"] for gpu in machine.get("gpus", [])]
    versions = machine.get("packages", {})
    device = ", ".join(gpus) or machine.get("cpu", "")
    return f"{device}, {machine.get('cores')} cores, TensorFlow {versions.get('tensorflow')}"
