"""Python µs a request costs in `serve_app.http.model_routes`, with a model that takes none; no sockets, no TensorFlow.

    python -m bench.request_path [--json FILE]

CPU time of the thread, the best of many short rounds, all rows interleaved, so that a busy machine slows all alike.
`reference` is a fixed piece of plain Python: compare rows between machines by their ratio to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import Rows, Signature, TensorSpec
from serve_app.config.surface import Limits
from serve_app.http.model_routes import ModelRoutes

OUT = Path(__file__).parent / "results" / "request_path.json"
FLOAT32 = np.dtype(np.float32)
HEADERS = [
    (b"host", b"localhost:8000"),
    (b"user-agent", b"bench"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"x-request-id", b"3f1c0f0e-4b1d-4c5a-9a52-1c8b8f0c6a01"),
]
Case = Callable[[], Awaitable[Any]]


class Nothing:
    """A coalescer whose model's answer is there already."""

    def __init__(self, outputs: int) -> None:
        self.answer = Answer((np.random.default_rng(0).random((1, outputs), FLOAT32),), 0, 0, 1)

    async def submit(self, _rows: Rows, _deadline_s: float | None = None) -> Answer:
        return self.answer


def routes(shape: tuple[int, ...], outputs: int, server_timing: bool = True) -> ModelRoutes:
    signature = Signature((TensorSpec("x", FLOAT32, (None, *shape)),), (TensorSpec("y", FLOAT32, (None, outputs)),))
    return ModelRoutes(Servable("m", "1", signature, Nothing(outputs), 32), Limits(server_timing=server_timing))


def request(values: np.ndarray, binary: bool) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return body and headers that send `values` as the input `x`."""
    tensor: dict[str, Any] = {"name": "x", "shape": list(values.shape), "datatype": "FP32"}
    if not binary:
        body = json.dumps({"inputs": [tensor | {"data": values.ravel().tolist()}]}).encode()
        return body, [*HEADERS, (b"content-length", b"%d" % len(body))]
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = text + values.tobytes()
    return body, [
        *HEADERS,
        (b"content-length", b"%d" % len(body)),
        (b"inference-header-content-length", b"%d" % len(text)),
    ]


def case(app: ModelRoutes, values: np.ndarray, binary: bool) -> Case:
    """Return one request as a coroutine function."""
    body, headers = request(values, binary)
    message = {"type": "http.request", "body": body, "more_body": False}
    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": headers}

    async def receive() -> Any:
        return message

    async def send(sent: Any) -> None:
        assert sent.get("status", 200) == 200

    return lambda: app(scope, receive, send)


def plain(function: Callable[[], Any]) -> Case:
    async def run() -> None:
        function()

    return run


def cases() -> dict[str, tuple[Case, int]]:
    """Return each row's name with its case and how often it runs a round."""
    random = np.random.default_rng(0)
    sample, image = random.random((1, 16), FLOAT32), random.random((1, 224, 224, 3), FLOAT32)
    numbers = image.ravel().tolist()
    return {
        "reference (100 dict entries)": (plain(lambda: {i: str(i) for i in range(100)}), 30),
        "16 floats, JSON": (case(routes((16,), 10), sample, False), 30),
        "16 floats, JSON, no Server-Timing": (case(routes((16,), 10, False), sample, False), 30),
        "16 floats, binary": (case(routes((16,), 10), sample, True), 30),
        "602 KB, binary": (case(routes((224, 224, 3), 1000), image, True), 30),
        "150,528 floats, JSON": (case(routes((224, 224, 3), 1000), image, False), 1),
        "of which array.array": (plain(lambda: array("f", numbers)), 1),
        "where numpy.array and types take": (plain(lambda: (np.array(numbers, FLOAT32), set(map(type, numbers)))), 1),
    }


async def measure(rows: dict[str, tuple[Case, int]], rounds: int) -> dict[str, float]:
    """Return each row's best time in microseconds."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, (run, count) in rows.items():
            await run()  # the row before left its own data in the caches
            started_s = time.thread_time()
            for _ in range(count):
                await run()
            best[name] = min(best.get(name, np.inf), (time.thread_time() - started_s) / count * 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=OUT, help="where the result goes")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    best = asyncio.run(measure(cases(), arguments.rounds))
    for name, microseconds in best.items():
        print(f"{name:36} {microseconds:10.1f} µs")
    told = {"machine": machine.moment(), "us": {name: round(value, 2) for name, value in best.items()}}
    arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
