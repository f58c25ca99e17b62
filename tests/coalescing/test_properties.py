"""Whatever arrives, whenever: exactly one outcome each, the right one, and nothing left behind."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.errors import DeadlineExceeded, Overloaded, PredictionFailed
from deployments.execution import Answer
from tests.support.coalescing_fakes import FakeExecutor, enter_replica_context, make, make_rows, run

MAX_ROWS = 8


@dataclass(frozen=True)
class Request:
    pause_ms: float | None
    """Before it is sent; None for none at all, 0 for one pass of the event loop."""
    rows: int
    width: int
    poisoned: bool
    timeout_ms: float | None
    cancel_after_ms: float | None


@dataclass(frozen=True)
class Scenario:
    inline_rows: int
    run_ms: float
    queue_rows: int
    delay_ms: float
    runs_on_host: bool
    requests: tuple[Request, ...]


REQUESTS = st.builds(
    Request,
    pause_ms=st.sampled_from([None, None, None, 0, 0.5, 2]),
    rows=st.sampled_from([1, 1, 1, 2, 3, 5, 8, 9, 21]),
    width=st.sampled_from([1, 1, 2]),
    poisoned=st.sampled_from([False] * 6 + [True]),
    timeout_ms=st.sampled_from([None, None, None, -1, 0.5, 4, 1000]),
    cancel_after_ms=st.sampled_from([None, None, None, None, 0, 0.5, 3]),
)
SCENARIOS = st.builds(
    Scenario,
    inline_rows=st.sampled_from([0, 3, MAX_ROWS]),
    run_ms=st.sampled_from([0, 0.3, 2]),
    queue_rows=st.sampled_from([6, 1000]),
    delay_ms=st.sampled_from([0, 0, 3]),
    runs_on_host=st.booleans(),
    requests=st.lists(REQUESTS, min_size=1, max_size=25).map(tuple),
)


@pytest.mark.parametrize("mode", ["off", "continuous", "window"])
def test_every_request_has_exactly_one_right_outcome(mode):
    if mode == "window":
        enter_replica_context()

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(SCENARIOS)
    def check(scenario):
        run(_check(scenario, mode))

    check()


async def _check(scenario: Scenario, mode: str) -> None:
    # A table by which 16 rows are dear, so that splitting happens, too.
    times_s = {1: 2e-4, 2: 2.2e-4, 4: 2.5e-4, MAX_ROWS: 3e-4}
    sizes = (1, 2, 4, MAX_ROWS)
    executor = FakeExecutor(times_s, scenario.inline_rows, scenario.run_ms / 1e3, sizes, scenario.runs_on_host)
    delay_ms = scenario.delay_ms if mode == "continuous" else 0
    coalescer = make(
        executor,
        mode=mode,
        max_queue_rows=scenario.queue_rows,
        max_queue_delay_ms=delay_ms,
        batch_wait_timeout_s=0.002,
    )
    tasks, ids, next_id = [], [], 0
    for sent in scenario.requests:
        if sent.pause_ms is not None:
            await asyncio.sleep(sent.pause_ms / 1e3)
        mine = list(range(next_id, next_id + sent.rows))
        next_id += sent.rows
        ids.append(mine)
        tasks.append(asyncio.ensure_future(_send(coalescer, sent, mine)))
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    while coalescer.stuck_s:  # noqa: ASYNC110 - a run whose callers were all cancelled may still be on its way
        await asyncio.sleep(0.001)
    assert coalescer.pending == coalescer.waiting == 0
    for sent, mine, outcome in zip(scenario.requests, ids, outcomes, strict=True):
        _check_outcome(executor, sent, mine, outcome)
    _check_runs(executor, scenario, ids)
    _check_counters(coalescer, outcomes)
    await coalescer.close(5)


async def _send(coalescer, sent: Request, ids: list[int]) -> Answer:
    rows = make_rows(ids, sent.width, poisoned=ids[-1:] if sent.poisoned else ())
    deadline_s = None if sent.timeout_ms is None else time.monotonic() + sent.timeout_ms / 1e3
    task = asyncio.ensure_future(coalescer.submit(rows, deadline_s))
    if sent.cancel_after_ms is not None:
        await asyncio.sleep(sent.cancel_after_ms / 1e3)
        task.cancel()
    return await task


def _check_outcome(executor, sent: Request, ids: list[int], outcome: object) -> None:
    times = [executor.times_run(i) for i in ids]
    if isinstance(outcome, Answer):
        assert not sent.poisoned
        assert outcome.outputs[0].shape == (sent.rows, sent.width)
        assert (outcome.outputs[0] == [[3 * i + 1] * sent.width for i in ids]).all()
        assert min(times) >= 1
        assert outcome.queue_ns >= 0
        assert outcome.compute_ns > 0
        assert outcome.batch_rows >= sent.rows
    elif isinstance(outcome, PredictionFailed):
        assert sent.poisoned
        assert isinstance(outcome.__cause__, ValueError)
    elif isinstance(outcome, asyncio.CancelledError):
        assert sent.cancel_after_ms is not None
    elif isinstance(outcome, Overloaded):
        assert outcome.retry_after_s > 0
        assert max(times) == 0
    else:
        assert isinstance(outcome, DeadlineExceeded), repr(outcome)
        assert sent.timeout_ms is not None


def _check_runs(executor, scenario: Scenario, ids: list[list[int]]) -> None:
    width = {i: sent.width for sent, mine in zip(scenario.requests, ids, strict=True) for i in mine}
    for batch in executor.runs:
        assert len({width[i] for i in batch}) == 1, "groups were mixed"
        assert len(batch) <= MAX_ROWS
    twice = any(sent.poisoned for sent in scenario.requests)
    assert all(executor.times_run(i) <= 1 + twice for i in width)
    if not twice:
        refused = [i for i in width if executor.times_run(i) == 0]
        assert len(refused) + len({i for batch in executor.runs for i in batch}) == len(width)


def _check_counters(coalescer, outcomes: list[object]) -> None:
    counts = coalescer.counters
    assert counts.requests >= sum(isinstance(o, Answer) for o in outcomes)
    assert counts.overloaded == sum(isinstance(o, Overloaded) for o in outcomes)
    assert counts.deadline + counts.expired >= sum(isinstance(o, DeadlineExceeded) for o in outcomes)
    assert counts.failed_requests >= sum(isinstance(o, PredictionFailed) for o in outcomes)
    assert counts.batches == sum(runs for runs, _ in counts.sizes.values())
    assert counts.rows + counts.padded_rows == sum(size * runs for size, (runs, _) in counts.sizes.items())
