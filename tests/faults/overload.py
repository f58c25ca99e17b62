"""Five times as many requests as the server can answer, for a minute: refused fast, memory flat, and soon over.

python -m tests.faults.overload [--case device|http] [--seconds S]

`device` is a model that takes milliseconds, so that its queue fills; `http` one that takes microseconds, so that the
protocol itself is what overflows. The load is an open loop: it comes when it is due, whatever the server does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from serve_app.load import payload
from tests.faults.client import Load, Target
from tests.faults.report import keep
from tests.faults.stand import Stand, answers_per_s, closed_loop, stand
from tests.support.processes import model_application

FACTOR = 5
SECONDS = 60.0
CLIENTS = 32
"""Of the closed loops that measure the capacity before, and the recovery after."""
PROBE_S = 5.0
BIN_S = 0.25
FULL = 0.9
"""The share of the rate before that counts as full speed after."""
MODELS = {"device": "bench.models:wider_mlp", "http": "tests.faults.models:numbers"}
LATE_S = 3600.0
"""No answer counts as too late here: all of them are in the percentiles."""


def run(case: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Return rates, latencies of answers and of refusals, memory, and how soon full speed was back."""
    with stand(model_application("model", MODELS[case], plan_budget_s=5)) as hurt:
        request = payload.of_model(f"http://127.0.0.1:{hurt.port}/v2/models/model", form="binary")
        target = Target(hurt.port, request.wire(), lambda *_: None)
        closed_loop(Load(target, CLIENTS, 0), 2.0)
        capacity_per_s = answers_per_s(closed_loop(Load(target, CLIENTS, 0), PROBE_S))
        ours, rss_mb = overload(hurt, target.request, FACTOR * capacity_per_s, seconds)
        after = closed_loop(Load(target, CLIENTS, 0), PROBE_S)
        ours.send("sum up")
        offered: dict[str, Any] = ours.recv()
    return {
        "capacity_per_s": round(capacity_per_s),
        "recovered_s": recovered_s(after, capacity_per_s),
        **{key: value for key, value in offered.items() if not key.endswith("by_second")},
        "rss_mb": rss_mb,
        "rss_growth": growth(rss_mb),
    }


def overload(hurt: Stand, request: bytes, rate_per_s: float, seconds: float) -> tuple[Connection, list[float]]:
    """Return, as the last request leaves, where the open loop's summary will come, and the memory by second."""
    watched = [*hurt.replicas("model"), *hurt.processes("bin/haproxy "), *hurt.processes("Gateway")]
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    args = (theirs, hurt.port, request, rate_per_s, seconds)
    multiprocessing.get_context("spawn").Process(target=offer, args=args, daemon=True).start()
    rss_mb: list[float] = []
    while not ours.poll(1.0):
        rss_mb.append(round(sum(resident_bytes(p) for p in watched) / 2**20, 1))
    ours.recv()
    return ours, rss_mb


def offer(pipe: Connection, port: int, request: bytes, rate_per_s: float, seconds: float) -> None:
    """Offer the load, in a process of its own; say when all of it was sent, and, when asked, what came of it.

    To sum a million samples up takes a core for seconds: not while the recovery is measured.
    """
    import asyncio

    import uvloop

    from bench.fixed_rate import FixedRate, summarise

    load = FixedRate("127.0.0.1", port, request, rate_per_s, seconds)

    async def run() -> None:
        running = asyncio.ensure_future(load.run())
        await asyncio.sleep(seconds)
        pipe.send("sent")
        await running

    uvloop.run(run())
    pipe.recv()
    pipe.send(summarise(load.seen, seconds, LATE_S))


def resident_bytes(process: psutil.Process) -> int:
    """Return a process's resident memory."""
    return int(process.memory_info().rss)


def recovered_s(after: Load, capacity_per_s: float) -> float | None:
    """Return the end of the first quarter of a second with `FULL` of the rate before, None if there was none."""
    ends_s = np.array([sent.ended_s for sent in after.sent if sent.kind == "answered"])
    for number in range(int(PROBE_S / BIN_S)):
        rate_per_s = ((ends_s >= number * BIN_S) & (ends_s < (number + 1) * BIN_S)).sum() / BIN_S
        if rate_per_s >= FULL * capacity_per_s:
            return (number + 1) * BIN_S
    return None


def growth(rss_mb: list[float]) -> float:
    """Return the memory of the last fifth over that of the second fifth: the first one fills the queues."""
    fifth = max(1, len(rss_mb) // 5)
    return round(statistics.median(rss_mb[-fifth:]) / statistics.median(rss_mb[fifth : 2 * fifth] or rss_mb), 3)


def main() -> None:
    """Parse the command line, run, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.overload")
    parser.add_argument("--case", choices=list(MODELS))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    args = parser.parse_args()
    for case in MODELS:
        if args.case in (None, case):
            keep(f"overload: {case}", run(case, args.seconds))


if __name__ == "__main__":
    main()
