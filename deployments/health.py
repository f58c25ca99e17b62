"""Whether a replica's device still works: what Serve's health check asks, and who acts when nobody can answer it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import Protocol

from deployments.errors import Overloaded, PredictionFailed, SoloError
from deployments.events import event
from deployments.execution import Answer
from deployments.tensors import Rows

PROBE_S = 5.0
"""How long a probe may wait for its turn; longer says that the device is busy, which is no illness."""
RETRY_S = 0.05
WATCH_S = 1.0
"""How often the watchdog looks, at most; a quarter of `hang_timeout_s` where that is shorter."""


class Calls(Protocol):
    """Calls that may hang."""

    @property
    def stuck_s(self) -> float:
        """How long the present call has been running, in seconds."""
        ...


class Watched(Calls, Protocol):
    """What is known of the device's calls; `SwitchingCoalescer` is the real one."""

    @property
    def healthy(self) -> bool:
        """Whether few predictions in a row failed."""
        ...

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`."""
        ...


class Health:
    """The health of one replica.

    Predictions that fail in a row are the device's fault or their senders': `sample`, rows that the model answered
    when its plan was made, tells which. Without it one client's bad words would get a replica replaced; so where no
    such rows are known, none is.
    """

    def __init__(
        self, name: str, device: Watched, sample: Rows | None, hang_timeout_s: float, whole: Calls | None = None
    ) -> None:
        """Watch `device`, and of `whole`, the device with what is around it, that no call hangs."""
        self.is_well = True
        self._name = name
        self._device = device
        self._whole = whole or device
        self._sample = sample
        self._hang_timeout_s = hang_timeout_s
        self._watchdog: Watchdog | None = None

    async def check(self) -> None:
        """Raise `PredictionFailed` where the device fails on known good rows too, or hangs in a call."""
        if self._watchdog is None:
            # From the first check on, which Serve makes before a replica counts as started.
            self._watchdog = Watchdog(self._name, asyncio.get_running_loop(), self._hang_timeout_s)
            self._watchdog.start()
        complaint = await self._complaint()
        if complaint is not None and self.is_well:
            event("unhealthy", f"model '{self._name}': {complaint}", level=logging.ERROR, model=self._name)
        self.is_well = complaint is None
        if complaint is not None:
            raise PredictionFailed(complaint)

    async def _complaint(self) -> str | None:
        stuck_s = self._whole.stuck_s
        if stuck_s > self._hang_timeout_s:
            return f"a prediction has been running for {stuck_s:.0f} s"
        if self._device.healthy or self._sample is None:
            return None
        try:
            await asyncio.wait_for(self._probe(self._sample), PROBE_S)
        except PredictionFailed as error:
            return f"every prediction fails, and so does one that went well when the plan was made: {error}"
        except (SoloError, asyncio.TimeoutError):
            return None
        return None

    async def _probe(self, sample: Rows) -> None:
        """Run the sample the way a request runs; waits for room in a full queue. A success resets `healthy`."""
        while True:
            try:
                await self._device.submit(sample)
                return
            except Overloaded:
                await asyncio.sleep(RETRY_S)


class Watchdog:
    """Ends the process when its event loop stands still for `limit_s`: an inline prediction that hangs.

    Then nobody answers a health check either. Serve (2.60) would take three of them, 30 s each, and a graceful stop
    of 20 s that cannot happen, to replace the replica; a process that ends is replaced at once.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self._name = name
        self._loop = loop
        self._limit_s = limit_s
        self._period_s = min(WATCH_S, limit_s / 4)
        self._seen = False
        self.silent_s = 0.0
        """How long the loop has not answered, counted in looks: a process that was stopped whole missed none."""

    def start(self) -> None:
        """Watch, on a thread of its own, until the loop is closed."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        while not self._loop.is_closed():
            if not self._ask():
                return
            time.sleep(self._period_s)
            self.silent_s = 0.0 if self._seen else self.silent_s + self._period_s
            if self.silent_s > self._limit_s:
                self._end()

    def _ask(self) -> bool:
        """Ask the loop for a sign of life, once; return whether there is a loop to ask."""
        if not self._seen and self.silent_s:
            return True
        self._seen = False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _answer(self) -> None:
        self._seen = True

    def _end(self) -> None:
        text = f"a prediction has held the event loop for {self.silent_s:.0f} s; ending the process"
        event(
            "hung",
            f"model '{self._name}': {text}",
            level=logging.CRITICAL,
            model=self._name,
            seconds=round(self.silent_s, 1),
        )
        os._exit(1)
