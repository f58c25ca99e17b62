"""`solo doctor`: run for real on this machine, and its judgements on machines that this one is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deployments.errors import ConfigError
from serve_app.cli.doctor import cuda, front, probes, requested, software, storage
from serve_app.cli.doctor.check import Check, can_serve
from serve_app.config import serve_yaml
from serve_app.front import environment, ports
from tests.support.processes import BIN, ROOT, model_application, write_config

TENSORFLOW = {
    "version": "2.21.0",
    "keras": "3.15.1",
    "keras_backend": "tensorflow",
    "cuda": "12.5.1",
    "is_cuda_build": True,
    "gpus": [],
    "gpu_error": None,
}
H200 = probes.Gpu("NVIDIA H200", "570.86.15", 140 << 30, 139 << 30)
SEEN = {"device_name": "NVIDIA H200", "compute_capability": [9, 0], "memory_bytes": 135 << 30}
CPU = probes.Machine(TENSORFLOW, {"version": "2.60.0"}, (), "nvidia-smi is not installed", False)
GPU = probes.Machine({**TENSORFLOW, "gpus": [SEEN]}, {"version": "2.60.0"}, (H200,), None, True)


def doctor(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    return subprocess.run(
        [BIN / "solo", "doctor", *map(str, arguments)], capture_output=True, text=True, env=env, cwd=ROOT, timeout=280
    )


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def config(tmp_path: Path, **app: object) -> serve_yaml.ServeConfig:
    application = {**model_application("digits", str(ROOT / "models/digits.keras")), **app}
    return serve_yaml.read(write_config(tmp_path, application))


@pytest.mark.slow
def test_a_sound_machine_passes_and_a_taken_port_fails(tmp_path: Path) -> None:
    source = str(ROOT / "models/digits.keras")
    path = write_config(tmp_path, model_application("digits", source, device="cpu"))
    done = doctor(path, "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answer["can_serve"] is True
    rows = {row["name"]: row for row in answer["checks"]}
    for name in ("Python", "TensorFlow", "Keras", "Ray Serve", "HAProxy", "HTTP port", "serve config"):
        assert rows[name]["status"] == "ok", rows[name]
    assert "2.21" in rows["TensorFlow"]["found"]

    port = yaml.safe_load(path.read_text())["http_options"]["port"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = doctor(path)
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if "HTTP port" in line)
    assert line.startswith("fail")
    assert str(port) in line
    assert "--port" in line
    assert done.stdout.splitlines()[-1] == "serving could not work: HTTP port"


def test_probe_reports_the_last_line_of_a_failing_import() -> None:
    assert "No module named 'nowhere_to_be_found'" in probes.run_probe("import nowhere_to_be_found")["error"]
    assert "signal 6" in probes.run_probe("import os; os.abort()")["error"]
    assert "within 1 s" in probes.run_probe("import time; time.sleep(60)", wait_s=1)["error"]


def test_a_broken_import_fails_with_what_to_do() -> None:
    broken = replace(CPU, tensorflow={"error": "ImportError: libgomp"}, serve={"error": "ModuleNotFoundError: ray"})
    rows = by_name(software.checks(broken))
    assert {rows[name].status for name in ("TensorFlow", "Keras", "Ray Serve")} == {"fail"}
    assert "libgomp" in rows["TensorFlow"].found
    assert "constraints.txt" in rows["TensorFlow"].advice


def test_a_foreign_version_or_backend_fails() -> None:
    old = replace(CPU, tensorflow={**TENSORFLOW, "version": "2.15.0", "keras_backend": "jax"})
    rows = by_name(software.checks(old))
    assert rows["TensorFlow"].status == "fail"
    assert rows["Keras"].status == "fail"
    assert "KERAS_BACKEND" in rows["Keras"].advice
    assert rows["other packages"].status == "ok", rows["other packages"].found


def test_without_a_gpu_nothing_of_cuda_is_a_problem() -> None:
    checks = cuda.checks(CPU)
    assert can_serve(checks)
    assert {check.status for check in checks} <= {"n/a", "ok"}


def test_each_missing_cuda_library_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "_nvidia_folders", lambda: [str(tmp_path / "nvidia")])
    monkeypatch.setattr(cuda, "system_libraries", dict)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    machine = replace(GPU, tensorflow=TENSORFLOW)
    rows = by_name(cuda.checks(machine))
    cudnn = rows["libcudnn.so.9 (convolutions, recurrent layers)"]
    assert cudnn.status == "fail"
    assert "nvidia-cudnn-cu12" in cudnn.advice
    assert rows["GPUs"].status == "fail"
    assert len(rows) == len(cuda.needed_packages()) + 2

    (tmp_path / "nvidia/cudnn/lib").mkdir(parents=True)
    (tmp_path / "nvidia/cudnn/lib/libcudnn.so.9").touch()
    assert cuda.library("nvidia-cudnn-cu12", machine).status == "ok"


def test_every_package_of_tensorflows_gpu_extra_is_known() -> None:
    assert set(cuda.needed_packages()) == set(cuda.LIBRARIES)


def test_gpus_are_shown_with_memory_and_an_old_driver_fails() -> None:
    row = by_name(cuda.checks(GPU))["GPU 0"]
    assert row.status == "ok"
    assert "140.0 GiB" in row.found
    assert "135.0 GiB for TensorFlow" in row.found
    old = replace(GPU, gpus=(replace(H200, driver="470.57.02"),))
    assert cuda.driver(old).status == "fail"
    assert cuda.driver(GPU).status == "ok"


def test_nvidia_smi_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA A10G, 550.54.15, 23028, 22500'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert probes.ask_driver() == ((probes.Gpu("NVIDIA A10G", "550.54.15", 23028 << 20, 22500 << 20),), None)
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18\n")
    gpus, why = probes.ask_driver()
    assert gpus == ()
    assert "version mismatch" in str(why)


def test_requested_gpus_against_those_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    source = str(ROOT / "models/digits.keras")
    args = {"name": "digits", "source": source}
    on_gpu = config(tmp_path, args={**args, "device": "gpu"})
    assert requested.gpus(on_gpu, CPU).status == "fail"
    assert requested.gpus(on_gpu, GPU).status == "ok"
    two = config(tmp_path, args=args, deployments=[{"name": "KerasReplica", "num_replicas": 2}])
    assert requested.gpus(two, CPU).status == "ok"
    assert requested.gpus(two, GPU).status == "fail"
    halves = [{"name": "KerasReplica", "num_replicas": 2, "ray_actor_options": {"num_gpus": 0.5}}]
    assert requested.gpus(config(tmp_path, args=args, deployments=halves), GPU).status == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert requested.gpus(on_gpu, CPU).status == "warn"


def test_a_wrong_config_is_named(tmp_path: Path) -> None:
    path = write_config(tmp_path, model_application("digits", str(tmp_path / "gone.keras")))
    with pytest.raises(ConfigError):
        serve_yaml.read(path)
    _, rows = requested.read(path)
    assert rows[0].status == "fail"
    assert "gone.keras" in rows[0].found


def test_haproxy_and_the_fast_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert front.haproxy().status == "ok"
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(tmp_path / "gone"))
    assert front.haproxy().status == "fail"
    assert front.fast_path({}).status == "ok"
    assert front.fast_path(environment.FAST).found == "all variables are set"
    slow = front.fast_path({"RAY_SERVE_ENABLE_HA_PROXY": "0"})
    assert slow.status == "warn"
    assert "RAY_SERVE_ENABLE_HA_PROXY" in slow.advice


def test_a_taken_grpc_port_matters_where_the_config_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    http = {"port": ports.free_port()}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        named = front.ports({"http_options": http, "grpc_options": {"port": port}})[1]
        monkeypatch.setattr(front, "DEFAULT_GRPC_PORT", port)
        left_open = front.ports({"http_options": http})[1]
    assert named.status == "fail"
    assert str(os.getpid()) in named.found
    assert left_open.status == "warn"
    assert front.ports({"http_options": http, "grpc_options": {"port": 0}})[1].status == "n/a"


def test_storage(tmp_path: Path) -> None:
    assert storage.plan_cache(str(tmp_path / "deep/er")).status in {"ok", "warn"}
    assert not (tmp_path / "deep").exists()
    (tmp_path / "file").touch()
    assert storage.plan_cache(str(tmp_path / "file")).status == "warn"
    assert storage.shared_memory(tmp_path / "none").status == "n/a"
    assert storage.memory().found.split()[1] == "cores,"
    assert sys.platform != "linux" or storage.shared_memory().status in {"ok", "warn"}
