"""What a replica says of its own health, over the real coalescer and an executor that can be broken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest

from deployments.coalescing.running import FAILURE_LIMIT
from deployments.errors import PredictionFailed
from deployments.health import Health
from deployments.loading import Source, load
from deployments.planning.options import PlanOptions
from deployments.planning.plan import make_plan
from tests.support.coalescing_fakes import FakeExecutor, block, make, make_rows, unblock


def health(coalescer, hang_timeout_s: float = 60.0) -> Health:
    return Health("m", coalescer, make_rows([7]), hang_timeout_s)


async def fail_often(coalescer, **rows) -> None:
    for i in range(FAILURE_LIMIT):
        with pytest.raises(PredictionFailed):
            await coalescer.submit(make_rows([i], **rows))


@pytest.mark.parametrize("inline", [0, 32])
def test_a_clients_bad_inputs_make_no_replica_ill(inline):
    async def check():
        coalescer = make(FakeExecutor(inline_rows=inline))
        known = health(coalescer)
        await fail_often(coalescer, poisoned=range(FAILURE_LIMIT))
        assert not coalescer.healthy
        await known.check()
        assert known.is_well
        assert coalescer.healthy

    asyncio.run(check())


@pytest.mark.parametrize("inline", [0, 32])
def test_a_device_that_fails_on_good_rows_too_is_ill_until_it_answers(inline):
    async def check():
        executor = FakeExecutor(inline_rows=inline)
        coalescer = make(executor)
        known = health(coalescer)
        executor.broken = True
        await fail_often(coalescer)
        for _ in range(2):
            with pytest.raises(PredictionFailed, match="so does one that went well when the plan was made"):
                await known.check()
            assert not known.is_well
        executor.broken = False
        await known.check()
        assert known.is_well

    asyncio.run(check())


def test_a_call_that_hangs_is_an_illness():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        known = health(coalescer, hang_timeout_s=0.01)
        await known.check()
        running = await block(coalescer, executor)
        await asyncio.sleep(0.02)
        with pytest.raises(PredictionFailed, match="has been running for"):
            await known.check()
        await unblock(executor, running)
        await known.check()

    # Its watchdog would end this process if the loop stood still that long; a patient one looks on.
    import deployments.health as module

    original, module.Watchdog.start = module.Watchdog.start, lambda self: None
    try:
        asyncio.run(check())
    finally:
        module.Watchdog.start = original


BLOCKED = """
import asyncio, time
from deployments.health import Watchdog

async def main(limit_s, block_s):
    Watchdog("m", asyncio.get_running_loop(), limit_s).start()
    await asyncio.sleep(3 * limit_s)
    print("idle is no illness", flush=True)
    time.sleep(block_s)
    print("went on", flush=True)

asyncio.run(main({limit_s}, {block_s}))
"""


def run_blocked(limit_s: float, block_s: float) -> tuple[int, str, float]:
    started_s = time.monotonic()
    code = BLOCKED.format(limit_s=limit_s, block_s=block_s)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - started_s


def test_the_watchdog_ends_a_process_whose_loop_stands_still():
    code, said, seconds = run_blocked(0.5, 40)
    assert code == 1
    assert "idle is no illness" in said
    assert "model 'm': a prediction has held the event loop for" in said
    assert "went on" not in said
    assert seconds < 30


def test_the_watchdog_lets_a_long_call_be():
    code, said, _ = run_blocked(2, 0.5)
    assert code == 0
    assert "went on" in said


def test_a_plans_sample_is_answered_by_the_plan():
    plan = make_plan(load(Source("models/digits.keras")), PlanOptions(allowed_batch_sizes=(1, 2), budget_s=0))
    rows = plan.sample
    assert rows.count == 1
    (scores,) = plan.run(rows.arrays, rows.count)
    assert scores.shape == (1, 10)
    assert np.isclose(scores.sum(), 1, atol=1e-4)
    plan.close()
