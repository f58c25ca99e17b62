"""States between requests: each sequence its own, in order, bounded in time and number, never restarted in silence."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from deployments.errors import ConfigError, InvalidInput, LoadError, Overloaded, PredictionFailed
from deployments.execution import Answer
from deployments.sequences import SequenceOptions, Sequences, SequenceStep
from deployments.servable import Servable
from deployments.states import States
from deployments.tensors import Rows, Signature
from serve_app.config.args import ModelArgs
from serve_app.grpc.codec import GrpcCodec
from tests.support.routes_harness import call, get, routes, spec

MODEL = Signature(
    (spec("sum_in", "float32"), spec("x", "float32"), spec("n_in", "int64", 1)),
    (spec("mean", "float32"), spec("n_out", "int64", 1), spec("sum_out", "float32")),
)
OPTIONS = SequenceOptions({"sum_in": "sum_out", "n_in": "n_out"})
VISIBLE = Signature((spec("x", "float32"),), (spec("mean", "float32"),))


class Averages:
    """A model with states: the mean of all that a sequence has brought; slow for 7, broken for 13."""

    def __init__(self) -> None:
        self.running = self.most_running = 0

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        total, x, n = rows.arrays
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.01 if x[0] == 7 else 0)
        self.running -= 1
        if x[0] == 13:
            raise PredictionFailed("13")
        mean = ((total + x) / (n[:, 0] + 1)).astype(np.float32)
        return Answer((mean, n + 1, total + x), 1, 2, 1)


def made(options: SequenceOptions = OPTIONS) -> tuple[Sequences, Averages]:
    model = Averages()
    return Sequences(States(MODEL, options.states), options, model.submit), model


async def ask(sequences: Sequences, number: int | str, x: float, start: bool = False, end: bool = False) -> float:
    rows = VISIBLE.check({"x": np.array([x], np.float32)})
    answer = await sequences.submit(rows, None, SequenceStep(number, start, end))
    assert len(answer.outputs) == 1
    return float(answer.outputs[0][0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=40))
def test_each_sequence_has_its_own_states_whoever_else_asks(steps: list[tuple[int, int]]) -> None:
    sequences, _ = made()
    seen: dict[int, list[int]] = {}
    expected = []
    for number, x in steps:
        seen.setdefault(number, []).append(x)
        expected.append(np.mean(seen[number]))

    async def run() -> list[float]:
        begun: set[int] = set()
        tasks = []
        for number, x in steps:
            tasks.append(asyncio.ensure_future(ask(sequences, number, x, start=number not in begun)))
            begun.add(number)
        return await asyncio.gather(*tasks)

    np.testing.assert_allclose(asyncio.run(run()), expected, rtol=1e-5)


def test_steps_of_one_sequence_run_in_order_and_those_of_several_together() -> None:
    sequences, model = made()

    async def run() -> list[float]:
        first = [ask(sequences, 1, x, start=x == 7) for x in (7, 1, 1)]
        return await asyncio.gather(*first, ask(sequences, 2, 7, start=True))

    assert asyncio.run(run()) == [7, 4, 3, 7]
    assert model.most_running == 2


def test_what_is_not_under_way_is_refused_in_words() -> None:
    sequences, _ = made()

    async def run() -> None:
        with pytest.raises(InvalidInput, match="sequence 5 is not under way here"):
            await ask(sequences, 5, 1)
        await ask(sequences, 5, 1, start=True)
        assert await ask(sequences, 5, 3, end=True) == 2
        with pytest.raises(InvalidInput, match="sequence 5 is not under way here"):
            await ask(sequences, 5, 1)
        await ask(sequences, "five", 1, start=True)
        await ask(sequences, "five", 9)
        assert await ask(sequences, "five", 2, start=True) == 2, "a start begins anew"
        with pytest.raises(InvalidInput, match="expected parameter 'sequence_id'"):
            await ask(sequences, 0, 1, start=True)
        rows = VISIBLE.check({"x": np.ones(2, np.float32)})
        with pytest.raises(InvalidInput, match="one row a request, got 2"):
            await sequences.submit(rows, None, SequenceStep(1, True))
        with pytest.raises(InvalidInput, match="expected parameter 'sequence_id'"):
            await sequences.submit(rows, None, None)

    asyncio.run(run())


def test_a_failed_step_leaves_the_states() -> None:
    sequences, _ = made()

    async def run() -> None:
        await ask(sequences, 1, 1, start=True)
        with pytest.raises(PredictionFailed):
            await ask(sequences, 1, 13)
        assert await ask(sequences, 1, 3) == 2

    asyncio.run(run())


def test_idle_ones_end_and_no_more_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("deployments.sequences.time", SimpleNamespace(monotonic=lambda: now_s))
    sequences, _ = made(SequenceOptions(OPTIONS.states, max_idle_s=0.2, max_sequences=2))

    async def run() -> None:
        nonlocal now_s
        await ask(sequences, 1, 1, start=True)
        now_s = 0.12
        await ask(sequences, 2, 1, start=True)
        with pytest.raises(Overloaded, match="2 sequences are under way") as full:
            await ask(sequences, 3, 1, start=True)
        assert full.value.retry_after_s >= 1
        now_s = 0.24
        await ask(sequences, 3, 1, start=True)
        assert len(sequences) == 2
        with pytest.raises(InvalidInput, match=r"idle for more than 0\.2 s"):
            await ask(sequences, 1, 1)
        assert await ask(sequences, 2, 3) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({"h": "sum_out"}, "the model has no input 'h'; it has 'sum_in', 'x', 'n_in'"),
        ({"sum_in": "h"}, "the model has no output 'h'"),
        ({"sum_in": "n_out"}, "input 'sum_in' is float32 [-1], but output 'n_out' int64 [-1, 1]"),
        ({"sum_in": "sum_out", "n_in": "n_out", "x": "mean"}, "expected an input and an output beside the states"),
    ],
)
def test_states_that_cannot_be(states: dict[str, str], text: str) -> None:
    with pytest.raises(LoadError) as raised:
        made(SequenceOptions(states))
    assert text in str(raised.value)


@pytest.mark.parametrize("key", [{"cache_mb": 1}, {"allowed_lengths": [8]}])
def test_what_would_not_know_the_states_is_refused(key: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(key))}: expected none beside sequences"):
        ModelArgs.parse({"name": "m", "source": "m.keras", "sequences": {"states": {"h": "g"}}, **key})


def servable() -> Servable:
    sequences, model = made()
    return Servable("mean", "1", VISIBLE, model, 8, sequences=sequences)


def request(x: float, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [x]}
    return {"inputs": [tensor], "parameters": parameters}


def test_over_http_by_tritons_parameters() -> None:
    app = routes(servable())
    told = get(app, "/v2/models/mean").json()
    assert [tensor["name"] for tensor in told["inputs"] + told["outputs"]] == ["x", "mean"]
    assert get(app, "/v2/models/mean/config").json()["sequence_batching"] == {
        "max_sequence_idle_microseconds": 60_000_000
    }
    answers = [
        call(app, "/v2/models/mean/infer", request(x, sequence_id="s", sequence_start=x == 2, sequence_end=x == 6))
        for x in (2, 4, 6)
    ]
    assert [reply.json()["outputs"][0]["data"] for reply in answers] == [[2], [3], [4]]
    after = call(app, "/v2/models/mean/infer", request(1, sequence_id="s"))
    assert (after.status, after.error[:36]) == (400, "sequence 's' is not under way here: ")
    without = call(app, "/v1/models/mean:predict", {"instances": [1.0]})
    assert without.status == 400
    assert "sequence_id" in without.error
    wrong = call(app, "/v2/models/mean/infer", request(1, sequence_id=-1, sequence_start="yes"))
    assert wrong.status == 400
    assert "sequence_id" in json.dumps(wrong.error)


def test_over_grpc_by_tritons_parameters() -> None:
    model = servable()
    codec = GrpcCodec(model)

    def message(x: float, start: bool) -> Any:
        asked = service_pb2.ModelInferRequest(model_name="mean")
        asked.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(x)
        asked.parameters["sequence_id"].int64_param = 4
        asked.parameters["sequence_start"].bool_param = start
        return codec.decode(asked)

    async def run() -> list[float]:
        found = []
        for x in (2.0, 4.0):
            decoded = message(x, x == 2)
            found.append(float((await model.predict(decoded.inputs, None, decoded.step)).outputs[0][0]))
        return found

    assert asyncio.run(run()) == [2, 3]
