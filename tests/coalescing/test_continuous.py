"""Who runs with whom, rule by rule, on a fake device that the test holds and lets go."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from deployments.coalescing import CoalesceOptions
from deployments.errors import ConfigError, NotReady
from deployments.execution import Answer
from tests.support.coalescing_fakes import FakeExecutor, block, make, make_rows, queue, unblock

MODES = ("off", "continuous")


def first_step(coroutine) -> Answer | None:
    """Run a coroutine up to its first suspension; its result if it never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    return None


@pytest.mark.parametrize("timeout_s", [None, 60])
@pytest.mark.parametrize("mode", MODES)
def test_a_lone_request_on_an_inline_plan_runs_without_suspending(mode, timeout_s):
    async def check():
        executor = FakeExecutor(inline_rows=32)
        coalescer = make(executor, mode=mode)
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        answer = first_step(coalescer.submit(make_rows([7]), deadline_s))
        assert answer.outputs[0].tolist() == [[22]]
        assert answer.queue_ns == 0
        assert executor.threads == {threading.get_ident()}

    asyncio.run(check())


@pytest.mark.parametrize("mode", MODES)
def test_a_lone_request_on_a_longer_plan_runs_alone_on_the_device_thread(mode):
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode=mode)
        answers = [await coalescer.submit(make_rows([i])) for i in range(3)]
        assert [a.outputs[0].item() for a in answers] == [1, 4, 7]
        assert executor.batches == [[0], [1], [2]]
        assert len(executor.threads) == 1
        assert threading.get_ident() not in executor.threads

    asyncio.run(check())


@pytest.mark.parametrize(("runs_on_host", "batches"), [(True, [[1, 2, 3]]), (False, [[1], [2, 3]])])
def test_a_run_on_the_hosts_cores_waits_for_what_the_loop_has_to_take_in_anyway(runs_on_host, batches):
    async def check():
        executor = FakeExecutor(runs_on_host=runs_on_host)
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        executor.blocker.set()
        executor.blocker = None
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is busy while the device comes free
        late = await queue(coalescer, make_rows([2]), make_rows([3]))
        await asyncio.gather(running, *waiting, *late)
        assert executor.batches[1:] == batches

    asyncio.run(check())


def test_a_full_batch_on_the_hosts_cores_waits_for_nothing():
    """The device took 13 to 17 % fewer rows while it waited for a busy event loop to say that more had come."""

    async def check():
        executor = FakeExecutor(runs_on_host=True, sizes=(1, 2, 4))
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, *[make_rows([i]) for i in range(7)])
        executor.blocker.set()
        executor.blocker = None
        until_s = time.monotonic() + 10
        while len(executor.runs) < 2 and time.monotonic() < until_s:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop is busy
        time.sleep(0.05)  # noqa: ASYNC251
        assert executor.batches[1:] == [[0, 1, 2, 3]]  # the next is not full: after the loop's newcomers
        late = await queue(coalescer, make_rows([7]))
        await asyncio.gather(running, *waiting, *late)
        assert executor.batches[2:] == [[4, 5, 6, 7]]

    asyncio.run(check())


def test_nobody_on_the_hosts_cores_waits_for_company_beyond_a_deadline():
    async def check():
        executor = FakeExecutor(dict.fromkeys((1, 2, 4, 8, 16, 32), 0.03), runs_on_host=True)
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]), deadline_s=time.monotonic() + 0.25)
        executor.blocker.set()
        executor.blocker = None
        late = []
        while not waiting[0].done() and len(late) < 31:
            time.sleep(0.01)  # noqa: ASYNC251 - a newcomer in every pass of a busy loop: full only after 0.31 s
            late += await queue(coalescer, make_rows([2 + len(late)]))
        assert (await waiting[0]).outputs[0].item() == 4
        await asyncio.gather(running, *late)

    asyncio.run(check())


def test_what_a_busy_device_made_wait_goes_out_as_one_batch():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, *[make_rows([i]) for i in range(5)])
        assert coalescer.waiting == 5
        assert coalescer.pending == 6
        outcomes = await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [[0, 1, 2, 3, 4]]
        assert len(executor.runs[1]) == 8  # padded to an allowed size
        assert [o.outputs[0].item() for o in outcomes[1:]] == [1, 4, 7, 10, 13]
        assert {o.batch_rows for o in outcomes[1:]} == {5}
        assert min(o.queue_ns for o in outcomes[1:]) > 0
        assert coalescer.counters.padded_rows == 3
        assert coalescer.counters.sizes[8][0] == 1

    asyncio.run(check())


