"""What one model does, be it missing, unreadable or lethal to try, is nothing to the others."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.support.processes import BIN, ROOT, Server

pytestmark = pytest.mark.serve


def get(server: Server, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.url}{path}", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def test_the_others_are_served_and_what_is_not_is_said_in_one_line(mixed: Server) -> None:
    assert get(mixed, "/v2/models/text_sm/ready")[0] == 200
    lines = [line for line in mixed.log.read_text().splitlines() if "cannot be served" in line]
    assert [line.split("] ")[1].split(":")[0] for line in lines] == ["missing", "broken"]
    assert "does not exist" in lines[0]
    assert "cannot be loaded" in lines[1]
    assert "raylet" not in mixed.log.read_text(), "no stack, no retries"


@pytest.mark.parametrize(("name", "reason"), [("missing", "does not exist"), ("broken", "cannot be loaded")])
def test_it_is_unavailable_with_the_reason(mixed: Server, name: str, reason: str) -> None:
    _, index = get(mixed, "/v2/repository/index", b"{}")
    (entry,) = (entry for entry in index if entry["name"] == name)
    assert entry["state"] == "UNAVAILABLE"
    assert reason in entry["reason"]
    assert "/tmp" not in entry["reason"]
    status, said = get(mixed, f"/v2/models/{name}/ready")
    assert status == 503
    assert reason in said["error"]
    _, page = get(mixed, "/overview")
    assert reason in next(row["reason"] for row in page["models"] if row["name"] == name)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{mixed.port}")
    assert not client.is_model_ready(name)
    assert client.is_model_ready("text_sm")
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{mixed.grpc_port}") as by_grpc:
        assert not _is_ready(by_grpc, name)


def _is_ready(client: Any, name: str) -> bool:
    """Return what gRPC says: Serve's proxy tells of a replica that never came by UNAVAILABLE."""
    try:
        return bool(client.is_model_ready(name))
    except InferenceServerException as error:
        assert "UNAVAILABLE" in str(error.status())  # noqa: PT017
        return False


def test_the_server_is_ready_as_the_config_wishes(mixed: Server) -> None:
    assert get(mixed, "/v2/health/ready")[0] == 200
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{mixed.grpc_port}") as client:
        assert client.is_server_ready()


def test_a_candidate_that_aborts_is_a_finding_at_the_first_start(mixed: Server) -> None:
    _, plan = get(mixed, "/v2/models/lethal/plan")
    (row,) = (row for row in plan["candidates"]["1"] if row["name"] == "lethal")
    assert "its process died with SIGABRT" in row["status"]
    assert set(plan["chosen"].values()) == {"session-single"}
    body = json.dumps({"instances": [[1.0, 2.0, 3.0]]}).encode()
    assert get(mixed, "/v1/models/lethal:predict", body)[0] == 200
    (entry,) = (entry for entry in get(mixed, "/v2/repository/index", b"{}")[1] if entry["name"] == "lethal")
    assert entry["state"] == "READY"


@pytest.mark.parametrize("words", [["good=models/digits.keras", "nowhere.keras", "--strict"], ["nowhere.keras"]])
def test_it_ends_where_that_is_wished_or_nothing_can_be_served(words: list[str]) -> None:
    done = subprocess.run([BIN / "solo", "serve", *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "'nowhere.keras' does not exist" in done.stderr
