"""Mode `window` on Ray's real `@serve.batch`, with this package's rules around it."""

from __future__ import annotations

import asyncio
import time

import pytest

from deployments.coalescing import CoalesceOptions, make_coalescer
from deployments.errors import ConfigError, DeadlineExceeded, NotReady, Overloaded, PredictionFailed
from tests.support.coalescing_fakes import (
    FakeExecutor,
    block,
    enter_replica_context,
    make,
    make_rows,
    queue,
    run,
    unblock,
)


@pytest.fixture(autouse=True)
def _in_a_replica():
    enter_replica_context()


@pytest.mark.parametrize("inline", [0, 32])
def test_requests_within_the_timer_share_a_batch(inline):
    async def check():
        executor = FakeExecutor(inline_rows=inline)
        coalescer = make(executor, mode="window", batch_wait_timeout_s=0.05)
        started_s = time.monotonic()
        answers = await asyncio.gather(*[coalescer.submit(make_rows([i])) for i in range(5)])
        assert time.monotonic() - started_s >= 0.05
        assert [a.outputs[0].item() for a in answers] == [1, 4, 7, 10, 13]
        assert executor.batches == [[0, 1, 2, 3, 4]]
        assert coalescer.pending == coalescer.waiting == 0

    run(check())


def test_a_full_batch_goes_at_once_and_counts_rows():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="window", max_batch_size=8, batch_wait_timeout_s=60)
        tasks = await queue(coalescer, make_rows([1, 2, 3]), make_rows([4, 5, 6, 7, 8]))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert executor.batches == [[1, 2, 3, 4, 5, 6, 7, 8]]

    run(check())


def test_the_setters_change_a_running_window():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="window", batch_wait_timeout_s=0.001)
        await coalescer.submit(make_rows([0]))
        await coalescer.reconfigure(CoalesceOptions(mode="window", max_batch_size=2, batch_wait_timeout_s=60))
        tasks = await queue(coalescer, make_rows([1]), make_rows([2]))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert executor.batches == [[0], [1, 2]]

    run(check())


def test_more_rows_than_a_window_neither_fail_nor_end_the_batching_task():
    async def check():
        executor = FakeExecutor(sizes=(1, 2, 4))
        coalescer = make(executor, mode="window", batch_wait_timeout_s=0.001)
        (gone,) = await queue(coalescer, make_rows(range(100, 109)))
        gone.cancel()
        answer = await asyncio.wait_for(coalescer.submit(make_rows(range(9))), 10)
        assert answer.outputs[0][:, 0].tolist() == [3 * i + 1 for i in range(9)]
        assert coalescer.pending == coalescer.waiting == 0

    run(check())


def test_one_bad_item_fails_alone():
    async def check():
        coalescer = make(FakeExecutor(), mode="window")
        requests = [make_rows([1]), make_rows([2], poisoned=[2]), make_rows([3])]
        first, culprit, last = await asyncio.gather(*map(coalescer.submit, requests), return_exceptions=True)
        assert first.outputs[0].item() == 4
        assert isinstance(culprit, PredictionFailed)
        assert last.outputs[0].item() == 10

    run(check())


def test_the_timer_counts_towards_a_deadline():
    async def check():
        coalescer = make(FakeExecutor(), mode="window", batch_wait_timeout_s=1)
        with pytest.raises(DeadlineExceeded):
            await coalescer.submit(make_rows([1]), time.monotonic() + 0.5)

    run(check())


def test_the_queue_is_bounded():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="window", max_queue_rows=2, batch_wait_timeout_s=0.001)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]), make_rows([2]))
        with pytest.raises(Overloaded):
            await coalescer.submit(make_rows([3]))
        await unblock(executor, running, *waiting)
        assert coalescer.waiting == 0

    run(check())


def test_groups_of_one_window_run_apart():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="window")
        requests = [make_rows([1], width=2), make_rows([2], width=3), make_rows([3], width=2)]
        await asyncio.gather(*map(coalescer.submit, requests))
        assert executor.batches == [[1, 3], [2]]

    run(check())


@pytest.mark.parametrize(("before", "after"), [("continuous", "window"), ("window", "continuous")])
def test_a_change_of_mode_loses_nobody(before, after):
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="window", batch_wait_timeout_s=0.001)
        await coalescer.reconfigure(CoalesceOptions(mode=before, batch_wait_timeout_s=0.001))
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        changing = asyncio.ensure_future(coalescer.reconfigure(CoalesceOptions(mode=after, batch_wait_timeout_s=0.001)))
        await asyncio.sleep(0)
        waiting += await queue(coalescer, make_rows([2]))
        outcomes = await unblock(executor, running, *waiting, changing)
        assert [o.outputs[0].item() for o in outcomes[1:3]] == [4, 7]
        assert coalescer.options.mode == after
        await coalescer.close()
        with pytest.raises(NotReady):
            await coalescer.submit(make_rows([3]))

    run(check())


def test_without_serve_there_is_no_window():
    with pytest.raises(ConfigError, match="inside a Serve replica"):
        make_coalescer(FakeExecutor(), CoalesceOptions(mode="window"))
