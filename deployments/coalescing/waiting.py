"""The queue: entries by group, and which of them run next. Not thread-safe: its owner holds a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import inf

from deployments.coalescing.entries import Entry
from deployments.coalescing.splitting import Splitter


class WaitingEntries:
    """First come, first served; only entries of one group run together.

    The group whose oldest entry waits longest is served first, so no group starves another. With `shares`
    false every entry runs alone.
    """

    def __init__(self, splitter: Splitter, shares: bool) -> None:
        self.splitter = splitter
        self.shares = shares
        self.rows = 0
        self.count = 0
        self.alone_s = 0.0
        """What the waiting entries cost if each ran alone."""
        self._groups: dict[Hashable, deque[Entry]] = {}
        self._with_deadline = 0
        self._earliest_s: float | None = inf
        """The first deadline among the waiting; None: its entry has gone, and the next is to be looked for."""
        self._dearest_s = 0.0
        """No waiting entry costs more by itself."""

    def add(self, entry: Entry) -> None:
        """Append an entry to its group."""
        group = self._groups.get(entry.rows.group)
        if group is None:
            group = self._groups[entry.rows.group] = deque()
        group.append(entry)
        self._account(entry, 1)

    def remove(self, entry: Entry) -> bool:
        """Take an entry out, wherever it stands; return whether it was still waiting."""
        group = self._groups.get(entry.rows.group)
        if group is None or entry not in group:
            return False
        group.remove(entry)
        self._account(entry, -1)
        if not group:
            del self._groups[entry.rows.group]
        return True

    def cost_s(self) -> float:
        """Return the expected time, in seconds, until all that waits is done."""
        return self.splitter.cost_s(self.rows) if self.shares else self.alone_s

    def oldest(self) -> Entry | None:
        """Return the entry that has waited longest."""
        heads = [group[0] for group in self._groups.values()]
        return min(heads, key=_accepted_ns) if heads else None

    def earliest_deadline_s(self) -> float:
        """Return the first deadline among the waiting, inf if none has one."""
        if self._earliest_s is None:
            entries = (entry for group in self._groups.values() for entry in group)
            self._earliest_s = min((entry.deadline_s for entry in entries if entry.deadline_s is not None), default=inf)
        return self._earliest_s

    def take_late(self, now_s: float) -> list[Entry]:
        """Take out every entry that would be late even if it ran now and alone."""
        if self.earliest_deadline_s() - now_s >= self._dearest_s:
            return []
        entries = [entry for group in self._groups.values() for entry in group]
        late = [entry for entry in entries if self._left_s(entry, now_s) < self.splitter.cost_s(entry.rows.count)]
        for entry in late:
            self.remove(entry)
        return late

    def take_all(self) -> list[Entry]:
        """Take out everything, oldest first."""
        entries = [entry for group in self._groups.values() for entry in group]
        for entry in entries:
            self.remove(entry)
        return sorted(entries, key=_accepted_ns)

    def take_batch(self, now_s: float) -> list[Entry]:
        """Take out the entries that run next, together; empty if none waits. Call `take_late` first."""
        oldest = self.oldest()
        if oldest is None:
            return []
        group = self._groups[oldest.rows.group]
        number = self._choose(group, now_s) if self.shares and len(group) > 1 else 1
        batch = [group.popleft() for _ in range(number)]
        for entry in batch:
            self._account(entry, -1)
        if not group:
            del self._groups[oldest.rows.group]
        return batch

    def _choose(self, group: deque[Entry], now_s: float) -> int:
        splitter, rows = self.splitter, 0
        ends: list[int] = []
        for entry in group:
            rows += entry.rows.count
            if rows > splitter.max_rows and ends:
                break
            ends.append(rows)
        total = self.rows if len(self._groups) == 1 else sum(entry.rows.count for entry in group)
        if not self._with_deadline:
            return splitter.best_prefix(ends, total)
        left_s = [self._left_s(entry, now_s) for entry, _ in zip(group, ends, strict=False)]
        return splitter.best_prefix_in_time(ends, total, left_s)

    def _left_s(self, entry: Entry, now_s: float) -> float:
        return inf if entry.deadline_s is None else entry.deadline_s - now_s

    def _account(self, entry: Entry, sign: int) -> None:
        alone_s = self.splitter.cost_s(entry.rows.count)
        self.count += sign
        self.rows += sign * entry.rows.count
        # Set to 0 when empty, so that rounding does not add up over millions of requests.
        self.alone_s = self.alone_s + sign * alone_s if self.count else 0.0
        self._dearest_s = max(self._dearest_s, alone_s) if self.count else 0.0
        if entry.deadline_s is not None:
            self._with_deadline += sign
            self._note_deadline(entry.deadline_s, sign)

    def _note_deadline(self, deadline_s: float, sign: int) -> None:
        if not self._with_deadline:
            self._earliest_s = inf
        elif self._earliest_s is not None and deadline_s <= self._earliest_s:
            self._earliest_s = deadline_s if sign > 0 else None


def _accepted_ns(entry: Entry) -> int:
    return entry.accepted_ns
