"""A queueing simulation of a served model: Poisson arrivals, HAProxy's choice, and the coalescer's rule per replica.

What happens to a request: HAProxy gives it to the replica with the fewest open requests (`balance leastconn`, the
longest untouched among equals; every front door counts only its own). The replica's event loop decodes it; a run on
the loop is over then, any other waits for the device, which takes its next batch by the real `Splitter` the moment
it is free; the loop encodes the answer. Loop and device serve first come, first served.

A run takes the plan's p50, and its p99 in one of fifty, so that 1 % lies above the middle of the slow ones.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deployments.coalescing.options import QUEUE_BATCHES
from deployments.coalescing.plan_times import PlanTimes
from deployments.coalescing.splitting import RUN_OVERHEAD_S

SLOW_SHARE = 0.02
WARM_UP_SHARE = 0.1
"""The first arrivals find an empty system, and are not counted."""


@dataclass(frozen=True)
class Load:
    """What arrives, and what carries it."""

    times: PlanTimes
    rps: float
    replicas: int
    request_s: float
    """Work of a replica's event loop for one request beside the run: HTTP, decoding, encoding."""
    run_s: float = 0.0
    """What a run takes more than in the plan: the hand-over to the device's thread, and sharing its core."""
    front_s: float = 0.0
    """What the client waits beside: connection, kernel, HAProxy."""
    doors: int = 1
    requests: int = 20_000
    seed: int = 1
    queue_rows: int | None = None
    """Rows that may wait in a replica; None for the coalescer's default."""


@dataclass(frozen=True)
class Forecast:
    """What clients of a `Load` see, refused requests left out of the latencies."""

    mean_s: float
    p50_s: float
    p99_s: float
    per_s: float
    """Answered."""
    refused_share: float
    device_busy: float
    """Share of time, mean over the replicas; runs on the event loop count here."""
    loop_busy: float


def forecast(load: Load) -> Forecast:
    """Return what `load` leads to; the same for the same seed."""
    return _Simulation(load).run()


class _Line:
    """One server, first come, first served, known by when it is free; time in seconds."""

    __slots__ = ("busy_s", "free_s")

    def __init__(self) -> None:
        self.free_s = 0.0
        self.busy_s = 0.0

    def take(self, now_s: float, work_s: float) -> float:
        """Return when work that comes now is done."""
        self.free_s = max(now_s, self.free_s) + work_s
        self.busy_s += work_s
        return self.free_s


@dataclass(eq=False)
class _Replica:
    number: int
    loop: _Line = field(default_factory=_Line)
    waiting: deque[int] = field(default_factory=deque)
    runs: bool = False
    device_busy_s: float = 0.0


