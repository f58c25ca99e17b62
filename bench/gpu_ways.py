"""Every way of executing a model on this GPU, in one process: how long it takes to build, and to answer.

    python -m bench.gpu_ways --models mlp resnet50 --precisions float32 tf32 mixed_float16 --sizes 1 16 --out ways.json
    python -m bench.gpu_ways --only onnx-cuda-graph session-xla

Unlike a plan it tries everything, whatever the budget, and says what failed and why. Errors are against `model(x)` in
float32. A line a way is printed as it comes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tensorflow as tf

from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.device.select import select
from deployments.loading import Source, load
from deployments.planning.attempts import Attempts
from deployments.planning.crashes import CrashLog
from deployments.planning.options import PlanOptions
from deployments.planning.reference import Reference
from deployments.planning.search import selected
from deployments.planning.timing import time_trials
from serve_app.cli.doctor import probes

SECONDS = 1.5
"""For timing all ways of one model, precision and size."""


def measure(
    name: str, precision: str, sizes: list[int], asked: argparse.Namespace, device: Any
) -> list[dict[str, Any]]:
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    policy = "float32" if precision == "tf32" else precision
    source = Source(f"bench.models:{name}")
    started_s = time.monotonic()
    model, exact = load(source, policy), load(source)  # type: ignore[arg-type]
    options = PlanOptions(
        tuple(sizes), device=device.tf_name, precision=precision, tries_host=True, only=tuple(asked.only)
    )
    subject = Subject(model, options.device, exact=None if policy == "float32" else exact)
    reference = Reference(subject, options, exact.call)
    subject.sample = reference.cases(Bucket(sizes[0]))[0].inputs
    print(f"# {name} {precision}: loaded in {time.monotonic() - started_s:.1f} s", flush=True)
    attempts = Attempts(subject, reference, CrashLog(None, ""))
    rows = []
    for size in sizes:
        trials, built_s = [], {}
        for candidate in selected(options):
            if candidate.name in asked.skip:
                continue
            started_s = time.monotonic()
            trials.append(attempts.attempt(candidate, Bucket(size)))
            built_s[candidate.name] = round(time.monotonic() - started_s, 2)
        time_trials(trials, reference.cases(Bucket(size))[0].inputs, time.monotonic() + SECONDS)
        memory_mib = round(used_mib(), 1)
        for trial in sorted(trials, key=lambda trial: trial.p50_s):
            row = {"model": name, "precision": precision, "rows": size, "built_s": built_s[trial.name], **trial.row()}
            row["memory_mib"] = memory_mib
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def used_mib() -> float:
    """Return what the cards hold, whoever holds it, in MiB; 0 without one."""
    return sum(gpu.total_bytes - gpu.free_bytes for gpu in probes.ask_driver()[0]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["mlp", "resnet50", "mobilenet_v2", "transformer"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "mixed_float16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--only", nargs="+", default=[], help="only these ways")
    parser.add_argument("--skip", nargs="+", default=[], help="not these ways")
    asked = parser.parse_args()
    device = select("auto")
    rows: list[dict[str, Any]] = []
    for name, precision in itertools.product(asked.models, asked.precisions):
        try:
            rows += measure(name, precision, asked.sizes, asked, device)
        except Exception:
            traceback.print_exc()
            rows.append({"model": name, "precision": precision, "status": traceback.format_exc(limit=3)})
        asked.out.write_text(json.dumps({"device": device.description, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
