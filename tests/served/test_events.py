"""A real server's log and traces: what is in them, and that a good request leaves nothing in the log."""

from __future__ import annotations

import itertools
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support.processes import QUICK, Server, model_application, solo_serve, write_config

MODEL = "/v2/models/fails_on_negative/infer"
WAIT_S = 30.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def spans_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, spans_folder: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("events")
    # Refused as well where the plan chose a way of running that leaves the model's own assertion out.
    options = {"nonfinite": "refuse", **QUICK}
    application = model_application("fails_on_negative", "tests.support.models:fails_on_negative", **options)
    logging_config = {"encoding": "JSON", "enable_access_log": False}
    application["deployments"] = [{"name": "KerasReplica", "logging_config": logging_config}]
    config = write_config(folder, application)
    raw = yaml.safe_load(config.read_text())
    raw["tracing_config"] = {
        "enabled": True,
        "exporter_import_path": "tests.support.trace_exporter:to_folder",
        "sampling_ratio": 1.0,
    }
    config.write_text(yaml.safe_dump(raw))
    with solo_serve(config, folder / "log", SOLO_TEST_SPANS=str(spans_folder)) as running:
        yield running


def infer(server: Server, value: float, **headers: str) -> int:
    about = json.load(urllib.request.urlopen(server.url + MODEL.removesuffix("/infer"), timeout=30))
    shape = [1 if axis < 0 else axis for axis in about["inputs"][0]["shape"]]
    data = [value] * math.prod(shape)
    body = json.dumps({"inputs": [{**about["inputs"][0], "shape": shape, "data": data}]}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + MODEL, body, headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def log_of(server: Server) -> list[dict[str, Any]]:
    """Return the replica's log, line by line."""
    for process in psutil.Process(server.process.pid).children(recursive=True):
        for word in process.cmdline():
            if word.startswith("--session-dir="):
                folder = Path(word.removeprefix("--session-dir=")) / "logs" / "serve"
                return json_lines(folder.glob("replica_*fails_on_negative*"))
    raise AssertionError("no session folder")


def json_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    lines = [line for path in paths for line in path.read_text().splitlines()]
    # Serve says in plain text that tracing is on, before it reads the deployment's own logging config.
    return [json.loads(line) for line in lines if line.startswith("{")]


def until(holds: Callable[[], Any]) -> Any:
    ends_s = time.monotonic() + WAIT_S
    while not (found := holds()):
        assert time.monotonic() < ends_s
        time.sleep(0.2)
    return found


def events(server: Server, name: str) -> list[dict[str, Any]]:
    return [line for line in log_of(server) if line.get("event") == name]


@pytest.mark.serve
def test_start_plan_and_ready_are_events_with_fields(server: Server) -> None:
    (loading,) = events(server, "model_loading")
    (plan,) = events(server, "plan")
    (ready,) = events(server, "model_ready")
    assert loading["model"] == plan["model"] == ready["model"] == "fails_on_negative"
    assert set(plan["chosen"]) == {"1", "2", "4"}
    assert ready["seconds"] > 0
    assert "ready in" in ready["message"]


@pytest.mark.serve
def test_a_failed_prediction_is_one_event_with_the_requests_id_and_a_good_one_is_silent(server: Server) -> None:
    before = len(log_of(server))
    for _ in range(5):
        assert infer(server, 1.0) == 200
    assert len(log_of(server)) == before
    assert infer(server, -1.0, **{"X-Request-Id": "order-66"}) == 500
    (failed,) = until(lambda: events(server, "prediction_failed"))
    assert failed["request_id"] == "order-66"
    assert failed["levelname"] == "ERROR"
    assert "order-66" in failed["message"]


@pytest.mark.serve
def test_stages_are_spans_below_the_requests(server: Server, spans_folder: Path) -> None:
    assert infer(server, 1.0, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01") == 200

    def spans() -> list[dict[str, Any]]:
        found = json_lines(spans_folder.glob("*.jsonl"))
        return [span for span in found if span["context"]["trace_id"] == f"0x{TRACE}"]

    found = until(lambda: spans() if any("replica_handle_request" in s["name"] for s in spans()) else None)
    (request,) = (span for span in found if "replica_handle_request" in span["name"])
    stages = [span for span in found if span["name"].startswith("solo.")]
    assert [span["name"] for span in stages] == [
        "solo.decode",
        "solo.queue",
        "solo.batch",
        "solo.compute",
        "solo.encode",
    ]
    assert {span["parent_id"] for span in stages} == {request["context"]["span_id"]}
    assert [span["start_time"] for span in stages] == sorted(span["start_time"] for span in stages)
    assert all(a["end_time"] == b["start_time"] for a, b in itertools.pairwise(stages))
    assert request["start_time"] <= stages[0]["start_time"]
