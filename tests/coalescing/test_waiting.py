"""The queue's shortcuts answer what a look at every entry would."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.coalescing.splitting import Splitter
from deployments.coalescing.waiting import WaitingEntries
from tests.support.coalescing_fakes import FakeExecutor


@dataclass(eq=False)
class Waiter:
    rows: Any
    deadline_s: float | None
    accepted_ns: int


def entry(number: int, chance: random.Random) -> Any:
    count = chance.choice([1, 1, 1, 2, 40])
    rows = SimpleNamespace(count=count, group=chance.choice("ab"))
    deadline_s = chance.choice([None, 1.0, chance.random()])
    return Waiter(rows, deadline_s, number)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_deadline_and_who_is_late(seed: int) -> None:
    chance = random.Random(seed)
    splitter = Splitter(FakeExecutor(), 32)
    waiting = WaitingEntries(splitter, shares=True)
    inside: list[Any] = []
    now_s = 0.0
    for number in range(400):
        now_s += chance.random() / 400
        kind = chance.random()
        if kind < 0.6:
            inside.append(entry(number, chance))
            waiting.add(inside[-1])
        elif kind < 0.7 and inside:
            gone = chance.choice(inside)
            inside.remove(gone)
            assert waiting.remove(gone)
        elif kind < 0.8:
            batch = waiting.take_batch(now_s)
            inside = [one for one in inside if one not in batch]
        else:
            left_s = {id(one): inf if one.deadline_s is None else one.deadline_s - now_s for one in inside}
            late = [one for one in inside if left_s[id(one)] < splitter.cost_s(one.rows.count)]
            assert sorted(map(id, waiting.take_late(now_s))) == sorted(map(id, late))
            inside = [one for one in inside if one not in late]
        known = [one.deadline_s for one in inside if one.deadline_s is not None]
        assert waiting.earliest_deadline_s() == min(known, default=inf)
        assert waiting.count == len(inside)
