"""Whether requests that arrive in the same pass of the event loop should share an inline batch."""

from __future__ import annotations

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
