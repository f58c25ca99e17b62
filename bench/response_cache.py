"""What a response cache costs and saves in process: an MLP of 16-64x4-16, computed, found in memory, and not found.

python -m bench.response_cache     # half a minute; writes bench/results/response_cache.json
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parent / "results" / "response_cache.json"
ASKED = 20_000
ROUNDS = 3


def main() -> None:
    """Measure and print microseconds, medians, a line a round; write the rounds' medians."""
    from bench import machine
    from bench.pipelines import model
    from deployments.coalescing import CoalesceOptions, make_coalescer
    from deployments.loading.keras_model import from_keras
    from deployments.planning.plan import PlanOptions, make_plan
    from deployments.response_cache import ResponseCache
    from deployments.servable import Servable

    plan = make_plan(from_keras(model()), PlanOptions(allowed_batch_sizes=(1,), budget_s=5))
    coalescer = make_coalescer(plan, CoalesceOptions(max_batch_size=1))
    plain = Servable("m", "1", plan.signature, coalescer, 1)
    kept = Servable("m", "1", plan.signature, coalescer, 1, cache=ResponseCache(4 << 20))
    same = [{"x": np.full((1, 16), 0.5, np.float32)}] * ASKED
    others = [{"x": row} for row in np.random.default_rng(0).random((ASKED, 1, 16), np.float32)]
    print(plan.summary())
    rounds = []
    for _ in range(ROUNDS):
        ways = (("computed", plain, same), ("found", kept, same), ("not found", kept, others))
        rounds.append({name: asyncio.run(_median_us(servable, requests)) for name, servable, requests in ways})
        print(rounds[-1])
    us = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    OUT.write_text(json.dumps({"machine": machine.moment(), "rounds": ROUNDS, "us": us}, indent=1) + "\n")


async def _median_us(servable: Any, requests: list[Any]) -> float:
    taken = []
    for inputs in requests:
        started_s = time.perf_counter()
        await servable.predict(inputs)
        taken.append(time.perf_counter() - started_s)
    return round(statistics.median(taken) * 1e6, 2)


if __name__ == "__main__":
    main()
