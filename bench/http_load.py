"""Closed-loop HTTP load: so many clients, each sending its next request when its last is answered.

With wrk where it is installed (a C program; one core makes 50,000 requests a second), else with Python processes
of this module. Both keep their connections open and report latency percentiles over all requests.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.connection import run as run_loop
from serve_app.load.request import Request

GRACE_S = 60.0


@dataclass(frozen=True)
class Load:
    """What came of it; latencies in milliseconds, errors are answers other than 200 and broken connections."""

    clients: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_s: float
    count: int
    errors: int
    tool: str


def run(request: Request, clients: int, seconds: float) -> Load:
    """Return the latencies of `clients` clients over `seconds`; raises where nothing was answered."""
    load = _wrk(request, clients, seconds) if shutil.which("wrk") else _python(request, clients, seconds)
    if load.count == 0 or load.errors == load.count:
        raise RuntimeError(f"no request to {request.url} was answered with 200 ({load.errors} errors)")
    return load


LUA = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
{headers}
done = function(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('\\n{{"p50_ms":%f,"p90_ms":%f,"p99_ms":%f,"us":%d,"count":%d,"errors":%d}}\\n',
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    summary.duration, summary.requests, errors))
end
"""


def _wrk(request: Request, clients: int, seconds: float) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_bytes(request.body)
        headers = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in request.headers.items())
        script.write_text(LUA.format(body=body, headers=headers))
        threads = max(1, min(clients, 4, (os.cpu_count() or 2) // 2))
        options = [f"-t{threads}", f"-c{clients}", f"-d{max(1, math.ceil(seconds))}s", "--timeout", "30s"]
        command = ["wrk", *options, "-s", str(script), request.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_S)
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    per_s = told["count"] / (told["us"] / 1e6)
    percentiles = (told["p50_ms"], told["p90_ms"], told["p99_ms"])
    return Load(clients, *percentiles, per_s, told["count"], told["errors"], "wrk")


def _python(request: Request, clients: int, seconds: float) -> Load:
    """Spread the clients over up to a quarter of the cores, so that the server keeps the rest."""
    processes = max(1, min(clients, (os.cpu_count() or 1) // 4))
    shares = [clients // processes + (index < clients % processes) for index in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        results = pool.starmap(_process, [(request, share, seconds) for share in shares])
    times_s = np.concatenate([times for times, _ in results])
    errors = sum(errors for _, errors in results)
    count = len(times_s) + errors
    if not len(times_s):
        return Load(clients, 0.0, 0.0, 0.0, 0.0, count, errors, "asyncio")
    p50_ms, p90_ms, p99_ms = (float(value) for value in np.percentile(times_s, [50, 90, 99]) * 1e3)
    return Load(clients, p50_ms, p90_ms, p99_ms, len(times_s) / seconds, count, errors, f"asyncio x {processes}")


def _process(request: Request, clients: int, seconds: float) -> tuple[np.ndarray, int]:
    """Return the seconds that each request answered with 200 took, and how many were not."""
    seen = run_loop(ClosedLoop(request, clients, seconds).run())
    times_s = [sample.latency_s for sample in seen if sample.status == 200]
    return np.array(times_s), len(seen) - len(times_s)
