"""`make bench`: every server side by side, in rounds, so that the machine's moods meet all alike.

    python -m bench                      # everything
    python -m bench mlp                  # one model
    python -m bench mlp --rounds 1 --only keras-solo --only LitServe

Each round starts each server alone, drives it with closed loops, and ends it. Figures are medians over the rounds;
ratios are of medians within one run. Writes `bench/results/side_by_side.json`, a Markdown table and a plot.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import contenders, http_load, machine, side_by_side_plot
from bench.contenders import CONTENDERS, READ, Contender

RESULTS = contenders.ROOT / "bench" / "results"
CLIENTS = (1, 16, 64)
FORMS = {"mlp": ("json",), "digits": ("json", "binary", "png"), "mobilenet": ("binary", "json")}
OURS = "keras-solo"
Key = tuple[str, str, int, str]
"""Model, form, clients, contender."""


def main(
    models: Annotated[list[str] | None, typer.Argument(help="mlp, digits, mobilenet; all by default.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each server is started and measured.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of one closed loop.")] = 5.0,
    only: Annotated[list[str] | None, typer.Option(help="Contenders by name; all by default.")] = None,
) -> None:
    """Measure and write the results."""
    chosen = [c for c in (*CONTENDERS, READ) if not only or c.name in only]
    for contender in chosen:
        if not contenders.is_installed(contender):
            typer.echo(f"installing {contender.name} into .bench/{contender.environment}")
            contenders.install(contender)
    samples: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    failures: dict[str, str] = {}
    for number in range(rounds):
        for model in models or list(FORMS):
            for contender in chosen:
                typer.echo(f"round {number + 1}/{rounds}, {model}: {contender.name}")
                try:
                    measure(contender, model, seconds, samples)
                except (RuntimeError, OSError) as error:
                    failures[f"{model}: {contender.name}"] = str(error)[-600:]
                    typer.echo(f"  failed: {str(error)[:200]}")
    write(samples, failures, rounds)


def measure(contender: Contender, model: str, seconds: float, samples: dict[Key, list[dict[str, Any]]]) -> None:
    """Start one server, drive it with every load it takes, and add what came of it to `samples`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contenders.running(contender, model, Path(folder) / "log") as url,
    ):
        for form in FORMS[model]:
            if (form == "binary" and not contender.takes_binary) or (form == "png" and contender.module):
                continue
            wanted = contenders.request(contender, model, form, url)
            http_load.run(wanted, 1, 1)
            for clients in CLIENTS:
                load = http_load.run(wanted, clients, seconds)
                samples[model, form, clients, contender.name].append(asdict(load))
                typer.echo(f"  {form}, {clients} clients: p50 {load.p50_ms:.3f} ms, {load.per_s:,.0f}/s")


def write(samples: dict[Key, list[dict[str, Any]]], failures: dict[str, str], rounds: int) -> None:
    """Write medians over the rounds as JSON, Markdown and a plot."""
    rows = [
        {"model": model, "form": form, "clients": clients, "server": name, **_medians(loads)}
        for (model, form, clients, name), loads in samples.items()
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine.describe(), "rounds": rounds, "rows": rows, "failures": failures}
    (RESULTS / "side_by_side.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "side_by_side.md").write_text(table(rows))
    side_by_side_plot.plot(rows, RESULTS / "side_by_side.png")
    typer.echo(table(rows))


def _medians(loads: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = {key: statistics.median(load[key] for load in loads) for key in ("p50_ms", "p99_ms", "per_s")}
    return {**numbers, "errors": sum(load["errors"] for load in loads), "rounds": len(loads)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, with each server's latency over ours and ours over its throughput."""
    ours = {(r["model"], r["form"], r["clients"]): r for r in rows if r["server"] == OURS}
    lines = ["| model | form | clients | server | p50 ms | p99 ms | requests/s | p50 over ours |", "|" + "---|" * 8]
    for row in sorted(rows, key=lambda r: (r["model"], r["form"], r["clients"], r["p50_ms"])):
        own = ours.get((row["model"], row["form"], row["clients"]))
        ratio = f"{row['p50_ms'] / own['p50_ms']:.2f}" if own else ""
        lines.append(
            f"| {row['model']} | {row['form']} | {row['clients']} | {row['server']} | {row['p50_ms']:.3f} | "
            f"{row['p99_ms']:.2f} | {row['per_s']:,.0f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
