"""One thread that makes every blocking call to the device, in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]

logger = logging.getLogger(__name__)


class DeviceThread:
    """Runs jobs one after another on a thread of its own, started with the first.

    A `SimpleQueue` (written in C) instead of a `ThreadPoolExecutor`: no future, work item and lock per call.
    `bench/coalescing.py --in-process` measures both ways of handing over.
    """

    def __init__(self, name: str = "device") -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def post(self, job: Job) -> None:
        """Queue a job; it must not raise (what it raises is logged and lost)."""
        if self._thread is None:
            # A daemon: a call that the device never finishes must not keep a killed replica alive.
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    async def call(self, job: Job) -> None:
        """Run a job and return once it has; cancelling the caller does not stop it."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def run() -> None:
            try:
                job()
            finally:
                call_in_loop(loop, lambda: None if done.done() else done.set_result(None))

        self.post(run)
        await done

    def stop(self) -> None:
        """End the thread after the jobs already posted; does not wait."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException:
                logger.exception("a device job raised")


def call_in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call back in `loop` from another thread; nothing if it was closed, for then nobody waits."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        if not loop.is_closed():
            raise
