"""A million requests, mixed models and sizes: memory and latency over time, and whether either climbs.

    python -m bench.soak                       # 1,000,000 requests
    python -m bench.soak --requests 300000

Closed loops against one server with three models: JSON of one row and of 32, binary digits, PNG pictures, and 602 KB
images. Writes `bench/results/soak.json` and `soak.png`. Something climbs where its slope is above twice its standard
error, over means of `BLOCKS` blocks, and adds up to more than `LEAST` of itself over the run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import machine, served, soak_plot, stopping
from serve_app.front.ports import free_port
from tests.faults.client import Connection, Target

RESULTS = Path(__file__).parent / "results"
CLIENTS = 16
POINTS = 120
"""How many times over the whole run memory and latency are written down."""
WARM_SHARE = 0.2
"""The share of the run left out of the slopes: pools, arenas and buffers fill."""
BLOCKS = 12
"""Points next to each other are alike; means of blocks are nearly independent, as a standard error wants them."""
LEAST = 0.01
HANG_S = 30.0
MODELS = {
    "mlp": "bench.models:mlp",
    "digits": "models/digits.keras",
    "mobilenet": "bench.models:mobilenet_v2",
}
WEIGHTS = {"mlp 1 row JSON": 60, "mlp 32 rows JSON": 12, "digits binary": 16, "digits PNG": 10, "mobilenet 602 KB": 2}
"""Out of a hundred requests."""


@dataclass
class Soak:
    """What is sent, and what was seen since the last point."""

    targets: dict[str, Target]
    wanted: int
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    async def client(self, order: Sequence[str], start: int) -> None:
        """Send the targets named in `order`, over and over from position `start`, until enough were sent."""
        connections = {name: Connection(target) for name, target in self.targets.items()}
        for name in itertools.islice(itertools.cycle(order), start, None):
            if self.sent >= self.wanted:
                break
            self.sent += 1
            await self._one(name, connections[name])
        for connection in connections.values():
            connection.close()

    async def _one(self, name: str, connection: Connection) -> None:
        started_s = time.perf_counter()
        try:
            kind, detail = await asyncio.wait_for(connection.ask(), HANG_S)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            kind, detail = "lost", type(error).__name__
            connection.close()
        if kind == "answered":
            self.latencies_ms.setdefault(name, []).append((time.perf_counter() - started_s) * 1e3)
        else:
            self.failed[f"{name}: {kind} {detail}"] += 1

    def point(self, started_s: float, watched: dict[str, psutil.Process]) -> dict[str, Any]:
        """Return memory now and latency since the last point."""
        seen, self.latencies_ms = self.latencies_ms, {}
        return {
            "s": round(time.monotonic() - started_s, 1),
            "requests": self.sent,
            "rss_mb": {name: round(process.memory_info().rss / 2**20, 2) for name, process in watched.items()},
            "ms": {
                name: [round(float(np.percentile(values, q)), 3) for q in (50, 99)] for name, values in seen.items()
            },
        }


def main() -> None:
    """Serve, send, write."""
    stopping.on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    apps = [served.application(name, source, {"plan_budget_s": 10}) for name, source in MODELS.items()]
    with tempfile.TemporaryDirectory() as folder, served.serve(Path(folder), apps, free_port()) as server:
        result = asyncio.run(soak(server, args.requests))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soak.json").write_text(json.dumps({"machine": machine.describe(), **result}, indent=1) + "\n")
    soak_plot.draw(result, args.out / "soak.png")
    print(json.dumps({key: value for key, value in result.items() if key != "points"}, indent=1))


async def soak(server: served.Served, wanted: int) -> dict[str, Any]:
    """Send `wanted` requests; return the points, the slopes and the counts."""
    running = Soak({name: target(server.port, name) for name in WEIGHTS}, wanted)
    order = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
    np.random.default_rng(7).shuffle(order)
    watched = processes(server)
    started_s = time.monotonic()
    clients = [asyncio.ensure_future(running.client(order, i * len(order) // CLIENTS)) for i in range(CLIENTS)]
    points = []
    for number in range(1, POINTS + 1):
        while running.sent < wanted * number / POINTS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        points.append(running.point(started_s, watched))
        if number % 12 == 0:
            print(f"{running.sent} requests, {points[-1]['s']:.0f} s, {points[-1]['rss_mb']}", flush=True)
    await asyncio.gather(*clients)
    return {
        "requests": running.sent,
        "failed": dict(running.failed),
        "seconds": points[-1]["s"],
        "clients": CLIENTS,
        "mix": WEIGHTS,
        "rss_slopes": {name: slope([p["requests"] for p in points], rss(points, name)) for name in watched},
        "p50_slopes": {name: latency_slope(points, name) for name in WEIGHTS},
        "points": points,
    }


def processes(server: served.Served) -> dict[str, psutil.Process]:
    """Return the server's own processes by role."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    words = {"gateway": "ServeReplica:gateway:Gateway", "haproxy": "bin/haproxy ", "controller": "ray::ServeController"}
    found = {name: server.replica(name) for name in MODELS}
    for role, word in words.items():
        found[role] = next(child for child in reversed(children) if word in " ".join(child.cmdline()))
    return found


