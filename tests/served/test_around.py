"""The examples of functions and pipelines on a real server, by curl, Triton's own clients, and the Python client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml
from PIL import Image

from deployments.errors import InvalidInput
from serve_app.client import Model
from tests.support.client_cluster import as_driver
from tests.support.processes import QUICK, ROOT, Server, model_application, solo_serve, write_config

pytestmark = pytest.mark.serve

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPOTS = ((3, 10), (30, 50), (20, 95), (10, 140), (33, 190))


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The config of examples/around, planned in a moment, with a keras-hub task and `before` in processes beside it."""
    folder = tmp_path_factory.mktemp("around")
    apps = yaml.safe_load((ROOT / "examples/around/serve_config.yaml").read_text())["applications"][:-1]
    for app in apps:
        if app["import_path"] == "serve_app:model_app":
            app["args"] |= QUICK
        for model in app["args"].get("models", ()):
            model |= QUICK
    forecast = next(app for app in apps if app["name"] == "forecast")
    forecast["args"] |= {"num_cpus": 0.1}
    forecast["deployments"] = [{"name": "KerasReplica", "num_replicas": 2}]
    apart = {"before": "examples.around.reviews:tokenize", "before_processes": 2, "num_cpus": 0.1}
    config = write_config(
        folder,
        *apps,
        model_application("apart", "examples.around.reviews:model", **apart, **QUICK),
        model_application("bert", str(_bert(folder)), custom_objects="keras_hub", num_cpus=0.1, **QUICK),
    )
    with solo_serve(config, folder / "log", PYTHONPATH=str(ROOT)) as server:
        yield server


def _bert(folder: Path) -> Path:
    """Save a small text classifier with its tokenizer, in a process of its own; the answers beside it."""
    code = """
import sys, json, keras_hub, numpy as np
from keras_hub.models import BertBackbone, BertTextClassifier, BertTextClassifierPreprocessor, BertTokenizer
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "fox", "good", "bad"]
made = BertTextClassifierPreprocessor(BertTokenizer(vocabulary=words), sequence_length=12)
bone = BertBackbone(vocabulary_size=11, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16,
                    max_sequence_length=12)
model = BertTextClassifier(backbone=bone, preprocessor=made, num_classes=3)
model.save(sys.argv[1])
open(sys.argv[1] + ".json", "w").write(json.dumps(model.predict(["the quick fox", "bad"], verbose=0).tolist()))
"""
    path = folder / "bert.keras"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return path


def curl(server: Server, path: str, *options: str) -> Any:
    done = subprocess.run(["curl", "-s", *options, f"{server.url}{path}"], capture_output=True, timeout=60)
    return json.loads(done.stdout)


def picture(name: str) -> np.ndarray:
    return np.asarray(Image.open(ROOT / f"examples/digits/{name}.png").convert("L"))


def page(*digits: int) -> np.ndarray:
    """Return a page with digits on it, `[1, 64, 256]` uint8."""
    drawn = np.zeros((1, 64, 256), np.uint8)
    for digit, (row, column) in zip(digits, SPOTS, strict=False):
        drawn[0, row : row + 28, column : column + 28] = picture(NAMES[digit])
    return drawn


def test_text_becomes_an_opinion(around: Server) -> None:
    asked = {"instances": ["a wonderful film", "dull and far too long"]}
    answered = curl(around, "/v1/models/reviews:predict", "-d", json.dumps(asked))["predictions"]
    assert [each["opinion"] for each in answered] == ["good", "bad"]
    assert [each["text"] for each in answered] == asked["instances"]
    refused = curl(around, "/v1/models/reviews:predict", "-d", '{"instances": [""]}')
    assert refused == {"error": "text 0: expected at least one word"}
    told = curl(around, "/v2/models/reviews")
    assert [tensor["name"] for tensor in told["inputs"]] == ["text"]
    plan = curl(around, "/v2/models/reviews/plan")
    assert plan["chosen"]["1"] == "session-single", "the plan is the model's alone"


def test_processes_answer_as_the_replica_does(around: Server) -> None:
    words = ["a wonderful film", "dull", "the plot was very good", "boring acting"]
    apart = curl(around, "/v1/models/apart:predict", "-d", json.dumps({"instances": words}))["predictions"]
    together = curl(around, "/v1/models/reviews:predict", "-d", json.dumps({"instances": words}))["predictions"]
    assert [round(score, 3) for (score,) in apart] == [each["score"] for each in together]


