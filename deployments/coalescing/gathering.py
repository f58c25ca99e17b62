"""Whether requests that arrive in the same pass of the event loop should share an inline batch."""

from __future__ import annotations

import asyncio

from deployments.coalescing.splitting import Splitter

GATHER_COST_S = 10e-6
"""What queueing, a future and a task's wake-up cost per request, against running it on the spot: 7 to 15 µs of CPU
in `bench/coalescing.py --in-process` on a busy 2-core machine."""


def gather_from(splitter: Splitter, inline_rows: int) -> int:
    """Return from how many single rows in one pass a shared inline batch is cheaper; 0 for never.

    Below it each request runs on the spot. `inline_rows` is the most rows that may run on the event loop.
    """
    alone_s = splitter.cost_s(1)
    for count in range(2, splitter.max_rows + 1 if inline_rows else 0):
        if splitter.cost_s(count) + count * GATHER_COST_S < count * alone_s:
            return count
    return 0


def inline_rows(splitter: Splitter, is_inline: list[bool]) -> int:
    """Return the most rows that may run on the event loop: every smaller number may, too, and in one run.

    `is_inline[n - 1]` is the plan's word for `n` rows.
    """
    for count, inline in enumerate(is_inline, start=1):
        if not inline or len(splitter.pieces(count)) > 1:
            return count - 1
    return len(is_inline)


class Gathering:
    """What becomes of a request that finds the device idle; for the event loop's own thread.

        on the spot ──  as many arrivals in one pass of the loop as pay  ──▶ gathered
        gathered    ──  a flush finds fewer than that waiting            ──▶ on the spot
        either      ──  a delay for company is set, or the end has come  ──▶ queued

    A request of up to `direct_rows` rows runs on the spot; 0 sends everyone to the queue.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._from = 0
        self._burst = 0
        self._delays = self._is_closed = False
        self.inline_rows = 0
        """The most rows that may run on the event loop."""
        self.direct_rows = 0
        self.is_on = False
        """Whether arrivals are gathered."""

    def apply(self, splitter: Splitter, is_inline: list[bool], shares: bool, delays: bool) -> None:
        """Begin anew on the spot; `shares` says whether batches are shared, `delays` whether company is waited for."""
        self.inline_rows = inline_rows(splitter, is_inline)
        self._from = gather_from(splitter, self.inline_rows) if shares else 0
        self._delays = delays
        self._set(False)

    def close(self) -> None:
        """Run nobody on the spot any more."""
        self._is_closed = True
        self._set(self.is_on)

    def note_arrival(self) -> None:
        """Count one that runs on the spot, within its pass of the event loop: a lone client never has two."""
        if self._from:
            self._burst += 1
            if self._burst == 1:
                self._loop.call_soon(self._end_pass)

    def note_flush(self, waiting: int) -> None:
        """Learn how many requests wait as a batch is about to go out."""
        if self.is_on:
            self._set(waiting >= self._from)

    def _end_pass(self) -> None:
        if self._burst >= self._from:
            self._set(True)
        self._burst = 0

    def _set(self, is_on: bool) -> None:
        self.is_on = is_on
        self.direct_rows = 0 if is_on or self._delays or self._is_closed else self.inline_rows
