"""A plan as a picture for a talk: every way of executing one prediction, and what batching adds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.errors import ConfigError
from serve_app.cli.plan.stanza import per_row_ms
from serve_app.cli.plan.table import milliseconds, reasons, rows_of, times
from serve_app.config.args import ModelArgs

CHOSEN, OTHER, REFERENCE, INK, FAINT = "#0b7a4b", "#a9c4d6", "#d9534f", "#1d2733", "#6b7785"
INCHES, DPI = (12.8, 7.2), 150
"""16:9, 1920 x 1080 pixels: a slide."""
LEAST_SLOTS = 7
FOOTNOTE_WIDTH = 175
"""In characters."""


@dataclass(frozen=True)
class Bar:
    """One horizontal bar; times in milliseconds."""

    name: str
    p50_ms: float
    p99_ms: float | None
    colour: str
    is_bold: bool = False


def draw(args: ModelArgs, report: Mapping[str, Any], path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix; raises `ConfigError` for an unknown one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    throughput = {size: 1e3 / ms for size, ms in per_row_ms(report).items()}
    has_batches = len(throughput) > 1
    figure, axes = pyplot.subplots(
        1, 2 if has_batches else 1, figsize=INCHES, width_ratios=[2.4, 1] if has_batches else None, squeeze=False
    )
    bars = latency_bars(report)
    _draw_latencies(axes[0][0], bars, report)
    if has_batches:
        _draw_throughput(axes[0][1], throughput)
    _title(figure, args, report, bars)
    _footnote(figure, report)
    figure.subplots_adjust(left=0.155, right=0.965 if has_batches else 0.83, top=0.82, bottom=0.135, wspace=0.45)
    try:
        figure.savefig(path, dpi=DPI)
    except ValueError as error:
        raise ConfigError(f"--plot {path}: {str(error).splitlines()[0]}") from None
    finally:
        pyplot.close(figure)


def latency_bars(report: Mapping[str, Any]) -> list[Bar]:
    """Return the bars of the smallest batch size, fastest first, `model.predict` among them."""
    key = next(iter(report["candidates"]))
    chosen = report["chosen"][key]
    rows = [row for row in report["candidates"][key] if row["p50_ms"] and row["status"] == "ok"]
    bars = [_bar(row, is_chosen=row["name"] == chosen) for row in rows]
    if report["predict_p50_ms"]:
        bars.append(Bar("model.predict", report["predict_p50_ms"], None, REFERENCE))
    return sorted(bars, key=lambda bar: bar.p50_ms)


def _bar(row: Mapping[str, Any], is_chosen: bool) -> Bar:
    return Bar(row["name"], row["p50_ms"], row["p99_ms"], CHOSEN if is_chosen else OTHER, is_chosen)


def _draw_latencies(axis: Any, bars: list[Bar], report: Mapping[str, Any]) -> None:
    low = min(bar.p50_ms for bar in bars) / 2
    widths = [bar.p50_ms - low for bar in bars]
    axis.barh([bar.name for bar in bars], widths, left=low, color=[bar.colour for bar in bars], height=0.7)
    for place, bar in enumerate(bars):
        if bar.p99_ms is not None:
            axis.plot([bar.p50_ms, bar.p99_ms], [place, place], color=FAINT, linewidth=1.2)
            axis.plot([bar.p99_ms] * 2, [place - 0.17, place + 0.17], color=FAINT, linewidth=1.2)
        _label(axis, place, bar, report["predict_p50_ms"])
    # Few bars keep their thickness instead of filling the slide.
    axis.set_ylim(max(len(bars), LEAST_SLOTS) - 0.4, -0.6)
    _scale(axis, low, max(max(bar.p50_ms, bar.p99_ms or 0.0) for bar in bars) * 1.3)
    rows = rows_of(next(iter(report["candidates"])))
    what = "one prediction" if rows == 1 else f"a batch of {rows}"
    axis.set_xlabel(f"milliseconds for {what}, log scale (bar: median, whisker: 99th percentile)", color=FAINT)
    for text, bar in zip(axis.get_yticklabels(), bars, strict=True):
        text.set(fontweight="bold" if bar.is_bold else "normal", color=bar.colour if bar.is_bold else INK)


def _scale(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    _plain(axis, grid="x")


def _label(axis: Any, place: int, bar: Bar, predict_ms: float | None) -> None:
    """Write a bar's numbers in two columns to its right, where no whisker can strike them through."""
    style = {"xycoords": axis.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 12}
    style |= {"weight": "bold" if bar.is_bold else "normal", "color": bar.colour if bar.is_bold else INK}
    axis.annotate(f"{milliseconds(bar.p50_ms)} ms", (1.13, place), annotation_clip=False, **style)
    if predict_ms and bar.name != "model.predict":
        axis.annotate(f"{times(predict_ms / bar.p50_ms)}\u00d7", (1.265, place), annotation_clip=False, **style)


def _draw_throughput(axis: Any, throughput: Mapping[int, float]) -> None:
    sizes = [str(size) for size in throughput]
    values = list(throughput.values())
    axis.bar(sizes, values, color=CHOSEN, width=0.66)
    for place, value in enumerate(values):
        axis.annotate(_short(value), (place, value), (0, 4), textcoords="offset points", ha="center", color=INK)
    axis.set_ylim(0, max(values) * 1.1)
    axis.set_xlabel("batch size", color=FAINT)
    axis.set_title("rows a second, chosen way", color=INK, fontsize=12, loc="left")
    axis.yaxis.set_visible(False)
    _plain(axis)


def _short(value: float) -> str:
    return f"{value / 1e6:.2g}M" if value >= 1e6 else f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.3g}"


def _title(figure: Any, args: ModelArgs, report: Mapping[str, Any], bars: list[Bar]) -> None:
    best = next(bar for bar in bars if bar.is_bold) if any(bar.is_bold for bar in bars) else bars[0]
    headline = f"{args.name}: {milliseconds(best.p50_ms)} ms a prediction"
    if report["predict_p50_ms"]:
        headline += f", {times(report['predict_p50_ms'] / best.p50_ms)}\u00d7 faster than model.predict"
    figure.text(0.03, 0.925, headline, fontsize=21, weight="bold", color=INK)
    tried = f"{report['device']} \u00b7 {report['precision']} \u00b7 chosen by measurement, every answer verified"
    figure.text(0.03, 0.873, tried, fontsize=13, color=FAINT)


def _footnote(figure: Any, report: Mapping[str, Any]) -> None:
    """Say below which ways have no bar, and why."""
    first = f"batch {next(iter(report['candidates']))}: "
    texts = [reason.removeprefix(first) for reason in reasons(report) if reason.startswith(first)]
    if texts:
        text = textwrap.shorten("Without a bar: " + "; ".join(texts), 2 * FOOTNOTE_WIDTH, placeholder=" \u2026")
        figure.text(0.03, 0.02, textwrap.fill(text, FOOTNOTE_WIDTH), fontsize=9.5, color=FAINT)


def _plain(axis: Any, grid: str | None = None) -> None:
    axis.set_axisbelow(True)
    if grid:
        axis.grid(axis=grid, color="#e6eaee", linewidth=0.8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#c9d1d8")
    axis.tick_params(which="both", length=0, labelsize=12, colors=INK)
