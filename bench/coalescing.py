"""Coalescing, compared on the real server: off, continuous and several windows of `@serve.batch`, in one run.

    python bench/coalescing.py                 # closed loops in turns, then overload: about 11 minutes a model
    python bench/coalescing.py --in-process    # the coalescer alone, without HTTP: about a minute

One replica takes every setting in turn, as `serve deploy` would change it, so that neither the process nor whatever
else the machine does favours one of them; `@serve.batch`'s defaults have a smaller largest batch, which needs a replica
of its own. Each overload stands between two closed loops of its own, since a shared machine is not the same ten minutes
later. The ratios are medians over the rounds. Writes `coalescing.json` and `coalescing.png`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import coalescing_in_process, coalescing_plot, earlier, http_load, machine, served, stopping
from bench.http_load import Load
from serve_app.load import payload
from serve_app.load.request import Request
from tests.support.client_cluster import as_driver

MODELS = ("bench.models:wide_mlp", "bench.models:wider_mlp")
"""One that HTTP holds back at many clients, and one that the device holds back."""

CLIENTS = (1, 16, 64)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "off": {"coalesce": "off"},
    "continuous": {"coalesce": "continuous"},
    "window-default": {"coalesce": "window", "max_batch_size": 10, "batch_wait_timeout_s": 0.01},
    "window-2ms": {"coalesce": "window", "batch_wait_timeout_s": 0.002},
    "window-10ms": {"coalesce": "window", "batch_wait_timeout_s": 0.01},
    "window-30ms": {"coalesce": "window", "batch_wait_timeout_s": 0.03},
}
"""`window-default` has `@serve.batch`'s own defaults; the others let it use every batch size of the plan."""
OWN = "window-default"
"""The setting with a replica of its own."""
SWITCHED = "model"
"""The model that takes all other settings in turn."""

IN_TIME_S = 1.0
WARM_UP_S = 1.0

Rounds = dict[str, dict[int, list[Load]]]