def test_off_runs_each_request_alone_in_order():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="off")
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, *[make_rows([i]) for i in range(4)])
        await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [[0], [1], [2], [3]]

    asyncio.run(check())


def test_rows_count_not_requests():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, max_batch_size=8)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1, 2, 3]), make_rows([4, 5, 6, 7, 8]), make_rows([9]))
        await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [[1, 2, 3, 4, 5, 6, 7, 8], [9]]

    asyncio.run(check())


def test_a_batch_is_split_where_the_table_says_so():
    async def check():
        executor = FakeExecutor({1: 1e-3, 8: 2e-3, 16: 9e-3}, sizes=(1, 8, 16))
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, *[make_rows([i]) for i in range(9)])
        await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [list(range(8)), [8]]
        answer = await coalescer.submit(make_rows(range(20, 29)))  # one request is split in the same way
        assert executor.batches[3:] == [list(range(20, 28)), [28]]
        assert answer.outputs[0][:, 0].tolist() == [3 * i + 1 for i in range(20, 29)]

    asyncio.run(check())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inline", [0, 8])
def test_more_rows_than_the_largest_batch_are_rejoined_into_one_answer(mode, inline):
    async def check():
        executor = FakeExecutor(sizes=(1, 2, 4, 8), inline_rows=inline)
        coalescer = make(executor, mode=mode)
        answer = await coalescer.submit(make_rows(range(21)))
        assert answer.outputs[0][:, 0].tolist() == [3 * i + 1 for i in range(21)]
        assert [len(run) for run in executor.batches] == [8, 8, 5]

    asyncio.run(check())


def test_groups_never_mix_and_the_oldest_goes_first():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1], width=2), make_rows([2], width=3), make_rows([3], width=2))
        await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [[1, 3], [2]]

    asyncio.run(check())


def test_a_plan_may_be_inline_for_few_rows_and_threaded_for_many():
    async def check():
        executor = FakeExecutor(inline_rows=4)
        coalescer = make(executor)
        await coalescer.submit(make_rows(range(4)))
        assert executor.threads == {threading.get_ident()}
        await coalescer.submit(make_rows(range(5)))
        assert len(executor.threads) == 2

    asyncio.run(check())


def test_a_request_for_an_inline_plan_queues_while_the_thread_runs():
    async def check():
        executor = FakeExecutor(inline_rows=4)
        coalescer = make(executor)
        executor.blocker = threading.Event()
        large = asyncio.ensure_future(coalescer.submit(make_rows(range(8))))
        await asyncio.to_thread(executor.started.wait, 10)
        (small,) = await queue(coalescer, make_rows([9]))
        assert len(executor.runs) == 1
        assert not small.done()
        await unblock(executor, large, small)  # the fake asserts that no two runs overlap
        assert executor.batches[1:] == [[9]]

    asyncio.run(check())


FLAT = {1: 50e-6, 2: 52e-6, 4: 54e-6, 8: 58e-6, 16: 66e-6, 32: 80e-6}


def test_requests_of_one_loop_pass_share_an_inline_batch_once_they_came_together():
    async def check():
        executor = FakeExecutor(FLAT, inline_rows=32)
        coalescer = make(executor)
        await asyncio.gather(*[coalescer.submit(make_rows([i])) for i in range(4)])
        assert executor.batches == [[0], [1], [2], [3]]  # nobody knew of company yet, so nobody waited
        await asyncio.sleep(0)
        await asyncio.gather(*[coalescer.submit(make_rows([i])) for i in range(4, 8)])
        assert executor.batches[4:] == [[4, 5, 6, 7]]
        await coalescer.submit(make_rows([8]))  # alone again: one pass of an idle loop, and then
        assert first_step(coalescer.submit(make_rows([9]))) is not None  # none
        assert executor.batches[5:] == [[8], [9]]

    asyncio.run(check())


def test_a_client_that_sends_one_request_after_another_never_gathers():
    async def check():
        coalescer = make(FakeExecutor(FLAT, inline_rows=32))
        for i in range(5):
            assert first_step(coalescer.submit(make_rows([i]))) is not None
            await asyncio.sleep(0)

    asyncio.run(check())