def test_a_picture_finds_its_neighbours(around: Server) -> None:
    options = ["--data-binary", f"@{ROOT}/examples/digits/seven.png", "-H", "Content-Type: image/png"]
    answered = curl(around, "/v2/models/nearest/infer", *options)
    found = answered["outputs"][0]["data"][0]
    assert found["nearest"] == "seven"
    assert found["labels"][0] == ["seven", 1.0]
    assert len(found["labels"]) == 3


def test_a_task_takes_raw_strings(around: Server) -> None:
    told = curl(around, "/v2/models/bert")
    assert told["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    asked = {"instances": ["the quick fox", "bad"]}
    answered = curl(around, "/v1/models/bert:predict", "-d", json.dumps(asked))["predictions"]
    config = curl(around, "/v2/models/bert/config")
    source = Path(config["parameters"]["source"]["string_value"])
    np.testing.assert_allclose(answered, json.loads(Path(f"{source}.json").read_text()), atol=1e-5)


def test_a_series_step_by_step_is_the_series_at_once(around: Server) -> None:
    values = np.random.default_rng(0).normal(11, 8, size=(3, 12)).astype(np.float32)
    wanted = _forecasts(values)
    http = triton_http.InferenceServerClient(around.url.removeprefix("http://"))
    grpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{around.grpc_port}")
    found = np.zeros_like(wanted)
    for step in range(12):
        for row in range(3):
            # One client or the other, a connection of its own each: either replica is asked.
            kind, client = [(triton_http, http), (triton_grpc, grpc)][(row + step) % 2]
            if kind is triton_http and step % 3 == 0:
                client = triton_http.InferenceServerClient(around.url.removeprefix("http://"))
            tensor = kind.InferInput("value", [1, 1], "FP32")
            tensor.set_data_from_numpy(values[row : row + 1, step : step + 1])
            place = {"sequence_id": row + 1, "sequence_start": step == 0, "sequence_end": step == 11}
            found[row, step] = client.infer("forecast", [tensor], **place).as_numpy("forecast")[0, 0]
    _assert_alike(found, wanted)
    with pytest.raises(Exception, match="sequence 1 is not under way here"):
        http.infer("forecast", [_value()], sequence_id=1)


@pytest.mark.parametrize("transport", ["auto", "http", "handle"])
def test_a_series_is_asked_from_python(around: Server, transport: Any) -> None:
    values = np.random.default_rng(1).normal(11, 8, size=(2, 6)).astype(np.float32)
    wanted = _forecasts(values)
    with as_driver(around):
        model = Model("forecast", transport=transport)
        series = [model.sequence() for _ in values]
        for step in range(6):  # both in turn
            for row, one in enumerate(series):
                found = one.predict(values[row : row + 1, step : step + 1])
                _assert_alike(found, wanted[row : row + 1, step : step + 1])
        again = model.sequence(series[0].number)
        _assert_alike(again.predict(values[:1, :1], end=True), wanted[:1, :1])
        with pytest.raises(InvalidInput, match="is not under way here"):
            series[0].predict(values[:1, :1])
        series[0].restart()
        _assert_alike(series[0].predict(values[:1, :1]), wanted[:1, :1])
        with pytest.raises(InvalidInput, match="expected one row a request, got 2"):
            series[1].predict(values[:, :1])


def _forecasts(values: np.ndarray) -> np.ndarray:
    """Return the forecast after each of the temperatures, `[series, steps]`, the whole series being seen at once."""
    from examples.around import forecast

    whole = forecast.whole(forecast.model())
    return forecast.degrees(np.asarray(whole(forecast.standardised(values)[..., None])))["forecast"][..., 0]


def _assert_alike(found: Any, wanted: np.ndarray) -> None:
    """Hold degrees against each other as the LSTM knows them."""
    from examples.around.forecast import standardised

    np.testing.assert_allclose(standardised(found), standardised(wanted), atol=1e-5)


def _value() -> Any:
    tensor = triton_http.InferInput("value", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    return tensor


@pytest.mark.parametrize("pipeline", ["page", "letter"])
@pytest.mark.parametrize("digits", [(4, 0, 7, 1, 9), (3,), ()])
def test_a_page_is_read_digit_by_digit(around: Server, digits: tuple[int, ...], pipeline: str) -> None:
    wanted = {"text": "".join(map(str, digits)), "columns": [column for _, column in SPOTS[: len(digits)]]}
    asked = {"instances": page(*digits).tolist()}
    (by_curl,) = curl(around, f"/v1/models/{pipeline}:predict", "-d", f"@{_file(asked, around)}")["predictions"]
    assert by_curl["text"] == wanted["text"]
    assert all(
        abs(found - column - 14) < 6 for found, column in zip(by_curl["columns"], wanted["columns"], strict=True)
    )

    http = triton_http.InferenceServerClient(around.url.removeprefix("http://"))
    tensor = triton_http.InferInput("page", [1, 64, 256], "UINT8")
    tensor.set_data_from_numpy(page(*digits))
    assert json.loads(http.infer(pipeline, [tensor]).as_numpy("page")[0]) == by_curl

    grpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{around.grpc_port}")
    tensor = triton_grpc.InferInput("page", [1, 64, 256], "UINT8")
    tensor.set_data_from_numpy(page(*digits))
    assert json.loads(grpc.infer(pipeline, [tensor]).as_numpy("page")[0]) == by_curl

    with as_driver(around):
        for transport in ("auto", "handle"):
            (answer,) = Model(pipeline, transport=transport).predict(page(*digits))  # type: ignore[arg-type]
            assert json.loads(answer) == by_curl


def _file(asked: Any, server: Server) -> str:
    path = f"/tmp/page-{server.port}.json"
    Path(path).write_text(json.dumps(asked))
    return path


def test_a_pipeline_is_a_model_among_the_others(around: Server) -> None:
    index = curl(around, "/v2/repository/index", "-X", "POST")
    assert {"name": "page", "version": "1", "state": "READY", "reason": ""} in index
    for pipeline in ("page", "letter"):
        stages = _stages(around, pipeline)
        assert {"step-detector", "step-crops", "step-digits", "step-read"} <= stages.keys()
        assert sum(stages.values()) - stages["total"] == pytest.approx(stages["total"], abs=0.05)


def _stages(server: Server, pipeline: str) -> dict[str, float]:
    body = json.dumps({"instances": page(1, 2).tolist()}).encode()
    with urllib.request.urlopen(f"{server.url}/v1/models/{pipeline}:predict", body, timeout=30) as answer:
        told = answer.headers["server-timing"]
    return {part.split(";")[0].strip(): float(part.split("dur=")[1]) for part in told.split(",")}


def test_a_pipelines_own_models_are_told_of_and_watched(around: Server) -> None:
    told = curl(around, "/v2/models/letter/config")
    assert told["parameters"]["digits.source"]["string_value"].endswith("models/digits.keras")
    assert _asked(f"{around.url}/v2/models/letter", None)[1]["name"] == "letter"
    process = next(
        child for child in psutil.Process(around.process.pid).children(recursive=True) if "letter" in child.name()
    )
    body = json.dumps({"instances": page(2).tolist()}).encode()
    process.kill()
    ends_s = time.monotonic() + 90
    while (answer := _asked(f"{around.url}/v1/models/letter:predict", body))[0] != 200:
        assert time.monotonic() < ends_s
        time.sleep(0.1)
    assert answer[1]["predictions"][0]["text"] == "2"


def test_the_steps_go_by_lane(around: Server) -> None:
    lanes = [
        connection
        for child in psutil.Process(around.process.pid).children(recursive=True)
        for connection in _unix(child)
        if "/lanes/" in connection
    ]
    assert lanes, "no process listens at a lane"


def _unix(process: psutil.Process) -> list[str]:
    try:
        return [str(each.laddr) for each in process.connections("unix")]
    except psutil.Error:
        return []


def test_a_step_that_is_down_is_named_and_comes_back(around: Server) -> None:
    body = json.dumps({"instances": page(5).tolist()}).encode()
    (replica,) = [
        child
        for child in psutil.Process(around.process.pid).children(recursive=True)
        if child.name().startswith("ray::") and "detector" in " ".join(child.cmdline())
    ]
    os.kill(replica.pid, signal.SIGKILL)
    ends_s = time.monotonic() + 90
    while (told := _asked(f"{around.url}/v1/models/page:predict", body))[0] != 200:
        assert told[0] == 503, told
        assert "step 'detector'" in told[1]["error"]
        assert time.monotonic() < ends_s
    assert told[1]["predictions"][0]["text"] == "5"


def _asked(url: str, body: bytes | None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, body, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
