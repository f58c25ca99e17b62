"""`solo serve FOLDER` in explicit mode, with stock tritonclient calls, and `solo deploy` on the running server."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
import yaml

from serve_app.front.ports import free_port
from tests.support.processes import BIN, ROOT, Server, clean_environ, running

pytestmark = pytest.mark.serve

DIGITS = ROOT / "models" / "digits.keras"
TOKEN = "an-administrators-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "digits" / "1").mkdir(parents=True)
    shutil.copy(DIGITS, folder / "digits" / "1" / "model.keras")
    (folder / "digits" / "model.yaml").write_text("plan_budget_s: 1\nplan_cache: null\nmax_batch_size: 4\n")
    (folder / "broken.keras").write_bytes(b"no archive")
    return folder


@pytest.fixture(scope="module")
def server(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "solo.log"
    ports = free_port(), free_port()
    options = [f"--port={ports[0]}", f"--grpc-port={ports[1]}", "--no-dashboard"]
    options += ["--model-control=explicit", "--admin-token-env=ADMIN_TOKEN", "--set", "shared_memory=true"]
    command = [str(BIN / "solo"), "serve", str(shelf), *options]
    with running(command, log, ports, {"ADMIN_TOKEN": TOKEN}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=120)) as client:
        yield client


def states(client: Any) -> dict[str, str]:
    return {model["name"]: model["state"] for model in client.get_model_repository_index()}


def answer(client: Any) -> np.ndarray[Any, Any]:
    image = triton.InferInput("image", [1, 28, 28, 1], "FP32")
    image.set_data_from_numpy(np.zeros((1, 28, 28, 1), np.float32))
    scores = client.infer("digits", [image]).as_numpy("scores")
    assert scores is not None
    return np.asarray(scores)


def test_nothing_is_loaded_until_somebody_may_and_does(client: Any) -> None:
    assert client.is_server_ready()
    assert states(client) == {}
    with pytest.raises(triton.InferenceServerException, match="a token is needed"):
        client.load_model("digits")
    client.load_model("digits", headers=ADMIN)
    assert states(client) == {"digits": "READY"}
    assert answer(client).shape == (1, 10)


def test_a_load_may_bring_args_and_takes_the_place_of_what_is_loaded(client: Any) -> None:
    client.load_model("digits", headers=ADMIN, config=json.dumps({"max_batch_size": 2}))
    assert client.get_model_config("digits")["max_batch_size"] == 2
    with pytest.raises(triton.InferenceServerException, match=r"labelss: unknown key; did you mean 'labels'"):
        client.load_model("digits", headers=ADMIN, config=json.dumps({"labelss": []}))
    with pytest.raises(triton.InferenceServerException, match=r"parameters\.config: expected the text of a JSON"):
        client.load_model("digits", headers=ADMIN, config="[]")
    assert states(client)["digits"] == "READY"


def test_what_cannot_be_loaded_says_why(client: Any) -> None:
    for name, says in (("broken", "not a .keras file"), ("nobody", "is not in the repository")):
        with pytest.raises(triton.InferenceServerException, match=says):
            client.load_model(name, headers=ADMIN)
    with pytest.raises(triton.InferenceServerException, match="'nobody' is not loaded"):
        client.unload_model("nobody", headers=ADMIN)


def test_unload_and_load_over_grpc(client: Any, server: Server) -> None:
    grpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    headers = {"authorization": ADMIN["Authorization"]}
    with contextlib.closing(grpc):
        with pytest.raises(triton.InferenceServerException, match="a token is needed"):
            grpc.unload_model("digits")
        grpc.unload_model("digits", headers=headers)
        assert states(client).get("digits") != "READY"
        grpc.load_model("digits", headers=headers)
        index = grpc.get_model_repository_index(as_json=True)["models"]
        assert [(model["name"], model["state"]) for model in index] == [("digits", "READY")]
    assert answer(client).shape == (1, 10)


@pytest.mark.parametrize("kind", [triton, triton_grpc])
def test_tensors_in_shared_memory(server: Server, client: Any, kind: Any) -> None:
    from tritonclient.utils import shared_memory

    image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    port = server.port if kind is triton else server.grpc_port
    came = shared_memory.create_shared_memory_region("input", f"/solo-test-{port}-in", image.nbytes)
    went = shared_memory.create_shared_memory_region("output", f"/solo-test-{port}-out", 40)
    with contextlib.closing(kind.InferenceServerClient(f"127.0.0.1:{port}")) as sharing:
        sharing.unregister_system_shared_memory()
        sharing.unregister_cuda_shared_memory()
        try:
            shared_memory.set_shared_memory_region(came, [image])
            sharing.register_system_shared_memory("input", f"/solo-test-{port}-in", image.nbytes)
            sharing.register_system_shared_memory("output", f"/solo-test-{port}-out", 40)
            given, wanted = kind.InferInput("image", image.shape, "FP32"), kind.InferRequestedOutput("scores")
            given.set_shared_memory("input", image.nbytes)
            wanted.set_shared_memory("output", 40)
            result = sharing.infer("digits", [given], outputs=[wanted])
            assert result.get_output("scores") is not None
            scores = shared_memory.get_contents_as_numpy(went, np.float32, [1, 10])
            given.set_data_from_numpy(image)
            plain = sharing.infer("digits", [given]).as_numpy("scores")
            np.testing.assert_allclose(scores, plain, atol=1e-6)
            status = sharing.get_system_shared_memory_status()
            assert len(status if kind is triton else status.regions) == 2
            sharing.unregister_system_shared_memory("input")
            given.set_shared_memory("input", image.nbytes)
            with pytest.raises(triton.InferenceServerException, match="'input' is not registered"):
                sharing.infer("digits", [given])
            sharing.unregister_system_shared_memory()
        finally:
            shared_memory.destroy_shared_memory_region(came)
            shared_memory.destroy_shared_memory_region(went)


def test_the_names_of_the_models(server: Server, client: Any) -> None:
    with urllib.request.urlopen(f"{server.url}/v2/models", timeout=10) as got:
        assert json.load(got) == {"models": sorted(states(client))}


def test_solo_deploy_finds_the_server_and_says_what_it_changes(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "serve_config.yaml"
    args = {"name": "declared", "source": str(DIGITS), "plan_budget_s": 1, "max_batch_size": 1}
    app = {"name": "declared", "import_path": "serve_app:model_app", "route_prefix": "/v2/models/declared"}
    gateway = {"name": "gateway", "import_path": "serve_app:gateway_app", "route_prefix": "/", "args": {}}
    config.write_text(yaml.safe_dump({"applications": [{**app, "args": args}, gateway]}))
    command = [BIN / "solo", "deploy", str(config), "--port", str(server.port)]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("declared: added", "digits: removed", f"every model answers on {server.url}"):
        assert said in done.stdout
    again = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, timeout=200)
    assert "nothing changed" in again.stdout
    assert "declared: added" in server.log.read_text()
