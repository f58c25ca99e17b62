"""Real server processes for tests: each with its own Ray cluster, ports and log, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from serve_app.front.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
START_S = 280
QUICK = {"candidates": ["session-single"], "plan_budget_s": 1, "max_batch_size": 4}
"""Planned in a moment: which way of executing wins is not what these tests are about."""
STOP_S = 60


@dataclass
class Server:
    """A running server and where to reach it."""

    process: subprocess.Popen[bytes]
    url: str
    port: int
    grpc_port: int
    log: Path

    def stop(self, number: int = signal.SIGTERM, *, whole_group: bool = False, times: int = 1) -> set[psutil.Process]:
        """Send `number` so many times, wait for the end, and return every process that was still there after it."""
        family = {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}
        for _ in range(times):
            if whole_group:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
            time.sleep(0.3 if times > 1 else 0.0)
        self.process.wait(STOP_S)
        _, alive = psutil.wait_procs(list(family), timeout=10)
        return set(alive)


def model_application(name: str, source: str, **args: Any) -> dict[str, Any]:
    """Return one model's application for a serve config."""
    return {
        "name": name,
        "import_path": "serve_app:model_app",
        "route_prefix": f"/v2/models/{name}",
        "args": {"name": name, "source": source, "plan_cache": None, **args},
    }


GATEWAY = {"name": "gateway", "import_path": "serve_app:gateway_app", "route_prefix": "/", "args": {}}


def write_config(folder: Path, *applications: Mapping[str, Any], port: int | None = None) -> Path:
    """Write a serve config with the gateway and `applications` into `folder`."""
    port = port or free_port()
    raw = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "grpc_options": {"port": free_port(), "grpc_servicer_functions": ["serve_app.grpc:add_to_server"]},
        "applications": [*map(dict, applications), GATEWAY],
    }
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def ports_of(config: Path) -> tuple[int, int]:
    """Return the HTTP and the gRPC port that a config names."""
    raw = yaml.safe_load(config.read_text())
    return raw["http_options"]["port"], raw["grpc_options"]["port"]


def clean_environ() -> dict[str, str]:
    """Return this process's environment as a user's shell has it, without Ray's variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


@contextlib.contextmanager
def solo_serve(config: Path, log: Path, *, dashboard: bool = False, **environ: str) -> Iterator[Server]:
    """Run `solo serve CONFIG` until it says that it is ready."""
    command = [str(BIN / "solo"), "serve", str(config), "--dashboard" if dashboard else "--no-dashboard"]
    with _running(command, log, ports_of(config), environ) as server:
        _wait(server, lambda: "ready on" in log.read_text())
        yield server


@contextlib.contextmanager
def serve_run(config: Path, log: Path, **environ: str) -> Iterator[Server]:
    """Run a plain `serve run CONFIG` on a cluster of its own until the gateway says that all models are ready."""
    command = [str(BIN / "serve"), "run", "--address", "local", str(config)]
    with _running(command, log, ports_of(config), environ) as server:
        _wait(server, lambda: _status(f"{server.url}/v2/health/ready") == 200)
        yield server


@contextlib.contextmanager
def running(command: list[str], log: Path, ports: tuple[int, int], environ: Mapping[str, str]) -> Iterator[Server]:
    """Run any `solo serve` command until it says that it is ready; `ports` are those that it names."""
    with _running(command, log, ports, environ) as server:
        _wait(server, lambda: "ready on" in log.read_text())
        yield server


@contextlib.contextmanager
def _running(command: list[str], log: Path, ports: tuple[int, int], environ: Mapping[str, str]) -> Iterator[Server]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean_environ(), **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{ports[0]}", *ports, log)
    try:
        yield server
    finally:
        if process.poll() is None:
            for left in server.stop():
                left.kill()


def _wait(server: Server, ready: Any) -> None:
    ends_s = time.monotonic() + START_S
    while not ready():
        if server.process.poll() is not None or time.monotonic() > ends_s:
            raise AssertionError(f"the server did not start:\n{server.log.read_text()[-4000:]}")
        time.sleep(0.2)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