def test_requests_do_not_gather_where_a_batch_is_no_cheaper():
    async def check():
        executor = FakeExecutor({1: 1e-5, 2: 2e-5, 4: 4e-5}, inline_rows=4, sizes=(1, 2, 4))
        coalescer = make(executor)
        for _ in range(3):
            await asyncio.gather(*[coalescer.submit(make_rows([i])) for i in range(4)])
        assert {len(run) for run in executor.batches} == {1}

    asyncio.run(check())


def test_a_queue_delay_lets_an_idle_device_wait_for_company():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, max_queue_delay_ms=150, max_batch_size=4)
        started_s = time.monotonic()
        tasks = await queue(coalescer, make_rows([1]), make_rows([2]))
        await asyncio.gather(*tasks)
        assert time.monotonic() - started_s >= 0.15
        assert executor.batches == [[1, 2]]

    asyncio.run(check())


def test_a_full_batch_does_not_wait_for_the_delay():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, max_queue_delay_ms=60_000, max_batch_size=4)
        tasks = await queue(coalescer, *[make_rows([i]) for i in range(4)])
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert executor.batches == [[0, 1, 2, 3]]

    asyncio.run(check())


def test_a_deadline_ends_the_delay():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, max_queue_delay_ms=60_000)
        answer = await asyncio.wait_for(coalescer.submit(make_rows([1]), time.monotonic() + 2), 10)
        assert answer.outputs[0].item() == 4

    asyncio.run(check())


def test_a_shorter_delay_takes_effect_on_who_waits_already():
    async def check():
        coalescer = make(FakeExecutor(), max_queue_delay_ms=60_000)
        (task,) = await queue(coalescer, make_rows([1]))
        await coalescer.reconfigure(CoalesceOptions())
        assert (await asyncio.wait_for(task, 10)).outputs[0].item() == 4

    asyncio.run(check())


def test_another_loop_hops_and_shares_the_batch():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(coalescer.submit(make_rows([2])))))
        while coalescer.waiting < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        outcomes = await unblock(executor, running, *waiting, elsewhere)
        assert executor.batches[1:] == [[1, 2]]
        assert outcomes[2].outputs[0].item() == 7

    asyncio.run(check())


@pytest.mark.parametrize("inline", [0, 32])
def test_when_its_loop_is_closed_the_next_one_takes_over(inline):
    coalescer = make(FakeExecutor(inline_rows=inline))
    for i in range(3):
        assert asyncio.run(coalescer.submit(make_rows([i]))).outputs[0].item() == 3 * i + 1


def test_knobs_change_while_requests_wait():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor, mode="off")
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, *[make_rows([i]) for i in range(6)])
        await coalescer.reconfigure(CoalesceOptions(mode="continuous", max_batch_size=4))
        await unblock(executor, running, *waiting)
        assert executor.batches[1:] == [[0, 1, 2, 3], [4, 5]]

    asyncio.run(check())


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"max_batch_size: 64 .* 32"):
        make(FakeExecutor(), max_batch_size=64)
    with pytest.raises(ConfigError, match="coalesce"):
        CoalesceOptions(mode="sometimes")  # type: ignore[arg-type]
    for knob in ("max_batch_size", "batch_wait_timeout_s", "max_queue_delay_ms", "max_queue_rows"):
        with pytest.raises(ConfigError, match=knob):
            CoalesceOptions(**{knob: -1})


def test_close_answers_who_waits_and_refuses_newcomers():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        closing = asyncio.ensure_future(coalescer.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await coalescer.submit(make_rows([2]))
        outcomes = await unblock(executor, running, *waiting, closing)
        assert outcomes[1].outputs[0].item() == 4
        assert coalescer.pending == 0

    asyncio.run(check())


def test_close_gives_up_on_the_waiting_after_its_limit():
    async def check():
        executor = FakeExecutor()
        coalescer = make(executor)
        running = await block(coalescer, executor)
        waiting = await queue(coalescer, make_rows([1]))
        await coalescer.close(limit_s=0.01)
        assert isinstance((await asyncio.gather(*waiting, return_exceptions=True))[0], NotReady)
        outcomes = await unblock(executor, running)
        assert isinstance(outcomes[0], Answer)
        assert executor.batches == [[10_000]]

    asyncio.run(check())
