"""Tokens in a real server: REST through HAProxy, the gateway, gRPC, the Python client, and every log it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from tests.support.client_cluster import family
from tests.support.processes import QUICK, ROOT, Server, model_application, solo_serve, write_config

pytestmark = pytest.mark.serve

FOR_ALL = "the-token-for-the-whole-server"
FOR_ONE = "the-token-for-one-model-alone"


@dataclass
class Closed:
    server: Server
    gcs: str
    """Ray's address."""
    logs: Path


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("closed")
    (folder / "tokens").write_text(f"# one model's\n{FOR_ONE}\n")
    config = write_config(
        folder,
        model_application(
            "half_plus_two", "tests.support.models:half_plus_two", cors_origins=["https://app.example"], **QUICK
        ),
        model_application("simple", "tests.support.models:simple", token_file=str(folder / "tokens"), **QUICK),
    )
    with solo_serve(config, folder / "solo.log", SOLO_TOKEN=FOR_ALL) as server:
        words = [word for _, line in family(server) for word in line]
        gcs = next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))
        session = next(
            word.partition("=")[2] for word in words if word.startswith(("--session-dir=", "--session_dir="))
        )
        yield Closed(server, gcs, Path(session) / "logs")


def ask(url: str, token: str | None = None, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Return status, body and headers."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


HALF = {"instances": [1.0, 2.0]}
ROW = {"INPUT0": [1] * 16, "INPUT1": [2] * 16}


def test_a_model_over_rest(closed: Closed) -> None:
    url = f"{closed.server.url}/v1/models/half_plus_two:predict"
    assert ask(url, FOR_ALL, HALF)[:2] == (200, {"predictions": [2.5, 3.0]})
    for token in (None, FOR_ONE, FOR_ALL + "x"):
        status, answer, headers = ask(url, token, HALF)
        assert (status, list(answer)) == (401, ["error"])
        assert headers["www-authenticate"].startswith("Bearer")


def test_a_token_of_one_models_own(closed: Closed) -> None:
    url = f"{closed.server.url}/v1/models/simple:predict"
    assert ask(url, FOR_ONE, {"instances": [ROW]})[0] == 200
    assert ask(url, FOR_ALL, {"instances": [ROW]})[0] == 401


def test_the_gateway(closed: Closed) -> None:
    url = closed.server.url
    assert [ask(f"{url}{path}")[0] for path in ("/v2", "/overview", "/v2/models/zebra")] == [401] * 3
    assert [row["name"] for row in ask(f"{url}/overview", FOR_ALL)[1]["models"]] == ["half_plus_two", "simple"]
    # What another token opens is left out.
    assert [row["name"] for row in ask(f"{url}/v2/models/stats", FOR_ALL)[1]["model_stats"]] == ["half_plus_two"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/simple/ready"])
def test_health_stays_open(closed: Closed, path: str) -> None:
    assert ask(closed.server.url + path)[0] == 200


def test_grpc(closed: Closed) -> None:
    tensors = [triton_grpc.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in (0, 1)]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.ones((1, 16), np.int32))
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{closed.server.grpc_port}") as client:
        opened = client.infer("simple", tensors, headers={"authorization": f"Bearer {FOR_ONE}"})
        assert (opened.as_numpy("OUTPUT0") == 2).all()
        # Compressed, HAProxy cannot read the model's name: the gateway passes the call and its token on.
        opened = client.infer(
            "simple", tensors, headers={"authorization": f"Bearer {FOR_ONE}"}, compression_algorithm="gzip"
        )
        assert (opened.as_numpy("OUTPUT0") == 2).all()
        for headers in (None, {"authorization": f"Bearer {FOR_ALL}"}):
            with pytest.raises(InferenceServerException) as caught:
                client.infer("simple", tensors, headers=headers)
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.is_server_ready()
        assert client.is_model_ready("simple")


def test_cross_origin_requests(closed: Closed) -> None:
    url = f"{closed.server.url}/v2/models/half_plus_two"
    preflight = urllib.request.Request(
        f"{url}/infer",
        method="OPTIONS",
        headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"},
    )
    with urllib.request.urlopen(preflight, timeout=30) as answer:
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in answer.headers["access-control-allow-headers"]
    assert ask(url, FOR_ALL, Origin="https://app.example")[2]["access-control-allow-origin"] == "https://app.example"
    assert ask(url, FOR_ALL, Origin="https://other.example")[2]["access-control-allow-origin"] is None


SCRIPT = """
import sys
import numpy as np, ray
from deployments.errors import SoloError
from serve_app.client import Model

ray.init(sys.argv[1], log_to_driver=False)
x = {f"INPUT{i}": np.ones((1, 16), np.int32) for i in (0, 1)}
print(int(Model("simple", transport="http", token=sys.argv[2]).predict(x)["OUTPUT0"][0, 0]))
print(int(Model("simple", transport="handle").predict(x)["OUTPUT0"][0, 0]))
print(int(Model("simple").predict(x)["OUTPUT0"][0, 0]))
print(int(Model("simple", token="a-token-that-nobody-knows").predict(x)["OUTPUT0"][0, 0]))
try:
    Model("simple", transport="http").predict(x)
except SoloError as error:
    print(type(error).__name__)
"""


def test_the_python_client(closed: Closed) -> None:
    command = [sys.executable, "-c", SCRIPT, closed.gcs, FOR_ONE]
    environ = {**os.environ, "RAY_AUTH_MODE": "token"}  # only `auto` turns it on by itself
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.split() == ["2", "2", "2", "2", "Unauthorized"], done.stderr[-3000:]


def test_no_token_is_in_any_log(closed: Closed) -> None:
    assert "Authorization: Bearer $SOLO_TOKEN" in closed.server.log.read_text()
    files = [closed.server.log, *(path for path in closed.logs.rglob("*") if path.is_file())]
    assert len(files) > 5
    for path in files:
        text = path.read_bytes()
        assert FOR_ALL.encode() not in text, path
        assert FOR_ONE.encode() not in text, path
