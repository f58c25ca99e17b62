"""gRPC by clients that we did not write: tritonclient (sync, asyncio, streams) and KServe's."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.support.grpc_server import Server, identity, methods_of, simple, words

FIRST = np.arange(16, dtype=np.int32)[None]
SECOND = np.full((1, 16), 3, np.int32)


@pytest.fixture(scope="module")
def server():
    server = Server(methods_of(simple(), max_body_bytes=100_000))
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(server.url) as client:
        yield client


def inputs_of(client=triton, **arrays):
    inputs = []
    for name, array in arrays.items():
        kind = "BYTES" if array.dtype == object else {"int32": "INT32", "float16": "FP16"}.get(array.dtype.name)
        inputs.append(client.InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def test_infer(client):
    result = client.infer("simple", inputs_of(INPUT0=FIRST, INPUT1=SECOND), request_id="seven", model_version="1")
    assert result.get_response().id == "seven"
    assert (result.as_numpy("OUTPUT0") == FIRST + SECOND).all()
    assert (result.as_numpy("OUTPUT1") == FIRST - SECOND).all()


def test_requested_outputs_come_in_their_order(client):
    wanted = [triton.InferRequestedOutput("OUTPUT1"), triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    result = client.infer("simple", inputs_of(INPUT0=FIRST, INPUT1=SECOND), outputs=wanted)
    assert [output.name for output in result.get_response().outputs] == ["OUTPUT1", "OUTPUT0"]
    assert result.as_numpy("OUTPUT0").tolist() == [[b"18:15", b"17:14"]]


def test_asyncio_client(server):
    async def ask():
        async with triton_aio.InferenceServerClient(server.url) as client:
            inputs = inputs_of(triton_aio, INPUT0=FIRST, INPUT1=SECOND)
            results = await asyncio.gather(*(client.infer("simple", inputs) for _ in range(20)))
            return [result.as_numpy("OUTPUT0") for result in results], await client.is_server_live()

    answers, live = asyncio.run(ask())
    assert live
    assert all((answer == FIRST + SECOND).all() for answer in answers)


def test_stream_answers_in_order_and_survives_an_error(client):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index in range(30):
        name = "other" if index == 7 else "simple"
        client.async_stream_infer(name, inputs_of(INPUT0=FIRST + index, INPUT1=SECOND), request_id=str(index))
    got = [answers.get(timeout=10) for _ in range(30)]
    client.stop_stream()
    for index, (result, error) in enumerate(got):
        if index == 7:
            assert "unknown model: 'other'" in str(error)
        else:
            assert result.get_response().id == str(index)
            assert (result.as_numpy("OUTPUT0") == FIRST + index + SECOND).all()


def test_stream_marks_final_responses_where_asked(client):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(
        "simple", inputs_of(INPUT0=FIRST, INPUT1=SECOND), enable_empty_final_response=True, request_id="last"
    )
    result, error = answers.get(timeout=10)
    client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_health_metadata_config_and_index(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple", "1")
    assert client.get_server_metadata().name == "keras-solo"
    metadata = client.get_model_metadata("simple", as_json=True)
    assert metadata["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": ["-1", "16"]}
    config = client.get_model_config("simple").config
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [16]
    assert config.input[0].data_type == 8  # TYPE_INT32
    (model,) = client.get_model_repository_index().models
    assert (model.name, model.version, model.state) == ("simple", "1", "READY")


def test_statistics_count(client):
    def read():
        (stats,) = client.get_inference_statistics("simple").model_stats
        return stats.inference_count, stats.inference_stats.success.count, stats.inference_stats.fail.count

    before = read()
    client.infer("simple", inputs_of(INPUT0=np.vstack([FIRST] * 3), INPUT1=np.vstack([SECOND] * 3)))
    with pytest.raises(InferenceServerException):
        client.infer("simple", inputs_of(INPUT0=FIRST))
    assert np.subtract(read(), before).tolist() == [3, 1, 1]
    (stats,) = client.get_inference_statistics().model_stats
    assert stats.inference_stats.success.ns > 0


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests(client, compression):
    result = client.infer("simple", inputs_of(INPUT0=FIRST, INPUT1=SECOND), compression_algorithm=compression)
    assert (result.as_numpy("OUTPUT0") == FIRST + SECOND).all()


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        (lambda c: c.infer("other", inputs_of(INPUT0=FIRST)), "NOT_FOUND", "unknown model: 'other'"),
        (
            lambda c: c.infer("simple", inputs_of(INPUT0=FIRST), model_version="9"),
            "NOT_FOUND",
            "version '9' is not found",
        ),
        (lambda c: c.get_model_metadata("other"), "NOT_FOUND", "unknown model"),
        (lambda c: c.infer("simple", inputs_of(INPUT0=FIRST)), "INVALID_ARGUMENT", "input 'INPUT1' is missing"),
        (lambda c: c.infer("simple", inputs_of(X=FIRST)), "INVALID_ARGUMENT", "unknown input 'X'"),
        (
            lambda c: c.infer("simple", inputs_of(INPUT0=FIRST[:, :8], INPUT1=SECOND)),
            "INVALID_ARGUMENT",
            "expected shape [-1, 16]",
        ),
        (
            lambda c: c.infer("simple", inputs_of(INPUT0=FIRST), outputs=[triton.InferRequestedOutput("Z")]),
            "INVALID_ARGUMENT",
            "unknown output 'Z'",
        ),
        (
            lambda c: c.infer("simple", inputs_of(INPUT0=np.zeros((2000, 16), np.int32), INPUT1=SECOND)),
            "RESOURCE_EXHAUSTED",
            "100000 bytes",
        ),
        (lambda c: c.load_model("simple"), "FAILED_PRECONDITION", "declared in the serve config"),
        (lambda c: c.unload_model("simple"), "FAILED_PRECONDITION", "cannot unload"),
        (lambda c: c.get_system_shared_memory_status(), "INVALID_ARGUMENT", "there is none here"),
    ],
)
def test_errors_have_their_code_and_text(client, call, code, text):
    with pytest.raises(InferenceServerException) as caught:
        call(client)
    assert caught.value.status() == f"StatusCode.{code}"
    assert text in caught.value.message()


@pytest.mark.parametrize(
    ("servable", "array"),
    [
        (words(), np.array([["zwölf".encode(), b""]], object)),
        (identity("float16"), np.array([[1.5, -2]], np.float16)),
    ],
)
def test_other_datatypes(servable, array):
    server = Server(methods_of(servable))
    try:
        with triton.InferenceServerClient(server.url) as client:
            got = client.infer(servable.name, inputs_of(x=array)).as_numpy("y")
    finally:
        server.close()
    assert got.dtype == array.dtype
    assert got.tolist() == array.tolist()


KSERVE = """
import asyncio, sys, numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient

async def main(url):
    client = InferenceGRPCClient(url)
    assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("simple")
    inputs = []
    for index, raw in ((0, True), (1, True)):
        inputs.append(InferInput(f"INPUT{index}", [1, 16], "INT32"))
        inputs[-1].set_data_from_numpy(np.full((1, 16), index + 1, np.int32), binary_data=BINARY)
    answer = await client.infer(InferRequest("simple", inputs))
    print(answer.outputs[0].as_numpy().tolist()[0][0], answer.outputs[1].as_numpy().tolist()[0][0])
    await client.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("binary", ["True", "False"])
def test_kserves_client(server, binary):
    # A process of its own: kserve and tritonclient cannot be imported together.
    command = [sys.executable, "-c", KSERVE.replace("BINARY", binary), server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["3", "-1"], done.stderr
