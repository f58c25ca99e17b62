"""Who is measured: how each server is started, where it answers, and what each load looks like to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import yaml

from bench.http_load import Request
from serve_app.environment import free_port

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench"
START_S = 240
SHAPES = {"mlp": (16,), "digits": (28, 28, 1), "mobilenet": (224, 224, 3)}
INPUTS = {"mlp": "x", "digits": "image", "mobilenet": "input_layer"}
SOURCES = {
    "mlp": {"source": "bench.peers.function:load", "source_args": {"name": "mlp"}},
    "digits": {"source": "models/digits.keras"},
    "mobilenet": {"source": "bench.peers.function:load", "source_args": {"name": "mobilenet"}},
}


@dataclass(frozen=True)
class Contender:
    """One server under test."""

    name: str
    module: str
    """Module under `bench.peers` that serves it; empty for ours."""
    way: str = "compiled"
    protocol: str = "plain"
    """What a JSON request looks like: `plain` `{"inputs": …}` or `v2`, the Open Inference Protocol."""
    environment: str = ""
    """Its environment's folder under `.bench`; empty for the project's own."""
    takes_binary: bool = False
    path: str = "/predict"
    """Where it answers; `{model}` stands for the model's name."""


V2 = "/v2/models/{model}/infer"
CONTENDERS = (
    Contender("keras-solo", "", protocol="v2", takes_binary=True, path=V2),
    Contender("uvicorn + XLA", "bare_uvicorn", takes_binary=True),
    Contender("uvicorn + model.predict", "bare_uvicorn", "predict"),
    Contender("LitServe", "lit", environment="litserve"),
    Contender("BentoML", "bento", environment="bentoml"),
    Contender("MLServer", "ml_server", protocol="v2", environment="mlserver", path=V2),
    Contender("PyTriton", "triton", protocol="v2", environment="pytriton", takes_binary=True, path=V2),
    Contender("Ray Serve tutorial + model.predict", "ray_tutorial", "predict"),
    Contender("Ray Serve tutorial + XLA", "ray_tutorial"),
    Contender("limit: no-op under uvicorn", "bare_uvicorn", "noop"),
    Contender("limit: no-op under Serve's direct ingress", "serve_noop", "noop"),
)
READ = Contender("limit: uvicorn reading the body", "bare_uvicorn", "read", takes_binary=True)


@contextlib.contextmanager
def running(contender: Contender, model: str, log: Path) -> Iterator[str]:
    """Run the server with `model` until it answers; yield its base URL; end all its processes."""
    port = free_port()
    command = _solo(model, port, log.parent) if not contender.module else _peer(contender, model, port)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, request(contender, model, "json", url), log)
        yield url
    finally:
        _end(process)


def request(contender: Contender, model: str, form: str, url: str) -> Request:
    """Return one seeded random row for `model` as this server takes it; `form` is json, binary or png."""
    row = np.random.default_rng(7).random((1, *SHAPES[model]), np.float32)
    url += contender.path.format(model=model)
    if form == "png":
        return Request(url, (ROOT / "examples/digits/seven.png").read_bytes(), {"Content-Type": "image/png"})
    if contender.protocol == "v2":
        return _v2(row, _input_name(contender, model), form, url)
    if form == "binary":
        return Request(url, row.tobytes(), {"Content-Type": "application/octet-stream"})
    return Request(url, json.dumps({"inputs": row.tolist()}).encode(), {"Content-Type": "application/json"})


def _input_name(contender: Contender, model: str) -> str:
    return "x" if contender.module else INPUTS[model]


def _v2(row: np.ndarray, name: str, form: str, url: str) -> Request:
    tensor = {"name": name, "datatype": "FP32", "shape": list(row.shape)}
    if form == "json":
        body = json.dumps({"inputs": [{**tensor, "data": row.ravel().tolist()}]}).encode()
        return Request(url, body, {"Content-Type": "application/json"})
    tensor["parameters"] = {"binary_data_size": row.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(url, head + row.tobytes(), headers)


def _solo(model: str, port: int, folder: Path) -> list[str]:
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "grpc_options": {"port": 0},
        "applications": [
            {
                "name": model,
                "import_path": "serve_app:model_app",
                "route_prefix": f"/v2/models/{model}",
                "args": {"name": model, **SOURCES[model], "max_batch_size": 16},
            },
            {"name": "gateway", "import_path": "serve_app:gateway_app", "route_prefix": "/", "args": {}},
        ],
    }
    path = folder / f"{model}.yaml"
    path.write_text(yaml.safe_dump(config))
    return [str(Path(sys.executable).parent / "solo"), "serve", str(path), "--no-dashboard"]


def _peer(contender: Contender, model: str, port: int) -> list[str]:
    python = ENVIRONMENTS / contender.environment / "bin/python" if contender.environment else Path(sys.executable)
    return [str(python), "-m", f"bench.peers.{contender.module}", model, str(port), contender.way]


def is_installed(contender: Contender) -> bool:
    """Return whether the contender's environment has been made."""
    return not contender.environment or (ENVIRONMENTS / contender.environment / "bin/python").exists()


def install(contender: Contender) -> None:
    """Make the contender's environment from its pinned requirements."""
    folder = ENVIRONMENTS / contender.environment
    python = "/usr/bin/python3" if contender.environment == "pytriton" else sys.executable
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    requirements = ROOT / "bench/peers/requirements" / f"{contender.environment}.txt"
    subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)


def _wait(process: subprocess.Popen[bytes], wanted: Request, log: Path) -> None:
    ends_s = time.monotonic() + START_S
    while not _answers(wanted):
        if process.poll() is not None or time.monotonic() > ends_s:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.3)


def _answers(wanted: Request) -> bool:
    try:
        asked = urllib.request.Request(wanted.url, wanted.body, dict(wanted.headers))
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    for left in [*family, *([psutil.Process(process.pid)] if process.poll() is None else [])]:
        with contextlib.suppress(psutil.Error):
            left.kill()
