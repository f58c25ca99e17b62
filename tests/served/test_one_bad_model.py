"""What one model does, be it missing, unreadable or lethal to try, is nothing to the others."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.support.processes import BIN, QUICK, ROOT, Server, model_application, solo_serve, write_config

pytestmark = pytest.mark.serve
DIGITS = str(ROOT / "models" / "digits.keras")
SEVEN = (ROOT / "examples" / "digits" / "seven.png").read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three models: one good, one without a file, one that cannot be loaded, one that has a lethal candidate."""
    folder = tmp_path_factory.mktemp("bad")
    broken = folder / "broken.keras"
    broken.write_bytes(
        (ROOT / "models" / "digits.keras").read_bytes().replace(b"model.weights.h5", b"model.waights.h5")
    )
    lethal = {"candidates": ["lethal", "session-single"], "plan_budget_s": 3, "max_batch_size": 2}
    config = write_config(
        folder,
        model_application("digits", DIGITS, device="cpu", **QUICK),
        model_application("missing", str(folder / "missing.keras"), device="cpu", **QUICK),
        model_application("broken", str(broken), device="cpu", **QUICK),
        model_application("lethal", "tests.support.lethal_model:build", device="cpu", **lethal),
    )
    config.write_text(config.read_text().replace("args: {}", "args: {strict_readiness: false}"))
    with solo_serve(config, folder / "log") as running:
        yield running


def get(server: Server, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.url}{path}", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def test_the_others_are_served_and_what_is_not_is_said_in_one_line(server: Server) -> None:
    assert get(server, "/v2/models/digits/infer", SEVEN, "image/png")[0] == 200
    lines = [line for line in server.log.read_text().splitlines() if "cannot be served" in line]
    assert [line.split("] ")[1].split(":")[0] for line in lines] == ["missing", "broken"]
    assert "does not exist" in lines[0]
    assert "cannot be loaded" in lines[1]


@pytest.mark.parametrize(("name", "reason"), [("missing", "does not exist"), ("broken", "cannot be loaded")])
def test_it_is_unavailable_with_the_reason(server: Server, name: str, reason: str) -> None:
    _, index = get(server, "/v2/repository/index", b"{}")
    (entry,) = (entry for entry in index if entry["name"] == name)
    assert entry["state"] == "UNAVAILABLE"
    assert reason in entry["reason"]
    assert "/tmp" not in entry["reason"]
    status, said = get(server, f"/v2/models/{name}/ready")
    assert status == 503
    assert reason in said["error"]
    _, page = get(server, "/overview")
    assert reason in next(row["reason"] for row in page["models"] if row["name"] == name)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert not client.is_model_ready(name)
    assert client.is_model_ready("digits")
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as by_grpc:
        assert not _is_ready(by_grpc, name)


def _is_ready(client: Any, name: str) -> bool:
    """Return what gRPC says: Serve's proxy tells of a replica that never came by UNAVAILABLE."""
    try:
        return bool(client.is_model_ready(name))
    except InferenceServerException as error:
        assert "UNAVAILABLE" in str(error.status())  # noqa: PT017
        return False


def test_the_server_is_ready_as_the_config_wishes(server: Server) -> None:
    assert get(server, "/v2/health/ready")[0] == 200
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.is_server_ready()


def test_a_candidate_that_aborts_is_a_finding_at_the_first_start(server: Server) -> None:
    _, plan = get(server, "/v2/models/lethal/plan")
    (row,) = (row for row in plan["candidates"]["1"] if row["name"] == "lethal")
    assert "its process died with SIGABRT" in row["status"]
    assert set(plan["chosen"].values()) == {"session-single"}
    body = json.dumps({"instances": [[1.0, 2.0, 3.0]]}).encode()
    assert get(server, "/v1/models/lethal:predict", body)[0] == 200
    (entry,) = (entry for entry in get(server, "/v2/repository/index", b"{}")[1] if entry["name"] == "lethal")
    assert entry["state"] == "READY"


@pytest.mark.parametrize("words", [["good=models/digits.keras", "nowhere.keras", "--strict"], ["nowhere.keras"]])
def test_it_ends_where_that_is_wished_or_nothing_can_be_served(words: list[str]) -> None:
    done = subprocess.run([BIN / "solo", "serve", *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "'nowhere.keras' does not exist" in done.stderr
