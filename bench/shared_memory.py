"""A 602 KB tensor by a region of memory that client and server share, beside the same tensor in the request's body.

    python -m bench.shared_memory [--rounds 15]

`tritonclient` asks a model whose arithmetic is nearly nothing, over HTTP and gRPC. Ways take turns, in random order:
read the ratios. `copied` counts what it takes the client to put the tensor into the region, `in place` leaves it there.
Writes `bench/results/shared_memory.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tritonclient import grpc, http
from tritonclient.utils import shared_memory

from bench import machine, served
from bench.client import take_turns
from serve_app.front.ports import free_port

RESULTS = served.ROOT / "bench" / "results"
SHAPE = (1, 224, 224, 3)
SOURCE = "bench.shared_memory:model"


def model() -> Any:
    """Return a model that averages an image."""
    import keras

    x = keras.Input(SHAPE[1:], name="image")
    return keras.Model(x, keras.layers.GlobalAveragePooling2D(name="mean")(x))


def main(
    rounds: Annotated[int, typer.Option(help="Of each measurement; medians are told.")] = 15,
    calls: Annotated[int, typer.Option(help="Of each way and round.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder of the result.")] = RESULTS,
) -> None:
    """Measure and write the result."""
    port, grpc_port = free_port(), free_port()
    application = served.application("mean", SOURCE, {"plan_budget_s": 5, "shared_memory": True})
    image = np.random.default_rng(0).random(SHAPE, np.float32)
    key = f"/keras-solo-bench-{os.getpid()}"
    region = shared_memory.create_shared_memory_region("image", key, image.nbytes)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            served.serve(Path(folder), [application], port, grpc_port, {"shared_memory": True}),
        ):
            ways: dict[str, Callable[[], Any]] = {}
            for name, kind, address in (("HTTP", http, port), ("gRPC", grpc, grpc_port)):
                client = kind.InferenceServerClient(f"127.0.0.1:{address}")
                if name == "HTTP":
                    client.register_system_shared_memory("image", key, image.nbytes)
                ways |= _ways(name, kind, client, region, image)
            for ask in ways.values():
                np.testing.assert_allclose(ask().as_numpy("mean"), image.mean((1, 2)), rtol=1e-4)
            found = [take_turns(ways, calls) for _ in range(rounds)]
    finally:
        shared_memory.destroy_shared_memory_region(region)
    p50_ms = {
        way: statistics.median(row["p50_ms"] for rows in found for row in rows if row["way"] == way) for way in ways
    }
    told = {way: {"p50_ms": ms, "ratio": round(ms / p50_ms[f"{way[:4]}, body"], 2)} for way, ms in p50_ms.items()}
    out.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine.describe(), "rounds": rounds, "calls": calls, "ways": told}
    (out / "shared_memory.json").write_text(json.dumps(result, indent=1) + "\n")
    for way, row in told.items():
        print(f"{way:24} {row}")


def _ways(name: str, kind: Any, client: Any, region: Any, image: np.ndarray) -> dict[str, Callable[[], Any]]:
    body, shared = (kind.InferInput("image", SHAPE, "FP32") for _ in range(2))
    shared.set_shared_memory("image", image.nbytes)

    def by_body() -> Any:
        body.set_data_from_numpy(image)
        return client.infer("mean", [body])

    def copied() -> Any:
        shared_memory.set_shared_memory_region(region, [image])
        return client.infer("mean", [shared])

    return {
        f"{name}, body": by_body,
        f"{name}, shared, copied": copied,
        f"{name}, shared, in place": lambda: client.infer("mean", [shared]),
    }


if __name__ == "__main__":
    typer.run(main)
