"""Several versions of one model side by side: their paths, the split of traffic, and every door to them."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from tritonclient.utils import InferenceServerException

from deployments.errors import ConfigError
from serve_app.cluster.directory import DeployedModel, pick
from serve_app.config import paths, serve_yaml
from serve_app.config import traffic as traffic_config
from serve_app.grpc import servicer
from serve_app.grpc.messages import message
from serve_app.http.forwarding import Forwarder
from serve_app.http.gateway_routes import GatewayRoutes
from tests.http.test_gateway_routes import FixedDirectory
from tests.support.processes import GATEWAY, ROOT, Server, model_application, solo_serve, write_config

DIGITS = str(ROOT / "models" / "digits.keras")
WEIGHTS = {"1": 0.75, "2": 0.25}


def version(number: str, state: str = "READY") -> DeployedModel:
    return DeployedModel("m", number, f"m-{number}", f"/v2/models/m/versions/{number}", state, "", 1)


def by_key(*models: DeployedModel) -> dict[str, DeployedModel]:
    return {model.key: model for model in models}


def test_a_version_is_drawn_with_its_weight() -> None:
    draw = random.Random(1).random
    counts = Counter(traffic_config.choose({"1": 3, "2": 1, "3": 0}, draw) for _ in range(4000))
    assert counts["2"] == pytest.approx(1000, abs=120)
    assert counts["3"] == 0


def test_who_answers_without_a_version() -> None:
    one, two, ten = version("1"), version("2"), version("10")
    default = DeployedModel("m", "3", "m", "/v2/models/m", "READY", "", 1)
    assert pick(by_key(one, two, ten), "m") is ten
    assert pick(by_key(one, two, default), "m") is default
    assert pick(by_key(one, two), "m", "1") is one
    assert pick(by_key(one, two), "m", "3") is None
    assert pick(by_key(one, two), "other") is None
    traffic = {"m": {"1": 1.0, "2": 1.0}}
    assert {pick(by_key(one, two, ten), "m", None, traffic) for _ in range(50)} == {one, two}
    down = version("2", "LOADING")
    assert {pick(by_key(one, down), "m", None, traffic) for _ in range(50)} == {one}


def test_a_version_that_is_gone_is_named_and_never_forwarded() -> None:
    async def send(path: str) -> httpx.Response:
        directory: Any = FixedDirectory(version("1"), version("2"))
        app = GatewayRoutes(directory, Forwarder("http://127.0.0.1:9", 1000), 1000)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
            answer = await client.get(path)
        await app.forwarder.close()
        return answer

    answer = asyncio.run(send("/v2/models/m/versions/3/infer"))
    assert answer.status_code == 404
    assert "'m' version '3' is not found; deployed: 1, 2" in answer.text
    assert asyncio.run(send("/v2/models/m/versions/2")).status_code == 404
    # Port 9 answers nobody, which is what a request that was passed on comes back with.
    assert asyncio.run(send("/v2/models/m")).status_code == 503


def test_serves_python_proxy_finds_the_version_that_a_call_names() -> None:
    routes = ["/", "/v2/models/m", "/v2/models/m/versions/2", "/v2/models/n"]

    def asked(name: str, number: str = "") -> str:
        request = message("ModelInferRequest")(model_name=name, model_version=number)
        return servicer._asked_for("ModelInfer", request.SerializeToString(), routes)

    assert asked("m", "2") == "m/versions/2"
    assert [asked("m", "3"), asked("m"), asked("n", "2"), asked("other")] == ["m", "m", "n", "other"]


def application(number: str, prefix: str | None = None, source: str = DIGITS, **more: Any) -> dict[str, Any]:
    app = model_application("digits", source, version=number, plan_budget_s=0, max_batch_size=1, **more)
    return {**app, "name": f"digits-{number}", "route_prefix": prefix or paths.version_path("digits", number)}


def whole(traffic: dict[str, Any], *apps: dict[str, Any]) -> dict[str, Any]:
    return {"applications": [*apps, {**GATEWAY, "args": {"traffic": traffic}}]}


@pytest.mark.parametrize(
    ("traffic", "apps", "expected"),
    [
        ({"digits": {1: 1, 3: 1}}, ["1", "2"], "no application serves version '3' of 'digits'; declared: 1, 2"),
        ({"digits": {1: 0}}, ["1"], "expected a weight above 0 for 'digits'"),
        ({"digits": {1: -1, 2: 2}}, ["1", "2"], "greater than or equal to 0"),
        ({"other": {1: 1}}, ["1"], "declared: none"),
        ({}, ["1", "1"], "model 'digits' version '1' is declared twice"),
    ],
)
def test_weights_that_cannot_be_are_refused(traffic: dict[str, Any], apps: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        serve_yaml.check(whole(traffic, *map(application, apps)))
    assert expected in str(raised.value)


def test_a_default_application_would_take_all_traffic() -> None:
    with pytest.raises(ConfigError, match="takes all traffic before it can be split"):
        serve_yaml.check(whole({"digits": WEIGHTS}, application("1", "/v2/models/digits"), application("2")))


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT / "models"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[Server]:
    """Version 1 from this repository, version 2 the same model from an HTTP server."""
    folder: Path = tmp_path_factory.mktemp("versions")
    elsewhere = application("2", source=f"{site}/digits.keras?key=secret", source_cache=str(folder / "cache"))
    path = write_config(folder, application("1"), elsewhere)
    raw = yaml.safe_load(path.read_text())
    raw["applications"][-1]["args"] = {"traffic": {"digits": WEIGHTS}}
    path.write_text(yaml.safe_dump(raw))
    with solo_serve(path, folder / "solo.log") as running:
        yield running


IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0.0] * 784}


@pytest.mark.serve
def test_each_version_answers_for_itself_and_the_rest_is_split(served: Server) -> None:
    with httpx.Client(base_url=served.url) as client:

        def answered(path: str) -> str:
            answer = client.post(f"{path}/infer", json={"inputs": [IMAGE]})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model_version"])

        assert answered("/v2/models/digits/versions/1") == "1"
        assert answered("/v2/models/digits/versions/2") == "2"
        with ThreadPoolExecutor(4) as pool:
            counts = Counter(pool.map(lambda _: answered("/v2/models/digits"), range(200)))
        # 50 of 200 expected for version 2; outside of 20..80 by chance once in a million runs.
        assert 20 < counts["2"] < 80
        assert client.get("/v2/models/digits/versions/3").status_code == 404
        index = client.post("/v2/repository/index").json()
        assert sorted((entry["name"], entry["version"]) for entry in index) == [("digits", "1"), ("digits", "2")]
        predict = client.post(
            "/v1/models/digits/versions/2:predict", json={"instances": [np.zeros((28, 28, 1)).tolist()]}
        )
        assert predict.status_code == 200, predict.text
        assert client.get("/v1/models/digits/versions/1").json()["model_version_status"][0]["version"] == "1"


@pytest.mark.serve
def test_a_model_from_elsewhere_is_the_same_by_its_checksum(served: Server, site: str) -> None:
    configs = [httpx.get(f"{served.url}/v2/models/digits/versions/{n}/config").json()["parameters"] for n in "12"]
    sha256 = hashlib.sha256(Path(DIGITS).read_bytes()).hexdigest()
    assert [config["sha256"]["string_value"] for config in configs] == [sha256] * 2
    assert configs[1]["source"]["string_value"] == f"{site}/digits.keras"
    assert "secret" not in served.log.read_text()


@pytest.mark.serve
def test_grpc_reaches_the_version_it_names(served: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}")
    image = triton.InferInput("image", [1, 28, 28, 1], "FP32")
    image.set_data_from_numpy(np.zeros((1, 28, 28, 1), np.float32))
    for number in ("1", "2"):
        assert client.infer("digits", [image], model_version=number).get_response().model_version == number
        assert client.is_model_ready("digits", number)
    assert {client.infer("digits", [image]).get_response().model_version for _ in range(40)} == {"1", "2"}
    with pytest.raises(InferenceServerException, match="version '3' is not found"):
        client.infer("digits", [image], model_version="3")
    client.close()
