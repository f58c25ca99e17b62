"""gRPC end to end: stock tritonclient against `solo serve` and a plain `serve run`, several models, both ways."""

from __future__ import annotations

import asyncio
import json
import queue
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.support.processes import QUICK, ROOT, Server, model_application, serve_run, solo_serve, write_config

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module", params=[solo_serve, serve_run], ids=["solo serve", "serve run"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("grpc")
    source = str(ROOT / "models" / "digits.keras")
    # An application's name need not be its model's.
    apps = [
        model_application("first", source, **QUICK),
        {**model_application("second", source, **QUICK), "name": "app"},
    ]
    config = write_config(folder, *apps)
    with request.param(config, folder / "log") as running:
        yield running


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return f"127.0.0.1:{server.grpc_port}"


def digit(client: Any = triton) -> Any:
    tensor = client.InferInput("image", [1, 28, 28, 1], "FP32")
    tensor.set_data_from_numpy(np.random.default_rng(7).random((1, 28, 28, 1), np.float32))
    return tensor


ROUTES = [("first", None), ("second", None), ("first", {"application": "first"}), ("second", {"application": "app"})]


def test_with_and_without_metadata(url):
    with triton.InferenceServerClient(url) as client:
        name = client.get_model_metadata("first").outputs[0].name
        answers = [client.infer(model, [digit()], headers=headers) for model, headers in ROUTES]
        assert [answer.get_response().model_name for answer in answers] == [model for model, _ in ROUTES]
        values = [answer.as_numpy(name) for answer in answers]
    assert values[0].shape == (1, 10)
    assert all(np.allclose(values[0], other, atol=1e-5) for other in values)


def test_asyncio(url):
    async def ask() -> list[str]:
        async with triton_aio.InferenceServerClient(url) as client:
            calls = [client.infer(model, [digit(triton_aio)], headers=headers) for model, headers in ROUTES * 5]
            return [answer.get_response().model_name for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [model for model, _ in ROUTES * 5]


def test_a_stream_without_metadata_names_a_model_in_each_request(url):
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for model in ("first", "second", "other", "first"):
            client.async_stream_infer(model, [digit()])
        got = [answers.get(timeout=30) for _ in range(4)]
        client.stop_stream()
    assert [result.get_response().model_name for result, error in got if error is None] == ["first", "second", "first"]
    assert "unknown model: 'other'" in str(got[2][1])


def test_a_stream_with_metadata_goes_straight_to_its_model(url):
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers={"application": "app"})
        for _ in range(3):
            client.async_stream_infer("second", [digit()])
        got = [answers.get(timeout=30) for _ in range(3)]
        client.stop_stream()
    assert all(error is None and result.get_response().model_name == "second" for result, error in got)


def test_compressed_requests_without_metadata(url):
    with triton.InferenceServerClient(url) as client:
        answer = client.infer("second", [digit()], compression_algorithm="gzip")
    assert answer.get_response().model_name == "second"


def test_the_server_as_a_whole(url):
    with triton.InferenceServerClient(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "keras-solo"
        assert [client.is_model_ready(name) for name in ("first", "second", "other")] == [True, True, False]
        assert [model.name for model in client.get_model_repository_index().models] == ["first", "second"]
        assert [stats.name for stats in client.get_inference_statistics().model_stats] == ["first", "second"]
        assert client.get_inference_statistics("second").model_stats[0].inference_count > 0


@pytest.mark.parametrize(
    ("model", "headers", "code", "text"),
    [
        ("other", None, "NOT_FOUND", "unknown model: 'other'"),
        ("first", {"application": "other"}, "NOT_FOUND", "Application 'other' not found"),
        ("second", {"application": "first"}, "NOT_FOUND", "unknown model: 'second'"),
    ],
)
def test_unknown_models(url, model, headers, code, text):
    with triton.InferenceServerClient(url) as client, pytest.raises(InferenceServerException) as caught:
        client.infer(model, [digit()], headers=headers)
    assert caught.value.status() == f"StatusCode.{code}"
    assert text in caught.value.message()


def test_bad_input(url):
    tensor = triton.InferInput("image", [1, 28], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 28), np.float32))
    with triton.InferenceServerClient(url) as client, pytest.raises(InferenceServerException) as caught:
        client.infer("first", [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_it_answers_over_http_too_and_a_plain_serve_run_says_what_it_lacks(server: Server) -> None:
    import keras

    images = np.random.default_rng(7).random((2, 28, 28, 1), np.float32)
    body = json.dumps({"instances": images.tolist()}).encode()
    with urllib.request.urlopen(f"{server.url}/v1/models/first:predict", body, timeout=30) as answer:
        told = json.load(answer)["predictions"]
    wanted = keras.saving.load_model(ROOT / "models" / "digits.keras")(images, training=False)
    np.testing.assert_allclose(told, wanted, atol=1e-5)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server.url}/v2/models/zebra", timeout=30)
    said = server.log.read_text()
    is_plain = not str(server.process.args[0]).endswith("solo")  # type: ignore[index]
    assert said.count("serving without the fast path") == (2 if is_plain else 0), "once for each model"
    assert ("RAY_SERVE_ENABLE_HA_PROXY" in said) == is_plain
