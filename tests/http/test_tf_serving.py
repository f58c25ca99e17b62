"""TensorFlow Serving's paths over a real socket, asked with curl as its documentation does."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
import uvicorn

from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import Signature, TensorSpec
from serve_app.config.surface import Limits
from serve_app.http.model_routes import ModelRoutes
from tests.support.routes_harness import call, dense, get, routes

F32 = np.dtype("float32")

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Halves:
    """A coalescer whose model is x / 2 + 2."""

    async def submit(self, rows, deadline_s=None):
        return Answer((rows.arrays[0] / 2 + 2,), 0, 0, rows.count)


@pytest.fixture(scope="module")
def url():
    signature = Signature((TensorSpec("x", F32, (None,)),), (TensorSpec("y", F32, (None,)),))
    app = ModelRoutes(Servable("half_plus_two", "1", signature, Halves(), 8), Limits(max_body_bytes=10_000))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/"
    server.should_exit = True
    thread.join()


def curl(*args: str, data: bytes | None = None) -> tuple[int, str, dict]:
    command = ["curl", "-s", "-w", "\n%{http_code} %{content_type}", *args]
    body = subprocess.run(command, input=data, capture_output=True, check=True, timeout=30).stdout.decode()
    text, _, status = body.rpartition("\n")
    code, _, content_type = status.partition(" ")
    return int(code), content_type, json.loads(text)


def test_documented_predict(url):
    for path in ("half_plus_two:predict", "half_plus_two/versions/1:predict"):
        status, content_type, answer = curl("-d", '{"instances": [1.0, 2.0, 5.0]}', "-X", "POST", url + path)
        assert (status, content_type) == (200, "application/json")
        assert answer == {"predictions": [2.5, 3.0, 4.5]}
    assert curl("-d", '{"inputs": [1.0]}', url + "half_plus_two:predict")[2] == {"outputs": [2.5]}


def test_gzip_body(url):
    body = gzip.compress(b'{"instances": [1.0]}')
    answer = curl("-H", "Content-Encoding: gzip", "--data-binary", "@-", url + "half_plus_two:predict", data=body)
    assert answer[2] == {"predictions": [2.5]}


def test_status_and_metadata(url):
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("half_plus_two", "half_plus_two/versions/1", "half_plus_two/"):
        assert curl(url + path)[2] == {"model_version_status": [version]}
    assert curl(url + "half_plus_two/metadata")[2]["model_spec"]["version"] == "1"


@pytest.mark.parametrize(
    ("args", "path", "status", "text"),
    [
        (["-d", "{}"], "half_plus_two:predict", 400, "Missing 'inputs' or 'instances' key"),
        (["-d", '{"instances": [[1]]}'], "half_plus_two:predict", 400, "input 'x': expected 1 axes"),
        (["-d", '{"instances": [1]}'], "other:predict", 404, "unknown model: 'other'"),
        ([], "half_plus_two/versions/9", 404, "version '9' is not found"),
        ([], "half_plus_two/labels/stable/metadata", 404, "no endpoint"),
        (["-d", "{}"], "half_plus_two:classify", 400, "Expected classification signature method_name"),
        (["-d", "{}"], "half_plus_two:regress", 400, "Expected regression signature method_name"),
        (["-d", "{}"], "half_plus_two:explain", 404, "no endpoint"),
        ([], "half_plus_two:predict", 405, "use POST"),
        (["-X", "DELETE"], "half_plus_two", 405, "use GET"),
        (["-d", "x" * 10_001], "half_plus_two:predict", 413, "10000 bytes"),
    ],
)
def test_errors_have_tf_servings_form(url, args, path, status, text):
    got, content_type, answer = curl(*args, url + path)
    assert (got, content_type) == (status, "application/json")
    assert list(answer) == ["error"]
    assert text in answer["error"]


def test_a_savedmodels_own_signature_is_known_by_its_name() -> None:
    app = routes(dense(signature_name="embed"))
    request = {"signature_name": "embed", "instances": [[1.0] * 16]}
    assert call(app, "/v1/models/dense:predict", request).status == 200
    assert call(app, "/v1/models/dense:predict", {**request, "signature_name": "serving_default"}).status == 400
    metadata = get(app, "/v1/models/dense/metadata").json()["metadata"]
    assert list(metadata["signature_def"]["signature_def"]) == ["embed"]
