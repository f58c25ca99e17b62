"""Closed-loop HTTP load: so many clients, each sending its next request when its last is answered.

With wrk where it is installed (a C program; one core makes 50,000 requests a second), else with Python processes
of this module. Both keep their connections open and report latency percentiles over all requests.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

GRACE_S = 60.0


@dataclass(frozen=True)
class Request:
    """What every client posts."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What came of it; latencies in milliseconds, errors are answers other than 200 and broken connections."""

    clients: int
    p50_ms: float
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
  io.write(string.format('\\n{{"p50_ms":%f,"p99_ms":%f,"us":%d,"count":%d,"errors":%d}}\\n',
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.duration, summary.requests, errors))
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
    return Load(clients, told["p50_ms"], told["p99_ms"], per_s, told["count"], told["errors"], "wrk")


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
        return Load(clients, 0.0, 0.0, 0.0, count, errors, "asyncio")
    p50_ms, p99_ms = (float(value) for value in np.percentile(times_s, [50, 99]) * 1e3)
    return Load(clients, p50_ms, p99_ms, len(times_s) / seconds, count, errors, f"asyncio x {processes}")


def _process(request: Request, clients: int, seconds: float) -> tuple[np.ndarray, int]:
    async def all_clients() -> list[tuple[list[float], int]]:
        ends_s = time.perf_counter() + seconds
        return await asyncio.gather(*(_client(request, ends_s) for _ in range(clients)))

    results = asyncio.run(all_clients())
    return np.array([value for times, _ in results for value in times]), sum(errors for _, errors in results)


async def _client(request: Request, ends_s: float) -> tuple[list[float], int]:
    address = urllib.parse.urlsplit(request.url)
    head = [f"POST {address.path} HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {len(request.body)}"]
    head += [f"{key}: {value}" for key, value in request.headers.items()]
    message = "\r\n".join([*head, "", ""]).encode() + request.body
    times_s: list[float] = []
    errors = 0
    while time.perf_counter() < ends_s:
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 24)
            errors += await _conversation(reader, writer, message, times_s, ends_s)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            errors += 1
            await asyncio.sleep(0.01)
    return times_s, errors


async def _conversation(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, times_s: list[float], ends_s: float
) -> int:
    """Send on one connection until the end; append every good answer's time, return the number of bad ones."""
    errors = 0
    while (start_s := time.perf_counter()) < ends_s:
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if head.startswith(b"http/1.1 200"):
            times_s.append(time.perf_counter() - start_s)
        else:
            errors += 1
    return errors
