"""How many replicas and front doors a load needs, by simulation from a plan's measured times."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments.coalescing.plan_times import PlanTimes
from deployments.errors import ConfigError
from serve_app.cli.size.simulation import Forecast, Load, forecast

DOOR_BUSY = 0.7
"""How much of a front door's threads may be used: above it, HAProxy's own queue shows in the p99."""
RUNS_SEEN = 200
"""How many of the longest runs the simulated time must hold, and `LEAST_REQUESTS` at least."""
LEAST_REQUESTS, MOST_REQUESTS = 20_000, 100_000
MOST_REPLICAS = 1024


@dataclass(frozen=True)
class Overheads:
    """What a request costs beside the model.

    Measured by `python -m bench.scaling` with a small JSON body on two shared, busy cores: a quiet machine does with
    about half.
    """

    request_us: float = 345.0
    """Of one core, in the replica's process."""
    front_us: float = 100.0
    """Of one core, in HAProxy."""
    front_ms: float = 0.18
    """What an otherwise idle server adds to the client's latency beside `request_us` and the run."""
    run_us: float = 0.0
    """What a run on the device's thread takes more under load than in the plan."""
    front_threads: int = 4
    """HAProxy's threads per node; `solo serve` sets half the cores, 4 at most."""

    @classmethod
    def read(cls, path: Path) -> Overheads:
        """Return the overheads that `python -m bench.scaling` wrote; raises `ConfigError`."""
        try:
            measured = json.loads(path.read_text(encoding="utf-8"))["overheads"]
            return cls(**{key: measured[key] for key in ("request_us", "front_us", "front_ms", "run_us")})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"--overheads {path}: expected the JSON of bench.scaling: {error}") from None


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    rps: float
    p99_s: float
    headroom: float = 0.1
    """Share of `rps` that must also fit: at the edge of its capacity a queue answers a busy second with minutes."""

    @property
    def simulated_rps(self) -> float:
        """Requests per second that are simulated."""
        return self.rps * (1 + self.headroom)


@dataclass(frozen=True)
class Answer:
    """What it takes."""

    replicas: int
    doors: int
    forecast: Forecast
    one_less: Forecast | None
    """What one replica fewer would give; None where there is only one."""
    capacity_per_s: float
    """Requests per second that one replica carries at most."""
    door_per_s: float
    """Requests per second that one front door carries."""


def size(times: PlanTimes, wanted: Wanted, overheads: Overheads = Overheads()) -> Answer:
    """Return the least replicas and front doors that meet `wanted`; raises `ConfigError` where none can.

    The search doubles from the least that can carry the rate, then halves the interval: more replicas never make
    the p99 worse.
    """
    _check_possible(times, wanted, overheads)
    doors = math.ceil(wanted.simulated_rps / door_per_s(overheads))
    least = max(1, math.ceil(wanted.simulated_rps / capacity_per_s(times, overheads)))
    tried: dict[int, Forecast] = {}

    def meets(replicas: int) -> bool:
        if replicas > MOST_REPLICAS:
            raise ConfigError(f"more than {MOST_REPLICAS} replicas would be needed; see the model's times first")
        tried[replicas] = forecast(load_of(times, wanted, overheads, replicas, doors))
        return _meets(tried[replicas], wanted)

    replicas = _least(least, meets)
    before = replicas - 1
    if before and before not in tried:
        tried[before] = forecast(load_of(times, wanted, overheads, before, doors))
    carried = capacity_per_s(times, overheads)
    return Answer(replicas, doors, tried[replicas], tried.get(before), carried, door_per_s(overheads))


def load_of(times: PlanTimes, wanted: Wanted, overheads: Overheads, replicas: int, doors: int) -> Load:
    """Return what is simulated, long enough to show a queue that grows."""
    requests = int(wanted.simulated_rps * RUNS_SEEN * times.p99_s[-1])
    return Load(
        times=times,
        rps=wanted.simulated_rps,
        replicas=replicas,
        request_s=overheads.request_us / 1e6,
        run_s=0.0 if times.inline[0] else overheads.run_us / 1e6,
        front_s=overheads.front_ms / 1e3,
        doors=doors,
        requests=min(MOST_REQUESTS, max(LEAST_REQUESTS, requests)),
    )


def capacity_per_s(times: PlanTimes, overheads: Overheads) -> float:
    """Return how many requests of one row a replica carries per second at most: its loop's or its device's limit."""
    request_s = overheads.request_us / 1e6
    if times.inline[0]:
        return 1 / (request_s + times.p50_s[0])
    most = times.batch_sizes[-1]
    return min(1 / request_s, most / (times.splitter().cost_s(most) + overheads.run_us / 1e6))


def door_per_s(overheads: Overheads) -> float:
    """Return how many requests per second one front door carries with `DOOR_BUSY` of its threads."""
    return DOOR_BUSY * overheads.front_threads * 1e6 / overheads.front_us


def gpus(replicas: int, gpus_per_replica: float) -> int:
    """Return how many whole cards hold the replicas: a fraction never spans two."""
    return math.ceil(replicas / max(1, int(1 / gpus_per_replica + 1e-9)))


def _check_possible(times: PlanTimes, wanted: Wanted, overheads: Overheads) -> None:
    """Raise where not even a request that meets nobody is answered in time."""
    alone_s = times.p99_s[0] + overheads.request_us / 1e6 + overheads.front_ms / 1e3
    if alone_s > wanted.p99_s:
        raise ConfigError(
            f"--p99: a single prediction on an idle replica has a p99 of {alone_s * 1e3:.3g} ms, "
            f"so that no number of replicas reaches {wanted.p99_s * 1e3:g} ms"
        )


def _meets(seen: Forecast, wanted: Wanted) -> bool:
    return seen.p99_s <= wanted.p99_s and seen.refused_share == 0


def _least(start: int, meets: Callable[[int], bool]) -> int:
    """Return the least number from `start` on that `meets`, which from there on all do."""
    below, step = start - 1, 1
    while not meets(below + step):
        below, step = below + step, step * 2
    above = below + step
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if meets(middle) else (middle, above)
    return above
