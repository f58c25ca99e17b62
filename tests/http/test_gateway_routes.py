"""The server-wide endpoints, in process, over a directory of models that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from serve_app.cluster.directory import DeployedModel, _model
from serve_app.http.forwarding import Forwarder
from serve_app.http.gateway_routes import GatewayRoutes


class FixedDirectory:
    def __init__(self, *models: DeployedModel) -> None:
        self.fixed = {model.key: model for model in models}
        self.traffic: dict[str, dict[str, float]] = {}

    async def models(self) -> Mapping[str, DeployedModel]:
        return self.fixed


def deployed(name: str, state: str = "READY", reason: str = "") -> DeployedModel:
    return DeployedModel(name, "1", name, f"/v2/models/{name}", state, reason, 1)


def ask(method: str, path: str, *models: DeployedModel, **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        # Port 9 (discard) answers nobody: whatever is forwarded comes back as "not ready".
        app = GatewayRoutes(FixedDirectory(*models), Forwarder("http://127.0.0.1:9", 1000), 1000)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
            answer = await client.request(method, path, **more)
        await app.forwarder.close()
        return answer

    return asyncio.run(send())


READY, LOADING = deployed("a"), deployed("b", "LOADING", "the model is loading")


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata(path: str) -> None:
    about = ask("GET", path).json()
    assert about["name"] == "keras-solo"
    assert about["version"]
    assert "binary_tensor_data" in about["extensions"]


def test_live_and_ready_carry_both_keys() -> None:
    assert ask("GET", "/v2/health/live", READY).json() == {"live": True, "ready": True}
    assert ask("GET", "/v2/health/ready", READY).json() == {"live": True, "ready": True}


def test_ready_only_when_every_model_is() -> None:
    answer = ask("GET", "/v2/health/ready", READY, LOADING)
    assert answer.status_code == 503
    assert answer.json() == {"live": True, "ready": False}
    assert ask("GET", "/v2/health/live", READY, LOADING).status_code == 200
    assert ask("GET", "/v2/health/ready").status_code == 503


def test_repository_index() -> None:
    rows = [
        {"name": "a", "version": "1", "state": "READY", "reason": ""},
        {"name": "b", "version": "1", "state": "LOADING", "reason": "the model is loading"},
    ]
    assert ask("POST", "/v2/repository/index", LOADING, READY).json() == rows
    assert ask("POST", "/v2/repository/index", LOADING, READY, content=b"{}").json() == rows
    assert ask("POST", "/v2/repository/index", LOADING, READY, content=b'{"ready":true}').json() == rows[:1]


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ready": 1}'])
def test_a_bad_index_request_is_refused(body: bytes) -> None:
    answer = ask("POST", "/v2/repository/index", READY, content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_load_and_unload_point_at_the_serve_config() -> None:
    answer = ask("POST", "/v2/repository/models/a/load", READY)
    assert answer.status_code == 400
    assert "declared in the serve config" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v2/models/zebra", 404),
        ("POST", "/v2/models/zebra/infer", 404),
        ("POST", "/v1/models/zebra:predict", 404),
        ("POST", "/v2/models/b/infer", 503),
        ("GET", "/v1/models/b", 503),
        ("POST", "/v1/models/a:predict", 503),
        ("GET", "/v2/models/stats", 503),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/index", 413),
    ],
)
def test_everything_else_answers_in_the_protocols_error_form(method: str, path: str, status: int) -> None:
    answer = ask(method, path, READY, LOADING, content=b"x" * 1001 if status == 413 else b"")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]


def test_an_unknown_model_names_those_that_exist() -> None:
    assert "deployed: a, b" in ask("GET", "/v2/models/zebra", READY, LOADING).json()["error"]


def application(status: str, *replica_states: str, message: str = "") -> dict[str, Any]:
    return {
        "name": "app",
        "status": status,
        "message": message,
        "route_prefix": "/v2/models/m",
        "deployed_app_config": {"import_path": "serve_app:model_app", "args": {"name": "m", "version": 3}},
        "deployments": {"KerasReplica": {"replicas": [{"state": state} for state in replica_states]}},
    }


@pytest.mark.parametrize(
    ("app", "state", "reason"),
    [
        (application("RUNNING", "RUNNING"), "READY", ""),
        (application("DEPLOYING", "STARTING"), "LOADING", "the model is loading"),
        (application("DEPLOYING", "RUNNING", "STARTING"), "READY", ""),
        (application("DEPLOY_FAILED", message="Traceback\nLoadError: no file"), "UNAVAILABLE", "no file"),
        (application("UNHEALTHY"), "UNAVAILABLE", "UNHEALTHY"),
        (application("DELETING", "STOPPING"), "UNLOADING", "the model is being removed"),
    ],
)
def test_serves_states_become_the_repositorys(app: dict[str, Any], state: str, reason: str) -> None:
    model = _model(app)
    assert model is not None
    assert (model.name, model.version, model.state, model.reason) == ("m", "3", state, reason)


def test_other_peoples_applications_are_left_out() -> None:
    app = application("RUNNING", "RUNNING")
    app["deployed_app_config"]["import_path"] = "their:app"
    assert _model(app) is None
    assert _model({**app, "deployed_app_config": None}) is None
