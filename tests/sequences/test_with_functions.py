"""Sequences with functions around the model: a step is one `before`, one run and one `after`, and fails as a whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.coalescing import CoalesceOptions, make_coalescer
from deployments.errors import InvalidInput, LoadError, PredictionFailed
from deployments.model import LoadedModel
from deployments.planning.options import PlanOptions
from deployments.processing.around import Inner
from deployments.processing.options import FunctionOptions, ProcessingOptions
from deployments.processing.preparing import Preparing
from deployments.sequences import SequenceOptions, Sequences, SequenceStep
from deployments.states import States
from deployments.tensors import Array, Arrays, Signature
from tests.support.around import function
from tests.support.routes_harness import spec

MODEL = Signature(
    (spec("seen", "float32", 4), spec("x", "float32", 4), spec("steps", "int64", 1)),
    (spec("steps_next", "int64", 1), spec("scores", "float32", 4), spec("seen_next", "float32", 4)),
)
STATES = {"steps": "steps_next", "seen": "seen_next"}
OPTIONS = CoalesceOptions(max_batch_size=8)


class Counting:
    """A planned model that adds up what a sequence has brought."""

    batch_sizes = (1, 2, 4, 8)
    runs_on_host = True
    signature = MODEL
    lengths = None
    subject = SimpleNamespace(sample=(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), np.ones((1, 1), int)))

    def run(self, arrays: Arrays, count: int) -> Arrays:
        seen, x, steps = arrays
        assert len(x) == len(seen) == len(steps) == count
        return steps + 1, seen + x, seen + x

    def expected_s(self, count: int) -> float:
        return 1e-4

    def is_inline(self, count: int) -> bool:
        return count == 1


def most(scores: Array) -> list[str]:
    """Return the letter that came most often so far; where that is `d`, nothing."""
    letters = ["abcd"[row.argmax()] for row in scores]
    if "d" in letters:
        raise KeyError("d")
    return letters


def made(after: str = "most", samples: Path | None = None) -> tuple[Sequences, Signature, PlanOptions]:
    """Return a replica's sequences, what its clients see and what its plan is made of, in a replica's order."""
    options = ProcessingOptions(function("features"), FunctionOptions(f"{__name__}:{after}"))
    preparing = Preparing(options, 10.0, STATES)
    model = cast("LoadedModel", SimpleNamespace(signature=MODEL, preprocessor=None))
    planned = preparing.prepare(model, PlanOptions(samples=samples))
    plan: Any = Counting()
    states, coalescer = States(MODEL, STATES), make_coalescer(plan, OPTIONS)
    functions = preparing.functions(plan, states)
    assert functions is not None
    around = functions.join(Inner(states.visible, coalescer), OPTIONS, 1.0)
    sequences = Sequences(states, SequenceOptions(STATES), coalescer.submit, around)
    return sequences, functions.signature, planned


async def ask(sequences: Sequences, number: int, text: str, start: bool = False) -> str:
    signature = Signature((spec("text", "object"),), ())
    rows = signature.check({"text": np.array([text.encode()], dtype=object)})
    (letter,) = (await sequences.submit(rows, None, SequenceStep(number, start))).outputs
    return str(letter[0].decode())


def test_clients_see_neither_states_nor_the_models_tensors() -> None:
    _, signature, _ = made()
    assert [each.name for each in (*signature.inputs, *signature.outputs)] == ["text", "output"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.text("abc", min_size=1, max_size=4)), min_size=1, max_size=30))
def test_every_step_answers_for_its_own_sequence(steps: list[tuple[int, str]]) -> None:
    sequences, _, _ = made()
    seen: dict[int, str] = {}
    expected = []
    for number, text in steps:
        seen[number] = seen.get(number, "") + text
        expected.append("abc"[np.argmax([seen[number].count(letter) for letter in "abc"])])

    async def run() -> list[str]:
        begun: set[int] = set()
        tasks = []
        for number, text in steps:  # all under way at once: the steps of one sequence keep their order through `before`
            tasks.append(asyncio.ensure_future(ask(sequences, number, text, start=number not in begun)))
            begun.add(number)
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == expected


def test_a_step_that_either_function_refuses_leaves_the_states() -> None:
    sequences, _, _ = made()

    async def run() -> None:
        assert await ask(sequences, 1, "ab", start=True) == "a"
        with pytest.raises(InvalidInput, match="this text is forbidden"):
            await ask(sequences, 1, "bbbb forbidden")
        with pytest.raises(PredictionFailed, match="KeyError"):
            await ask(sequences, 1, "bbdddd")
        assert await ask(sequences, 1, "b") == "b", "a 1, b 2: nothing was kept of the two that failed"

    asyncio.run(run())


def test_samples_are_what_clients_send_and_the_states_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"inputs": {"text": ["abba", "cd"]}}))
    _, _, planned = made(samples=path)
    assert planned.samples is None
    assert planned.rows is not None
    seen, x, steps = planned.rows
    np.testing.assert_array_equal(x[:2], [[2, 2, 0, 0], [0, 0, 1, 1]])
    assert len(seen) == len(steps) == len(x)
    assert not seen.any()
    assert not steps.any()


def of_states(seen_next: Array, scores: Array) -> Array:
    return seen_next + scores


def test_a_function_that_wants_a_state_is_refused() -> None:
    with pytest.raises(LoadError, match="what its parameter 'seen_next' takes is not known"):
        made("of_states")
