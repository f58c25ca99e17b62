"""Before a run takes the host's cores, the event loop takes in what its sockets hold: that has to be done anyway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from deployments.coalescing.waiting import WaitingEntries

QUIET_PASSES = 2
"""After so many passes of the event loop without a newcomer its sockets hold nothing more."""


class Intake:
    """Calls `run` once the last passes of the event loop brought nobody, no more fit, or a deadline comes near."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, waiting: Callable[[], WaitingEntries], run: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._waiting = waiting
        self._run = run
        self._seen = 0
        self._quiet_passes = 0

    def begin(self) -> None:
        """Start to count; on the event loop."""
        self._seen = self._quiet_passes = 0
        self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        waiting = self._waiting()
        self._quiet_passes = self._quiet_passes + 1 if waiting.count == self._seen else 0
        self._seen = waiting.count
        is_full = waiting.rows >= waiting.splitter.max_rows
        # The deadlines last: they are looked for among all that wait.
        if is_full or self._quiet_passes == QUIET_PASSES or _is_urgent(waiting):
            self._run()
        else:
            self._loop.call_soon(self._pass)


def _is_urgent(waiting: WaitingEntries) -> bool:
    return waiting.earliest_deadline_s() - time.monotonic() < 2 * waiting.splitter.cost_s(waiting.rows)
