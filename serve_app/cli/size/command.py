"""`solo size MODEL --rps 5000 --p99 20`: how many GPUs and front doors, before there is any hardware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.coalescing.plan_times import PlanTimes
from deployments.errors import ConfigError, SoloError
from serve_app.cli.size import answer
from serve_app.config.args import ModelArgs

Rate = Annotated[float, typer.Option(help="Requests per second, one row each, arriving at random.", min=0.001)]
Bound = Annotated[float, typer.Option(help="Milliseconds within which 99 of 100 are to be answered.", min=0.001)]
Seen = Annotated[
    Path | None, typer.Option("--overheads", metavar="FILE", help="bench/results/scaling.json of your own machine.")
]


def size(
    model: Annotated[str | None, typer.Argument(help="As for `solo plan`; not needed with --plan.")] = None,
    rps: Rate = 100.0,
    p99: Bound = 100.0,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plan measured elsewhere: solo plan --json FILE.")
    ] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Largest batch; default: the plan's.", min=1)] = None,
    headroom: Annotated[float, typer.Option(help="Percent more than --rps that must also fit.", min=0.0)] = 10.0,
    gpus_per_replica: Annotated[float, typer.Option(help="0.25 where four share one.", min=0.01, max=1.0)] = 1.0,
    request_us: Annotated[
        float | None, typer.Option(help="CPU per request in a replica beside the run.", min=1.0)
    ] = None,
    front_threads: Annotated[int, typer.Option(help="HAProxy's threads per node.", min=1)] = 4,
    overheads: Seen = None,
    budget: Annotated[float, typer.Option(help="Seconds for measuring MODEL, without --plan.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict how many replicas, GPUs (or CPUs) and front doors a load needs, from a plan's measured times."""
    try:
        times = _times(model, plan, budget)
        times = times if max_batch_size is None else times.up_to(max_batch_size)
        known = answer.Overheads() if overheads is None else answer.Overheads.read(overheads)
        known = replace(known, front_threads=front_threads, request_us=request_us or known.request_us)
        wanted = answer.Wanted(rps, p99 / 1e3, headroom / 100)
        found = answer.size(times, wanted, known)
    except SoloError as error:
        typer.secho(f"solo size: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    on = _on(times, found.replicas, gpus_per_replica)
    typer.echo(json.dumps({**on, **asdict(found)}) if as_json else _text(found, wanted, on))


def _times(model: str | None, plan: Path | None, budget_s: float) -> PlanTimes:
    if (model is None) == (plan is None):
        raise ConfigError("expected a MODEL to measure here, or --plan FILE measured elsewhere, not both")
    if plan is not None:
        try:
            return PlanTimes.of(json.loads(plan.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--plan {plan}: {error}") from None
    return PlanTimes.of(_measured(str(model), budget_s))


def _measured(model: str, budget_s: float) -> dict[str, Any]:
    from serve_app.cli.plan import run
    from serve_app.config import serve_yaml
    from serve_app.config.naming import suggested_name

    raw = {"name": suggested_name(model), "source": model, "plan_budget_s": budget_s, "plan_cache": None}
    args = ModelArgs.parse(raw, "model")
    serve_yaml.check_source(args, "model")
    return run.measure(args)


def _on(times: PlanTimes, replicas: int, gpus_per_replica: float) -> dict[str, int]:
    """Return what the replicas reserve: a CPU each where the plan was measured on one, else whole GPUs."""
    return {"cpus": replicas} if times.on_cpu else {"gpus": answer.gpus(replicas, gpus_per_replica)}


def _text(found: answer.Answer, wanted: answer.Wanted, on: Mapping[str, int]) -> str:
    seen = found.forecast
    cards = ", ".join(_counted(number, kind[:-1].upper()) for kind, number in on.items())
    used = wanted.simulated_rps / (found.replicas * found.capacity_per_s)
    lines = [
        f"{_counted(found.replicas, 'replica')} on {cards}, {_counted(found.doors, 'front door')} (one per node)",
        f"  for {wanted.rps:,.0f} requests/s and {wanted.headroom:.0%} more, p99 within {wanted.p99_s * 1e3:g} ms",
        f"  forecast: p50 {seen.p50_s * 1e3:.3g} ms, p99 {seen.p99_s * 1e3:.3g} ms, at {used:.0%} of what the "
        f"replicas carry and {seen.loop_busy:.0%} of their event loops",
        f"  at most: {found.capacity_per_s:,.0f} requests/s a replica, {found.door_per_s:,.0f} a front door",
    ]
    if (less := found.one_less) is not None:
        refused = f", {less.refused_share:.1%} refused" if less.refused_share else ""
        lines.append(f"  with one replica lost: p99 {less.p99_s * 1e3:.3g} ms{refused}")
    lines.append(f"  deployments: [{{name: KerasReplica, num_replicas: {found.replicas}}}]")
    return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
