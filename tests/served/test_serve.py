"""The whole, as a user meets it: real server processes, curl, and clients that we did not write."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from PIL import Image

from tests.support.processes import (
    BIN,
    QUICK,
    ROOT,
    Server,
    clean_environ,
    model_application,
    solo_serve,
    write_config,
)

pytestmark = pytest.mark.serve

DIGITS = ROOT / "models" / "digits.keras"
PICTURES = ROOT / "examples" / "digits"


def pixels(digit: str) -> np.ndarray[Any, Any]:
    """Return an example's pixels as the model wants them: `[1, 28, 28, 1] float32` in 0..1."""
    image = np.asarray(Image.open(PICTURES / f"{digit}.png").convert("L"), np.float32) / 255
    return image.reshape(1, 28, 28, 1)


def expected(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `model(x, training=False)`, the truth that every door must tell."""
    import keras

    return np.asarray(keras.saving.load_model(DIGITS)(images, training=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


def ask(server: Server, path: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(server.url + path, data, named)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        is_protocol_form = error.headers["Content-Type"] == "application/json"
        return error.code, json.load(error) if is_protocol_form else {"not the protocol's": error.read()}


def test_it_says_what_it_serves(server: Server) -> None:
    said = server.log.read_text()
    assert "HAProxy, straight to each model's replica" in said
    assert "digits version 1: image FP32 [-1, 28, 28, 1]" in said
    assert "faster than model.predict" in said


def test_the_curl_line_it_prints_works(server: Server) -> None:
    line = next(line for line in server.log.read_text().splitlines() if "curl" in line)
    command = line[line.index("curl") :].replace("curl", "curl -s", 1)
    answer = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=True).stdout
    assert json.loads(answer)["label"] == "7"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritonclient_reads_the_digit(server: Server, binary: bool) -> None:
    image = pixels("seven")
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    tensor = triton.InferInput("image", [1, 28, 28, 1], "FP32")
    tensor.set_data_from_numpy(image, binary_data=binary)
    wanted = triton.InferRequestedOutput("scores", binary_data=binary)
    scores = client.infer("digits", [tensor], outputs=[wanted]).as_numpy("scores")
    np.testing.assert_allclose(scores, expected(image), atol=1e-5)
    assert scores.argmax() == 7
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.get_model_metadata("digits", "1")["inputs"][0]["shape"] == [-1, 28, 28, 1]
    client.close()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
def test_any_number_of_rows_is_answered(server: Server, rows: int) -> None:
    images = np.random.default_rng(rows).random((rows, 28, 28, 1), np.float32)
    body = json.dumps({"instances": images.tolist()}).encode()
    status, answer = ask(server, "/v1/models/digits:predict", body)
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], expected(images), atol=1e-5)


def test_server_wide_endpoints(server: Server) -> None:
    assert ask(server, "/v2")[1]["name"] == "keras-solo"
    assert ask(server, "/v2/health/live") == (200, {"live": True, "ready": True})
    assert ask(server, "/v2/health/ready") == (200, {"live": True, "ready": True})
    status, index = ask(server, "/v2/repository/index", b"")
    assert status == 200
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in index
    assert ask(server, "/v1/models/digits")[1]["model_version_status"][0]["state"] == "AVAILABLE"
    stats = ask(server, "/v2/models/stats")[1]["model_stats"]
    assert {row["name"] for row in stats} == {row["name"] for row in index}


def test_the_plan_is_published(server: Server) -> None:
    plan = ask(server, "/v2/models/digits/plan")[1]
    assert set(plan["chosen"]) == {"1", "2", "4"}
    row = next(row for row in plan["candidates"]["1"] if row["name"] == plan["chosen"]["1"])
    assert row["status"] == "ok"
    assert row["p50_ms"] > 0
    assert row["max_abs_error"] <= 1e-3


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/v2/models/digits/infer", b"{", 400, "JSON"),
        ("/v2/models/digits/infer", b'{"inputs":[]}', 400, "inputs"),
        (
            "/v2/models/digits/infer",
            b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1,-28],"data":[0]}]}',
            400,
            "image",
        ),
        ("/v2/models/digits/infer", b"[" * 10_000, 400, ""),
        ("/v1/models/digits:predict", b"{}", 400, "Missing 'inputs' or 'instances' key"),
        ("/v2/models/zebra/infer", b"{}", 404, "zebra"),
        ("/v2/models/digits/versions/9/infer", b"{}", 404, "9"),
        ("/no/such/path", b"{}", 404, "/no/such/path"),
    ],
)
def test_bad_input_is_refused_and_the_next_is_answered(
    server: Server, path: str, body: bytes, status: int, field: str
) -> None:
    code, answer = ask(server, path, body)
    assert code == status
    assert field in answer["error"]
    picture = (PICTURES / "three.png").read_bytes()
    assert ask(server, "/v2/models/digits/infer", picture, Content_Type="image/png")[1]["label"] == "3"


def test_nothing_was_traced_in_a_request(server: Server) -> None:
    assert ask(server, "/v2/models/digits/plan")[1]["traces_after_ready"] == 0


def test_its_workers_are_forks_of_one_that_has_imported_everything(server: Server) -> None:
    family = [each for each in psutil.Process(server.process.pid).children(recursive=True) if each.is_running()]
    titles = {each: each.cmdline()[0] for each in family if each.status() != psutil.STATUS_ZOMBIE and each.cmdline()}
    zygotes = {each.pid for each, title in titles.items() if title.startswith("keras-solo: zygote")}
    assert len(zygotes) == 2
    (whole,) = [each.pid for each in titles if each.pid in zygotes and each.ppid() in zygotes]
    assert {each.ppid() for each, title in titles.items() if title.startswith("ray::Serve")} <= zygotes
    assert {each.ppid() for each, title in titles.items() if title.startswith("ray::ServeReplica:digits:")} == {whole}


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_ends_every_process(folder: Path, number: signal.Signals, whole_group: bool) -> None:
    """Ctrl-C, which a terminal sends to the whole group, by somebody who is impatient; and `kill`."""
    (folder / number.name).mkdir()
    config = write_config(folder / number.name, model_application("digits", "models/digits.keras", **QUICK))
    with solo_serve(config, folder / f"{number.name}.log") as running:
        before = psutil.Process(running.process.pid).children(recursive=True)
        assert any("haproxy" in process.name() for process in before)
        files = {Path(word).parents[1] for process in before for word in process.cmdline() if "/haproxy.cfg" in word}
        assert not running.stop(number, whole_group=whole_group, times=2 if whole_group else 1)
        assert running.process.returncode == 0
        assert not any(process.is_running() for process in before)
    assert len(files) == 1
    assert not any(folder.exists() for folder in files)
    said = running.log.read_text()
    assert said.partition("stopping")[1:] == ("stopping", "\n"), "nothing is said on the way"


def run_bad(config: Path) -> str:
    command = [str(BIN / "solo"), "serve", "--no-dashboard", str(config)]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_solo_serve_ends_on_a_bad_config_with_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path, model_application("digits", "models/digits.keras", max_bach_size=2))
    said = run_bad(config)
    assert "applications[0].args.max_bach_size: unknown key; did you mean 'max_batch_size'?" in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_solo_serve_ends_on_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    content = bytearray(DIGITS.read_bytes())
    weights_at = content.index(b"model.weights.h5") + 400
    content[weights_at : weights_at + 4000] = bytes(4000)
    broken.write_bytes(content)
    said = run_bad(write_config(tmp_path, model_application("b", str(broken))))
    assert "application 'b'" in said
    assert "broken.keras" in said
    assert "Traceback" not in said


def test_serve_run_names_the_key_of_a_bad_config(tmp_path: Path) -> None:
    """That Ray's own command then ends is its affair: now and then its shutdown (2.60) takes minutes."""
    config = write_config(tmp_path, model_application("digits", "models/digits.keras", max_bach_size=2))
    log = tmp_path / "log"
    command = [str(BIN / "serve"), "run", "--address", "local", str(config)]
    with log.open("wb") as output:
        running = psutil.Popen(command, cwd=ROOT, env=clean_environ(), stdout=output, stderr=subprocess.STDOUT)
    expected = "bad serve config: args.max_bach_size: unknown key; did you mean 'max_batch_size'?"
    ends_s = time.monotonic() + 200
    try:
        while expected not in log.read_text() and running.poll() is None and time.monotonic() < ends_s:
            time.sleep(0.5)
    finally:
        family = [running, *running.children(recursive=True)] if running.poll() is None else []
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)
    assert expected in log.read_text()
