"""Requests through `before`, coalescing, the model and `after`: each row its own answer, no error a neighbour's."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.coalescing import CoalesceOptions
from deployments.errors import DeadlineExceeded, InvalidInput, PredictionFailed, SoloError
from deployments.processing.around import Around
from deployments.processing.processes import BeforeProcess
from deployments.tensors import Rows
from tests.support.around import MODEL, OPEN, WEIGHTS, answer, around, function, functions

LETTERS = st.text("abcd", max_size=6)
TEXTS = st.lists(st.lists(LETTERS, min_size=1, max_size=9), min_size=1, max_size=8)


def rows(texts: list[str]) -> Rows:
    column = np.empty(len(texts), dtype=object)
    column[:] = [text.encode() for text in texts]
    return Rows((column,), len(texts))


def features(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(letter) for letter in "abcd"] for text in texts], np.float32)


async def all_at_once(model: Around, requests: list[list[str]]) -> list[Any]:
    return await asyncio.gather(*(model.submit(rows(texts)) for texts in requests), return_exceptions=True)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["features", "features_of_one"]), st.sampled_from(["continuous", "off"]))
def test_every_row_gets_its_own_answer(requests: list[list[str]], before: str, mode: Any) -> None:
    model = around(functions(function(before), function("label")), options=CoalesceOptions(mode, 8))
    answers = asyncio.run(all_at_once(model, requests))
    for texts, got in zip(requests, answers, strict=True):
        expected = [f"class {row.argmax()}".encode() for row in features(texts) @ WEIGHTS]
        assert got.outputs[0].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=6), min_size=1, max_size=8))
def test_rows_of_different_lengths_answer_as_if_they_came_alone(requests: list[list[str]]) -> None:
    model = around(functions(function("tokens"), model=OPEN), OPEN)
    answers = asyncio.run(all_at_once(model, requests))
    for texts, got in zip(requests, answers, strict=True):
        alone = [answer(np.array([[ord(letter) for letter in text]], np.float32))[0] for text in texts]
        np.testing.assert_array_equal(got.outputs[0], np.stack(alone))


@pytest.mark.parametrize("is_cheap", [True, False])
def test_an_error_is_its_own_requests(is_cheap: bool) -> None:
    model = around(functions(function("features"), function("report")))
    model._stages[0]._lanes[0].executor.is_cheap = is_cheap
    requests = [["a"], ["forbidden"], ["b", "broken"], ["c", "d"]] * 5
    good, refused, failed, *_ = *asyncio.run(all_at_once(model, requests)), None
    answers = asyncio.run(all_at_once(around(functions(function("features"), function("report"))), requests))
    assert not isinstance(good, SoloError)
    assert isinstance(refused, InvalidInput)
    assert isinstance(failed, PredictionFailed)
    assert "KeyError" in str(failed)
    for texts, got in zip(requests, answers, strict=True):
        if texts == ["forbidden"]:
            assert isinstance(got, InvalidInput)
            assert str(got) == "this text is forbidden"
        elif "broken" in texts:
            assert isinstance(got, PredictionFailed)
        else:
            assert [text.encode() in each for text, each in zip(texts, got.outputs[0], strict=True)] == [True] * len(
                texts
            )
    assert model.healthy, "what clients send is no device's illness"


def test_cheap_functions_move_to_the_event_loop_and_slow_ones_away() -> None:
    made = functions(function("features"))
    model = around(made)
    (lane,) = model._stages[0]._lanes
    seen: list[bool] = []
    slow_s = [0.0]
    inner = lane.executor._run

    def run(arrays: Any, count: int) -> Any:
        try:
            asyncio.get_running_loop()
            seen.append(True)
        except RuntimeError:
            seen.append(False)
        time.sleep(slow_s[0])
        return inner(arrays, count)

    lane.executor._run = run

    async def scenario() -> None:
        for _ in range(40):
            await model.submit(rows(["a"]))
        assert not seen[0], "what nobody has timed holds no event loop"
        assert all(seen[-5:])
        slow_s[0] = 0.02
        for _ in range(3):
            await model.submit(rows(["a"]))
        assert not seen[-1]

    asyncio.run(scenario())


def test_the_receipt_has_both_functions() -> None:
    model = around(functions(function("features"), function("label")))
    got = asyncio.run(model.submit(rows(["abc"])))
    assert got.before_ns > 0
    assert got.after_ns > 0
    assert got.compute_ns > 0


def test_a_deadline_holds_before_the_model_too() -> None:
    model = around(functions(function("features")))
    (lane,) = model._stages[0]._lanes
    inner = lane.executor._run
    lane.executor._run = lambda arrays, count: (time.sleep(0.2), inner(arrays, count))[1]

    async def scenario() -> None:
        first = asyncio.ensure_future(model.submit(rows(["a"])))
        await asyncio.sleep(0.05)
        with pytest.raises(DeadlineExceeded):
            await model.submit(rows(["b"]), time.monotonic() + 0.05)
        await first

    asyncio.run(scenario())


def test_a_cancelled_request_does_not_reach_the_model() -> None:
    model = around(functions(function("features")))
    executor = model._inner.coalescer._runner.executor
    (lane,) = model._stages[0]._lanes
    inner = lane.executor._run
    lane.executor._run = lambda arrays, count: (time.sleep(0.1), inner(arrays, count))[1]

    async def scenario() -> None:
        task = asyncio.ensure_future(model.submit(rows(["a"])))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)

    asyncio.run(scenario())
    assert executor.shapes == []


def test_processes_share_the_work_and_one_that_dies_is_started_again() -> None:
    made = functions(function("dies"), processes=2, limit_s=20.0)
    model = around(made)

    async def scenario() -> None:
        requests = [[letter * n] for n in range(1, 9) for letter in "abcd"]
        answers = await all_at_once(model, requests)
        for texts, got in zip(requests, answers, strict=True):
            np.testing.assert_allclose(got.outputs[0], features(texts) @ WEIGHTS, rtol=1e-6)
        died, well = await all_at_once(model, [["die"], ["abc"]])
        assert isinstance(died, PredictionFailed)
        assert "signal 6" in str(died)
        assert not isinstance(well, SoloError)
        again = await model.submit(rows(["abc"]))
        np.testing.assert_allclose(again.outputs[0], features(["abc"]) @ WEIGHTS, rtol=1e-6)

    processes = [run.__self__ for run in made.runs_before]
    try:
        asyncio.run(scenario())
    finally:
        for process in processes:
            process.stop()


def test_a_process_that_hangs_is_ended_and_one_that_was_killed_replaced() -> None:
    process = BeforeProcess(function("dies"), MODEL.inputs, 1.0)
    process.start()
    try:
        with pytest.raises(PredictionFailed, match="took more than 1 s and was ended"):
            process.run(rows(["hang"]).arrays, 1)
        assert process.run(rows(["abc"]).arrays, 1)[0].tolist() == [[1, 1, 1, 0]]
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()
        with pytest.raises(PredictionFailed, match="ended its process"):
            process.run(rows(["abc"]).arrays, 1)
        assert process.run(rows(["abc"]).arrays, 1)[0].tolist() == [[1, 1, 1, 0]]
    finally:
        process.stop()