class _Simulation:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.random = random.Random(load.seed)
        self.splitter = load.times.splitter()
        self.limit_rows = load.queue_rows or QUEUE_BATCHES * self.splitter.max_rows
        self.replicas = [_Replica(number) for number in range(load.replicas)]
        # HAProxy's tree per front door: open requests in the high part, when last touched in the low one.
        self.open = [list(range(load.replicas)) for _ in range(load.doors)]
        self.touched = load.replicas
        self.events: list[tuple[float, int, Callable[..., None], tuple[int, ...]]] = []
        self.number = 0
        gaps_s = np.random.default_rng(load.seed).exponential(1 / load.rps, load.requests)
        self.arrived_s: list[float] = np.cumsum(gaps_s).tolist()
        self.done_s = [0.0] * load.requests
        """0 while on its way; below 0 once refused."""
        self.at = [(0, 0)] * load.requests
        """Front door and replica of each request."""
        self.batches: dict[int, int] = {}

    def run(self) -> Forecast:
        """Play every arrival and all that follows from it, in the order of time."""
        for request, arrived_s in enumerate(self.arrived_s):
            while self.events and self.events[0][0] <= arrived_s:
                self._next()
            self._arrive(request, arrived_s)
        while self.events:
            self._next()
        return self._summary()

    def _next(self) -> None:
        now_s, _, what, arguments = heapq.heappop(self.events)
        what(now_s, *arguments)

    def _at(self, when_s: float, what: Callable[..., None], *arguments: int) -> None:
        self.number += 1
        heapq.heappush(self.events, (when_s, self.number, what, arguments))

    def _arrive(self, request: int, now_s: float) -> None:
        door = self.random.randrange(self.load.doors) if self.load.doors > 1 else 0
        row = self.open[door]
        number = row.index(min(row))
        self.at[request] = (door, number)
        self._touch(door, number, 1)
        self._at(self.replicas[number].loop.take(now_s, self.load.request_s / 2), self._decoded, request)

    def _touch(self, door: int, number: int, change: int) -> None:
        self.touched += 1
        self.open[door][number] = ((self.open[door][number] >> 40) + change << 40) + self.touched

    def _decoded(self, now_s: float, request: int) -> None:
        replica = self.replicas[self.at[request][1]]
        if self.load.times.inline[0]:
            run_s = self._run_s(1)
            replica.device_busy_s += run_s
            self._at(replica.loop.take(now_s, run_s + self.load.request_s / 2), self._answered, request)
        elif len(replica.waiting) >= self.limit_rows:
            self.done_s[request] = -1.0
            self._touch(*self.at[request], -1)
        else:
            replica.waiting.append(request)
            if not replica.runs:
                self._run_next(now_s, replica.number)

    def _run_next(self, now_s: float, number: int) -> None:
        replica = self.replicas[number]
        replica.runs = bool(replica.waiting)
        if not replica.waiting:
            return
        members = [replica.waiting.popleft() for _ in range(self._batch(len(replica.waiting)))]
        run_s = sum(self._run_s(count) for count in self.splitter.pieces(len(members)))
        replica.device_busy_s += run_s
        self._at(now_s + run_s, self._ran, *members)

    def _ran(self, now_s: float, *members: int) -> None:
        replica = self.replicas[self.at[members[0]][1]]
        for request in members:
            self._at(replica.loop.take(now_s, self.load.request_s / 2), self._answered, request)
        self._run_next(now_s, replica.number)

    def _answered(self, now_s: float, request: int) -> None:
        self.done_s[request] = now_s
        self._touch(*self.at[request], -1)

    def _batch(self, waiting: int) -> int:
        """Return how many of `waiting` single rows the coalescer runs next."""
        if waiting not in self.batches:
            ends = range(1, min(waiting, self.splitter.max_rows) + 1)
            self.batches[waiting] = self.splitter.best_prefix(ends, waiting)
        return self.batches[waiting]

    def _run_s(self, count: int) -> float:
        index = self.load.times.batch_sizes.index(self.splitter.padded(count))
        slow = self.random.random() < SLOW_SHARE
        return (self.load.times.p99_s if slow else self.load.times.p50_s)[index] + RUN_OVERHEAD_S + self.load.run_s

    def _summary(self) -> Forecast:
        first = int(len(self.arrived_s) * WARM_UP_SHARE)
        arrived_s, done_s = np.array(self.arrived_s[first:]), np.array(self.done_s[first:])
        good = done_s > 0
        latency_s = (done_s - arrived_s)[good] + self.load.front_s
        p50_s, p99_s = np.percentile(latency_s, [50, 99]) if good.any() else (np.inf, np.inf)
        whole_s = max(self.arrived_s[-1], max(self.done_s)) * len(self.replicas)
        return Forecast(
            mean_s=float(latency_s.mean()) if good.any() else np.inf,
            p50_s=float(p50_s),
            p99_s=float(p99_s),
            per_s=float(good.sum() / max(done_s.max() - arrived_s[0], 1e-9)),
            refused_share=float(1 - good.mean()),
            device_busy=sum(replica.device_busy_s for replica in self.replicas) / whole_s,
            loop_busy=sum(replica.loop.busy_s for replica in self.replicas) / whole_s,
        )
