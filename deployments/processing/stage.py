"""A function as a stage: batches of its own, run where its measured time says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from deployments.coalescing import CoalesceOptions, SwitchingCoalescer, make_coalescer
from deployments.execution import Answer
from deployments.processing.pace import Pace
from deployments.tensors import Arrays, Rows

Run = Callable[[Arrays, int], Arrays]
FIRST_GUESS_S = 1e-3
"""What a function that nobody has timed is taken to cost a row."""


class FunctionExecutor:
    """Runs a function on batches; satisfies `execution.Executor`. Every number of rows is allowed, none is padded.

    A call inline holds the event loop: it is run there while a row takes half of `inline_bound_ms`, and on a thread
    from the whole of it.
    """

    runs_on_host = True

    def __init__(self, run: Run, max_batch_size: int, inline_bound_ms: float) -> None:
        self.batch_sizes = tuple(range(1, max_batch_size + 1))
        self._run = run
        self._row = Pace(FIRST_GUESS_S)
        self._bound_s = inline_bound_ms / 1e3
        self.is_cheap = False
        """Whether a row may be run on the event loop."""

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the function's columns for `count` rows; raises what it raises."""
        started_s = time.perf_counter()
        outputs = self._run(arrays, count)
        self._row.note((time.perf_counter() - started_s) / count)
        self.is_cheap = self._row.expected_s <= (self._bound_s if self.is_cheap else self._bound_s / 2)
        return outputs

    def expected_s(self, count: int) -> float:
        """Return what `count` rows should take, in seconds, as measured lately."""
        return self._row.expected_s * count

    def is_inline(self, count: int) -> bool:
        """Return whether `count` rows may hold the event loop."""
        return self.is_cheap and self.expected_s(count) <= self._bound_s


class Stage:
    """One function behind coalescers: as many as there are places where it can run, one request in the emptiest."""

    def __init__(self, runs: Sequence[Run], options: CoalesceOptions, inline_bound_ms: float) -> None:
        self._lanes = [_Lane(run, options, inline_bound_ms) for run in runs]

    async def submit(self, rows: Rows, deadline_s: float | None) -> Answer:
        """Return the function's columns for `rows`; raises as `SwitchingCoalescer.submit` does."""
        lanes = self._lanes
        lane = lanes[0] if len(lanes) == 1 else min(lanes, key=lambda each: each.coalescer.pending)
        if lane.executor.is_cheap != lane.was_cheap:
            await lane.decide()
        return await lane.coalescer.submit(rows, deadline_s)

    @property
    def stuck_s(self) -> float:
        """How long the longest of the present calls has been running, in seconds."""
        return max(lane.coalescer.stuck_s for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return sum(lane.coalescer.waiting for lane in self._lanes)

    async def reconfigure(self, options: CoalesceOptions) -> None:
        """Take new options."""
        for lane in self._lanes:
            await lane.coalescer.reconfigure(stage_options(options))

    def check_room(self) -> None:
        """Raise `Overloaded` where one more row would be refused in the emptiest lane."""
        min(self._lanes, key=lambda each: each.coalescer.pending).coalescer.check_room()


class _Lane:
    def __init__(self, run: Run, options: CoalesceOptions, inline_bound_ms: float) -> None:
        self.executor = FunctionExecutor(run, options.max_batch_size, inline_bound_ms)
        self.coalescer: SwitchingCoalescer = make_coalescer(self.executor, stage_options(options))
        self.was_cheap = False

    async def decide(self) -> None:
        """Run the function where its time lately says."""
        self.was_cheap = self.executor.is_cheap
        await self.coalescer.reconfigure(self.coalescer.options)


def stage_options(options: CoalesceOptions) -> CoalesceOptions:
    """Return a model's options as a stage's: nobody waits for company before a function."""
    return replace(options, mode="off" if options.mode == "off" else "continuous", max_queue_delay_ms=0.0)
