"""One model's endpoints: paths, methods, metadata, statistics, the receipt, and the other protocols' doors."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import httpx
import numpy as np
import pytest

from deployments.errors import Overloaded
from tests.support.routes_harness import (
    WEIGHTS,
    Reply,
    binary_request,
    call,
    dense,
    get,
    identity,
    routes,
    servable,
    simple,
    spec,
    tensor,
)

X = np.ones((3, 16), np.float32)
MODEL = "/v2/models/dense"
REQUEST: dict[str, Any] = {"inputs": [tensor("x", X, "FP32")]}
FORMS = (MODEL, f"{MODEL}/versions/1")


@pytest.mark.parametrize("path", [*FORMS, f"{MODEL}/", f"{FORMS[1]}/"])
def test_metadata(path: str) -> None:
    assert get(routes(dense()), path).json() == {
        "name": "dense",
        "versions": ["1"],
        "platform": "tensorflow_keras",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_endpoint_answers_in_both_forms(form: str) -> None:
    app = routes(dense(plan_report=lambda: {"device": "cpu", "chosen": {"1": "session"}}))
    assert get(app, f"{form}/ready").json() == {"name": "dense", "ready": True}
    assert get(app, f"{form}/config").json()["max_batch_size"] == 32
    assert get(app, f"{form}/stats").json()["model_stats"][0]["version"] == "1"
    assert get(app, f"{form}/plan").json()["chosen"] == {"1": "session"}
    assert call(app, f"{form}/infer", REQUEST).status == 200


def test_dynamic_axes_are_minus_one_and_config_leaves_the_batch_out() -> None:
    app = routes(identity(bytes, None, 4, description={"device": "cpu"}))
    assert get(app, "/v2/models/identity").json()["inputs"][0]["shape"] == [-1, -1, 4]
    config = get(app, "/v2/models/identity/config").json()
    assert config["input"] == [{"name": "x", "data_type": "TYPE_STRING", "dims": [-1, 4]}]
    assert config["parameters"] == {"device": {"string_value": "cpu"}}


def test_head_is_get_without_a_reader() -> None:
    assert call(routes(dense()), f"{MODEL}/ready", method="HEAD").status == 200


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        (MODEL, "POST", "GET, HEAD"),
        (f"{MODEL}/ready", "DELETE", "GET, HEAD"),
        (f"{MODEL}/infer", "GET", "POST"),
        (f"{FORMS[1]}/infer", "PUT", "POST"),
    ],
)
def test_wrong_methods(path: str, method: str, allow: str) -> None:
    reply = call(routes(dense()), path, method=method)
    assert (reply.status, reply.headers[b"allow"].decode()) == (405, allow)
    assert method in reply.error


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v2/models/other", "'other'"),
        ("/v2/models/other/infer", "'other'"),
        ("/v2/models/dense2/infer", "'dense2'"),
        (f"{MODEL}/versions/2", "'2'"),
        (f"{MODEL}/versions/2/infer", "'2'"),
        (f"{MODEL}/versions/", "version ''"),
        (f"{MODEL}/nothing", "nothing"),
        (f"{MODEL}/infer/more", "more"),
        (f"{MODEL}/plan", "plan"),
        ("/v2/models/", "unknown model: ''"),
        ("/", "/"),
        ("", "path"),
        ("/\ud800\x00\n", "path"),
    ],
)
def test_unknown_paths_get_the_protocols_404(path: str, named: str) -> None:
    reply = get(routes(dense()), path)
    assert reply.status == 404
    assert named in reply.error


def test_a_model_that_is_not_ready_says_so() -> None:
    reply = get(routes(dense(is_ready=lambda: False)), f"{MODEL}/ready")
    assert (reply.status, "dense" in reply.error) == (503, True)


def test_statistics_count_what_happened() -> None:
    app = routes(dense())
    for _ in range(2):
        assert call(app, f"{MODEL}/infer", REQUEST).status == 200
    assert call(app, f"{MODEL}/infer", {"inputs": []}).status == 400
    app.servable.coalescer.error = Overloaded("full", 0.1)
    assert call(app, f"{MODEL}/infer", REQUEST).status == 503
    (stats,) = get(app, f"{MODEL}/stats").json()["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("dense", "1", 6)
    times = stats["inference_stats"]
    assert (times["success"]["count"], times["fail"]["count"]) == (2, 2)
    assert (times["queue"], times["cache_hit"]) == ({"count": 2, "ns": 2000}, {"count": 0, "ns": 0})
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert all(times[part]["count"] == 2 for part in parts)
    assert sum(times[part]["ns"] for part in parts) == pytest.approx(times["success"]["ns"], rel=0.05)
    assert stats["fail_causes"] == {"invalid": 1, "overloaded": 1}
    assert abs(stats["last_inference"] / 1000 - time.time()) < 60


def test_statistics_take_runs_and_batches_from_the_coalescer() -> None:
    from deployments.coalescing.counters import Counters

    model = dense()
    model.coalescer.counters = Counters()
    model.coalescer.counters.ran(rows=3, size=4, run_ns=500)
    model.coalescer.counters.ran(rows=4, size=4, run_ns=700)
    (stats,) = get(routes(model), f"{MODEL}/stats").json()["model_stats"]
    assert stats["execution_count"] == 2
    (batch,) = stats["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]) == (4, {"count": 2, "ns": 1200})


def test_the_receipt_adds_up() -> None:
    receipt = call(routes(dense()), f"{MODEL}/infer", REQUEST).headers[b"server-timing"].decode()
    durations = {name: float(ms) for name, ms in re.findall(r"(\w+);(?:desc=\"[^\"]*\";)?dur=([\d.]+)", receipt)}
    assert list(durations) == ["decode", "queue", "batch", "compute", "encode", "total"]
    total = durations.pop("total")
    assert sum(durations.values()) == pytest.approx(total, rel=0.05)
    assert (durations["queue"], durations["compute"]) == (0.001, 0.002)


def test_the_receipt_can_be_left_out() -> None:
    assert b"server-timing" not in call(routes(dense(), server_timing=False), f"{MODEL}/infer", REQUEST).headers


def test_lifespan_is_answered() -> None:
    async def live() -> list[str]:
        messages, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await routes(dense())({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(routes(dense())({"type": "websocket", "path": "/"}, None, send))
    assert sent == ["websocket.close"]


def test_an_ordinary_client_under_a_root_path_with_concurrent_requests() -> None:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(routes(simple()), root_path="/v2/models/simple")
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await asyncio.gather(*[client.post("/v2/models/simple/infer", json=_pair(n)) for n in range(20)])

    for n, response in enumerate(asyncio.run(ask())):
        assert response.json()["outputs"][0]["data"] == [2 * n] * 16


def _pair(value: int) -> dict[str, Any]:
    array = np.full((1, 16), value, np.int32)
    return {"inputs": [tensor("INPUT0", array, "INT32"), tensor("INPUT1", array, "INT32")]}


def test_tf_serving_predict_shares_the_receipt_and_the_count() -> None:
    app = routes(dense())
    for prefix in ("", MODEL):
        reply = call(app, f"{prefix}/v1/models/dense:predict", {"instances": X.tolist()})
        np.testing.assert_allclose(reply.json()["predictions"], X @ WEIGHTS, rtol=1e-6)
        assert b"server-timing" in reply.headers
    assert app.servable.statistics.inference_count == 6
    assert get(app, "/v1/models/dense").json()["model_version_status"][0]["state"] == "AVAILABLE"


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (2, 1))).save(file, "PNG")
    return file.getvalue()


def test_an_image_becomes_the_input_and_its_answer_the_top_labels() -> None:
    model = servable(
        "dense",
        [spec("x", "float32", 2, 2, 1)],
        [spec("y", "float32", 2)],
        lambda x: (x.mean(axis=(1, 3)),),
        labels=("left", "right"),
    )
    reply = call(routes(model), f"{MODEL}/infer", _png(), headers={"Content-Type": "image/png"})
    assert (reply.status, reply.json()["label"], reply.json()["score"]) == (200, "right", 1.0)


def test_an_image_on_a_model_of_numbers_is_refused() -> None:
    reply = call(routes(dense()), f"{MODEL}/infer", _png(), headers={"Content-Type": "image/png"})
    assert (reply.status, "'x'" in reply.error) == (400, True)


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain", "nonsense"])
def test_any_other_content_type_will_do(content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert call(routes(dense()), f"{MODEL}/infer", REQUEST, headers=headers).status == 200


def test_a_refused_request_leaves_the_next_one_alone() -> None:
    app = routes(dense())
    body, headers = binary_request([("x", "FP32", (1, 16), bytes(64))], parameters={"binary_data_output": True})
    before: Reply = call(app, f"{MODEL}/infer", body, headers=headers)
    assert call(app, f"{MODEL}/infer", body[:-1], headers=headers).status == 400
    assert call(app, f"{MODEL}/infer", body, headers=headers).body == before.body
