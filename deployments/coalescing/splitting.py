"""How many rows to run at once, by the plan's measured times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from deployments.execution import Executor

RUN_OVERHEAD_S = 5e-6
"""What a run costs besides the plan's time: joining, cutting and counting."""


class Splitter:
    """Cuts a number of rows into runs so that the sum of their expected times is least.

    `cost_s(n) = min over sizes s of: time(n) if n <= s, else time(s) + cost_s(n - s)`, tabulated up to the
    largest run; beyond it, full runs come first. So 9 rows become 8 + 1 or one run padded to 16.
    """

    def __init__(self, executor: Executor, max_rows: int) -> None:
        self.max_rows = min(max_rows, executor.batch_sizes[-1])
        self.sizes = (*(size for size in executor.batch_sizes if size < self.max_rows), self.max_rows)
        self._batch_sizes = executor.batch_sizes
        self._cost_s = [0.0]
        self._pieces: list[tuple[int, ...]] = [()]
        for count in range(1, self.max_rows + 1):
            self._tabulate(count, executor.expected_s(count) + RUN_OVERHEAD_S)

    def _tabulate(self, count: int, whole_s: float) -> None:
        best: tuple[int, ...] = (count,)
        best_s = whole_s
        for size in self.sizes:
            if size >= count:
                break
            split_s = self._cost_s[size] + self._cost_s[count - size]
            if split_s < best_s:
                best_s, best = split_s, (*self._pieces[size], *self._pieces[count - size])
        self._cost_s.append(best_s)
        self._pieces.append(tuple(sorted(best, reverse=True)))

    def cost_s(self, count: int) -> float:
        """Return the expected time of `count` rows, in seconds, in as many runs as are fastest."""
        if count <= self.max_rows:
            return self._cost_s[count]
        full, rest = divmod(count, self.max_rows)
        return full * self._cost_s[self.max_rows] + self._cost_s[rest]

    def pieces(self, count: int) -> tuple[int, ...]:
        """Return the rows of each run, largest first, that together make `count`."""
        if count <= self.max_rows:
            return self._pieces[count]
        full, rest = divmod(count, self.max_rows)
        return self._pieces[self.max_rows] * full + self._pieces[rest]

    def padded(self, count: int) -> int:
        """Return the allowed batch size that a run of `count` rows is padded to."""
        return self._batch_sizes[bisect_left(self._batch_sizes, count)]

    def best_prefix(self, ends: Sequence[int], total: int) -> int:
        """Return how many of the first entries to run now, so that all `total` waiting rows are done soonest.

        `ends[i]` is how many rows the first `i + 1` entries have together; entries stay whole and in order. Among
        equals the one that does most rows per second goes first (Smith's rule: least sum of waiting times).
        """
        return min(self._candidates(ends), key=lambda count: self._order(ends[count - 1], total))

    def best_prefix_in_time(self, ends: Sequence[int], total: int, left_s: Sequence[float]) -> int:
        """Return `best_prefix` under deadlines: entry `i` must be done in `left_s[i]` seconds (inf for never).

        No entry is made late by the company it runs in; among what remains, fewest of those left waiting
        become late, then all rows are done soonest.
        """
        best = self.best_prefix(ends, total)
        # Whoever has more time than all take together is not late in any order: thirty times less to compute.
        if min(left_s) >= self.cost_s(ends[best - 1]) + self.cost_s(total - ends[best - 1]):
            return best

        def order(count: int) -> tuple[int, float, float]:
            rows = ends[count - 1]
            run_s = self.cost_s(rows)
            late = sum(left_s[i] < run_s + self.cost_s(ends[i] - rows) for i in range(count, len(ends)))
            return late, *self._order(rows, total)

        counts = self._candidates(ends)
        return min((n for n in counts if n == 1 or self.cost_s(ends[n - 1]) <= min(left_s[:n])), key=order)

    def _order(self, rows: int, total: int) -> tuple[float, float]:
        """Return what to minimise: the time until all is done, then the inverse of rows per second."""
        run_s = self.cost_s(rows)
        # Rounded to a picosecond: 8 + 1 and 1 + 8 must tie, whatever order the floats were added in.
        return round(run_s + self.cost_s(total - rows), 12), round(run_s / rows, 12)

    def _candidates(self, ends: Sequence[int]) -> range:
        """Return the prefixes that fit the largest size, the first entry whatever its size.

        All of them: rows between two sizes may be split (9 as 8 + 1), so that no size alone says where to cut.
        """
        return range(1, max(1, bisect_right(ends, self.sizes[-1])) + 1)
