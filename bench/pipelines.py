"""What two small models in a row cost, beside one: over HTTP and from a Ray task, by pipelines and by two calls.

    python -m bench.pipelines [--rounds 5]

Serves two MLPs of 16-64x4-16, a pipeline of them (`both`) and one that holds such models itself (`inside`), and asks in
turns, so that whatever else the machine does meets all alike: read the ratios. Writes `bench/results/pipelines.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench import machine, served
from bench.client import take_turns
from serve_app.front.ports import free_port
from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.request import Request

RESULTS = served.ROOT / "bench" / "results"
ROWS = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}]}).encode()


def model() -> Any:
    """Return one of the models; both are alike."""
    import keras

    keras.utils.set_random_seed(0)
    x = hidden = keras.Input((16,), name="x")
    for _ in range(4):
        hidden = keras.layers.Dense(64, activation="relu")(hidden)
    return keras.Model(x, keras.layers.Dense(16, name="y")(hidden))


def main(
    rounds: Annotated[int, typer.Option(help="Of each measurement; medians are told.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of each load over HTTP.")] = 3.0,
    out: Annotated[Path, typer.Option(help="Folder of the result.")] = RESULTS,
) -> None:
    """Measure and write the result."""
    port = free_port()
    models = [served.application(name, "bench.pipelines:model", {"plan_budget_s": 5}) for name in ("one", "two")]
    own = [{"name": name, "source": "bench.pipelines:model", "plan_budget_s": 5} for name in ("one", "two")]
    pipelines = [_pipeline("both"), _pipeline("inside", models=own)]
    with tempfile.TemporaryDirectory() as folder, served.serve(Path(folder), [*models, *pipelines], port):
        http = {clients: _over_http(port, clients, rounds, seconds) for clients in (1, 16)}
        python = _from_a_task()
    told = {"machine": machine.describe(), "http": http, "python": python}
    out.mkdir(parents=True, exist_ok=True)
    (out / "pipelines.json").write_text(json.dumps(told, indent=1) + "\n")
    for clients, found in http.items():
        print(f"HTTP, {clients} clients: {found}")
    for row in python:
        print(row)


def _pipeline(name: str, **args: Any) -> dict[str, Any]:
    return {
        "name": name,
        "import_path": "serve_app:pipeline_app",
        "route_prefix": f"/v2/models/{name}",
        "args": {"name": name, "steps": [{"model": "one"}, {"model": "two"}], **args},
    }


def _over_http(port: int, clients: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Ask one model and the pipelines in turns."""
    taken: dict[str, list[tuple[float, float]]] = {"one": [], "both": [], "inside": []}
    for _ in range(rounds):
        for name, found in taken.items():
            request = Request(
                f"http://127.0.0.1:{port}/v2/models/{name}/infer", ROWS, {"content-type": "application/json"}
            )
            seen = asyncio.run(ClosedLoop(request, clients, seconds).run())
            assert {sample.status for sample in seen} == {200}
            found.append((statistics.median(sample.latency_s for sample in seen) * 1e3, len(seen) / seconds))
    medians = {
        name: [round(statistics.median(column), 3) for column in zip(*found, strict=True)]
        for name, found in taken.items()
    }
    one_ms = medians["one"][0]
    return {
        name: {"p50_ms": p50_ms, "per_s": rate, "ratio": round(p50_ms / one_ms, 2)}
        for name, (p50_ms, rate) in medians.items()
    }


def _from_a_task() -> list[dict[str, Any]]:
    """Ask from a Ray task on the server's node, in a process of its own: its driver joins the cluster."""
    done = subprocess.run(
        [sys.executable, "-c", "import json, bench.pipelines; print(json.dumps(bench.pipelines.driver()))"],
        env={**os.environ, "RAY_AUTH_MODE": "token"}, cwd=served.ROOT, capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def driver() -> list[dict[str, Any]]:
    """Return the rows of all ways, measured in a task."""
    import ray

    ray.init(address="auto", logging_level="ERROR")
    rows: list[dict[str, Any]] = ray.get(ray.remote(num_cpus=0)(_ways).remote())
    return rows


def _ways() -> list[dict[str, Any]]:
    from serve_app.client import Model

    x = np.full((1, 16), 0.5, np.float32)
    one, two, both, inside = Model("one"), Model("two"), Model("both"), Model("inside")
    by_http = [Model(name, transport="http") for name in ("one", "both", "inside")]
    ways = {
        "one": lambda: one.predict(x),
        "both, a pipeline": lambda: both.predict(x),
        "both, a pipeline that holds them": lambda: inside.predict(x),
        "both, two calls": lambda: two.predict(one.predict(x)),
        "one, by HTTP": lambda: by_http[0].predict(x),
        "both, a pipeline, by HTTP": lambda: by_http[1].predict(x),
        "both, a pipeline that holds them, by HTTP": lambda: by_http[2].predict(x),
    }
    rows = take_turns(ways, 500)
    p50_ms = {row["way"]: row["p50_ms"] for row in rows}
    return [
        {**row, "ratio": round(row["p50_ms"] / p50_ms["one, by HTTP" if "HTTP" in row["way"] else "one"], 2)}
        for row in rows
    ]


if __name__ == "__main__":
    typer.run(main)
