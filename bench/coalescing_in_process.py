"""The coalescer alone, without HTTP: what it adds to a call, what hand-over costs, what each mode's clients see."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import uvloop

from deployments.coalescing import CoalesceOptions, make_coalescer
from deployments.coalescing.device_thread import DeviceThread
from deployments.tensors import Arrays, Rows

SIZES = (1, 2, 4, 8, 16, 32)
ROW = Rows((np.zeros((1, 16), np.float32),), 1)
REPEATS = 200
CALLS = 200
"""Many short repeats: the best of them ran undisturbed even where the machine is busy."""


class Device:
    """Stands in for a plan: answers at once, or after a sleep that, like a device, holds no lock."""

    batch_sizes = SIZES
    runs_on_host = False

    def __init__(self, inline: bool, run_s: float = 0.0, slope_s: float = 0.0) -> None:
        self._inline = inline
        self._run_s = run_s
        self._slope_s = slope_s

    def expected_s(self, count: int) -> float:
        """Return what `run` takes; 10 µs where that is nothing."""
        return self._run_s + self._slope_s * count or 1e-5

    def is_inline(self, count: int) -> bool:  # noqa: ARG002
        """Return what was given, whatever the count."""
        return self._inline

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the inputs."""
        if self._run_s:
            time.sleep(self._run_s + self._slope_s * count)
        return arrays


def measure(seconds: float) -> dict[str, Any]:
    """Return every figure; prints them as they come."""
    figures: dict[str, Any] = {"overhead_us": uvloop.run(_overheads())}
    for name, value in figures["overhead_us"].items():
        print(f"{name:42} {value:8.2f} us")
    figures["loops"] = {}
    for mode in ("off", "continuous"):
        for clients in (1, 64):
            for kind, device in (("inline", Device(True)), ("thread", Device(False, 2e-3, 3e-5))):
                seen = uvloop.run(_loop(device, mode, clients, seconds))
                figures["loops"][f"{mode} {kind} {clients}"] = seen
                print(f"{mode:10} {kind:6} {clients:3} clients: {seen}")
    return figures


async def _overheads() -> dict[str, float]:
    device, thread, pool = Device(True), DeviceThread(), ThreadPoolExecutor(1)
    off, continuous = (make_coalescer(Device(True), CoalesceOptions(mode=mode)) for mode in ("off", "continuous"))
    threaded = make_coalescer(Device(False), CoalesceOptions())
    loop = asyncio.get_running_loop()

    async def bare() -> None:
        device.run(ROW.arrays, 1)

    async def one_pass_each(submit: Callable[[Rows], Awaitable[Any]]) -> None:
        await submit(ROW)
        await asyncio.sleep(0)

    measured = {
        "an await and executor.run": bare,
        "off, inline": lambda: off.submit(ROW),
        "a pass of the event loop": lambda: asyncio.sleep(0),
        "continuous, inline, and a pass of the loop": lambda: one_pass_each(continuous.submit),
        "thread: DeviceThread.call": lambda: thread.call(_nothing),
        "thread: run_in_executor": lambda: loop.run_in_executor(pool, _nothing),
        "continuous, thread": lambda: threaded.submit(ROW),
    }
    figures = {name: await _best_us(call) for name, call in measured.items()}
    thread.stop()
    pool.shutdown()
    return figures


async def _best_us(call: Callable[[], Awaitable[Any]]) -> float:
    """Return the least mean of several repeats: what it costs undisturbed."""
    means = []
    for _ in range(REPEATS):
        started_ns = time.perf_counter_ns()
        for _ in range(CALLS):
            await call()
        means.append((time.perf_counter_ns() - started_ns) / CALLS / 1e3)
    return round(min(means), 2)


async def _loop(device: Device, mode: Any, clients: int, seconds: float) -> Mapping[str, float]:
    """Return what closed-loop clients see, and the process's CPU time per request."""
    coalescer = make_coalescer(device, CoalesceOptions(mode=mode))
    ends_s = time.perf_counter() + seconds
    latencies_s: list[float] = []

    async def client() -> None:
        while time.perf_counter() < ends_s:
            started_s = time.perf_counter()
            await coalescer.submit(ROW)
            latencies_s.append(time.perf_counter() - started_s)
            await asyncio.sleep(0)

    used_s = time.process_time()
    await asyncio.gather(*[client() for _ in range(clients)])
    used_s = time.process_time() - used_s
    await coalescer.close()
    counts = coalescer.counters
    return {
        "per_s": round(len(latencies_s) / seconds),
        "p50_ms": round(statistics.median(latencies_s) * 1e3, 4),
        "cpu_us_per_request": round(used_s / len(latencies_s) * 1e6, 2),
        "rows_per_batch": round(counts.rows / counts.batches, 2),
    }


def _nothing() -> None:
    pass
