"""Batch sizes by the plan's times: against brute force, and by the examples of the documentation."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.coalescing.gathering import gather_from, inline_rows
from deployments.coalescing.splitting import RUN_OVERHEAD_S, Splitter
from tests.support.coalescing_fakes import FakeExecutor

SIZES = (1, 2, 4, 8, 16)
TIMES = st.tuples(*[st.floats(1e-4, 1e-2) for _ in SIZES])
TABLES = TIMES.map(lambda times: dict(zip(SIZES, sorted(times), strict=True)))


def splitter(times_s: dict[int, float], max_rows: int = 16) -> Splitter:
    return Splitter(FakeExecutor(times_s, sizes=tuple(times_s)), max_rows)


def test_nine_rows_run_as_eight_and_one_where_that_is_faster():
    assert splitter({1: 1e-3, 8: 2e-3, 16: 4e-3}).pieces(9) == (8, 1)


def test_nine_rows_are_padded_to_sixteen_where_that_is_faster():
    chosen = splitter({1: 1e-3, 8: 2e-3, 16: 2.5e-3})
    assert chosen.pieces(9) == (9,)
    assert chosen.padded(9) == 16


def test_more_rows_than_the_largest_batch_are_full_runs_and_a_rest():
    chosen = splitter({1: 1e-3, 8: 2e-3})
    assert chosen.pieces(21) == (8, 8, 5)
    assert chosen.cost_s(21) == pytest.approx(3 * (2e-3 + RUN_OVERHEAD_S))


def test_a_limit_below_the_largest_allowed_size_holds():
    chosen = splitter({1: 1e-3, 8: 2e-3, 16: 2.1e-3}, max_rows=5)
    assert chosen.max_rows == 5
    assert chosen.pieces(5) == (5,)
    assert chosen.padded(5) == 8
    assert max(chosen.pieces(23)) == 5


@settings(deadline=None, max_examples=30)
@given(TABLES, st.integers(1, 16))
def test_cost_is_the_least_of_all_ways_to_split(times_s, count):
    chosen = splitter(times_s)
    executor = FakeExecutor(times_s, sizes=SIZES)
    ways = [
        sum(executor.expected_s(size) + RUN_OVERHEAD_S for size in way)
        for number in range(1, 5)
        for way in combinations_with_replacement(SIZES, number)
        if sum(way) >= count
    ]
    assert sum(chosen.pieces(count)) == count
    assert chosen.cost_s(count) <= min(ways) * (1 + 1e-6)
    spent_s = sum(executor.expected_s(piece) + RUN_OVERHEAD_S for piece in chosen.pieces(count))
    assert chosen.cost_s(count) == pytest.approx(spent_s)


@settings(deadline=None, max_examples=60)
@given(TABLES, st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data())
def test_no_entry_is_made_late_by_the_company_it_runs_in(times_s, counts, data):
    chosen = splitter(times_s)
    ends = [sum(counts[: i + 1]) for i in range(len(counts)) if sum(counts[: i + 1]) <= 16]
    slack_s = st.one_of(st.just(inf), st.floats(0, 0.02))
    left_s = [chosen.cost_s(counts[i]) + data.draw(slack_s) for i in range(len(ends))]
    number = chosen.best_prefix_in_time(ends, sum(counts), left_s)
    assert 1 <= number <= len(ends)
    assert number == 1 or chosen.cost_s(ends[number - 1]) <= min(left_s[:number])


@settings(deadline=None, max_examples=60)
@given(TABLES, st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_the_prefix_chosen_leaves_all_done_soonest(times_s, counts):
    chosen = splitter(times_s)
    ends = [sum(counts[: i + 1]) for i in range(len(counts)) if sum(counts[: i + 1]) <= 16]
    total = sum(counts)
    done_s = [chosen.cost_s(end) + chosen.cost_s(total - end) for end in ends]
    number = chosen.best_prefix(ends, total)
    assert done_s[number - 1] <= min(done_s) * (1 + 1e-6)
    assert number == chosen.best_prefix_in_time(ends, total, [inf] * len(ends))


def test_a_deadline_shrinks_the_batch_and_a_waiting_deadline_grows_it():
    chosen = splitter({1: 1e-3, 8: 2e-3, 16: 2.5e-3})
    ends = list(range(1, 10))
    assert chosen.best_prefix(ends, 9) == 9
    assert chosen.best_prefix_in_time(ends, 9, [2.2e-3] + [inf] * 8) == 8
    assert chosen.best_prefix_in_time(ends, 9, [1.5e-3] + [inf] * 8) == 1
    dear = splitter({1: 1e-3, 8: 2e-3, 16: 3.2e-3})
    assert dear.best_prefix(ends, 9) == 8
    assert dear.best_prefix_in_time(ends, 9, [inf] * 8 + [3.1e-3]) == 8
    dearer = splitter({1: 1e-3, 8: 2e-3, 16: 2.9e-3})
    assert dearer.best_prefix_in_time(ends, 9, [inf] * 8 + [2.95e-3]) == 9


def test_requests_gather_only_where_a_shared_inline_batch_is_cheaper():
    cheap = splitter({1: 50e-6, 2: 52e-6, 4: 54e-6, 8: 58e-6, 16: 66e-6})
    assert gather_from(cheap, 16) == 2
    assert gather_from(cheap, 0) == 0
    linear = splitter({size: 11e-6 * size for size in SIZES})
    assert gather_from(linear, 16) == 0


def test_inline_rows_end_where_the_plan_or_a_split_ends_them():
    chosen = splitter({1: 1e-4, 8: 2e-4, 16: 9e-4})
    assert inline_rows(chosen, [True] * 16) == 8  # 9 rows would be two runs
    assert inline_rows(chosen, [True] * 3 + [False] * 13) == 3
    assert inline_rows(chosen, [False] * 16) == 0
