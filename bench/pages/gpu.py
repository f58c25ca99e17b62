"""Figures from a GPU: our best way beside a CUDA graph written by hand."""

from __future__ import annotations

from typing import Any

from bench.pages.results import Results, number, table

FILE = "gpu/h200-2026-11-28"
ROWS = {
    ("mlp", "float32"): "MLP 16-64-64-64-64-10, float32",
    ("resnet50", "float32"): "ResNet50, float32",
    ("resnet50", "tf32"): "ResNet50, TF32",
    ("resnet50", "mixed_float16"): "ResNet50, float16†",
    ("mobilenet_v2", "mixed_float16"): "MobileNetV2, float16†",
}


def best(results: Results, model: str, precision: str, rows: int) -> dict[str, Any]:
    """Return the newest run's ratio to the graph written by hand; one within a run before one between two."""
    found: list[dict[str, Any]] = []
    for run in reversed(results(FILE)["runs"]):
        found += run["ratios"]
        found += [{**row, "is_across_runs": True} for row in run.get("ratios_across_runs", ())]
    wanted = {"model": model, "precision": precision, "rows": rows}
    return next(row for row in found if wanted.items() <= row.items())


def _tensorflow_ms(results: Results, model: str, precision: str, rows: int) -> float | None:
    wanted = {"model": model, "precision": precision, "rows": rows}
    ways = [way for run in results(FILE)["runs"] for way in run["ways"] if wanted.items() <= way.items()]
    times = [way["p50_ms"] for way in ways if way["name"].startswith(("session", "xla", "tf.function"))]
    return min(times, default=None)


def ratios(results: Results) -> str:
    """Every model and precision that was measured beside its graph, one row and sixteen."""
    lines = []
    for (model, precision), name in ROWS.items():
        pairs = [
            (best(results, model, precision, rows), _tensorflow_ms(results, model, precision, rows)) for rows in (1, 16)
        ]
        cells = [
            [_ms(tensorflow) for _, tensorflow in pairs],
            [_ms(row["p50_ms"]) for row, _ in pairs],
            [_ms(row["by_hand_ms"]) for row, _ in pairs],
            [f"{row['ratio']:.2f}" + "\\*" * bool(row.get("is_across_runs")) for row, _ in pairs],
        ]
        lines.append((name, *("; ".join(each) for each in cells)))
    return table(("p50 in ms, 1 row; 16 rows", "best TensorFlow way", "captured graph", "by hand", "ratio"), lines)


def _ms(value: float | None) -> str:
    return "-" if value is None else number(value)
