"""Who is let into the queue: bounded in rows, and only what its deadline leaves time for."""

from __future__ import annotations

from deployments.coalescing.counters import Counters
from deployments.coalescing.splitting import Splitter
from deployments.errors import DeadlineExceeded, Overloaded

SMOOTHING = 0.1
"""Weight of the newest batch in the drain rate: it follows a change within some ten batches."""


FORESIGHT_SMOOTHING = 0.02
"""Weight of the newest answer in the foresight: some batches' worth of answers count."""
LONGEST_DELAY = 8.0
"""More than so many times the plan's time is a stall, and says nothing about the next request."""


class Foresight:
    """How much longer answers take than the plan's times say, where the machine has other things to do as well.

    Moving averages of both times of every answer that had to wait; their quotient, never below 1.
    """

    def __init__(self) -> None:
        self._expected_s = 0.0
        self._actual_s = 0.0

    def record(self, expected_s: float, actual_s: float) -> None:
        """Take one answer into account."""
        self._expected_s += FORESIGHT_SMOOTHING * (expected_s - self._expected_s)
        self._actual_s += FORESIGHT_SMOOTHING * (min(actual_s, LONGEST_DELAY * expected_s) - self._actual_s)

    @property
    def factor(self) -> float:
        """What a time by the plan is to be multiplied with."""
        return max(1.0, self._actual_s / self._expected_s) if self._expected_s else 1.0


class DrainRate:
    """Rows per second of a busy device: moving averages of rows and of seconds, their quotient the rate."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    def record(self, rows: int, seconds: float) -> None:
        """Take one batch into account."""
        self._rows += SMOOTHING * (rows - self._rows)
        self._seconds += SMOOTHING * (seconds - self._seconds)

    def wait_s(self, rows: int, splitter: Splitter) -> float:
        """Return how long `rows` take to drain, by the plan's times until something was measured."""
        if not self._rows:
            return splitter.cost_s(rows)
        return rows * self._seconds / self._rows


class Admission:
    """Refuses at once what would wait in vain."""

    def __init__(self, splitter: Splitter, limit_rows: int, counters: Counters) -> None:
        self.splitter = splitter
        self.limit_rows = limit_rows
        self.drain_rate = DrainRate()
        self.foresight = Foresight()
        self._counters = counters

    def check_room(self, count: int, waiting_rows: int) -> None:
        """Raise `Overloaded` if `count` more rows do not fit the queue; anything fits an empty one."""
        excess = waiting_rows + count - self.limit_rows
        if excess <= 0 or not waiting_rows:
            return
        self._counters.overloaded += 1
        raise Overloaded(
            f"the queue is full: {waiting_rows} of {self.limit_rows} rows wait, {count} more do not fit",
            self.drain_rate.wait_s(excess, self.splitter),
        )

    def check_deadline(self, left_s: float, needed_s: float) -> None:
        """Raise `DeadlineExceeded` if the time left is less than what the plan says is needed."""
        if needed_s <= left_s:
            return
        self._counters.deadline += 1
        raise DeadlineExceeded(
            f"the deadline is {max(left_s, 0) * 1e3:.3g} ms away, "
            f"but the answer is expected to take {needed_s * 1e3:.3g} ms, queue included"
        )
