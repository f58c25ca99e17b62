"""Models that a pipeline holds itself: their answers, rows and errors, without a hop."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from deployments.errors import PredictionFailed
from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import Arrays, Rows, Signature
from serve_app.client.values import PIECES_UNDER_WAY
from serve_app.config.pipeline_args import PipelineArgs
from serve_app.pipeline.own import own_call
from serve_app.pipeline.running import Running
from serve_app.pipeline.wiring import wire
from tests.pipeline.test_wiring import spec
from tests.support.routes_harness import DirectCoalescer, servable

OPEN = spec("x", "float32", None), spec("y", "float32", None)


class Doubling(DirectCoalescer):
    """Doubles, and keeps how many rows each call had."""

    def __init__(self) -> None:
        super().__init__(lambda x: (2 * x,))
        self.counts: list[int] = []

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        self.counts.append(rows.count)
        return await super().submit(rows, deadline_s)


def doubling() -> Servable:
    """Return a model that takes four rows at a time."""
    signature = Signature((spec("x", "float32", 2),), (spec("y", "float32", 2),))
    return Servable("double", "1", signature, Doubling(), 4)


def pipeline(own: Servable, *steps: dict[str, Any], **args: Any) -> tuple[Running, Signature]:
    parsed = PipelineArgs.parse({"name": "p", "steps": list(steps), **args})
    names = [step.name for step in parsed.steps if step.model]
    wiring = wire(parsed, dict.fromkeys(names, own.signature))
    return Running(wiring, {name: own_call(own) for name in names}), wiring.signature


def ask(made: tuple[Running, Signature], x: np.ndarray) -> np.ndarray:
    running, signature = made
    (y,) = asyncio.run(running.submit(signature.check({"x": x}))).outputs
    return y


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_each_row_has_its_own_answer_however_many_there_are(count: int) -> None:
    own = doubling()
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    made = pipeline(own, {"name": "first", "model": "own"}, {"name": "second", "model": "own"})
    np.testing.assert_array_equal(ask(made, x), 4 * x)
    assert own.statistics.inference_count == 2 * count
    counts = own.coalescer.counts  # type: ignore[attr-defined]
    assert sum(counts) == 2 * count
    assert max(counts) <= 4, "no more rows at once than the model takes"


def test_a_large_batch_does_not_fill_the_models_queue() -> None:
    class Slow(Doubling):
        waiting_now = most_waiting = 0

        async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
            self.waiting_now += 1
            self.most_waiting = max(self.most_waiting, self.waiting_now)
            await asyncio.sleep(0)
            self.waiting_now -= 1
            return await super().submit(rows, deadline_s)

    own = doubling()
    own.coalescer = slow = Slow()
    x = np.arange(400, dtype=np.float32).reshape(200, 2)
    np.testing.assert_array_equal(ask(pipeline(own, {"name": "first", "model": "own"}), x), 2 * x)
    assert slow.most_waiting == PIECES_UNDER_WAY


def test_what_a_function_returns_is_converted_as_for_a_deployed_model() -> None:
    outputs = [{"name": "whole", "datatype": "INT32", "shape": [-1, 2]}]
    function = {"function": "tests.support.pipelines:whole", "outputs": outputs}
    made = pipeline(
        doubling(), function, {"model": "own"}, inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    )
    y = ask(made, np.array([[1.6, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(y, [[2, 4], [6, 8]])
    assert y.dtype == np.float32


def test_rows_that_differ_in_length_are_asked_about_apart() -> None:
    own = servable("plus", [OPEN[0]], [OPEN[1]], lambda x: (x + 1,))
    column = np.empty(2, dtype=object)
    column[:] = [np.zeros(1, np.float32), np.zeros(3, np.float32)]
    (answered,) = asyncio.run(own_call(own)({"x": column}, 2, None))
    assert [row.tolist() for row in answered] == [[1.0], [1.0, 1.0, 1.0]]


def test_an_error_is_counted_by_the_model_and_names_the_step() -> None:
    def fails(x: np.ndarray) -> Arrays:
        raise PredictionFailed("no luck")

    own = servable("fails", [spec("x", "float32", 2)], [spec("y", "float32", 2)], fails)
    with pytest.raises(PredictionFailed, match=r"^step 'first': no luck"):
        ask(pipeline(own, {"name": "first", "model": "own"}), np.zeros((1, 2), np.float32))
    assert own.statistics.fail_causes == {"failed": 1}
