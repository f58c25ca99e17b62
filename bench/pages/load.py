"""Figures of many clients: coalescing, overload, and a long run."""

from __future__ import annotations

import statistics
from typing import Any

from bench.pages.results import Results, cores, measured, number, table, wrapped

MODELS = {"wide_mlp": "bench.models:wide_mlp", "wider_mlp": "bench.models:wider_mlp"}


def coalescing(results: Results) -> str:
    """The targets of `bench.coalescing`; bold is missed."""
    told = results("coalescing")
    of = {name: told[address] for name, address in MODELS.items()}
    loops = [statistics.median(s for o in each["overloads"] for s in o["closed_loops_per_s"]) for each in of.values()]
    batches = " and ".join(
        f"{each['about']['p50_ms']['1']:.1f} ms for one row and {each['about']['batch_32_over_1']:.1f} times as much "
        f"for 32 (`{name}`)"
        for name, each in of.items()
    )
    rows = [("closed loop of 64, requests/s", "", *(f"{value:,.0f}" for value in loops))]
    for place, target in enumerate(next(iter(of.values()))["targets"]):
        if place:  # the first is about the models: the sentence has it
            cells = [each["targets"][place] for each in of.values()]
            shown = (number(cell["measured"]) if cell["met"] else f"**{number(cell['measured'])}**" for cell in cells)
            rows.append((target["what"].partition(" (")[0], _wanted(target["target"]), *shown))
    machine = next(iter(of.values()))["machine"]
    return f"{wrapped(f'A run takes {batches}. {measured(machine)}')}\n\n{table(('row', 'target', *MODELS), rows)}"


def _wanted(target: str) -> str:
    sign, bound = target.split()
    return f"{ {'<=': 'at most', '>=': 'at least', '<': 'under'}[sign] } {bound}"


def overload(results: Results) -> str:
    """Five times what the server can answer, for a minute."""
    told = results("faults")
    rows = []
    for case in ("device", "http"):
        of = told[f"overload: {case}"]
        rows.append(
            (
                f"`{case}`",
                f"{of['capacity_per_s']:,.0f}/s",
                f"{of['offered_per_s']:,.0f}/s, of which {of['in_time_per_s']:,.0f} in time",
                f"{of['answered_ms']['p99']:.0f} ms",
                f"{of['refused_ms']['p99']:.0f} ms",
                f"{of['rss_growth']:.3f}",
                f"{of['recovered_s']:.1f} s",
                f"{of['lost']}",
            )
        )
    head = ("case", "capacity", "offered", "answered p99", "refused p99", "memory, last fifth over second",
            "full speed after", "lost")  # fmt: skip
    return f"{measured(told['overload: device']['machine'])}\n\n{table(head, rows)}"


def soak(results: Results) -> str:
    """What grew over a long run."""
    told: dict[str, Any] = results("soak")
    third = [point for point in told["points"] if point["requests"] > told["requests"] * 2 / 3]
    growth = {name: _slope([(p["requests"], p["rss_mb"][name]) for p in third]) for name in told["rss_slopes"]}
    first, last = told["points"][0]["rss_mb"], told["points"][-1]["rss_mb"]
    whole = ", ".join(f"{name} {first[name]:.0f} to {last[name]:.0f}" for name in ("mlp", "digits", "mobilenet"))
    grown = ", ".join(f"{slope:.1f} ({name})" for name, slope in growth.items())
    slopes = told["p50_slopes"].items()
    slower = [name for name, slope in slopes if slope["climbs"]]
    failed = "none failed" if not told["failed"] else f"{sum(told['failed'].values())} failed"
    return wrapped(
        f"{told['requests']:,} requests in {told['seconds']:.0f} s of {told['clients']} clients on "
        f"{cores(told['machine'])}, commit `{told['machine']['commit'].rstrip('+')}`: {failed}. Resident MB of the "
        f"replicas from the first point to the last: {whole}; over the last third, MB per 100,000 requests: {grown}. "
        + (f"Latencies that climb after the first fifth: {', '.join(slower)}." if slower else "No latency climbs.")
    )


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the growth per 100,000 requests."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope * 1e5
