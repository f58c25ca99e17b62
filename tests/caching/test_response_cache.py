"""Answers for equal requests: the same as computed ones, in bounded memory, counted, and off unless asked for."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import InvalidInput
from deployments.execution import Answer
from deployments.response_cache import ENTRY_BYTES, ResponseCache, key_of
from deployments.servable import Servable
from deployments.tensors import Rows, Signature
from serve_app.observe.metrics import samples
from tests.support.routes_harness import call, get, identity, routes, spec


def rows(*arrays: Any) -> Rows:
    made = tuple(np.asarray(array) for array in arrays)
    return Rows(made, len(made[0]), tuple(array.shape[1:] for array in made))


def strings(*items: bytes) -> np.ndarray:
    column = np.empty(len(items), dtype=object)
    column[:] = items
    return column


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=4), min_size=1, max_size=3), min_size=2, max_size=6))
def test_only_equal_strings_are_equal(requests: list[list[bytes]]) -> None:
    keys = [key_of(rows(strings(*items))) for items in requests]
    for one, key in zip(requests, keys, strict=True):
        for other, another in zip(requests, keys, strict=True):
            assert (one == other) == (key == another)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rows(np.zeros((1, 4), np.float32)), rows(np.zeros((2, 2), np.float32))),
        (rows(np.zeros((1, 2, 3), np.float32)), rows(np.zeros((1, 3, 2), np.float32))),
        (rows(np.float32([[0.0]])), rows(np.float32([[-0.0]]))),
        (rows(np.int32([[1]]), np.int32([[2]])), rows(np.int32([[2]]), np.int32([[1]]))),
        (rows(np.int32([[1, 2]]), np.int32([[3]])), rows(np.int32([[1]]), np.int32([[2, 3]]))),
    ],
)
def test_what_differs_has_another_key(one: Rows, other: Rows) -> None:
    assert key_of(one) != key_of(other)


def test_a_view_has_the_key_of_its_copy() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert key_of(rows(whole[:, ::2])) == key_of(rows(whole[:, ::2].copy()))


class Counting:
    """A model that is asked: `x * 2`."""

    def __init__(self) -> None:
        self.asked = 0

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        self.asked += 1
        if (rows.arrays[0] < 0).any():
            raise InvalidInput("negative")
        return Answer((np.concatenate([rows.arrays[0] * 2] * 2)[: rows.count],), 5, 7, rows.count)


def servable(max_bytes: int | None) -> tuple[Servable, Counting]:
    model = Counting()
    signature = Signature((spec("x", "float32", 4),), (spec("y", "float32", 4),))
    cache = None if max_bytes is None else ResponseCache(max_bytes)
    return Servable("m", "1", signature, model, 8, cache=cache), model


def ask(model: Servable, value: float) -> np.ndarray:
    return asyncio.run(model.predict({"x": np.full((1, 4), value, np.float32)})).outputs[0]


def test_an_equal_request_is_answered_from_memory() -> None:
    kept, model = servable(10_000)
    first, second, other = ask(kept, 1), ask(kept, 1), ask(kept, 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(other, np.full((1, 4), 4))
    assert model.asked == 2
    assert kept.cache is not None
    assert (kept.cache.hits, kept.cache.misses) == (1, 2)
    assert kept.cache.hit_ns > 0


def test_who_changes_an_answer_changes_no_other() -> None:
    kept, _ = servable(10_000)
    ask(kept, 1)[:] = 99
    again = ask(kept, 1)
    np.testing.assert_array_equal(again, np.full((1, 4), 2))
    assert not again.flags.writeable


def test_without_it_every_request_is_computed() -> None:
    plain, model = servable(None)
    ask(plain, 1), ask(plain, 1)
    assert model.asked == 2


def test_errors_are_not_kept() -> None:
    kept, model = servable(10_000)
    for _ in range(2):
        with pytest.raises(InvalidInput):
            ask(kept, -1)
    assert model.asked == 2
    assert len(kept.cache or ()) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_memory_is_bounded_and_answers_are_right(max_bytes: int, values: list[int]) -> None:
    kept, model = servable(max_bytes)
    for value in values:
        np.testing.assert_array_equal(ask(kept, value), np.full((1, 4), 2 * value))
        assert kept.cache is not None
        assert kept.cache.size_bytes <= max_bytes
        assert kept.cache.size_bytes == len(kept.cache) * (ENTRY_BYTES + 16)
    assert model.asked == kept.cache.misses
    assert kept.cache.hits + kept.cache.misses == len(values)


def test_what_was_asked_least_lately_goes_first() -> None:
    kept, model = servable(2 * (ENTRY_BYTES + 16))
    for value in (1, 2, 1, 3, 1, 2):
        ask(kept, value)
    assert model.asked == 4, "1 stayed, 2 went for 3 and was asked again"


def test_hits_are_in_statistics_and_metrics() -> None:
    model = identity("float32", 2)
    model.cache = ResponseCache(1000)
    app = routes(model)
    for value in (1, 1, 2):
        call(app, "/v1/models/identity:predict", {"instances": [[value, 0]]})
    stats = get(app, "/v2/models/identity/stats").json()["model_stats"][0]["inference_stats"]
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (1, 2)
    assert stats["success"]["count"] == 3
    told = {tuple(labels.values()): value for name, labels, value in samples(model) if "cache_lookups" in name}
    assert told == {("hit",): 1, ("miss",): 2}


def test_threads_share_it() -> None:
    import threading

    kept, _ = servable(3000)
    failed: list[BaseException] = []

    def load(seed: int) -> None:
        chosen = random.Random(seed)
        try:
            for _ in range(300):
                value = chosen.randrange(12)
                np.testing.assert_array_equal(ask(kept, value), np.full((1, 4), 2 * value))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=load, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert kept.cache is not None
    assert kept.cache.size_bytes == len(kept.cache) * (ENTRY_BYTES + 16)
