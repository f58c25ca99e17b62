"""Command lines, printed results, and `bench/results/faults.json`; `python -m tests.faults.report` prints its table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from tests.faults.clients import ALL, PLAIN

WAYS = {"all": ALL, "plain": PLAIN}
RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results" / "faults.json"

ELSEWHERE = ("machine", "why", "by_client", "not_answered")


@dataclass(frozen=True)
class Arguments:
    """What the command line says; None leaves it to the case."""

    requests: int | None = None
    """At least so many."""
    kills: int | None = None
    """At least so many, where one case may kill again and again."""
    ways: tuple[str, ...] = ALL
    """Kinds of clients, by their names in `tests.faults.clients.KINDS`."""


Case = Callable[[Arguments], dict[str, Any]]
"""Returns what came of it."""


def main(fault: str, cases: Mapping[str, Case]) -> None:
    """Run the cases of one fault, all or the one named by `--case`; print each and keep it in `RESULTS`.

    Ends with an error where a case could not be carried through: that is no figure.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.faults.{fault}")
    parser.add_argument("--requests", type=int, help="how many at least; a tenth of them are too few for a figure")
    parser.add_argument("--kills", type=int, help="how many at least")
    parser.add_argument("--clients", default="all", help="all, plain, or names of kinds with commas")
    parser.add_argument("--case", choices=list(cases), help="all, if not given")
    args = parser.parse_args()
    ways = WAYS.get(args.clients) or tuple(args.clients.split(","))
    failed = False
    for name, case in cases.items():
        if args.case in (None, name):
            result = case(Arguments(args.requests, args.kills, ways))
            keep(f"{fault}: {name}", result)
            failed = failed or "error" in result
    sys.exit(failed)


def keep(name: str, result: Mapping[str, Any]) -> None:
    """Print a result and write it over the one of the same name."""
    line = {"machine": machine.moment(), **result}
    print(f"{name}: {json.dumps(line)}", flush=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**known, name: line}, indent=1, sort_keys=True) + "\n")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the results of all faults as Markdown; overload has figures of another kind."""
    columns = ("sent", "answered", "refused", "lost", "longest_stall_s", "longest_wait_s")
    lines = ["| fault: case | sent | answered | refused | lost | stall, s | longest wait, s | also |", "|" + "---|" * 8]
    for name, result in sorted(results.items()):
        if all(column in result for column in columns):
            cells = [f"{result[column]:,}" for column in columns]
            also = {key: value for key, value in result.items() if key not in {*columns, *ELSEWHERE} and value}
            lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(f'{k} {v}' for k, v in also.items())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
