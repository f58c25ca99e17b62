"""The Python client in every kind of process, over both ways, against real servers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray import serve

from deployments.errors import DeadlineExceeded, InvalidInput, NotReady, PredictionFailed, UnknownModel
from serve_app.client import Model
from tests.support import client_models
from tests.support.client_cluster import as_driver, family
from tests.support.processes import Server

pytestmark = pytest.mark.serve
both = pytest.mark.parametrize("transport", ["http", "handle"])

DEPLOYED = ("digits", "double", "mortal", "several", "slow", "wide", "words")
X = np.arange(32, dtype=np.float32).reshape(2, 16)


@pytest.fixture(scope="module")
def server(driven: Server) -> Iterator[Server]:
    with as_driver(driven):
        yield driven


def statistics(server: Server, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/v2/models/{name}/stats") as answer:
        return dict(json.load(answer)["model_stats"][0])


@both
def test_named_inputs_and_several_outputs(server: Server, transport: Any) -> None:
    outputs = Model("several", 1, transport=transport).predict({"b": [[1, 2, 3, 4]], "a": [[10, 10, 10, 10]]})
    assert isinstance(outputs, dict)
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "sum": [[11, 12, 13, 14]],
        "difference": [[9, 8, 7, 6]],
    }


@both
def test_batches_of_any_size_come_back_in_order(server: Server, transport: Any) -> None:
    x = np.random.default_rng(2).random((203, 16), np.float32)
    answer = Model("double", transport=transport).predict(x)
    assert isinstance(answer, np.ndarray)
    assert np.array_equal(answer, x * 2)
    answer += 1


@pytest.mark.parametrize("transport", ["auto", "http", "handle"])
def test_arrays_beyond_what_grpc_takes(server: Server, transport: Any) -> None:
    model = Model("wide", transport=transport)
    small_in_large_out = model.predict(np.arange(8).reshape(8, 1))
    assert isinstance(small_in_large_out, np.ndarray)
    assert small_in_large_out.nbytes > 4 << 20
    assert (small_in_large_out == np.arange(8)[:, None]).all()
    x = np.random.default_rng(3).random((20, 300_000), np.float32)
    answer = model.predict(x)
    assert isinstance(answer, np.ndarray)
    assert np.array_equal(answer[:, -1], x.max(axis=1))


@ray.remote(num_cpus=0)
def predict_in_task(model: Model, x: Any) -> Any:
    return model.predict(x)


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self) -> None:
        self.model = Model("double")

    def predict(self, x: Any) -> Any:
        return self.model.predict(x)


@ray.remote(num_cpus=0)
class AsyncActor:
    async def predict(self, x: Any, transport: Any) -> Any:
        return await asyncio.gather(*[Model("double", transport=transport).predict_async(x) for _ in range(3)])

    async def predict_blocking(self, x: Any, transport: Any) -> Any:
        return Model("double", transport=transport).predict(x)


@both
def test_tasks_and_actors(server: Server, transport: Any) -> None:
    assert np.array_equal(ray.get(predict_in_task.remote(Model("double", transport=transport), X)), X * 2)
    assert np.array_equal(ray.get(Actor.remote().predict.remote(X)), X * 2)
    actor = AsyncActor.remote()
    assert all(np.array_equal(answer, X * 2) for answer in ray.get(actor.predict.remote(X, transport)))
    assert np.array_equal(ray.get(actor.predict_blocking.remote(X, transport)), X * 2)


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Caller:
    def __init__(self, transport: Any) -> None:
        self.model = Model("double", transport=transport)

    async def __call__(self, x: Any) -> Any:
        return await self.model.predict_async(x), self.model.predict(x)


@both
def test_inside_another_deployment(server: Server, transport: Any) -> None:
    handle = serve.run(Caller.bind(transport), name="caller", route_prefix=None)
    answers = handle.remote(X).result(timeout_s=60)
    serve.delete("caller")
    assert all(np.array_equal(answer, X * 2) for answer in answers)


def test_threads_share_a_model(server: Server) -> None:
    model, answers = Model("double"), {}
    threads = [
        threading.Thread(target=lambda i=i: answers.update({i: model.predict(X + i)}))  # type: ignore[misc]
        for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(answers[i], (X + i) * 2) for i in range(16))


def test_both_ways_lead_to_one_coalescer(server: Server) -> None:
    before = statistics(server, "double")["execution_count"]
    Model("double", transport="http").predict(X)
    Model("double", transport="handle").predict(X)
    assert statistics(server, "double")["execution_count"] == before + 2


@pytest.mark.parametrize(
    ("model", "inputs", "error", "says"),
    [
        (
            Model("absent"),
            X,
            UnknownModel,
            f"unknown model 'absent'; deployed: {', '.join(DEPLOYED)}",
        ),
        (Model("double", 7), X, UnknownModel, "model 'double' has no version '7'; deployed: '1'"),
        (Model("double"), X[:, :3], InvalidInput, "input 'x': expected shape [-1, 16], got [2, 3]"),
        (Model("double"), {"y": X}, InvalidInput, "input 'x' is missing"),
        (Model("several"), {"a": X, "b": X}, InvalidInput, "input 'a': expected dtype int32, got float32"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    server: Server, model: Model, inputs: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as raised:
        model.predict(inputs)
    assert says in str(raised.value)
    assert all(statistics(server, name)["inference_stats"]["fail"]["count"] == 0 for name in ("double", "several"))


@both
def test_a_failing_model_fails_with_its_text(server: Server, transport: Any) -> None:
    with pytest.raises(PredictionFailed, match="this model cannot turn back time"):
        Model("slow", transport=transport).predict([[-1.0]])


@both
def test_a_timeout_cancels(server: Server, transport: Any) -> None:
    model = Model("slow", transport=transport)
    model.predict([[0.0]])
    runs = statistics(server, "slow")["execution_count"]
    busy = threading.Thread(target=model.predict, args=([[1.5]],))
    busy.start()
    time.sleep(0.3)
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        model.predict([[0.5]], timeout_s=0.4)
    assert time.monotonic() - started_s < 1
    busy.join()
    time.sleep(0.8)
    # The one that gave up was waiting behind the other, and never ran.
    assert statistics(server, "slow")["execution_count"] == runs + 1


@both
def test_a_cancelled_coroutine_cancels_its_call(server: Server, transport: Any) -> None:
    model = Model("slow", transport=transport)
    model.predict([[0.0]])
    runs = statistics(server, "slow")["execution_count"]

    async def give_up() -> None:
        busy = asyncio.ensure_future(model.predict_async([[1.5]]))
        await asyncio.sleep(0.3)
        waiting = asyncio.ensure_future(model.predict_async([[0.5]], timeout_s=None))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await busy

    asyncio.run(give_up())
    time.sleep(0.8)
    assert statistics(server, "slow")["execution_count"] == runs + 1


@both
def test_a_replica_that_dies_under_a_call_is_replaced_unseen(server: Server, transport: Any) -> None:
    model = Model("mortal", transport=transport)
    marker = 1 + (transport == "http")
    pid = model.predict([[0]])
    # The replica that meets the marker first dies of it; the call goes on elsewhere.
    assert isinstance(model.predict([[marker]], timeout_s=90), np.ndarray)
    assert isinstance(pid, np.ndarray)


@both
def test_a_call_waits_for_replicas_that_restart(server: Server, transport: Any) -> None:
    model = Model("mortal", transport=transport)
    assert isinstance(model.predict([[0]]), np.ndarray)
    replicas = [process for process, line in family(server) if any("application-of-mortal" in word for word in line)]
    assert replicas
    for replica in replicas:
        replica.kill()
    assert isinstance(model.predict([[0]], timeout_s=120), np.ndarray)


@both
def test_no_call_is_lost_while_a_replica_is_killed(server: Server, transport: Any) -> None:
    model, failures, done = Model("mortal", transport=transport), [], threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                model.predict([[0]])
            except Exception as error:
                failures.append(error)

    answer = model.predict([[0]])
    assert isinstance(answer, np.ndarray)
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    psutil.Process(int(answer[0, 0])).kill()
    time.sleep(4)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


@both
def test_a_redeployed_model_is_learned_anew(server: Server, transport: Any) -> None:
    name = f"changing-{transport}"
    model = Model(name, transport=transport)

    def deploy(shape: int) -> None:
        built = client_models.app({"name": name, "kind": "double", "shape": shape})
        serve.run(built, name=name, route_prefix=f"/v2/models/{name}")

    deploy(5)
    assert (model.predict(np.ones((1, 5))) == 2).all()
    deploy(6)
    ends_s = time.monotonic() + 20
    while True:
        try:
            assert (model.predict(np.ones((1, 6))) == 2).all()
            break
        except InvalidInput:
            # The old replica may answer until HAProxy has learned of the new one.
            assert time.monotonic() < ends_s
            time.sleep(0.5)
    with pytest.raises(InvalidInput, match=r"expected shape \[-1, 6\]"):
        model.predict(np.ones((1, 5)))
    serve.delete(name)
    with pytest.raises((UnknownModel, NotReady)):
        model.predict(np.ones((1, 6)), timeout_s=20)
