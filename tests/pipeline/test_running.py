"""Requests through steps: each row its own answer, whatever it fans out to; errors, deadlines, cancelled requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    PredictionFailed,
    SoloError,
    UnknownModel,
)
from deployments.servable import Servable
from deployments.tensors import Array, Arrays, Signature
from serve_app.config.pipeline_args import PipelineArgs
from serve_app.pipeline.running import Running
from serve_app.pipeline.steps import Call
from serve_app.pipeline.wiring import wire
from tests.pipeline.test_wiring import spec
from tests.support.routes_harness import call, routes

ADD = Signature((spec("x", "float32", 4),), (spec("y", "float32", 4),))
COUNT = Signature((spec("n", "int32"),), (spec("count", "int32"), spec("many", "bool")))


class Models:
    """Deployed models as functions; what each was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, float | None]] = []
        self.cancelled: list[str] = []
        self.at_once = self.most_at_once = 0

    def adds(self, name: str, number: float, wait_s: float = 0.0) -> Call:
        async def ask(columns: Mapping[str, Array], count: int, deadline_s: float | None) -> Arrays:
            self.asked.append((name, count, deadline_s))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            finally:
                self.at_once -= 1
            (x,) = columns.values()
            assert len(x) == count
            return (np.asarray(x + number, np.float32),)

        return ask

    def counts(self) -> Call:
        async def ask(columns: Mapping[str, Array], count: int, deadline_s: float | None) -> Arrays:
            self.asked.append(("count", count, deadline_s))
            n = columns["n"]
            return n % 4, n % 4 > 1

        return ask


def running(
    steps: list[dict[str, Any]], calls: Mapping[str, Call], signatures: Mapping[str, Signature], **args: Any
) -> tuple[Running, Signature]:
    parsed = PipelineArgs.parse({"name": "p", "steps": steps, **args})
    wiring = wire(parsed, {step.name: signatures[step.name] for step in parsed.steps if step.model})
    return Running(wiring, calls), wiring.signature


def submit(made: tuple[Running, Signature], deadline_s: float | None = None, **inputs: Any) -> Any:
    pipeline, signature = made
    return asyncio.run(pipeline.submit(signature.check(inputs), deadline_s))


FAN_OUT = [
    {"name": "count", "model": "count"},
    {
        "name": "items",
        "function": "tests.support.pipelines:repeated",
        "inputs": {"count": "count.count"},
        "outputs": [{"name": "items", "datatype": "FP32", "shape": [-1, -1, 4]}],
    },
    {"name": "add", "model": "add", "inputs": {"x": "items"}, "for_each": ["x"]},
]
SIGNATURES = {"count": COUNT, "add": ADD, "left": ADD, "right": ADD}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_every_row_gets_its_own_items(numbers: list[int]) -> None:
    models = Models()
    made = running(FAN_OUT, {"count": models.counts(), "add": models.adds("add", 10)}, SIGNATURES)
    counts = [n % 4 for n in numbers]
    if len(set(counts)) > 1:
        with pytest.raises(InvalidInput, match="different numbers of items"):
            submit(made, n=np.array(numbers, np.int32))
        return
    (y,) = submit(made, n=np.array(numbers, np.int32)).outputs
    expected = [[[item + 10.0] * 4 for item in range(k, 2 * k)] for k in counts]
    np.testing.assert_array_equal(y, np.array(expected, np.float32).reshape(len(numbers), counts[0], 4))
    assert [name for name, *_ in models.asked] == ["count"] + ["add"] * bool(counts[0]), "no items, no call"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_a_condition_picks_rows(numbers: list[int]) -> None:
    models = Models()
    steps = [
        {"name": "count", "model": "count", "inputs": {"n": "n"}},
        {"name": "add", "model": "add", "inputs": {"x": "x"}, "if": "count.many", "otherwise": -1},
    ]
    made = running(steps, {"count": models.counts(), "add": models.adds("add", 10)}, SIGNATURES)
    x = np.arange(4 * len(numbers), dtype=np.float32).reshape(-1, 4)
    (y,) = submit(made, n=np.array(numbers, np.int32), x=x).outputs
    holds = np.array([n % 4 > 1 for n in numbers])
    np.testing.assert_array_equal(y, np.where(holds[:, None], x + 10, -1))
    assert ("add", int(holds.sum()), None) in models.asked or not holds.any()


DIAMOND = [
    {"name": "left", "model": "left", "inputs": {"x": "x"}},
    {"name": "right", "model": "right", "inputs": {"x": "x"}},
    {"name": "add", "model": "add", "inputs": {"x": "left"}},
]
BOTH = {"y": "add.y", "r": "right.y"}


def test_steps_that_need_nothing_of_each_other_run_at_once() -> None:
    models = Models()
    calls = {"left": models.adds("left", 1, 0.05), "right": models.adds("right", 2, 0.05), "add": models.adds("add", 4)}
    made = running(DIAMOND, calls, SIGNATURES, outputs=BOTH)
    answer = submit(made, x=np.zeros((2, 4), np.float32))
    assert [output[0, 0] for output in answer.outputs] == [5, 2]
    assert models.most_at_once == 2
    assert {name for name, _ in answer.steps} == {"left", "right", "add"}
    assert sum(took_ns for _, took_ns in answer.steps) == answer.compute_ns


