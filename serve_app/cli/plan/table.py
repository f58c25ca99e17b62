"""A plan's report as a table for people, and the config stanza that it recommends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.cli.plan.stanza import stanza
from serve_app.config.args import ModelArgs


@dataclass(frozen=True)
class Line:
    """One candidate at one batch size, as text."""

    cells: tuple[str, ...]
    is_chosen: bool
    is_ok: bool


HEADS = ("batch", "way", "p50 ms", "p99 ms", "rows/s", "x predict", "max error", "status")
NUMERIC = frozenset(range(2, 7))


def show(args: ModelArgs, report: Mapping[str, Any]) -> None:
    """Print the table, a summary, and the recommended stanza; coloured on a terminal."""
    print(f"{args.source} on {report['device']}, {report['precision']}")
    if sys.stdout.isatty():
        _rich_table(list(lines(report)))
    else:
        _plain_table(list(lines(report)))
    for text in (*reasons(report), *summary(report)):
        print(text)
    print(f"\nRecommended, under `applications:` of a serve config:\n\n{stanza(args, report)}")


def lines(report: Mapping[str, Any]) -> Iterator[Line]:
    """Yield every candidate of every batch size, in the report's order: fastest first."""
    predict_ms = report["predict_p50_ms"]
    for index, (key, rows) in enumerate(report["candidates"].items()):
        for row in rows:
            # model.predict was measured with as many rows as the first batch size, so only there is it comparable.
            factor = predict_ms / row["p50_ms"] if index == 0 and predict_ms and row["p50_ms"] else None
            is_chosen = report["chosen"].get(key) == row["name"]
            mark = "* " if is_chosen else "  "
            cells = (
                key,
                mark + row["name"],
                milliseconds(row["p50_ms"]),
                milliseconds(row["p99_ms"]),
                f"{rows_of(key) / row['p50_ms'] * 1e3:,.0f}" if row["p50_ms"] else "",
                times(factor) if factor else "",
                "" if row["max_abs_error"] is None else f"{row['max_abs_error']:.1e}",
                row["status"].partition(":")[0],
            )
            yield Line(cells, is_chosen, row["status"] == "ok")


def reasons(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield why candidates were not timed, those of one batch size and reason together."""
    for key, rows in report["candidates"].items():
        by_reason: dict[str, list[str]] = {}
        for row in rows:
            if row["status"] != "ok":
                by_reason.setdefault(row["status"], []).append(row["name"])
        for reason, names in by_reason.items():
            yield f"batch {key}: {', '.join(names)}: {reason}"


def rows_of(key: str) -> int:
    """Return the batch size of one of the report's keys: `8`, or `8x128` with a length."""
    return int(key.partition("x")[0])


def milliseconds(value: float | None) -> str:
    """Return a time with three digits that count."""
    if value is None:
        return ""
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def times(factor: float) -> str:
    """Return a factor with one decimal below ten."""
    return f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the findings in words."""
    key, name = next(iter(report["chosen"].items()))
    row = next(row for row in report["candidates"][key] if row["name"] == name)
    if row["p50_ms"] is not None:
        versus = report["factor_over_predict"]
        factor = f", {times(versus)} x faster than model.predict ({report['predict_p50_ms']:.3g} ms)" if versus else ""
        yield f"* chosen: {name} takes {milliseconds(row['p50_ms'])} ms for a batch of {key}{factor}"
    yield from _devices(report)
    if report["from_cache"]:
        yield "times are from the plan cache: measured at an earlier start on this machine"
    if any("budget" in row["status"] for rows in report["candidates"].values() for row in rows):
        yield "the budget ended before everything was tried: --budget gives it more seconds"


def _devices(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield which device answers each batch size and by how much, where there were two to choose from."""
    for key, fastest in report["fastest_ms"].items():
        if len(fastest) > 1:
            cpu_ms, gpu_ms = fastest["cpu"], fastest["gpu"]
            factor = times(max(cpu_ms, gpu_ms) / min(cpu_ms, gpu_ms))
            both = f"CPU {milliseconds(cpu_ms)} ms, GPU {milliseconds(gpu_ms)} ms"
            yield f"batch {key}: the {report['devices'][key].upper()} answers, {factor} x faster ({both})"
    if report["advice"]:
        yield report["advice"]


def _plain_table(table: list[Line]) -> None:
    rows = [HEADS, *(line.cells for line in table)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    for row in rows:
        cells = [c.rjust(w) if i in NUMERIC else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def _rich_table(table: list[Line]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(HEADS):
        shown.add_column(head, justify="right" if index in NUMERIC else "left", no_wrap=True)
    for line in table:
        shown.add_row(*line.cells, style="bold green" if line.is_chosen else None if line.is_ok else "dim")
    Console(highlight=False, markup=False).print(shown)
