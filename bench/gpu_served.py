"""Three models on one card, over HTTP: when they are ready, what each plan chose, how fast they answer, what they hold.

    python -m bench.gpu_served --out served.json              # needs a GPU for more than a rehearsal
    python -m bench.gpu_served --out served.json --seconds 5 --clients 1 16 64

`mlp-gpu` must use the GPU, `mlp-auto` and `resnet50-auto` take the faster device and precision; each has a share of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import http_load, payloads, served, stopping
from serve_app.cli.doctor import probes
from serve_app.front.ports import free_port

WARM_UP_S = 0.5
MODELS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("mlp-gpu", "bench.models:mlp", {"device": "gpu"}),
    ("mlp-auto", "bench.models:mlp", {"device": "auto"}),
    ("resnet50-auto", "bench.models:resnet50", {"device": "auto", "precision": "auto"}),
)
SHARE = 0.3
SHOWN = ("chosen", "devices", "precisions", "fastest_ms", "seconds", "from_cache", "memory", "advice")


def applications(has_gpu: bool, folder: Path, size: int, names: list[str]) -> list[dict[str, Any]]:
    """Return the configs of those asked for, as small as asked for."""
    found = []
    for name, source, args in MODELS:
        if name not in names:
            continue
        wanted = {**args, "allowed_batch_sizes": [1, 16], "plan_cache": str(folder / "cache"), "plan_budget_s": 30.0}
        if source.endswith("resnet50"):
            wanted["source_args"] = {"size": size}
        if not has_gpu:
            wanted["device"] = "cpu"
        app = served.application(name, source, wanted)
        if has_gpu:
            app["deployments"] = [{"name": "KerasReplica", "ray_actor_options": {"num_gpus": SHARE}}]
        found.append(app)
    return found


def cards() -> list[dict[str, Any]]:
    """Return each card with its memory, as the driver tells; [] without one."""
    return [asdict(gpu) for gpu in probes.ask_driver()[0]]


def main() -> None:
    stopping.on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=224, help="pixels along each side of ResNet50's pictures")
    parser.add_argument("--models", nargs="+", default=[name for name, _, _ in MODELS])
    parser.add_argument("--starts", nargs="+", default=["cold", "warm"], help="warm: with the plans kept by the first")
    asked = parser.parse_args()
    before = cards()
    results: dict[str, Any] = {"share": SHARE, "card_before": before, "loads": []}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        for start in asked.starts:
            port, started_s = free_port(), time.monotonic()
            wanted = applications(bool(before), Path(scratch), asked.size, asked.models)
            with served.serve(Path(scratch), wanted, port) as server:
                results[f"{start}_ready_s"] = round(time.monotonic() - started_s, 1)
                print(start, "ready after", results[f"{start}_ready_s"], "s", flush=True)
                for name in asked.models:
                    plan = server.get(f"/v2/models/{name}/plan")
                    results[f"{start}_{name}"] = plan
                    print(name, {key: plan[key] for key in SHOWN}, flush=True)
                results[f"{start}_card"] = cards()
                print("the card:", results[f"{start}_card"], flush=True)
                asked.out.write_text(json.dumps(results, indent=1))
                if start == "warm":
                    break
                for name, clients in itertools.product(asked.models, asked.clients):
                    request = payloads.one_row(f"http://127.0.0.1:{port}", name)
                    http_load.run(request, clients, WARM_UP_S)
                    load = {"model": name, **asdict(http_load.run(request, clients, asked.seconds))}
                    results["loads"].append(load)
                    print(json.dumps(load), flush=True)
                    asked.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
