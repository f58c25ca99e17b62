"""Clients that others wrote, over real sockets: tritonclient (sync and asyncio) and KServe's SDK."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
import uvicorn
from tritonclient.utils import InferenceServerException

from deployments.errors import ModelsAreDeclared
from serve_app.http import asgi
from serve_app.http.asgi import Receive, Scope, Send
from serve_app.http.errors import error_response
from tests.support.routes_harness import (
    BFLOAT16,
    WEIGHTS,
    dense,
    identity,
    routes,
    servable,
    simple,
    simple_string,
    spec,
)

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
LABELS = tuple(f"label {i}" for i in range(10))

APPS = {
    "dense": routes(dense(labels=LABELS)),
    "simple": routes(simple()),
    "simple_string": routes(simple_string()),
    "halves": routes(identity("float16", 4, name="halves")),
    "brains": routes(identity(BFLOAT16, 4, name="brains")),
    "flags": routes(servable("flags", [spec("x", "bool", 3)], [spec("y", "bool", 3)], lambda x: (~x,))),
    "large": routes(identity("float32", 224, 224, 3, name="large")),
}


async def front(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand in for HAProxy and the gateway: the first path segments name the model."""
    if scope["type"] == "lifespan":
        await asgi.answer_lifespan(receive, send)
        return
    parts = scope["path"].split("/")
    if parts[1:3] == ["v2", "repository"]:
        await asgi.send_response(error_response(ModelsAreDeclared(parts[4], parts[5])), send)
        return
    await APPS.get(parts[3], APPS["dense"])(scope, receive, send)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(front, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address, concurrency=4) as client:
        yield client


def given(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("version", ["", "1"])
def test_triton_infers(client: Any, binary_in: bool, binary_out: bool, version: str) -> None:
    result = client.infer(
        "dense",
        [given("x", X, "FP32", binary_in)],
        version,
        [triton.InferRequestedOutput("scores", binary_data=binary_out)],
        request_id="7",
    )
    np.testing.assert_allclose(result.as_numpy("scores"), X @ WEIGHTS, rtol=1e-6)
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("asked", ["gzip", "deflate", None])
@pytest.mark.parametrize("sent", ["gzip", "deflate", None])
def test_triton_compresses(client: Any, sent: str | None, asked: str | None) -> None:
    image = np.tile(np.arange(3, dtype=np.float32), (1, 224, 224, 1))
    result = client.infer(
        "large",
        [given("x", image, "FP32")],
        request_compression_algorithm=sent,
        response_compression_algorithm=asked,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), image)


def test_triton_runs_many_at_once(client: Any) -> None:
    arrays = [np.full((1, 16), n, np.float32) for n in range(12)]
    pending = [client.async_infer("dense", [given("x", array, "FP32")]) for array in arrays]
    for array, reply in zip(arrays, pending, strict=True):
        np.testing.assert_allclose(reply.get_result().as_numpy("scores"), array @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_public_examples(client: Any, binary: bool) -> None:
    a, b = np.arange(16, dtype=np.int32)[None], np.ones((1, 16), np.int32)
    result = client.infer("simple", [given("INPUT0", a, "INT32", binary), given("INPUT1", b, "INT32", binary)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)
    texts = [np.array([str(n).encode() for n in array.ravel()], dtype=object).reshape(1, 16) for array in (a, b)]
    inputs = [given(f"INPUT{i}", text, "BYTES", binary) for i, text in enumerate(texts)]
    asked = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    answered = client.infer("simple_string", inputs, outputs=asked).as_numpy("OUTPUT0")
    assert [int(text) for text in answered.ravel()] == (a + b).ravel().tolist()


@pytest.mark.parametrize(
    ("model", "datatype", "array"),
    [
        ("halves", "FP16", np.array([[0.5, -1, 65504, 0]], np.float16)),
        ("brains", "BF16", np.array([[0.5, -1, 3e38, 0]], BFLOAT16)),
    ],
)
def test_triton_half_floats(client: Any, model: str, datatype: str, array: np.ndarray) -> None:
    result = client.infer(model, [given("x", array, datatype)]).as_numpy("y")
    np.testing.assert_array_equal(result.astype(np.float32), array.astype(np.float32))


def test_triton_booleans(client: Any) -> None:
    flags = np.array([[True, False, True]])
    for binary in (False, True):
        asked = [triton.InferRequestedOutput("y", binary_data=binary)]
        result = client.infer("flags", [given("x", flags, "BOOL", binary)], outputs=asked)
        np.testing.assert_array_equal(result.as_numpy("y"), ~flags)


@pytest.mark.parametrize("binary", [False, True])
def test_triton_classifies(client: Any, binary: bool) -> None:
    asked = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)]
    result = client.infer("dense", [given("x", X, "FP32")], outputs=asked).as_numpy("scores")
    for row, scores in zip(result, X @ WEIGHTS, strict=True):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        best = np.argsort(-scores)[:2]
        assert [text.split(":")[1:] for text in texts] == [[str(i), f"label {i}"] for i in best]
        assert float(texts[0].split(":")[0]) == pytest.approx(scores[best[0]], abs=1e-6)