def main() -> None:
    """Measure, judge, write."""
    stopping.on_sigterm()
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.in_process:
        result = coalescing_in_process.measure(args.seconds)
        _write(args.out / "coalescing_in_process.json", result)
        return
    path = args.out / "coalescing.json"
    results = earlier.results(path)
    for model in args.models:
        # A process each: Serve's client and routers remember the first cluster that they have met.
        with multiprocessing.get_context("spawn").Pool(1) as process:
            results[model] = process.apply(_measured, (model, args))
        _write(path, results)
        coalescing_plot.draw(results, args.out / "coalescing.png")
    for model in args.models:
        _print_targets(model, results[model]["targets"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-process", action="store_true", help="only the coalescer, without a server")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODULE:FUNCTION")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each closed loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload-seconds", type=float, default=30.0)
    parser.add_argument("--port", type=int, default=8210)
    parser.add_argument("--plan-budget-s", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def _measured(model: str, args: argparse.Namespace) -> dict[str, Any]:
    stopping.on_sigterm()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _measure(model, args, Path(folder))


def _measure(model: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    common = {"plan_cache": str(folder / "plans"), "plan_budget_s": args.plan_budget_s}
    # One replica first and alone, so that its plan is measured in peace; the others take it from the cache.
    with served.serve(folder, [served.application(SWITCHED, model, common)], args.port) as server:
        plan = server.get(f"/v2/models/{SWITCHED}/plan")
    applications = [served.application(SWITCHED, model, common)]
    if OWN in args.settings:
        applications.append(served.application(OWN, model, {**common, **SETTINGS[OWN]}))
    with served.serve(folder, applications, args.port) as server, as_driver(server):
        rounds = _closed_loops(server, args)
        overloads = [_overload(server, args, folder) for _ in range(args.rounds)]
    result = {
        "machine": machine.describe(),
        "about": _about(model, plan),
        "closed_loops": {
            name: {clients: [dataclasses.asdict(loop) for loop in loops] for clients, loops in by_clients.items()}
            for name, by_clients in rounds.items()
        },
        "overloads": overloads,
    }
    return {**result, "targets": _targets(rounds, overloads, result["about"])}


def _closed_loops(server: served.Served, args: argparse.Namespace) -> Rounds:
    rounds: Rounds = {name: {clients: [] for clients in CLIENTS} for name in args.settings}
    for _ in range(args.rounds):
        for clients in CLIENTS:
            for name in args.settings:
                loop = _closed_loop(server, _set(name), clients, args.seconds)
                rounds[name][clients].append(loop)
                print(f"{name:15} {clients:3} clients: {loop.per_s:7.0f}/s, p50 {loop.p50_ms:8.2f} ms", flush=True)
    return rounds


def _closed_loop(server: served.Served, model: str, clients: int, seconds: float) -> Load:
    request = _request(server, model)
    http_load.run(request, clients, WARM_UP_S)
    return http_load.run(request, clients, seconds)


def _set(name: str) -> str:
    """Give the switched model a setting; return the model that has it."""
    if name == OWN:
        return OWN
    # Imported here: what imports Ray must not do so before `as_driver`.
    from serve_app.cluster.handles import open_handle

    open_handle("KerasReplica", SWITCHED).reconfigure.remote(SETTINGS[name]).result(timeout_s=60)
    return SWITCHED


def _request(server: served.Served, model: str, **headers: str) -> Request:
    return payload.of_model(f"http://127.0.0.1:{server.port}/v2/models/{model}", form="binary", headers=headers)


def _overload(server: served.Served, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Offer `continuous` three times what it can do, between two closed loops that say what that is."""
    model = _set("continuous")
    before = _closed_loop(server, model, CLIENTS[-1], args.seconds)
    told = _fixed_rate(server, model, 3 * before.per_s, args.overload_seconds, folder)
    after = _closed_loop(server, model, CLIENTS[-1], args.seconds)
    closed_loops_per_s = [before.per_s, after.per_s]
    overload = {"seconds": args.overload_seconds, "closed_loops_per_s": closed_loops_per_s, **told}
    told_ms = f"answered {told['answered_ms']} ms, refused {told['refused_ms']} ms"
    print(f"overload: {told['in_time_per_s']:.0f}/s in time of {closed_loops_per_s}; {told_ms}", flush=True)
    return overload


def _fixed_rate(server: served.Served, model: str, rate_per_s: float, seconds: float, folder: Path) -> dict[str, Any]:
    """Offer `rate_per_s`, follow the replica's memory meanwhile."""
    message = folder / "message"
    message.write_bytes(_request(server, model, **{"x-request-timeout-seconds": str(IN_TIME_S)}).wire())
    replica = server.replica(model)
    command = [
        *(sys.executable, str(Path(__file__).parent / "fixed_rate.py"), "--port", str(server.port)),
        *("--message", str(message)),
        *("--rate", str(rate_per_s), "--seconds", str(seconds), "--in-time-s", str(IN_TIME_S)),
    ]
    haproxy_s = server.cpu_s("haproxy")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rss_mb = []
    while process.poll() is None:
        rss_mb.append(round(replica.memory_info().rss / 2**20, 1))
        time.sleep(1)
    assert process.stdout is not None
    # The generator and HAProxy's refusals take cores from the model; with two cores that is a part of the result.
    haproxy_cores = round((server.cpu_s("haproxy") - haproxy_s) / seconds, 3)
    told = json.loads(process.stdout.read())
    return {"in_time_s": IN_TIME_S, "rss_mb": rss_mb, "haproxy_cores": haproxy_cores, **told}


def _about(model: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    p50_ms = {
        size: next(row["p50_ms"] for row in plan["candidates"][size] if row["name"] == name)
        for size, name in plan["chosen"].items()
    }
    return {
        "model": model,
        "cores": os.cpu_count(),
        "settings": {name: dict(given) for name, given in SETTINGS.items()},
        "chosen": plan["chosen"],
        "p50_ms": p50_ms,
        "batch_32_over_1": round(p50_ms["32"] / p50_ms["1"], 3),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _targets(rounds: Rounds, overloads: list[dict[str, Any]], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare each ratio with its target."""
    windows = [name for name in rounds if name.startswith("window")]
    best = max(windows, key=lambda name: _median(rounds[name][64], "per_s"))
    in_time = [each["in_time_per_s"] / statistics.mean(each["closed_loops_per_s"]) for each in overloads]
    refused_ms = [each["refused_ms"].get("p99", float("inf")) for each in overloads]
    first_mb, last_mb = overloads[0]["rss_mb"], overloads[-1]["rss_mb"]
    growth = statistics.median(last_mb[-5:]) / statistics.median(first_mb[len(first_mb) // 3 : 2 * len(first_mb) // 3])
    rows = [
        ("batch of 32 over batch of 1, by the plan", about["batch_32_over_1"], "<", 4),
        ("1 client p50: continuous over off", _ratio(rounds, "continuous", "off", 1, "p50_ms"), "<=", 1.03),
        (
            "1 client p50: continuous over window with Serve's defaults",
            _ratio(rounds, "continuous", "window-default", 1, "p50_ms"),
            "<=",
            0.2,
        ),
        ("64 clients: continuous over off", _ratio(rounds, "continuous", "off", 64, "per_s"), ">=", 3),
        (
            f"64 clients: continuous over the best window ({best})",
            _ratio(rounds, "continuous", best, 64, "per_s"),
            ">=",
            1.3,
        ),
        ("3 x overload: rows in time over the closed-loop maximum", statistics.median(in_time), ">=", 0.9),
        ("3 x overload: refusals' p99 in ms", statistics.median(refused_ms), "<", 50),
        ("3 x overload: memory, the last one's end over the first one's middle", growth, "<=", 1.02),
    ]
    return [
        {"what": what, "measured": round(value, 3), "target": f"{sign} {bound}", "met": _holds(value, sign, bound)}
        for what, value, sign, bound in rows
    ]


def _holds(value: float, sign: str, bound: float) -> bool:
    return {"<": value < bound, "<=": value <= bound, ">=": value >= bound}[sign]


def _ratio(rounds: Rounds, name: str, other: str, clients: int, field: str) -> float:
    pairs = zip(rounds[name][clients], rounds[other][clients], strict=True)
    return statistics.median(getattr(mine, field) / getattr(theirs, field) for mine, theirs in pairs)


def _median(loops: list[Load], field: str) -> float:
    return statistics.median(getattr(loop, field) for loop in loops)


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")


def _print_targets(model: str, targets: list[dict[str, Any]]) -> None:
    print(model)
    for row in targets:
        print(f"{'ok  ' if row['met'] else 'MISS'} {row['what']}: {row['measured']} (target {row['target']})")


if __name__ == "__main__":
    main()
