"""Refusing early, leaving early, and failing alone."""

from __future__ import annotations

import asyncio
import time

import pytest

from deployments.coalescing.admission import DrainRate, Foresight
from deployments.coalescing.running import FAILURE_LIMIT
from deployments.coalescing.splitting import Splitter
from deployments.errors import DeadlineExceeded, OutOfMemory, Overloaded, PredictionFailed
from deployments.execution import Answer
from tests.support.coalescing_fakes import FakeExecutor, block, make, make_rows, queue, unblock

MODES = ("off", "continuous")


@pytest.mark.parametrize("mode", MODES)
def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(mode):
    async def check():
        executor = FakeExecutor({1: 0.5, 2: 0.5, 4: 0.5}, sizes=(1, 2, 4))
        coalescer = make(executor, mode=mode, max_queue_rows=4)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1, 2]), make_rows([3, 4]))
        with pytest.raises(Overloaded, match="4 of 4 rows wait") as refusal:
            await coalescer.submit(make_rows([5, 6]))
        # Nothing was measured yet, so the table speaks: two rows must go first, in one run of half a second.
        assert refusal.value.retry_after_s == pytest.approx(0.5, rel=0.01)
        with pytest.raises(Overloaded):
            coalescer.check_room()
        assert coalescer.counters.overloaded == 2
        outcomes = await unblock(executor, running, *waiting)
        assert all(isinstance(outcome, Answer) for outcome in outcomes)
        assert executor.times_run(5) == 0
        coalescer.check_room()

    asyncio.run(check())


def test_the_drain_rate_follows_what_was_measured():
    splitter = Splitter(FakeExecutor(), 32)
    rate = DrainRate()
    assert rate.wait_s(3, splitter) == splitter.cost_s(3)
    rate.record(rows=10, seconds=2.0)
    assert rate.wait_s(30, splitter) == pytest.approx(6.0)
    for _ in range(100):
        rate.record(rows=10, seconds=1.0)
    assert rate.wait_s(30, splitter) == pytest.approx(3.0, rel=0.01)


def test_a_request_larger_than_the_queue_passes_only_if_none_waits():
    async def check():
        executor = FakeExecutor(sizes=(1, 2, 4))
        coalescer = make(executor, max_queue_rows=4)
        assert len((await coalescer.submit(make_rows(range(9)))).outputs[0]) == 9
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        with pytest.raises(Overloaded):
            await coalescer.submit(make_rows(range(9)))
        await unblock(executor, running, *waiting)

    asyncio.run(check())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inline", [0, 32])
def test_a_deadline_that_the_plan_says_cannot_be_met_is_refused_at_once(mode, inline):
    async def check():
        executor = FakeExecutor(dict.fromkeys((1, 2, 4), 1.0), sizes=(1, 2, 4), inline_rows=inline)
        coalescer = make(executor, mode=mode)
        with pytest.raises(DeadlineExceeded, match="expected to take 1e"):
            await coalescer.submit(make_rows([1]), time.monotonic() + 0.5)
        assert executor.runs == []
        assert coalescer.counters.deadline == 1
        await coalescer.submit(make_rows([1]), time.monotonic() + 5)

    asyncio.run(check())


def test_the_queue_ahead_counts_towards_a_deadline():
    async def check():
        executor = FakeExecutor({1: 1.0}, sizes=(1,))
        coalescer = make(executor, mode="off")
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]), make_rows([2]))
        with pytest.raises(DeadlineExceeded):  # about 1 s of the present run, 2 s of queue, 1 s of its own
            await coalescer.submit(make_rows([3]), time.monotonic() + 2.5)
        waiting += await queue(coalescer, make_rows([4]), deadline_s=time.monotonic() + 30)
        assert not waiting[-1].done()
        await unblock(executor, running, *waiting)
        assert executor.times_run(3) == 0
        assert executor.times_run(4) == 1

    asyncio.run(check())


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_expires_in_the_queue_hears_of_it_then_and_never_runs(mode):
    async def check():
        executor = FakeExecutor({1: 1e-4}, sizes=(1,))
        coalescer = make(executor, mode=mode)
        running = await block(coalescer, executor)
        tasks = await queue(coalescer, make_rows([1]), deadline_s=time.monotonic() + 0.05)
        (outcome,) = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert isinstance(outcome, DeadlineExceeded)  # while the device is still held
        assert coalescer.waiting == 0
        assert coalescer.counters.expired == 1
        await unblock(executor, running)
        assert executor.times_run(1) == 0

    asyncio.run(check())


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_request_leaves_the_queue_and_its_place(mode):
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode=mode, max_queue_rows=2)
        running = await block(coalescer, executor)
        gone, stays = await queue(coalescer, make_rows([1]), make_rows([2]))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert coalescer.waiting == 1
        newcomers = await queue(coalescer, make_rows([3]))
        outcomes = await unblock(executor, running, stays, *newcomers)
        assert all(isinstance(outcome, Answer) for outcome in outcomes)
        assert executor.times_run(1) == 0
        assert coalescer.counters.cancelled == 1
        assert coalescer.pending == 0

    asyncio.run(check())


