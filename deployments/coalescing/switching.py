"""What a replica holds: one coalescer whose mode and knobs can change while requests are on their way."""

from __future__ import annotations

import asyncio
import threading
import time
from math import inf
from typing import Protocol

from deployments.coalescing.continuous import ContinuousCoalescer
from deployments.coalescing.counters import Counters
from deployments.coalescing.device_thread import DeviceThread
from deployments.coalescing.options import CoalesceOptions
from deployments.coalescing.running import FAILURE_LIMIT, Runner
from deployments.coalescing.splitting import Splitter
from deployments.coalescing.window import ServeBatch, WindowCoalescer
from deployments.errors import ConfigError
from deployments.execution import Answer, Executor
from deployments.tensors import Rows


class SwitchingCoalescer:
    """The coalescer of one executor; HTTP requests and handle calls share it, so they share batches.

    It lives on the event loop of its first `submit`. A `submit` on another loop (Serve runs user code on a loop
    of its own unless RAY_SERVE_THROUGHPUT_OPTIMIZED is set) hops there, at the price of two thread switches. When
    the first loop is closed, the next caller's takes over.
    """

    def __init__(self, executor: Executor, options: CoalesceOptions, serve_batch: ServeBatch | None = None) -> None:
        _check(executor, options, serve_batch)
        self.counters = Counters()
        self.options = options
        self._serve_batch = serve_batch
        self._runner = Runner(executor, Splitter(executor, options.max_batch_size), self.counters)
        self._thread = DeviceThread()
        self._home_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: _Engine | None = None

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; `deadline_s` is on `time.monotonic`'s clock.

        Raises `Overloaded` or `DeadlineExceeded` where admission refuses, `DeadlineExceeded` where the deadline
        passes in the queue, `PredictionFailed` where the model fails on these rows, `NotReady` after `close`.
        """
        if asyncio.get_running_loop() is self._loop:
            return await self._engine.submit(rows, deadline_s)  # type: ignore[union-attr] # set together
        loop = self._home()
        if loop is asyncio.get_running_loop():
            return await self.submit(rows, deadline_s)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.submit(rows, deadline_s), loop))

    @property
    def pending(self) -> int:
        """Rows accepted and not yet answered."""
        return 0 if self._engine is None else self._engine.pending_rows

    @property
    def waiting(self) -> int:
        """Rows accepted that do not run yet."""
        return 0 if self._engine is None else self._engine.waiting_rows

    @property
    def consecutive_failures(self) -> int:
        """Predictions that failed in a row; a success sets it to 0."""
        return self._runner.consecutive_failures

    @property
    def healthy(self) -> bool:
        """Whether fewer than `FAILURE_LIMIT` predictions in a row, and nothing else, failed."""
        return self._runner.consecutive_failures < FAILURE_LIMIT

    @property
    def stuck_s(self) -> float:
        """How long the present call to the device has been running, in seconds; 0 while there is none."""
        since_s = self._runner.running_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def check_room(self, count: int = 1) -> None:
        """Raise `Overloaded` if `count` rows would be refused now, so that they need not be decoded first."""
        if self._engine is not None:
            self._engine.check_room(count)

    async def reconfigure(self, options: CoalesceOptions) -> None:
        """Take new options without losing or reloading anything; what waits is answered first on a mode change."""
        _check(self._runner.executor, options, self._serve_batch)
        loop = self._home()
        if loop is not asyncio.get_running_loop():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.reconfigure(options), loop))
            return
        old, same_engine = self._engine, (options.mode == "window") == (self.options.mode == "window")
        self.options = options
        if same_engine and old is not None:
            old.apply(options)
            return
        self._engine = engine = self._build(loop)
        if old is not None:
            engine.hold()
            await old.drain()
            engine.release()

    async def close(self, limit_s: float = inf) -> None:
        """Refuse newcomers with `NotReady`, answer who waits (for `limit_s` seconds at most), end the thread."""
        loop = self._home()
        if loop is not asyncio.get_running_loop():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.close(limit_s), loop))
            return
        if self._engine is not None:
            await self._engine.drain(limit_s)
        self._thread.stop()

    def _home(self) -> asyncio.AbstractEventLoop:
        """Return the loop this lives on: the running one, if there was none or it is closed."""
        with self._home_lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.get_running_loop()
                self._engine = self._build(self._loop)
            return self._loop

    def _build(self, loop: asyncio.AbstractEventLoop) -> _Engine:
        if self.options.mode == "window":
            assert self._serve_batch is not None
            return WindowCoalescer(self._runner, self._thread, self.counters, self.options, self._serve_batch)
        return ContinuousCoalescer(self._runner, self._thread, self.counters, self.options, loop)


class _Engine(Protocol):
    """One mode's way of forming batches, on one event loop."""

    @property
    def waiting_rows(self) -> int: ...
    @property
    def pending_rows(self) -> int: ...
    def apply(self, options: CoalesceOptions) -> None: ...
    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer: ...
    def check_room(self, count: int = 1) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    async def drain(self, limit_s: float = inf) -> None: ...


def _check(executor: Executor, options: CoalesceOptions, serve_batch: ServeBatch | None) -> None:
    if options.max_batch_size > executor.batch_sizes[-1]:
        raise ConfigError(
            f"max_batch_size: {options.max_batch_size} is more than the largest allowed batch size, "
            f"{executor.batch_sizes[-1]}"
        )
    if options.mode == "window" and serve_batch is None:
        raise ConfigError("coalesce: 'window' is Serve's own batching and works only inside a Serve replica")
