"""Command lines, printed results, and `bench/results/faults.json`; `python -m tests.faults.report` prints its table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results" / "faults.json"

Case = Callable[[int | None], dict[str, Any]]
"""Takes the number of requests, None for its own, and returns what came of it."""


def main(fault: str, cases: Mapping[str, Case]) -> None:
    """Run the cases of one fault, all or the one named by `--case`; print each and keep it in `RESULTS`.

    Ends with an error where a case could not be carried through: that is no figure.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.faults.{fault}")
    parser.add_argument("--requests", type=int, help="how many at least; a tenth of them are too few for a figure")
    parser.add_argument("--case", choices=list(cases), help="all, if not given")
    args = parser.parse_args()
    failed = False
    for name, case in cases.items():
        if args.case in (None, name):
            result = case(args.requests)
            keep(f"{fault}: {name}", result)
            failed = failed or "error" in result
    sys.exit(failed)


def keep(name: str, result: Mapping[str, Any]) -> None:
    """Print a result and write it over the one of the same name."""
    line = {"when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **result}
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
            also = {key: value for key, value in result.items() if key not in {*columns, "when", "why"} and value}
            lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(f'{k} {v}' for k, v in also.items())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
