"""An executor without a model: rows carry identities, so that every answer can be checked against its question."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from deployments.coalescing import CoalesceOptions, SwitchingCoalescer, make_coalescer
from deployments.tensors import Rows

T = TypeVar("T")

SIZES = (1, 2, 4, 8, 16, 32)


class FakeExecutor:
    """Answers `3 × id + 1` per row, fails if a row is poisoned, and keeps a record of every run."""

    def __init__(
        self,
        times_s: dict[int, float] | None = None,
        inline_rows: int = 0,
        run_s: float | Callable[[int], float] = 0.0,
        sizes: Sequence[int] = SIZES,
        runs_on_host: bool = False,
    ) -> None:
        self.batch_sizes = tuple(sizes)
        self.runs_on_host = runs_on_host
        self.times_s = times_s or {size: 1e-3 * (1 + size / 16) for size in sizes}
        self.inline_rows = inline_rows
        self.run_s = run_s
        self.runs: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.blocker: threading.Event | None = None
        self.started = threading.Event()
        self.broken = False
        self._one_at_a_time = threading.Lock()

    def size(self, count: int) -> int:
        return next(size for size in self.batch_sizes if size >= count)

    def expected_s(self, count: int) -> float:
        return self.times_s[self.size(count)]

    def is_inline(self, count: int) -> bool:
        return count <= self.inline_rows

    def run(self, arrays: tuple[np.ndarray, ...], count: int) -> tuple[np.ndarray, ...]:
        assert self._one_at_a_time.acquire(blocking=False), "two runs at once"
        try:
            return self._run(arrays, count)
        finally:
            self._one_at_a_time.release()

    def _run(self, arrays: tuple[np.ndarray, ...], count: int) -> tuple[np.ndarray, ...]:
        ids, poisoned = arrays
        assert len(ids) == len(poisoned) == count <= self.batch_sizes[-1]
        self.threads.add(threading.get_ident())
        self.runs.append(tuple(int(i) for i in ids[:, 0]))
        self.started.set()
        if self.blocker is not None:
            assert self.blocker.wait(10)
        run_s = self.run_s(count) if callable(self.run_s) else self.run_s
        if run_s:
            time.sleep(run_s)
        if self.broken or poisoned.any():
            raise ValueError("poisoned row")
        return (ids * 3 + 1, poisoned)

    @property
    def batches(self) -> list[list[int]]:
        """The rows of each run, padding (the last row, repeated) left out."""
        return [list(dict.fromkeys(run)) for run in self.runs]

    def times_run(self, row_id: int) -> int:
        """In how many runs a row took part; padding repeats a row within one run."""
        return sum(row_id in run for run in self.runs)


def make_rows(ids: Sequence[int], width: int = 1, poisoned: Sequence[int] = ()) -> Rows:
    array = np.repeat(np.array(ids, np.int64)[:, None], width, axis=1)
    return Rows((array, np.array([i in poisoned for i in ids])), len(ids), (width,))


def make(executor: FakeExecutor, **options: object) -> SwitchingCoalescer:
    known = {"max_batch_size": executor.batch_sizes[-1], **options}
    batch = None
    if known.get("mode") == "window":
        from ray import serve

        batch = serve.batch
    return make_coalescer(executor, CoalesceOptions(**known), serve_batch=batch)  # type: ignore[arg-type]


async def block(coalescer: SwitchingCoalescer, executor: FakeExecutor, row_id: int = 10_000) -> asyncio.Task[object]:
    """Occupy the device with one row until `executor.blocker` is set."""
    executor.blocker = threading.Event()
    executor.started.clear()
    task = asyncio.ensure_future(coalescer.submit(make_rows([row_id])))
    await asyncio.to_thread(executor.started.wait, 10)
    return task


async def unblock(executor: FakeExecutor, *tasks: asyncio.Task[object]) -> list[object]:
    """Let the device go on and return every task's outcome."""
    assert executor.blocker is not None
    executor.blocker.set()
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


async def queue(
    coalescer: SwitchingCoalescer, *requests: Rows, deadline_s: float | None = None
) -> list[asyncio.Task[object]]:
    """Submit requests in order, each up to the point where it waits."""
    tasks = [asyncio.ensure_future(coalescer.submit(rows, deadline_s)) for rows in requests]
    await asyncio.sleep(0)
    return tasks


def run(check: Coroutine[Any, Any, T]) -> T:
    """Run on a new event loop, then cancel what is left as often as it takes.

    `asyncio.run` cancels once, and `@serve.batch`'s task, waiting in `asyncio.wait_for`, can miss that on
    Python 3.11: then it waits for ever.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(check, 60))
    finally:
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()


def enter_replica_context() -> None:
    """Let `@serve.batch` believe that it is in a replica: all that it asks for is `max_ongoing_requests`.

    Its real surroundings are `bench/coalescing.py`'s and the served tests'.
    """
    from ray.serve import context
    from ray.serve._private.common import DeploymentID, ReplicaID
    from ray.serve._private.config import DeploymentConfig
    from ray.serve.schema import ReplicaRank

    context._set_internal_replica_context(
        replica_id=ReplicaID("r", DeploymentID("coalescing", "test")),
        servable_object=None,
        _deployment_config=DeploymentConfig(max_ongoing_requests=1000),
        rank=ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