def test_a_failed_step_ends_the_others_and_is_named() -> None:
    models = Models()

    async def fails(*_: Any) -> Arrays:
        await asyncio.sleep(0.01)
        raise NotReady("no replica answered")

    calls = {"left": fails, "right": models.adds("right", 2, 5.0), "add": models.adds("add", 4)}
    made = running(DIAMOND, calls, SIGNATURES, outputs=BOTH)
    started_s = time.monotonic()
    with pytest.raises(NotReady, match="step 'left': no replica answered"):
        submit(made, x=np.zeros((2, 4), np.float32))
    assert time.monotonic() - started_s < 2
    assert models.cancelled == ["right"]
    assert "add" not in [name for name, *_ in models.asked]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (InvalidInput("no"), InvalidInput),
        (DeadlineExceeded("no"), DeadlineExceeded),
        (PredictionFailed("no"), PredictionFailed),
        (UnknownModel("no"), NotReady),
        (Overloaded("no", 2.5), Overloaded),
        (SoloError("no"), PredictionFailed),
    ],
)
def test_errors_keep_their_kind(raised: SoloError, kind: type[SoloError]) -> None:
    async def fails(*_: Any) -> Arrays:
        raise raised

    made = running([{"name": "add", "model": "add"}], {"add": fails}, SIGNATURES)
    with pytest.raises(kind, match="step 'add': no") as got:
        submit(made, x=np.zeros((1, 4), np.float32))
    assert getattr(got.value, "retry_after_s", 2.5) == 2.5


@pytest.mark.parametrize(
    "steps", [DIAMOND, [{"name": "left", "model": "left"}, {"name": "add", "model": "add", "inputs": {"x": "left"}}]]
)
def test_a_cancelled_request_is_cancelled_everywhere(steps: list[dict[str, Any]]) -> None:
    models = Models()
    calls = {name: models.adds(name, 1, 5.0) for name in ("left", "right", "add")}
    pipeline, signature = running(steps, calls, SIGNATURES)

    async def scenario() -> None:
        task = asyncio.ensure_future(pipeline.submit(signature.check({"x": np.zeros((1, 4), np.float32)})))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert sorted(models.cancelled) == sorted({name for name, *_ in models.asked})


def test_the_deadline_goes_along() -> None:
    models = Models()
    steps = [{"name": "left", "model": "left"}, {"name": "add", "model": "add", "inputs": {"x": "left"}}]
    made = running(steps, {"left": models.adds("left", 1), "add": models.adds("add", 1)}, SIGNATURES)
    submit(made, 12345.0, x=np.zeros((1, 4), np.float32))
    assert models.asked == [("left", 1, 12345.0), ("add", 1, 12345.0)]


def test_functions_stand_between() -> None:
    models = Models()
    steps = [
        {"function": "tests.support.pipelines:lengths", "inputs": {"text": "text"}},
        {"function": "tests.support.pipelines:halve", "inputs": {"x": "lengths"}},
        {"name": "add", "model": "add", "inputs": {"x": "halve"}},
    ]
    made = running(steps, {"add": models.adds("add", 1)}, SIGNATURES)
    text = np.array([b"four", b"sixsix"], dtype=object)
    for _ in range(3):
        np.testing.assert_array_equal(submit(made, text=text).outputs[0], [[3.0] * 4, [4.0] * 4])


def test_a_functions_value_error_is_the_clients() -> None:
    steps = [
        {"function": "tests.support.pipelines:fails", "inputs": {"x": "x"}},
        {"name": "add", "model": "add", "inputs": {"x": "fails"}},
    ]
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    pipeline, signature = running(steps, {"add": Models().adds("add", 1)}, SIGNATURES, inputs=inputs)
    app = routes(Servable("p", "1", signature, pipeline, 8))
    reply = call(app, "/v1/models/p:predict", {"instances": [[-1, 0, 0, 0]]})
    assert (reply.status, reply.error) == (400, "step 'fails': negative")


def test_the_receipt_names_the_steps_and_adds_up() -> None:
    models = Models()
    steps = [{"name": "left", "model": "left"}, {"name": "add", "model": "add", "inputs": {"x": "left"}}]
    calls = {"left": models.adds("left", 1, 0.005), "add": models.adds("add", 1, 0.002)}
    pipeline, signature = running(steps, calls, SIGNATURES)
    app = routes(Servable("p", "1", signature, pipeline, 8))
    reply = call(app, "/v1/models/p:predict", {"instances": [[0, 0, 0, 0]]})
    stages = {
        part.split(";")[0].strip(): float(part.split("dur=")[1])
        for part in reply.headers[b"server-timing"].decode().split(",")
    }
    assert stages["step-left"] >= 5
    assert stages["step-add"] >= 2
    assert "compute" not in stages
    assert sum(stages.values()) - stages["total"] == pytest.approx(stages["total"], abs=0.02)
