"""What replicas add, what a node costs, and whether `solo size` foretells it.

    python -m bench.scaling                        # 1, 2 and 4 replicas, about five minutes
    python -m bench.scaling --replicas 1,2 --seconds 5

A model that sleeps (`bench.scaling_models:napping`) is served by 1, 2, 4 replicas behind HAProxy and met by requests
at random times, at shares of what `solo size` says the replicas carry, and by more clients than they carry. Every
point is forecast from one plan and the overheads below, before its load runs; the result has both and the error.

What a run takes more under load than in the plan comes from the first server's saturation, before the points. The
other overheads come from an MLP whose run takes microseconds: CPU time per request of the replica's process and of
HAProxy (so that the figure for one front door does not depend on the cores that clients take), and what a node costs
in memory and in CPU while idle. Writes `bench/results/scaling.json` and `.png`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from bench import http_load, machine, scaling_plot
from bench.served import ROOT, Served, application, serve
from deployments.coalescing.plan_times import PlanTimes
from serve_app.cli.size import answer
from serve_app.cli.size.answer import Overheads, Wanted
from serve_app.cli.size.simulation import forecast
from serve_app.front.ports import free_port
from serve_app.load import payload
from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.connection import run as run_loop
from serve_app.load.open_loop import OpenLoop
from serve_app.load.summary import Summary, summarise

RESULTS = ROOT / "bench" / "results"
SHARES = (0.3, 0.6, 0.85)
"""Of the replicas' capacity, as `solo size` calculates it."""
BATCH_SIZES = [1, 2, 4]
IDLE_S = 5.0
WITHIN = 0.2


