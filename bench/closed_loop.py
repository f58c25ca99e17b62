"""Closed loops with wrk: so many clients, each sending its next request when the last is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCRIPT = """
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Inference-Header-Content-Length"] = os.getenv("BENCH_HEADER_BYTES")
wrk.headers["Content-Type"] = "application/octet-stream"
file:close()
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Payload:
    """One inference request in the binary tensor extension."""

    body: bytes
    header_bytes: int

    @staticmethod
    def of(array: np.ndarray[Any, Any], name: str, **parameters: object) -> Payload:
        """Return a request for float32 `array`, `[rows, ...]`, answered in binary; more `parameters` go with it."""
        tensor = {
            "name": name,
            "shape": list(array.shape),
            "datatype": "FP32",
            "parameters": {"binary_data_size": array.nbytes},
        }
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True, **parameters}}).encode()
        return Payload(header + array.astype("<f4").tobytes(), len(header))


@dataclass(frozen=True)
class Loop:
    """What one closed loop measured."""

    clients: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int

    def as_json(self) -> dict[str, float]:
        """Return the fields by name, rounded."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def run(url: str, payload: Payload, clients: int, seconds: float, folder: Path) -> Loop:
    """Return what `clients` closed loops saw in `seconds`; raises where wrk is missing or fails."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed (apt-get install wrk)")
    script, body = folder / "post.lua", folder / "body.bin"
    script.write_text(SCRIPT)
    body.write_bytes(payload.body)
    command = [wrk, "-t", "1", "-c", str(clients), "-d", f"{seconds:g}s", "--timeout", "30s", "-s", str(script), url]
    environ = {**os.environ, "BENCH_BODY": str(body), "BENCH_HEADER_BYTES": str(payload.header_bytes)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=seconds + 60, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    seen = json.loads(line.removeprefix("RESULT "))
    return Loop(clients, seen["requests"] / seen["seconds"], seen["p50_ms"], seen["p99_ms"], seen["failed"])
