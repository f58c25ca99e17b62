"""Everything that only a GPU machine can tell, in one call of 8 minutes, the most telling first.

    python -m bench.gpu                  # on a GPU machine
    python -m bench.gpu --small          # anywhere, in a few minutes: the same steps with small models
    python -m bench.gpu --steps plans    # only the plans

`ways`: every way of executing ResNet50, an MLP, MobileNetV2 and a transformer, in each precision (`bench.gpu_ways`);
`by_hand`: the same as a CUDA graph written by hand in PyTorch, where there is one (`bench/gpu_torch.py`), and the
ratio of our best to it; `served`: three models on one card over HTTP, cold and warm (`bench.gpu_served`); `tests`:
those marked gpu; `plans`: what `solo plan` finds within its budget; `serving`: coalescing off and continuous.
Every step runs in processes of its own with a time limit, and `results.json` is rewritten after each, so that neither
a crash nor the end of a rented machine loses what is done.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import gpu_plots, http_load, machine, payloads, served, stopping
from serve_app.cli.doctor import probes
from serve_app.front.ports import free_port

Step = Callable[[], None]
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
MODES = ("off", "continuous")
WARM_UP_S = 1.0
LEAST_S = 10.0
"""With less left, a step is not begun."""
SOLO = [sys.executable, "-c", "from serve_app.cli import app; app()"]


@dataclass(frozen=True)
class Subject:
    """One model of the benchmark."""

    name: str
    source: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    subjects: tuple[Subject, ...]
    precisions: tuple[str, ...] = PRECISIONS
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)
    budget_s: float = 16.0
    clients: tuple[int, ...] = (1, 16, 64)
    seconds: float = 5.0
    step_s: float = 180.0
    """The longest a step may take."""
    limit_s: float = 480.0
    """When no further step is begun, and the running one is cut off."""


FULL = Settings(
    (
        Subject("resnet50", "bench.models:resnet50", {}),
        Subject("mlp", "bench.models:mlp", {}),
        Subject("mobilenet_v2", "bench.models:mobilenet_v2", {}),
        Subject("transformer", "bench.models:transformer", {}),
    )
)
STEPS = ("ways", "by_hand", "served", "tests", "plans", "serving")
HAND_WRITTEN = ("float32", "tf32", "mixed_float16")
"""Precisions in which the ways are held against the graph written by hand."""
GPU_WAYS = ("onnx-cuda-graph", "onnx-cuda-graph-nhwc", "session-xla", "cpu:litert", "litert", "session-single")
SMALL = Settings(
    (
        Subject("mlp", "bench.models:mlp", {}),
        Subject("transformer", "bench.models:transformer", {"length": 32, "width": 64, "depth": 2}),
    ),
    precisions=("float32",),
    batch_sizes=(1, 8),
    budget_s=6.0,
    clients=(1, 16),
    seconds=2.0,
    step_s=300.0,
    limit_s=1800.0,
)


class Bench:
    """The run: its settings, its clock and its results."""

    def __init__(self, settings: Settings, out: Path, scratch: Path) -> None:
        self.settings, self.out, self.scratch = settings, out, scratch
        self.ends_s = time.monotonic() + settings.limit_s
        self.results: dict[str, Any] = {"settings": asdict(settings), "plans": [], "serving": [], "steps": []}
        self.results |= {"ways": [], "by_hand": [], "ratios": []}

    def step(self, name: str, work: Step) -> None:
        """Run one step, note how it ended, and flush; a failing step doesn't end the bench."""
        started_s = time.monotonic()
        left_s = self.ends_s - started_s
        status = "ok"
        try:
            if left_s < LEAST_S:
                raise TimeoutError("skipped: the time is up")
            with time_limit(min(left_s, self.settings.step_s)):
                work()
        except Exception as error:
            status = f"{type(error).__name__}: {error}"
        wall_s = round(time.monotonic() - started_s, 1)
        self.results["steps"].append({"name": name, "status": status, "wall_s": wall_s})
        print(f"[{self.settings.limit_s - left_s:5.0f} s] {name}: {status} ({wall_s} s)", flush=True)
        self.flush()

    def flush(self) -> None:
        """Write the results so far; the file is whole at every moment."""
        temporary = self.out / ".results.tmp"
        temporary.write_text(json.dumps(self.results, indent=1))
        temporary.replace(self.out / "results.json")

    def describe(self) -> None:
        """Note the machine."""
        self.results["machine"] = machine.describe()

    @property
    def has_gpu(self) -> bool:
        """Whether TensorFlow sees a GPU here."""
        return bool(self.results.get("machine", {}).get("tensorflow", {}).get("gpus"))

    def ways(self, subject: Subject) -> None:
        """Try every way of one model in each precision, in one process."""
        out = self.scratch / "ways.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "bench.gpu_ways", "--out", str(out), "--models", subject.name]
        command += ["--precisions", *(HAND_WRITTEN if self.has_gpu else ("float32",)), "--sizes", *self._two_sizes()]
        known = [name for name in GPU_WAYS if self.has_gpu == (name not in ("litert", "session-single"))]
        run([*command, "--only", *known])
        self.results["ways"] += json.loads(out.read_text())["rows"]

    def by_hand(self) -> None:
        """Measure the graphs written by hand, with a Python that has PyTorch; then the ratios to them."""
        out = self.scratch / "torch.json"
        environ = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
        if subprocess.run(["python3", "-c", "import torch"], env=environ, capture_output=True, check=False).returncode:
            return
        names = [subject.name for subject in self.settings.subjects]
        command = [
            "python3",
            "bench/gpu_torch.py",
            "--out",
            str(out),
            "--sizes",
            *self._two_sizes(),
            "--models",
            *names,
        ]
        try:
            run([*command, "--precisions", *HAND_WRITTEN], environ)
        finally:
            self.results["by_hand"] = json.loads(out.read_text())["rows"] if out.exists() else []
            self.results["ratios"] = ratios(self.results["ways"], self.results["by_hand"])

    def served_models(self) -> None:
        """Serve three models on one card, cold and warm."""
        out = self.scratch / "served.json"
        small = [] if self.has_gpu else ["--starts", "cold", "--models", "mlp-gpu", "mlp-auto"]
        clients = [str(clients) for clients in self.settings.clients]
        command = [sys.executable, "-m", "bench.gpu_served", "--out", str(out), "--seconds", "2", *small]
        try:
            run([*command, "--clients", *clients])
        finally:
            self.results["served"] = json.loads(out.read_text()) if out.exists() else None

    def tests(self) -> None:
        """Run the tests that are marked gpu; they skip where there is none."""
        run([sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/planning", "tests/device"])

    def _two_sizes(self) -> list[str]:
        return [str(size) for size in (1, 16 if self.has_gpu else 4)]

    def plan(self, subject: Subject, precision: str) -> None:
        """Plan one model in one precision with `solo plan`, and keep its report."""
        report = self.scratch / "plan.json"
        report.unlink(missing_ok=True)
        options = ["--precision", precision, "--json", str(report), "--cache", str(self.scratch / "cache")]
        options += ["--batch-sizes", ",".join(map(str, self.settings.batch_sizes))]
        options += ["--budget", str(self.settings.budget_s)]
        options += [part for key, value in subject.arguments.items() for part in ("--arg", f"{key}={value}")]
        if precision == "float32":
            options += ["--plot", str(self.out / f"plan_{subject.name}.png")]
        started_s = time.monotonic()
        run([*SOLO, "plan", subject.source, *options])
        wall_s = round(time.monotonic() - started_s, 1)
        row = {"model": subject.name, "precision": precision, "wall_s": wall_s}
        self.results["plans"].append({**row, "report": json.loads(report.read_text())})

    def serve(self, subject: Subject) -> None:
        """Serve one model with coalescing off and continuous, and load both in turns."""
        port = free_port()
        started_s = time.monotonic()
        applications = [self._application(subject, mode) for mode in MODES]
        with served.serve(self.scratch, applications, port) as server:
            ready_s = round(time.monotonic() - started_s, 1)
            plans = {mode: server.get(f"/v2/models/{subject.name}-{mode}/plan") for mode in MODES}
            about = {"model": subject.name, "ready_s": ready_s, "loads": []}
            about["memory"] = {mode: plan["memory"] for mode, plan in plans.items()}
            about["from_cache"] = {mode: plan["from_cache"] for mode, plan in plans.items()}
            about["gpus"] = [asdict(gpu) for gpu in probes.ask_driver()[0]]
            self.results["serving"].append(about)
            for clients, mode in itertools.product(self.settings.clients, MODES):
                request = payloads.one_row(f"http://127.0.0.1:{port}", f"{subject.name}-{mode}")
                about["loads"].append(self._load(request, clients, mode))
                self.flush()

    def _load(self, request: http_load.Request, clients: int, mode: str) -> dict[str, Any]:
        http_load.run(request, clients, WARM_UP_S)
        load = http_load.run(request, clients, self.settings.seconds)
        return {"mode": mode, "body_bytes": len(request.body), **asdict(load)}

    def _application(self, subject: Subject, mode: str) -> dict[str, Any]:
        args = {
            "source_args": dict(subject.arguments),
            "allowed_batch_sizes": list(self.settings.batch_sizes),
            "plan_budget_s": self.settings.budget_s,
            "plan_cache": str(self.scratch / "cache"),
            "coalesce": mode,
        }
        application = served.application(f"{subject.name}-{mode}", subject.source, args)
        if self.has_gpu:
            # Both modes share the one GPU, each with room to grow; they are loaded in turns.
            application["deployments"] = [{"name": "KerasReplica", "ray_actor_options": {"num_gpus": 0.5}}]
        return application


@contextlib.contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise `TimeoutError` in the block when the time is up, so that its `finally` clauses still clean up."""

    def expire(*_: object) -> None:
        raise TimeoutError(f"cut off after {limit_s:.0f} s")

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def ratios(ways: Sequence[Mapping[str, Any]], by_hand: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each graph written by hand, our best way on the GPU in the same precision and by what it differs."""
    found = []
    for hand in by_hand:
        same = [
            way
            for way in ways
            if all(way.get(key) == hand.get(key) for key in ("model", "precision", "rows"))
            and way.get("status") == "ok"
            and not str(way["name"]).startswith("cpu:")
        ]
        if not same or "p50_ms" not in hand:
            continue
        best = min(same, key=lambda way: way["p50_ms"])
        row = {key: hand[key] for key in ("model", "precision", "rows")}
        row |= {"way": best["name"], "p50_ms": best["p50_ms"], "p99_ms": best["p99_ms"], "by_hand_ms": hand["p50_ms"]}
        found.append({**row, "ratio": round(best["p50_ms"] / hand["p50_ms"], 3)})
    return found


def run(command: list[str], environ: Mapping[str, str] | None = None) -> None:
    """Run a command in its own process group, which ends with this call; raises with the end of its output."""
    process = subprocess.Popen(
        command,
        cwd=served.ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {output[-1500:]}")


def main() -> None:
    """Run every step that was asked for."""
    # Leaving through `finally` ends the server of the running step.
    stopping.on_sigterm()
    asked = arguments()
    settings = SMALL if asked.small else FULL
    wanted = tuple(subject for subject in settings.subjects if not asked.models or subject.name in asked.models)
    settings = replace(settings, subjects=wanted, limit_s=asked.limit_s or settings.limit_s)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        bench = Bench(settings, asked.out, Path(scratch))
        bench.step("machine", bench.describe)
        for name, work in steps(bench, asked.steps):
            bench.step(name, work)
        bench.ends_s += 60
        bench.step("plots", lambda: gpu_plots.draw(bench.results, asked.out))
    sys.exit(any(step["status"] != "ok" for step in bench.results["steps"]))


def steps(bench: Bench, wanted: Sequence[str]) -> Iterator[tuple[str, Step]]:
    """Yield every step's name and work, the most telling first."""
    subjects, precisions = bench.settings.subjects, bench.settings.precisions
    if "ways" in wanted:
        for subject in subjects:
            yield f"ways {subject.name}", partial(bench.ways, subject)
    others = {"by_hand": bench.by_hand, "served": bench.served_models, "tests": bench.tests}
    yield from ((name, work) for name, work in others.items() if name in wanted)
    if "plans" in wanted:
        for precision, subject in itertools.product(precisions, subjects):
            yield f"plan {subject.name} {precision}", partial(bench.plan, subject, precision)
    if "serving" in wanted:
        for subject in subjects:
            yield f"serve {subject.name}", partial(bench.serve, subject)


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("OUT") or served.ROOT / "bench/results/gpu")
    parser.add_argument("--small", action="store_true", help="small models and seconds: a rehearsal on a CPU")
    parser.add_argument("--out", type=Path, default=default, help="folder for results.json and the plots")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--models", nargs="+", help="only these models")
    parser.add_argument("--limit-s", type=float, help="when no further step is begun")
    return parser.parse_args()


if __name__ == "__main__":
    main()
