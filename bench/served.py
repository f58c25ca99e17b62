"""A server for benchmarks: `solo serve` as a process of its own, watched until ready, ended afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
SOLO = Path(sys.executable).parent / "solo"
START_S = 600
STOP_S = 60


@dataclass(frozen=True)
class Served:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def replica(self, name: str) -> psutil.Process:
        """Return the process of the one replica of a model."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = [child for child in children if f"ServeReplica:{name}:KerasReplica" in " ".join(_command(child))]
        if len(found) != 1:
            raise RuntimeError(f"expected one replica of '{name}', found {len(found)}")
        return found[0]

    def cpu_s(self, name: str) -> float:
        """Return the processor time of the server's processes called `name`, in seconds."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        times = [child.cpu_times() for child in children if child.name() == name]
        return sum(one.user + one.system for one in times)


def application(name: str, source: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return one model's application."""
    return {
        "name": name,
        "import_path": "serve_app:model_app",
        "route_prefix": f"/v2/models/{name}",
        "args": {"name": name, "source": source, **args},
    }


@contextlib.contextmanager
def serve(
    folder: Path,
    applications: Sequence[Mapping[str, Any]],
    port: int,
    grpc_port: int | None = None,
    gateway_args: Mapping[str, Any] = {},
) -> Iterator[Served]:
    """Serve `applications` and the gateway until the block ends; gRPC on Serve's own port unless another is given."""
    args = dict(gateway_args)
    gateway = {"name": "gateway", "import_path": "serve_app:gateway_app", "route_prefix": "/", "args": args}
    config = folder / "serve_config.yaml"
    document: dict[str, Any] = {"applications": [*map(dict, applications), gateway]}
    document["http_options"] = {"host": "127.0.0.1", "port": port}
    if grpc_port is not None:
        document["grpc_options"] = {"port": grpc_port}
    config.write_text(yaml.safe_dump(document))
    with serve_source(config, folder / "server.log", port) as served:
        yield served


@contextlib.contextmanager
def serve_source(source: Path, log: Path, port: int) -> Iterator[Served]:
    """Serve a config, or a folder of models, as `solo serve` takes it, until the block ends."""
    command = [str(SOLO), "serve", str(source), "--port", str(port), "--no-dashboard"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)
    served = Served(process, port, log)
    try:
        _wait(served)
        yield served
    finally:
        _stop(process)


def _wait(served: Served) -> None:
    ends_s = time.monotonic() + START_S
    while "ready on" not in served.log.read_text():
        if served.process.poll() is not None or time.monotonic() > ends_s:
            raise RuntimeError(f"the server did not start:\n{served.log.read_text()[-3000:]}")
        time.sleep(0.5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    process.wait(STOP_S)
    _, alive = psutil.wait_procs(family, timeout=10)
    for left in alive:
        left.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