def target(port: int, name: str) -> Target:
    """Return the request of one kind of traffic."""
    random = np.random.default_rng(11)
    model, kind = name.split(" ", 1)
    path = f"/v2/models/{model}/infer"
    if kind == "PNG":
        picture = (served.ROOT / "examples" / "digits" / "seven.png").read_bytes()
        return Target.post(port, path, picture, check, Content_Type="image/png")
    if kind.endswith("JSON"):
        rows = random.random((int(kind.split()[0]), 16), np.float32)
        tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
        return Target.post(port, path, json.dumps({"inputs": [tensor]}).encode(), check)
    shape, tensor_name = ((1, 28, 28, 1), "image") if model == "digits" else ((1, 224, 224, 3), None)
    rows = random.random(shape, np.float32)
    tensor = {"name": tensor_name or input_name(port, model), "datatype": "FP32", "shape": list(shape)}
    tensor["parameters"] = {"binary_data_size": rows.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Target.post(port, path, head + rows.tobytes(), check, Inference_Header_Content_Length=len(head))


def input_name(port: int, model: str) -> str:
    """Return the name of a model's one input."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}", timeout=10) as answer:
        return str(json.load(answer)["inputs"][0]["name"])


def check(_headers: dict[str, str], body: bytes) -> str | None:
    """Return what is wrong with an answer: it must name the model's version and hold something."""
    return None if b'"model_version"' in body[:400] or b'"label"' in body else body[:60].decode(errors="replace")


def rss(points: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return one process's memory over the points."""
    return [point["rss_mb"][name] for point in points]


def latency_slope(points: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the slope of a traffic's p50."""
    known = [point for point in points if name in point["ms"]]
    return slope([point["requests"] for point in known], [point["ms"][name][0] for point in known])


def slope(requests: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """Return the least-squares slope per 100,000 requests after the warm-up, its standard error, and a verdict."""
    skip = int(WARM_SHARE * len(values))
    if len(values) - skip < 2 * BLOCKS:
        return {"per_100k": None, "error": None, "climbs": None}
    x, y = (_means(np.array(column[skip:])) for column in (requests, values))
    x = x / 1e5
    centred = x - x.mean()
    per_100k = float(centred @ y / (centred @ centred))
    left = y - y.mean() - per_100k * centred
    error = float(np.sqrt(left @ left / (len(x) - 2) / (centred @ centred)))
    climbs = bool(per_100k > 2 * error and per_100k * (x[-1] - x[0]) > LEAST * y.mean())
    return {"per_100k": round(per_100k, 4), "error": round(error, 4), "climbs": climbs}


def _means(values: np.ndarray) -> np.ndarray:
    return np.array([block.mean() for block in np.array_split(values, BLOCKS)])


if __name__ == "__main__":
    main()
