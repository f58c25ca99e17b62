"""Indices out of range: the model's own bounds are found by asking it, and no call tells what another met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from deployments.candidates import litert
from deployments.errors import InvalidInput
from deployments.loading import from_keras
from deployments.planning.plan import Plan, PlanOptions, make_plan
from deployments.tensors import Array


def looked_up(prepare: Callable[[Any], Any] = lambda tokens: tokens, columns: int = 4) -> keras.Model:
    tokens = keras.Input([columns], dtype="int32", name="tokens")
    rows = keras.layers.Embedding(50, 8)(prepare(tokens))
    return keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(rows))


def of_two_tables() -> keras.Model:
    tokens = keras.Input([2], dtype="int32", name="tokens")
    small, large = keras.layers.Embedding(10, 4)(tokens[:, 0]), keras.layers.Embedding(90, 4)(tokens[:, 1])
    return keras.Model(tokens, keras.layers.Concatenate()([small, large]))


def planned(model: keras.Model, *only: str) -> Plan:
    return make_plan(from_keras(model), PlanOptions(budget_s=0.5, allowed_batch_sizes=(1, 2), only=only))


def tokens(value: int, columns: int = 4) -> Array:
    return np.full([1, columns], value, np.int32)


@pytest.mark.parametrize("only", ["litert", "session-single", "xla-direct"])
def test_an_index_out_of_range_is_named_with_its_bounds_however_it_runs(only: str) -> None:
    plan = planned(looked_up(), only)
    for value in (50, 2**31 - 1, -51):
        with pytest.raises(InvalidInput, match=rf"input 'tokens': expected indices from -50 to 49, got {value}"):
            plan.signature.check({"tokens": tokens(value)})
    for value in (0, 49, -50):
        assert plan.signature.check({"tokens": tokens(value)}).count == 1
    plan.close()


@pytest.mark.parametrize(
    "model",
    [
        lambda: looked_up(lambda tokens: keras.ops.minimum(tokens, 49)),
        lambda: looked_up(lambda tokens: keras.ops.where(tokens >= 50, 0, tokens)),
        lambda: looked_up(lambda tokens: tokens % 50),
        of_two_tables,
    ],
    ids=["clipped", "replaced", "wrapped", "two tables"],
)
def test_what_the_model_takes_is_not_refused(model: Callable[[], keras.Model]) -> None:
    made = model()
    plan = planned(made, "session-single")
    row = np.array([[3, 60, 70, 80][: made.input_shape[1]]], np.int32)
    (array,) = plan.signature.check({"tokens": row}).arrays
    np.testing.assert_allclose(plan.run((array,), 1)[0], made(row), rtol=1e-5)
    plan.close()


def test_litert_tells_of_this_call_alone() -> None:
    plan = planned(looked_up(), "litert")
    told = []
    for value in (98, 99, 98):
        with pytest.raises(RuntimeError) as raised:
            plan.run((tokens(value),), 1)
        told.append(str(raised.value))
    assert told[0] == told[1] == told[2]
    assert "out of bounds" in told[0]
    plan.close()


def test_what_litert_keeps_of_errors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "MOST_SAID", 400)
    plan = planned(looked_up(), "litert")
    made: list[int] = []
    anew = litert._interpreter
    monkeypatch.setattr(litert, "_interpreter", lambda *given: made.append(1) or anew(*given))  # type: ignore[func-returns-value]
    right = plan.run((tokens(7),), 1)[0]
    told = set()
    for _ in range(20):
        with pytest.raises(RuntimeError) as raised:
            plan.run((tokens(98),), 1)
        told.add(str(raised.value))
        np.testing.assert_array_equal(plan.run((tokens(7),), 1)[0], right)
    assert len(told) == 1
    assert 2 <= len(made) < 20
    plan.close()
