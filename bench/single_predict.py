"""In-process single predictions: the plan's choice against `model.predict`, `tf.function` and every candidate.

    .venv/bin/python -m bench.single_predict                 # every architecture of the correctness matrix
    .venv/bin/python -m bench.single_predict mlp cnn         # some

Each model is planned as a replica plans it. Then, apart from that, every candidate is built afresh and all of them,
`model.predict` and `Plan.run` included, take turns; figures are medians of those turns, so read the ratios: whatever
else the machine does meets all ways alike. Writes `bench/results/single_predict.json` and a plot.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import earlier, machine
from bench.single_predict_plot import plot
from deployments.planning import cache

RESULTS = Path(__file__).parent / "results"
TARGETS = {
    "mlp": {"model.predict": 2000.0, "tf.function": 15.0},
    "mobilenet_v2": {"tf.function": 1.3},
}
"""Model to what is to be beaten, and by what factor."""
NEAR_BEST = 1.05
"""The plan's choice against the best of all candidates, measured apart."""
TURN_NS = 25e6
Call = Callable[[], Any]


def main() -> None:
    options = arguments()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache.use_xla_cache(Path(folder))  # also lets sessions cluster for XLA, so that no candidate is missing
        from tests.support import architectures

        known = [*architectures.SMALL, *architectures.LARGE]
        results = []
        for name in options.models or known:
            results.append(measure(name, options))
            show(results[-1])
            write(results, options)


def write(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write what there is so far, beside other models' results of earlier runs: ratios are within one model's turns."""
    path, measured = options.out / "single_predict.json", {result["model"] for result in results}
    others = [result for result in earlier.results(path).get("models", []) if result["model"] not in measured]
    results = [*results, *others]
    report = {"machine": machine.describe(), "budget_s": options.budget, "models": results}
    report["targets"] = [line for result in results for line in targets(result)]
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    plot(results, options.out / "single_predict.png")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="names in tests/support/architectures.py; all by default")
    parser.add_argument("--budget", type=float, default=60.0, help="the plan's, in seconds")
    parser.add_argument("--seconds", type=float, default=8.0, help="of taking turns, for each model")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return one model's row: the plan, and the medians of all ways taking turns, in milliseconds."""
    import keras

    from deployments.loading import from_keras
    from deployments.planning.plan import PlanOptions, make_plan
    from tests.support import architectures

    model = from_keras(architectures.build(name))
    plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1,), budget_s=options.budget))
    inputs = first_inputs(model)
    calls, statuses = candidates(model, inputs)
    calls |= {"plan": lambda: plan.run(inputs, 1), "model.predict": lambda: model.predict(inputs)}
    times_ms = take_turns(calls, options.seconds)
    report = plan.report()
    chosen = report["chosen"]["1"]
    plan.close()
    keras.backend.clear_session()
    gc.collect()
    best = min((way for way in times_ms if way not in ("plan", "model.predict")), key=lambda way: times_ms[way])
    return {
        "model": name,
        "chosen": chosen,
        "best": best,
        "p50_ms": times_ms,
        "not_run": statuses,
        "planned": report["candidates"]["1"],
        "plan_seconds": report["seconds"],
    }


def first_inputs(model: Any) -> Any:
    """Return one row of sample inputs, as the plan draws them."""
    from deployments.candidates._bucket import Bucket
    from deployments.candidates._subject import Subject
    from deployments.planning.options import PlanOptions
    from deployments.planning.reference import Reference

    return Reference(Subject(model, "/CPU:0"), PlanOptions(allowed_batch_sizes=(1,))).cases(Bucket(1))[0].inputs


def candidates(model: Any, inputs: Any) -> tuple[dict[str, Call], dict[str, str]]:
    """Return every candidate that verifies, built afresh, as a call; and why the others do not run."""
    from deployments.candidates import all_candidates
    from deployments.candidates._bucket import Bucket
    from deployments.candidates._subject import Subject
    from deployments.planning.attempts import Attempts
    from deployments.planning.crashes import CrashLog
    from deployments.planning.options import PlanOptions
    from deployments.planning.reference import Reference

    subject, wanted = Subject(model, "/CPU:0"), PlanOptions(allowed_batch_sizes=(1,))
    attempts = Attempts(subject, Reference(subject, wanted), CrashLog(None, ""))
    trials = [attempts.attempt(candidate, Bucket(1)) for candidate in all_candidates()]
    subject.release()  # all of ResNet50's graphs and their sources at once take 7 GB
    calls = {trial.name: calling(trial.runner.run, inputs) for trial in trials if trial.runner and trial.is_ok}
    return calls, {trial.name: trial.status for trial in trials if not trial.is_ok}


def calling(run: Callable[[Any], Any], inputs: Any) -> Call:
    return lambda: run(inputs)


def take_turns(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Return the median time of each call, in milliseconds; a turn is 25 ms of calls, or one call.

    At least three turns each; a way that takes a tenth of the time gets no more than those.
    """
    times_ns: dict[str, list[int]] = {name: [] for name in calls}
    ends_s = time.monotonic() + seconds
    turns = 0
    while turns < 3 or time.monotonic() < ends_s:
        for name, call in calls.items():
            if turns < 3 or statistics.median(times_ns[name]) < seconds * 1e9 / 100:
                times_ns[name] += turn(call)
        turns += 1
    return {name: statistics.median(times) / 1e6 for name, times in times_ns.items()}


def turn(call: Call) -> list[int]:
    """Return the times of one turn's calls, in nanoseconds.

    The first call, which finds cold caches and the last way's threads still spinning, counts only where it is slow.
    """
    times_ns: list[int] = []
    started_ns = time.perf_counter_ns()
    call()
    if time.perf_counter_ns() - started_ns > 1e8:
        return [time.perf_counter_ns() - started_ns]
    started_ns = time.perf_counter_ns()
    while time.perf_counter_ns() - started_ns < TURN_NS and len(times_ns) < 200:
        start_ns = time.perf_counter_ns()
        call()
        times_ns.append(time.perf_counter_ns() - start_ns)
    return times_ns


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for every target of one model: what was compared, the ratio, and whether it is met."""
    times = result["p50_ms"]
    near = times["plan"] / times[result["best"]]
    wanted = f"plan ({result['chosen']}) over the best candidate timed apart ({result['best']}), at most {NEAR_BEST}:"
    lines = [{"model": result["model"], "what": wanted, "ratio": near, "met": near <= NEAR_BEST}]
    for other, factor in TARGETS.get(result["model"], {}).items():
        ratio = times[other] / times["plan"]
        what = f"times as fast as {other}, at least {factor:g}:"
        lines.append({"model": result["model"], "what": what, "ratio": ratio, "met": ratio >= factor})
    return lines


def show(result: dict[str, Any]) -> None:
    ranked = sorted(result["p50_ms"].items(), key=lambda pair: pair[1])
    print(f"{result['model']}: {result['chosen']}", flush=True)
    print("   " + ", ".join(f"{name} {p50_ms:.4g} ms" for name, p50_ms in ranked), flush=True)
    for line in targets(result):
        print(f"   {'met' if line['met'] else 'MISSED'}: {line['what']} {line['ratio']:.2f}", flush=True)


if __name__ == "__main__":
    main()
