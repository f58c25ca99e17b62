"""`make hostile`: start a server, attack it with every kind of input, print what became of it, and write it down."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from bench import machine
from tests.hostile.attack import Attack, attack
from tests.hostile.cases import Tally
from tests.hostile.kinds import KINDS, Kind
from tests.hostile.numbers import check_numbers
from tests.hostile.watch import Watched
from tests.support.processes import QUICK, Server, model_application, ports_of, solo_serve, write_config

GROWTH_MB = 150.0
"""More resident memory than this, all processes together, after 100,000 cases is a leak of over a kilobyte each."""
WARM_CASES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    kinds = [kind for kind in KINDS if any(part in kind.name for part in options.only)]
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder), options.attach) as server:
        report = asyncio.run(_attack(server, kinds, options))
        report["tracebacks_in_log"] = server.log.read_text(errors="replace").count("Traceback (most recent call last)")
        if options.log:
            options.log.write_bytes(server.log.read_bytes())
    _print(report)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 1 if _failures(report) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--log", type=Path, help="keep the server's log in this file")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each kind's cases to send")
    parser.add_argument("--attach", type=int, help="attack the `solo serve` with this process id, started before")
    parser.add_argument("--resume", action="store_true", help="go on where the report in --out ends; another --seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; --resume goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], help="only kinds whose names hold one of these")
    return parser


def _served(folder: Path, attached: int | None) -> Any:
    if attached is not None:
        command = psutil.Process(attached).cmdline()
        config = Path(command[command.index("serve") + 1])
        ports = ports_of(config)
        running: Any = SimpleNamespace(pid=attached)
        return nullcontext(Server(running, f"http://127.0.0.1:{ports[0]}", *ports, config.with_name("solo.log")))
    labels = [str(digit) for digit in range(10)]
    names = ("simple", "simple_string", "half_plus_two")
    config = write_config(
        folder,
        model_application("digits", "models/digits.keras", labels=labels, **QUICK),
        *(model_application(name, f"tests.support.models:{name}", **QUICK) for name in names),
    )
    return solo_serve(config, folder / "solo.log")


async def _attack(server: Server, kinds: Sequence[Kind], options: argparse.Namespace) -> dict[str, Any]:
    watched, started_s = Watched.of(server), time.monotonic()
    report = _begun(options)
    done = {row["kind"]: row["cases"] for row in report["kinds"]}
    async with attack(server.port, server.grpc_port, watched) as attacked:
        if not done:
            # Every kind once, small: what is allocated once and kept is not a leak.
            warm = [await _run(attacked, kind, min(WARM_CASES, kind.cases), options.seed - 1) for kind in kinds]
            found = [finding for tally in warm for finding in tally.findings]
            report["warm_up"] = {"cases": sum(tally.cases for tally in warm), "findings": found}
            report["rss_mb"]["before"] = watched.rss_mb()
        attacked.ends_s = started_s + options.seconds
        for kind in kinds:
            count = max(1, round(kind.cases * options.scale)) - done.get(kind.name, 0)
            if count > 0:
                _add(report["kinds"], await _run(attacked, kind, count, options.seed))
        _add(report["kinds"], await check_numbers(server.port, attacked.caller))
    report["cases"] = sum(row["cases"] for row in report["kinds"])
    report["seconds"] = round(report["seconds"] + time.monotonic() - started_s, 1)
    report["rss_mb"]["after"] = watched.rss_mb()
    report["processes_gone"] += watched.gone()
    return report


def _begun(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of an earlier part of this run, or an empty one."""
    if options.resume and options.out.exists():
        begun: dict[str, Any] = json.loads(options.out.read_text())
        return begun
    told = {**machine.moment(), "python": platform.python_version(), "scale": options.scale}
    return {"machine": told, "seconds": 0.0, "rss_mb": {}, "processes_gone": [], "kinds": []}


def _add(rows: list[dict[str, Any]], tally: Tally) -> None:
    """Add a tally to the row of its kind."""
    new = tally.row()
    old = next((row for row in rows if row["kind"] == tally.kind), None)
    if old is None:
        rows.append(new)
        return
    statuses = Counter(old["statuses"]) + Counter(new["statuses"])
    old.update(
        cases=old["cases"] + new["cases"],
        statuses=dict(sorted(statuses.items())),
        slowest_ms=max(old["slowest_ms"], new["slowest_ms"]),
        seconds=round(old["seconds"] + new["seconds"], 1),
        findings=old["findings"] + new["findings"],
    )


async def _run(attacked: Attack, kind: Kind, count: int, seed: int) -> Tally:
    tally = await attacked.run(kind.name, kind.some(count, seed))
    memory = " ".join(f"{role} {rss:.0f}" for role, rss in attacked.watched.rss_mb().items())
    print(
        f"{kind.name}: {tally.cases} in {tally.seconds:.1f} s, {len(tally.findings)} findings, MB: {memory}",
        file=sys.stderr,
    )
    return tally


def _failures(report: dict[str, Any]) -> list[str]:
    failures = [*report["warm_up"]["findings"], *(found for row in report["kinds"] for found in row["findings"])]
    failures += [f"{process} is gone" for process in report["processes_gone"]]
    grown_mb = sum(report["rss_mb"]["after"].values()) - sum(report["rss_mb"]["before"].values())
    if grown_mb > GROWTH_MB:
        failures.append(f"memory grew by {grown_mb:.0f} MB")
    if report["tracebacks_in_log"]:
        failures.append(f"{report['tracebacks_in_log']} stack traces in the log")
    return failures


def _print(report: dict[str, Any]) -> None:
    print(f"\n{'kind':50} {'cases':>7} {'slowest':>10}  statuses; findings")
    for row in report["kinds"]:
        statuses = " ".join(f"{status} {count}" for status, count in row["statuses"].items())
        print(f"{row['kind']:50} {row['cases']:7} {row['slowest_ms']:7.0f} ms  {statuses}; {len(row['findings'])}")
    memory = report["rss_mb"]
    print(f"{report['cases']} cases in {report['seconds']} s after {report['warm_up']['cases']} to warm up")
    print(f"resident MB before {memory['before']}, after {memory['after']}")
    for failure in _failures(report):
        print(f"FOUND: {failure}")


if __name__ == "__main__":
    sys.exit(main())
