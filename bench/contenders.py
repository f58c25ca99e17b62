"""Who is measured: how each server is started and where it answers. How they are installed: pinned requirements."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench"
OURS = "keras-solo"


def _function(name: str, **more: int) -> dict[str, Any]:
    return {"source": "bench.peers.function:load", "source_args": {"name": name}, **more}


# On two cores a batch of MobileNetV2 takes as long as its rows one by one: larger ones would only be planned. The
# default's 16 batches would be too few then for 64 clients that wait as long as it takes.
_IMAGES = {"max_batch_size": 2, "max_queue_rows": 256}
MODELS = {
    "mlp": _function("mlp", max_batch_size=16),
    "digits": {"source": "models/digits.keras", "max_batch_size": 16},
    "mobilenet": _function("mobilenet", **_IMAGES),
    "pixels": _function("pixels", **_IMAGES),
}
"""Model to our arguments for it."""


JSON = frozenset({"json"})
TENSORS = frozenset({"json", "binary"})
EVERYTHING = frozenset({"json", "binary", "png"})


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
    takes: frozenset[str] = JSON
    """The forms of request that it answers."""
    path: str = "/predict"
    """Where it answers; `{model}` stands for the model's name."""


V2 = "/v2/models/{model}/infer"
CONTENDERS = (
    Contender(OURS, "", protocol="v2", takes=EVERYTHING, path=V2),
    Contender("uvicorn + XLA", "bare_uvicorn", takes=EVERYTHING),
    Contender("uvicorn + model.predict", "bare_uvicorn", "predict"),
    Contender("LitServe", "lit", environment="litserve"),
    Contender("LitServe, batching", "lit", "batched", environment="litserve"),
    Contender("BentoML", "bento", environment="bentoml"),
    Contender("MLServer", "ml_server", protocol="v2", environment="mlserver", path=V2),
    Contender("PyTriton", "triton", protocol="v2", environment="pytriton", takes=TENSORS, path=V2),
    Contender("PyTriton, batching", "triton", "batched", "v2", "pytriton", TENSORS, V2),
    Contender("Ray Serve tutorial + model.predict", "ray_tutorial", "predict"),
    Contender("Ray Serve tutorial + XLA", "ray_tutorial"),
    Contender("limit: no-op under uvicorn", "bare_uvicorn", "noop", takes=TENSORS),
    Contender("limit: no-op under Serve's direct ingress", "serve_noop", "noop", takes=TENSORS),
    Contender("limit: uvicorn reading the body", "bare_uvicorn", "read", takes=TENSORS),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
SERVERS = ("LitServe", "LitServe, batching", "BentoML", "MLServer", "PyTriton", "PyTriton, batching")
"""The peers that are servers of models; the others are hand-written or limits."""
IN_PROCESS = Contender("limit: in process", "in_process")
"""No server: the functions themselves, timed without a network; its `way` is the candidate that our plan chose."""


def command(contender: Contender, model: str, port: int, folder: Path) -> list[str]:
    """Return what starts the server; `folder` is for its files."""
    return _peer(contender, model, port) if contender.module else _solo(model, port, folder)


def _solo(model: str, port: int, folder: Path) -> list[str]:
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "grpc_options": {"port": 0},
        "applications": [
            {
                "name": model,
                "import_path": "serve_app:model_app",
                "route_prefix": f"/v2/models/{model}",
                # No plan from an earlier run: one that was measured on a busy machine would stay.
                "args": {"name": model, **MODELS[model], "plan_cache": None},
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
    """Return whether the contender's environment has been made, from the requirements as they are now."""
    if not contender.environment:
        return True
    marker, requirements = _marker(contender)
    return marker.exists() and marker.read_text() == requirements.read_text()


def install(contender: Contender) -> None:
    """Make the contender's environment from its pinned requirements; raises `CalledProcessError`."""
    folder = ENVIRONMENTS / contender.environment
    # PyTriton's wheel carries a Triton that is linked against the system's Python 3.11.
    python = "/usr/bin/python3" if contender.environment == "pytriton" else sys.executable
    marker, requirements = _marker(contender)
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
    marker.write_text(requirements.read_text())


def _marker(contender: Contender) -> tuple[Path, Path]:
    """Return the file that says which requirements are installed, and the requirements."""
    requirements = ROOT / "bench/peers/requirements" / f"{contender.environment}.txt"
    return ENVIRONMENTS / contender.environment / "installed.txt", requirements
