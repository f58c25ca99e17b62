"""`make bench`: every server side by side, in rounds, so that the machine's moods meet all alike.

    python -m bench                      # everything: mlp, digits, pixels, mobilenet
    python -m bench mlp                  # one row
    python -m bench mlp --rounds 1 --seconds 1 --only keras-solo --only LitServe

Each server is started once for its row, holds its first answers against `model(x)`, and is asleep (SIGSTOP) while
others are measured. Figures are medians over the rounds; ratios are of medians within one run. Writes
`bench/results/side_by_side.json`, a Markdown table and a plot; rows that were not run keep their earlier figures.
`python -m bench.pages` takes the targets and the README's sentence from it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import contenders, earlier, machine, report, side_by_side_plot, stopping, targets
from bench.contenders import ROOT
from bench.roster import Roster
from bench.rows import ROWS, Row
from bench.turns import Turns

RESULTS = ROOT / "bench" / "results"
STARTED_S = time.monotonic()


def main(
    rows: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(ROWS)}; all by default.")] = None,
    rounds: Annotated[int, typer.Option(help="How many turns each server gets.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of one closed loop.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Contenders by name; all by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
) -> None:
    """Measure and write the results."""
    stopping.on_sigterm()
    chosen = [ROWS[name] for name in rows or ROWS]
    _install(chosen, only)
    for number, row in enumerate(chosen):
        say(f"row {number + 1}/{len(chosen)}, {row.model}: {row.about}")
        try:
            write(out, row.model, measure(row, rounds, seconds, only))
        except Exception as error:  # the other rows go on
            say(f"row {row.model} failed: {type(error).__name__}: {error}")
    say(f"wrote {out}/side_by_side.json, .md and .png")


def measure(row: Row, rounds: int, seconds: float, only: list[str] | None) -> dict[str, Any]:
    """Return one row's lines, what failed and what was skipped."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        roster = Roster(row.model, Path(folder), say)
        turns = Turns(row, roster, seconds, say)
        try:
            turns.start(only)
            for number in range(rounds):
                say(f"{row.model}, round {number + 1}/{rounds}")
                turns.round(number)
        finally:
            roster.end()
    failures = {f"{row.model}: {name}": reason for name, reason in roster.failures.items()}
    lines = report.lines(row.model, turns.samples)
    return {"lines": lines, "failures": failures, "skipped": turns.skipped, "rounds": rounds, "seconds": seconds}


def write(out: Path, model: str, result: dict[str, Any]) -> None:
    """Write JSON, Markdown and plot, with earlier results of other rows."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "side_by_side.json"
    found = {**earlier.results(path).get("rows", {}), model: {"machine": machine.describe(), **result}}
    found = {name: found[name] for name in ROWS if name in found}
    lines = [line for each in found.values() for line in each["lines"]]
    goals = targets.evaluate(lines)
    path.write_text(json.dumps({"targets": goals, "rows": found}, indent=1) + "\n")
    text = report.markdown(lines, goals, found[model]["machine"], result["rounds"])
    (out / "side_by_side.md").write_text(text)
    side_by_side_plot.plot(lines, out / "side_by_side.png")
    for goal in goals:
        if goal["value"] is not None:
            say(f"{'met   ' if goal['met'] else 'MISSED'} {goal['what']}: {goal['value']:.3g} ({goal['wanted']:g})")


def say(text: str) -> None:
    """Print with the minutes since the start."""
    minutes, rest = divmod(int(time.monotonic() - STARTED_S), 60)
    print(f"[{minutes:2d}:{rest:02d}] {text}", flush=True)


def _install(rows: list[Row], only: list[str] | None) -> None:
    for contender in dict.fromkeys(each for row in rows for each in row.contenders(only)):
        if not contenders.is_installed(contender):
            say(f"installing {contender.name} into .bench/{contender.environment}")
            try:
                contenders.install(contender)
            except (subprocess.CalledProcessError, OSError) as error:
                say(f"{contender.name} cannot be installed here and will be missing: {error}")


if __name__ == "__main__":
    typer.run(main)
