"""Public examples' models in a real server, asked the way their own documentation asks."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tests.support.processes import Server

pytestmark = pytest.mark.serve

FIRST = np.arange(16, dtype=np.int32).reshape(1, 16)
SECOND = np.ones((1, 16), np.int32)


def curl(*arguments: str) -> Any:
    return json.loads(subprocess.run(["curl", "-s", *arguments], capture_output=True, check=True).stdout)


def test_tensorflow_servings_half_plus_two_by_rows(server: Server) -> None:
    url = f"{server.url}/v1/models/half_plus_two:predict"
    assert curl("-d", '{"instances": [1.0, 2.0, 5.0]}', "-X", "POST", url) == {"predictions": [2.5, 3.0, 4.5]}


def test_tensorflow_servings_half_plus_two_by_columns(server: Server) -> None:
    url = f"{server.url}/v1/models/half_plus_two/versions/1:predict"
    assert curl("-d", '{"inputs": [1.0, 2.0, 5.0]}', url) == {"outputs": [2.5, 3.0, 4.5]}


def test_tensorflow_servings_status_and_metadata(server: Server) -> None:
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert curl(f"{server.url}/v1/models/half_plus_two") == {"model_version_status": [state]}
    about = curl(f"{server.url}/v1/models/half_plus_two/metadata")
    assert about["model_spec"]["name"] == "half_plus_two"


@pytest.mark.parametrize("library", [triton_http, triton_grpc], ids=["http", "grpc"])
@pytest.mark.parametrize("name", ["simple", "simple_string"])
def test_tritons_simple_models(server: Server, library: Any, name: str) -> None:
    port = server.port if library is triton_http else server.grpc_port
    is_text = name == "simple_string"
    with library.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensors = []
        for index, values in enumerate((FIRST, SECOND)):
            tensors.append(library.InferInput(f"INPUT{index}", [1, 16], "BYTES" if is_text else "INT32"))
            tensors[-1].set_data_from_numpy(values.astype(str).astype(object) if is_text else values)
        answer = client.infer(name, tensors)
        assert client.is_model_ready(name)
    for index, wanted in enumerate((FIRST + SECOND, FIRST - SECOND)):
        np.testing.assert_array_equal(answer.as_numpy(f"OUTPUT{index}").astype(np.int32), wanted)


def test_only_the_culprit_of_a_failing_batch_errs(server: Server) -> None:
    """A word that is no number fails whatever batch it is in; its neighbours, asked at the same time, are answered."""
    url = f"{server.url}/v1/models/simple_string:predict"

    def ask(word: str) -> Any:
        row = {"INPUT0": [word] * 16, "INPUT1": ["1"] * 16}
        return curl("-d", json.dumps({"instances": [row]}), url)

    words = ["4", "9", "nine", "16"] * 8
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, words))
    for word, answer in zip(words, answers, strict=True):
        if word == "nine":
            assert list(answer) == ["error"]
        else:
            assert answer["predictions"][0]["OUTPUT0"] == [str(int(word) + 1)] * 16