def test_triton_passes_nan(client: Any) -> None:
    array = np.full((1, 16), np.nan, np.float32)
    asked = [triton.InferRequestedOutput("scores", binary_data=False)]
    result = client.infer("dense", [given("x", array, "FP32", binary=False)], outputs=asked)
    assert np.isnan(result.as_numpy("scores")).all()


def test_triton_reads_what_models_tell(client: Any) -> None:
    assert client.is_model_ready("dense")
    assert client.is_model_ready("dense", "1")
    assert not client.is_model_ready("dense", "2")
    assert client.get_model_metadata("simple")["inputs"][1]["datatype"] == "INT32"
    assert client.get_model_config("simple")["input"][0]["dims"] == [16]
    before = client.get_inference_statistics("simple")["model_stats"][0]["inference_count"]
    pair = np.ones((3, 16), np.int32)
    client.infer("simple", [given("INPUT0", pair, "INT32"), given("INPUT1", pair, "INT32")])
    assert client.get_inference_statistics("simple")["model_stats"][0]["inference_count"] == before + 3


def test_triton_reads_errors(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"\[404\] Request for unknown model.*'9'"):
        client.infer("dense", [given("x", X, "FP32")], "9")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("wrong_model_name", [given("x", X, "FP32")])
    assert caught.value.message().startswith("Request for unknown model")
    with pytest.raises(InferenceServerException, match=r"\[400\].*unknown input 'y'"):
        client.infer("dense", [given("y", X, "FP32")])
    with pytest.raises(InferenceServerException, match=r"\[400\].*serve config"):
        client.load_model("dense")
    assert client.infer("dense", [given("x", X, "FP32")]) is not None


def test_triton_asyncio(address: str) -> None:
    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_model_ready("dense")
            results = await asyncio.gather(
                *[client.infer("dense", [given("x", X * n, "FP32")]) for n in range(5)],
                client.infer("dense", [given("x", X, "FP32")], response_compression_algorithm="gzip"),
            )
            return [result.as_numpy("scores") for result in results]

    *scores, squeezed = asyncio.run(ask())
    for n, answer in enumerate(scores):
        np.testing.assert_allclose(answer, X * n @ WEIGHTS, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squeezed, X @ WEIGHTS, rtol=1e-6)


def ask_with_kserve(address: str, way: str) -> dict[str, Any]:
    script = Path(__file__).resolve().parents[1] / "support" / "kserve_rest.py"
    command = [sys.executable, str(script), address, way]
    done = subprocess.run(
        command, input=json.dumps(X.tolist()), capture_output=True, text=True, check=True, timeout=120
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("way", ["binary", "json"])
def test_kserve(address: str, way: str) -> None:
    answer = ask_with_kserve(address, way)
    assert answer["ready"]
    assert answer["id"] == "k"
    np.testing.assert_allclose(answer["outputs"], X @ WEIGHTS, rtol=1e-6)


def test_kserve_reads_errors(address: str) -> None:
    assert "expected 'inputs' to be a list of tensors" in ask_with_kserve(address, "refused")["error"]