def main(
    replicas: Annotated[str, typer.Option(help="Numbers of replicas, separated by commas.")] = "1,2,4",
    seconds: Annotated[float, typer.Option(help="How long each load lasts.")] = 15.0,
    results: Annotated[Path, typer.Option(help="Folder for scaling.json and scaling.png.")] = RESULTS,
) -> None:
    """Measure, forecast, compare, write."""
    with tempfile.TemporaryDirectory() as folder:
        overheads, node = measure_overheads(Path(folder), seconds)
        points: list[dict[str, Any]] = []
        plan: dict[str, Any] = {}
        for count in map(int, replicas.split(",")):
            with napping(Path(folder), count) as served:
                if not plan:
                    plan = served.get("/v2/models/nap/plan")
                    overheads = replace(overheads, run_us=run_us(served, PlanTimes.of(plan), seconds))
                    typer.echo(f"overheads: {overheads}")
                points += measure(served, count, PlanTimes.of(plan), overheads, seconds)
    result = {
        "machine": machine.describe(),
        "seconds": seconds,
        "overheads": asdict(overheads),
        "door_per_s": round(answer.door_per_s(overheads)),
        "node": node,
        "plan": plan["chosen"],
        "times": asdict(PlanTimes.of(plan)),
        "points": points,
        "within_20_percent": {key: _hits(points, key) for key in ("p50_ms", "p99_ms", "per_s")},
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    scaling_plot.plot(points, results / "scaling.png")
    typer.echo(f"within 20 %: {result['within_20_percent']}; wrote {results / 'scaling.json'}")


def _hits(points: list[dict[str, Any]], key: str) -> str:
    errors = [abs(point["error"][key]) for point in points if key in point["error"]]
    return f"{sum(error <= WITHIN for error in errors)} of {len(errors)}, worst {max(errors):.0%}"


@contextmanager
def napping(folder: Path, count: int) -> Iterator[Served]:
    """Serve `count` replicas of the sleeping model; plans are kept, so that only the first server measures."""
    args = {"allowed_batch_sizes": BATCH_SIZES, "plan_budget_s": 60, "plan_cache": str(folder / "plans")}
    app = application("nap", "bench.scaling_models:napping", {**args, "device": "cpu"})
    # A tenth of a logical CPU: sleeping needs none, and two cores are to hold four replicas.
    deployment = {"name": "KerasReplica", "num_replicas": count, "ray_actor_options": {"num_cpus": 0.1}}
    with serve(folder, [{**app, "deployments": [deployment]}], free_port()) as served:
        yield served


def run_us(served: Served, times: PlanTimes, seconds: float) -> float:
    """Return what a full run takes more than in the plan, in a replica that always has another one waiting."""
    most = BATCH_SIZES[-1]
    request = payload.of_model(f"http://127.0.0.1:{served.port}/v2/models/nap")
    seen = summarise(run_loop(ClosedLoop(request, 2 * most, seconds).run()), seconds, clients=2 * most)
    return round(max(0.0, most / seen.per_s - times.splitter().cost_s(most)) * 1e6, 1)


def measure(served: Served, count: int, times: PlanTimes, overheads: Overheads, seconds: float) -> list[dict[str, Any]]:
    """Return the points of one number of replicas."""
    request = payload.of_model(f"http://127.0.0.1:{served.port}/v2/models/nap")
    capacity_per_s = count * answer.capacity_per_s(times, overheads)
    points = []
    for share in SHARES:
        rate_per_s = share * capacity_per_s
        expected = forecast(answer.load_of(times, Wanted(rate_per_s, 0.0, 0.0), overheads, count, 1))
        seen = summarise(run_loop(OpenLoop(request, rate_per_s, seconds).run()), seconds, rate_per_s=rate_per_s)
        said = {"p50_ms": expected.p50_s * 1e3, "p99_ms": expected.p99_s * 1e3, "per_s": rate_per_s}
        points.append(_point(count, share, seen, said))
    clients = 2 * BATCH_SIZES[-1] * count
    seen = summarise(run_loop(ClosedLoop(request, clients, seconds).run()), seconds, clients=clients)
    # So many clients keep two full batches a replica: one runs, one waits.
    wait_ms = 2e3 * times.splitter().cost_s(BATCH_SIZES[-1]) + 2 * overheads.run_us / 1e3
    points.append(_point(count, None, seen, {"p50_ms": wait_ms, "per_s": capacity_per_s}))
    return points


def _point(count: int, share: float | None, seen: Summary, said: Mapping[str, float]) -> dict[str, Any]:
    measured = {"p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms, "per_s": seen.per_s}
    error = {key: said[key] / (measured[key] or float("inf")) - 1 for key in said}
    typer.echo(
        f"{count} replicas at {share or 'most'}: " + ", ".join(f"{k} {measured[k]} / {said[k]:.1f}" for k in said)
    )
    return {
        "replicas": count,
        "share": share,
        "clients": seen.clients,
        "measured": {key: value and round(value, 2) for key, value in measured.items()},
        "forecast": {key: round(value, 2) for key, value in said.items()},
        "error": {key: round(value, 3) for key, value in error.items()},
        "errors": seen.errors,
        "generator_late_p99_ms": round(seen.late_p99_ms, 2),
    }


def measure_overheads(folder: Path, seconds: float) -> tuple[Overheads, dict[str, Any]]:
    """Return what a request costs beside the model, and what a node costs beside its requests."""
    app = application("mlp", "bench.models:mlp", {"max_batch_size": 1, "plan_budget_s": 8, "device": "cpu"})
    with serve(folder, [app], free_port()) as served:
        request = payload.of_model(f"http://127.0.0.1:{served.port}/v2/models/mlp", form="json")
        run_us = PlanTimes.of(served.get("/v2/models/mlp/plan")).p50_s[0] * 1e6
        http_load.run(request, 1, 1)
        idle = _idle(served)
        before = _cpu_s(served)
        busy = http_load.run(request, 16, seconds)
        spent = {kind: cpu_s - before[kind] for kind, cpu_s in _cpu_s(served).items()}
        alone = http_load.run(request, 1, seconds)
    request_us = spent["replica"] / busy.count * 1e6 - run_us
    front_us = spent["haproxy"] / busy.count * 1e6
    front_ms = max(0.0, alone.p50_ms - (request_us + run_us) / 1e3)
    node = {**idle, "mlp_run_us": round(run_us, 1), "mlp_16_clients": asdict(busy), "mlp_1_client": asdict(alone)}
    measured = replace(Overheads(), request_us=round(request_us, 1), front_us=round(front_us, 1))
    return replace(measured, front_ms=round(front_ms, 3)), node


def _idle(served: Served) -> dict[str, Any]:
    """Return memory and idle CPU by kind of process: what one more node, and one more replica, costs."""
    before = _cpu_s(served)
    time.sleep(IDLE_S)
    cpu = {kind: round((cpu_s - before[kind]) / IDLE_S * 100, 1) for kind, cpu_s in _cpu_s(served).items()}
    memory: dict[str, float] = {}
    for process in _processes(served):
        try:
            memory[_kind(process)] = memory.get(_kind(process), 0.0) + process.memory_full_info().uss / 2**20
        except psutil.Error:
            continue
    return {"idle_cpu_percent": cpu, "unshared_mib": {kind: round(mib) for kind, mib in memory.items()}}


def _cpu_s(served: Served) -> dict[str, float]:
    spent = dict.fromkeys(("haproxy", "replica", "gateway", "ray and serve"), 0.0)
    for process in _processes(served):
        try:
            times = process.cpu_times()
            spent[_kind(process)] += times.user + times.system
        except psutil.Error:
            continue
    return spent


def _processes(served: Served) -> list[psutil.Process]:
    return [served_process := psutil.Process(served.process.pid), *served_process.children(recursive=True)]


def _kind(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    if process.name().startswith("haproxy"):
        return "haproxy"
    if ":KerasReplica" in line:
        return "replica"
    return "gateway" if ":Gateway" in line else "ray and serve"


if __name__ == "__main__":
    typer.run(main)
