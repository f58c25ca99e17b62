"""Continuous coalescing: an idle device runs a request at once; what a busy one made wait goes out together.

The flow: `submit` → admission → either run on the spot (inline plan, idle device), or an `Entry` in the queue.
`Gathering` says who runs on the spot. Whoever drains the queue holds the device (`_busy`): the device thread, which
takes its next batch itself the moment it is free (where runs take the host's own cores, and the batch is no full one:
after the event loop's `Intake`); or, for inline plans, `_flush` on the event loop. `off` is the same with batches of
one request.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from functools import partial
from math import inf

from deployments.coalescing.admission import Admission
from deployments.coalescing.alarm import Alarm
from deployments.coalescing.counters import Counters
from deployments.coalescing.device_thread import DeviceThread, call_in_loop
from deployments.coalescing.entries import Entry
from deployments.coalescing.gathering import Gathering
from deployments.coalescing.intake import Intake
from deployments.coalescing.options import CoalesceOptions
from deployments.coalescing.running import Runner
from deployments.coalescing.splitting import Splitter
from deployments.coalescing.waiting import WaitingEntries
from deployments.errors import NotReady
from deployments.execution import Answer
from deployments.tensors import Rows

SWEEP_S = 0.001
"""Least time between two searches for expired entries."""


class ContinuousCoalescer:
    """Modes `continuous` and `off`. All methods are for the one event loop given; the queue is under a lock."""

    def __init__(
        self,
        runner: Runner,
        thread: DeviceThread,
        counters: Counters,
        options: CoalesceOptions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._runner = runner
        self._thread = thread
        self._counters = counters
        self._loop = loop
        self._lock = threading.Lock()
        self._busy = False
        self._closed = False
        self._in_company = False
        self._unanswered_rows = 0
        self._gathering = Gathering(loop)
        self._intake = Intake(loop, lambda: self._waiting, lambda: self._thread.post(self._drain_queue))
        self._delay_alarm = Alarm(loop, self._start_if_idle)
        self._sweep_alarm = Alarm(loop, self._sweep)
        self._waiting = WaitingEntries(runner.splitter, shares=False)
        self._admission = Admission(runner.splitter, options.queue_limit_rows, counters)
        self.apply(options)

    def apply(self, options: CoalesceOptions) -> None:
        """Take new options; what waits stays in the queue."""
        with self._lock:
            splitter = Splitter(self._runner.executor, options.max_batch_size)
            waiting = WaitingEntries(splitter, shares=options.mode == "continuous")
            for entry in self._waiting.take_all():
                waiting.add(entry)
            self._waiting = waiting
            self._runner.splitter = self._admission.splitter = splitter
            self._admission.limit_rows = options.queue_limit_rows
            self._delay_ns = int(options.max_queue_delay_ms * 1e6) if waiting.shares else 0
        is_inline = [self._runner.executor.is_inline(count) for count in range(1, splitter.max_rows + 1)]
        self._gathering.apply(splitter, is_inline, waiting.shares, self._delay_ns > 0)
        self._shares_host = waiting.shares and self._runner.executor.runs_on_host
        self._start_if_idle()  # who waits for company may have waited long enough by the new delay

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; see `Coalescer.submit`."""
        if rows.count > self._gathering.direct_rows or self._busy:
            return await self._submit_queued(rows, deadline_s)
        if deadline_s is not None and deadline_s - time.monotonic() < self._runner.splitter.cost_s(rows.count):
            return await self._submit_queued(rows, deadline_s)  # which refuses
        self._gathering.note_arrival()
        return self._runner.run_direct(rows.arrays, rows.count)

    @property
    def waiting_rows(self) -> int:
        """Rows accepted that do not run yet."""
        return self._waiting.rows

    @property
    def pending_rows(self) -> int:
        """Rows accepted and not yet answered."""
        return self._unanswered_rows

    def check_room(self, count: int = 1) -> None:
        """Raise `Overloaded` if `count` rows would not be let in now: a test that costs less than decoding them."""
        self._admission.check_room(count, self._waiting.rows)

    def hold(self) -> None:
        """Queue everything, run nothing, until `release`."""
        self._busy = True

    def release(self) -> None:
        """Start on what waits."""
        self._start()

    async def drain(self, limit_s: float = inf) -> None:
        """Refuse newcomers, return when everyone is answered; after `limit_s` who still waits gets `NotReady`."""
        self._closed = True
        self._gathering.close()
        until_s = time.monotonic() + limit_s
        while self._unanswered_rows and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # once in a replica's life; an event would cost every answer
        with self._lock:
            left = self._waiting.take_all()
        for entry in left:
            entry.outcome = NotReady("the model is being unloaded")
        self._deliver(left)

    async def _submit_queued(self, rows: Rows, deadline_s: float | None) -> Answer:
        entry = self._accept(rows, deadline_s)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._withdraw(entry)
            raise

    def _accept(self, rows: Rows, deadline_s: float | None) -> Entry:
        if self._closed:
            raise NotReady("the model is being unloaded")
        accepted_ns = time.perf_counter_ns()
        entry = Entry(rows, deadline_s, accepted_ns, self._loop.create_future())
        with self._lock:
            self._admission.check_room(rows.count, self._waiting.rows)
            entry.expected_s = self._needed_s(rows.count)
            if deadline_s is not None:
                # Who finds the device idle is taken at the plan's word: otherwise nobody could prove a stall over.
                factor = self._admission.foresight.factor if self._busy else 1.0
                self._admission.check_deadline(deadline_s - time.monotonic(), factor * entry.expected_s)
            self._waiting.add(entry)
            starts = not self._busy and self._delay_left_ns(accepted_ns) <= 0
            waits = not self._busy and not starts
            self._busy = self._busy or starts
        self._unanswered_rows += rows.count
        if starts:
            self._start()
        elif waits:
            self._arm_delay()
        if deadline_s is not None and not starts:
            self._sweep_alarm.set_in(deadline_s - time.monotonic())
        return entry

    def _needed_s(self, count: int) -> float:
        """Return how soon `count` more rows should be answered: the present run's rest, then the queue and they."""
        rest_s, splitter, waiting = self._runner.rest_s, self._runner.splitter, self._waiting
        if waiting.shares:
            return rest_s + splitter.cost_s(waiting.rows + count)
        return rest_s + waiting.cost_s() + splitter.cost_s(count)

    def _start(self) -> None:
        """Set the drain going; the caller has just taken the device (`_busy`)."""
        if self._gathering.is_on:
            self._loop.call_soon(self._flush)
        elif self._waiting.rows <= self._gathering.inline_rows:
            self._flush()
        elif self._in_company:
            self._intake.begin()
        else:
            self._thread.post(self._drain_queue)

    def _flush(self) -> None:
        """Run one batch here if it is short, else hand over to the thread; then let the loop breathe."""
        self._gathering.note_flush(self._waiting.count)
        members = self._next_batch()
        if not members:
            return
        if sum(entry.rows.count for entry in members) > self._gathering.inline_rows:
            self._thread.post(partial(self._drain_queue, members))
            return
        self._run(members)
        self._deliver(members)
        with self._lock:
            self._busy = self._waiting.count > 0
        if self._busy:
            self._loop.call_soon(self._flush)

    def _drain_queue(self, members: Sequence[Entry] = ()) -> None:
        """Run batch after batch until none waits; on the device thread."""
        members = members or self._next_batch()
        while members:
            try:
                self._run(members)
            except BaseException as error:  # not even a SystemExit in a model may leave callers waiting for ever
                self._runner.fail(members, error)
            call_in_loop(self._loop, partial(self._deliver, members))
            self._in_company = self._shares_host and len(members) + self._waiting.count > 1
            if self._in_company and self._waiting.rows < self._waiting.splitter.max_rows:
                call_in_loop(self._loop, self._intake.begin)
                return
            members = self._next_batch()

    def _run(self, members: Sequence[Entry]) -> None:
        started_s = time.perf_counter()
        self._runner.run(members)
        self._admission.drain_rate.record(sum(entry.rows.count for entry in members), time.perf_counter() - started_s)

    def _next_batch(self) -> list[Entry]:
        """Take the next batch; empty if none is due, and then the device is idle."""
        with self._lock:
            now_s = time.monotonic()
            late = self._waiting.take_late(now_s)
            self._counters.expired += len(late)
            is_due = not self._delay_ns or self._delay_left_ns(time.perf_counter_ns()) <= 0
            members = self._waiting.take_batch(now_s) if is_due else []
            self._busy = bool(members)
            delays = not is_due
        for entry in late:
            entry.expire()
        if late:
            call_in_loop(self._loop, partial(self._deliver, late))
        if delays:
            call_in_loop(self._loop, self._arm_delay)
        return members

    def _deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not entry.is_settled:
                entry.is_settled = True
                self._unanswered_rows -= entry.rows.count
                if entry.expected_s and isinstance(entry.outcome, Answer):
                    actual_s = (time.perf_counter_ns() - entry.accepted_ns) / 1e9
                    self._admission.foresight.record(entry.expected_s, actual_s)
                entry.settle()

    def _withdraw(self, entry: Entry) -> None:
        """Take out an entry whose caller was cancelled; if it runs already, its answer is dropped."""
        if entry.is_settled:
            return
        with self._lock:
            self._waiting.remove(entry)
        entry.is_settled = entry.is_withdrawn = True
        self._unanswered_rows -= entry.rows.count
        self._counters.cancelled += 1

    def _delay_left_ns(self, now_ns: int) -> int:
        """Return how much longer the oldest may wait for company: never longer than a deadline then has left."""
        waiting, splitter = self._waiting, self._waiting.splitter
        oldest = waiting.oldest() if self._delay_ns else None
        if oldest is None or waiting.rows >= splitter.max_rows:
            return 0
        waited_ns = now_ns - oldest.accepted_ns
        slack_s = waiting.earliest_deadline_s() - time.monotonic() - splitter.cost_s(waiting.rows)
        return int(min(self._delay_ns - waited_ns, (slack_s * 1e9 - waited_ns) / 2))

    def _arm_delay(self) -> None:
        if not self._busy and self._waiting.count:
            self._delay_alarm.set_in(self._delay_left_ns(time.perf_counter_ns()) / 1e9)

    def _start_if_idle(self) -> None:
        with self._lock:
            starts = not self._busy and self._waiting.count > 0
            self._busy = self._busy or starts
        if starts:
            self._start()

    def _sweep(self) -> None:
        """Tell those whose deadline passed while they waited, then and not when the device is free."""
        with self._lock:
            late = self._waiting.take_late(time.monotonic())
            self._counters.expired += len(late)
            next_s = self._waiting.earliest_deadline_s()
        for entry in late:
            entry.expire()
        self._deliver(late)
        if next_s < inf:
            self._sweep_alarm.set_in(max(SWEEP_S, next_s - time.monotonic()))