def test_a_long_request_stops_between_runs_when_its_caller_leaves():
    async def check():
        executor = FakeExecutor(sizes=(1,))
        coalescer = make(executor)
        executor.run_s = 0.01
        task = asyncio.ensure_future(coalescer.submit(make_rows(range(500))))
        await asyncio.to_thread(executor.started.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await coalescer.submit(make_rows([1000]))
        assert len(executor.runs) < 500
        assert coalescer.counters.failed_requests == 0

    asyncio.run(check())


def test_a_batch_that_fails_is_run_one_by_one_and_only_the_culprit_errs():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]), make_rows([2, 3], poisoned=[3]), make_rows([4]))
        _, first, culprit, last = await unblock(executor, running, *waiting)
        assert first.outputs[0].tolist() == [[4]]
        assert last.outputs[0].tolist() == [[13]]
        assert isinstance(culprit, PredictionFailed)
        assert isinstance(culprit.__cause__, ValueError)
        assert executor.batches[1:] == [[1, 2, 3, 4], [1], [2, 3], [4]]
        counts = coalescer.counters
        assert (counts.retried_batches, counts.failed_requests, counts.failed_rows) == (1, 1, 2)

    asyncio.run(check())


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's is."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        ResourceExhaustedError("OOM when allocating tensor with shape[512,1024]"),
        RuntimeError("Non-zero status code: Failed to allocate memory for requested buffer of size 9"),
        RuntimeError("cuGraphLaunch: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_memory_that_does_not_suffice_is_no_fault_of_the_input(error):
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        run = executor.run
        executor.run = lambda *_: (_ for _ in ()).throw(error)
        with pytest.raises(OutOfMemory, match="out of memory for 2 rows at once; fewer may fit") as caught:
            await coalescer.submit(make_rows([1, 2]))
        assert caught.value.__cause__ is error
        executor.run = run
        assert (await coalescer.submit(make_rows([1]))).outputs[0].tolist() == [[4]]

    asyncio.run(check())


@pytest.mark.parametrize("inline", [0, 32])
def test_a_request_that_fails_alone_is_not_run_again(inline):
    async def check():
        executor = FakeExecutor(inline_rows=inline)
        coalescer = make(executor)
        with pytest.raises(PredictionFailed, match="poisoned row"):
            await coalescer.submit(make_rows([1], poisoned=[1]))
        assert executor.times_run(1) == 1
        assert coalescer.counters.retried_batches == 0

    asyncio.run(check())


@pytest.mark.parametrize("inline", [0, 32])
def test_a_device_that_fails_everything_is_unhealthy_until_it_succeeds(inline):
    async def check():
        executor = FakeExecutor(inline_rows=inline)
        coalescer = make(executor)
        executor.broken = True
        for i in range(FAILURE_LIMIT):
            assert coalescer.healthy
            await asyncio.gather(coalescer.submit(make_rows([i])), return_exceptions=True)
        assert not coalescer.healthy
        assert coalescer.consecutive_failures == FAILURE_LIMIT
        executor.broken = False
        await coalescer.submit(make_rows([99]))
        assert coalescer.healthy

    asyncio.run(check())


def test_even_an_exit_in_the_model_answers_its_callers():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)

        def leave(count: int) -> float:
            raise SystemExit(3)

        executor.run_s = leave
        with pytest.raises(PredictionFailed, match="SystemExit"):
            await coalescer.submit(make_rows([1]))
        executor.run_s = 0.0
        assert (await coalescer.submit(make_rows([2]))).outputs[0].item() == 7

    asyncio.run(check())


def test_a_hung_call_shows():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        assert coalescer.stuck_s == 0
        running = await block(coalescer, executor)
        before_s = coalescer.stuck_s
        await asyncio.sleep(0.01)
        assert coalescer.stuck_s >= before_s + 0.01
        await unblock(executor, running)
        assert coalescer.stuck_s == 0

    asyncio.run(check())


def test_a_run_counts_its_rows_and_what_padded_them():
    async def check():
        coalescer = make(FakeExecutor())
        await coalescer.submit(make_rows([1, 2, 3]))
        counts = coalescer.counters
        assert (counts.requests, counts.batches, counts.rows, counts.padded_rows) == (1, 1, 3, 1)
        assert counts.sizes[4][0] == 1
        assert counts.compute_ns > 0

    asyncio.run(check())


def test_foresight_learns_how_much_longer_answers_take_than_planned() -> None:
    foresight = Foresight()
    assert foresight.factor == 1.0
    for _ in range(200):
        foresight.record(0.1, 0.2)
    assert foresight.factor == pytest.approx(2.0, rel=0.01)
    for _ in range(200):
        foresight.record(0.1, 0.05)
    assert foresight.factor == 1.0, "a plan that was too careful is no reason to be careless"
    foresight.record(0.1, 3600.0)
    assert foresight.factor < 1.2, "one stall is not the rule"
