"""Window coalescing: Ray's `@serve.batch` itself, with this package's admission, device and isolation.

The decorator is injected, for nothing in `deployments.coalescing` imports Ray. What follows of it was read in
ray 2.60.0, `serve/batching.py`:
- it works only inside a Serve replica (its queue asks for the replica's context);
- an item larger than `max_batch_size` fails by `future.set_exception`, which raises if that caller was cancelled
  and so ends the batching task for good: `_count_rows` never reports one;
- it fills batches while the device is busy, so entries wait in it and again for the device.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import inf
from typing import Any

from deployments.coalescing.admission import Admission
from deployments.coalescing.counters import Counters
from deployments.coalescing.device_thread import DeviceThread
from deployments.coalescing.entries import Entry
from deployments.coalescing.gathering import inline_rows
from deployments.coalescing.options import CoalesceOptions
from deployments.coalescing.running import Runner
from deployments.coalescing.splitting import Splitter
from deployments.errors import NotReady
from deployments.execution import Answer
from deployments.tensors import Rows

ServeBatch = Callable[..., Any]
"""`ray.serve.batch`."""


class WindowCoalescer:
    """Mode `window`. All methods are for the one event loop given."""

    def __init__(
        self,
        runner: Runner,
        thread: DeviceThread,
        counters: Counters,
        options: CoalesceOptions,
        serve_batch: ServeBatch,
    ) -> None:
        self._runner = runner
        self._thread = thread
        self._counters = counters
        self._admission = Admission(runner.splitter, options.queue_limit_rows, counters)
        self._waiting_rows = 0
        self._unanswered_rows = 0
        self._closed = False
        self._released = asyncio.Event()
        self._released.set()
        self._batched = serve_batch(
            max_batch_size=options.max_batch_size,
            batch_wait_timeout_s=options.batch_wait_timeout_s,
            batch_size_fn=self._count_rows,
        )(self.predict_batch)
        self.apply(options)

    def apply(self, options: CoalesceOptions) -> None:
        """Take new options, through the decorator's own setters."""
        splitter = Splitter(self._runner.executor, options.max_batch_size)
        is_inline = [self._runner.executor.is_inline(count) for count in range(1, splitter.max_rows + 1)]
        self._inline_rows = inline_rows(splitter, is_inline)
        self._runner.splitter = self._admission.splitter = splitter
        self._admission.limit_rows = options.queue_limit_rows
        self._wait_s = options.batch_wait_timeout_s
        self._batched.set_max_batch_size(splitter.max_rows)
        self._batched.set_batch_wait_timeout_s(options.batch_wait_timeout_s)

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; see `Coalescer.submit`."""
        entry = self._accept(rows, deadline_s)
        try:
            await self._batched(entry)
        except asyncio.CancelledError:
            entry.is_withdrawn = True
            self._counters.cancelled += 1
            raise
        finally:
            self._leave_queue(entry)
            self._unanswered_rows -= rows.count
        if isinstance(entry.outcome, Answer):
            return entry.outcome
        raise entry.outcome or NotReady("the model is being unloaded")

    @property
    def waiting_rows(self) -> int:
        """Rows accepted that do not run yet."""
        return self._waiting_rows

    @property
    def pending_rows(self) -> int:
        """Rows accepted and not yet answered."""
        return self._unanswered_rows

    def check_room(self, count: int = 1) -> None:
        """Raise `Overloaded` if `count` rows would not be let in now."""
        self._admission.check_room(count, self._waiting_rows)

    def hold(self) -> None:
        """Queue everything, run nothing, until `release`."""
        self._released.clear()

    def release(self) -> None:
        """Start on what waits."""
        self._released.set()

    async def drain(self, limit_s: float = inf) -> None:
        """Refuse newcomers and return when everyone is answered, or after `limit_s`."""
        self._closed = True
        until_s = time.monotonic() + limit_s
        while self._unanswered_rows and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # once in a replica's life; an event would cost every answer

    async def predict_batch(self, entries: list[Entry]) -> list[None]:
        """Give every entry its outcome; what `@serve.batch` decorates, and the name its metrics carry."""
        await self._released.wait()
        for members in self._by_group(entries):
            await self._run(members)
        return [None] * len(entries)

    def _accept(self, rows: Rows, deadline_s: float | None) -> Entry:
        if self._closed:
            raise NotReady("the model is being unloaded")
        self._admission.check_room(rows.count, self._waiting_rows)
        if deadline_s is not None:
            ahead_s = self._runner.splitter.cost_s(self._waiting_rows + rows.count)
            self._admission.check_deadline(deadline_s - time.monotonic(), self._timer_s(rows.count) + ahead_s)
        self._waiting_rows += rows.count
        self._unanswered_rows += rows.count
        return Entry(rows, deadline_s, time.perf_counter_ns(), asyncio.get_running_loop().create_future())

    def _timer_s(self, count: int) -> float:
        """Return the timer that `count` more rows must wait out: none if they fill a batch."""
        return 0.0 if self._waiting_rows + count >= self._runner.splitter.max_rows else self._wait_s

    def _count_rows(self, entries: list[Entry]) -> int:
        """Rows of a prospective batch; a lone entry never counts as too large, `Runner` splits it."""
        rows = sum(entry.rows.count for entry in entries)
        return rows if len(entries) > 1 else min(rows, self._runner.splitter.max_rows)

    def _by_group(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        groups: dict[Hashable, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.rows.group, []).append(entry)
        return list(groups.values())

    async def _run(self, entries: Sequence[Entry]) -> None:
        members = [entry for entry in entries if self._is_live(entry)]
        for entry in members:
            self._leave_queue(entry)
        count = sum(entry.rows.count for entry in members)
        started_s = time.perf_counter()
        if members and count <= self._inline_rows:
            self._runner.run(members)
        elif members:
            await self._thread.call(partial(self._run_on_thread, members))
        self._admission.drain_rate.record(count, time.perf_counter() - started_s)

    def _run_on_thread(self, members: Sequence[Entry]) -> None:
        try:
            self._runner.run(members)
        except BaseException as error:
            self._runner.fail(members, error)

    def _is_live(self, entry: Entry) -> bool:
        if entry.is_withdrawn:
            return False
        late_s = -inf if entry.deadline_s is None else time.monotonic() - entry.deadline_s
        if late_s + self._runner.splitter.cost_s(entry.rows.count) <= 0:
            return True
        self._counters.expired += 1
        entry.expire()
        return False

    def _leave_queue(self, entry: Entry) -> None:
        if not entry.is_settled:
            entry.is_settled = True
            self._waiting_rows -= entry.rows.count
