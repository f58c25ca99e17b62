"""Asking the machine: TensorFlow and Ray Serve in subprocesses of their own, and the NVIDIA driver's tool.

A subprocess, because an import may abort the whole process (a bad wheel, an old CPU, a foreign CUDA library)
and because asking TensorFlow for its GPUs opens a context on each.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

PROBE_S = 120.0
"""An import that takes longer hangs; TensorFlow takes about 5 s from a warm disk, a minute from a cold one."""

TENSORFLOW_PROBE = """
import json, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
import tensorflow as tf
import keras
build = dict(tf.sysconfig.get_build_info())
gpus = [dict(tf.config.experimental.get_device_details(gpu)) for gpu in tf.config.list_physical_devices("GPU")]
why = None
if gpus:
    try:
        from tensorflow.python.client import device_lib
        limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
        gpus = [{**gpu, "memory_bytes": limit} for gpu, limit in zip(gpus, limits)]
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
print(json.dumps({
    "version": tf.__version__, "keras": keras.__version__, "keras_backend": keras.backend.backend(),
    "cuda": build.get("cuda_version"), "is_cuda_build": bool(build.get("is_cuda_build")),
    "gpus": gpus, "gpu_error": why,
}, default=str))
"""

SERVE_PROBE = """
import json
import ray
from ray import serve
print(json.dumps({"version": ray.__version__}))
"""


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver reports it; memory in bytes."""

    name: str
    driver: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """What the probes answered. A probe that failed holds the single key `error`."""

    tensorflow: Mapping[str, Any]
    serve: Mapping[str, Any]
    gpus: tuple[Gpu, ...] = ()
    driver_error: str | None = None
    """Why `nvidia-smi` gave no list; None where it did."""
    has_libcuda: bool = False

    @property
    def has_driver(self) -> bool:
        """Whether an NVIDIA driver is installed, working or not."""
        return bool(self.gpus) or self.has_libcuda


def ask() -> Machine:
    """Run every probe, side by side; takes as long as the slowest (TensorFlow's import, some seconds)."""
    with ThreadPoolExecutor() as pool:
        tensorflow = pool.submit(run_probe, TENSORFLOW_PROBE)
        serve = pool.submit(run_probe, SERVE_PROBE)
        gpus, driver_error = ask_driver()
        return Machine(tensorflow.result(), serve.result(), gpus, driver_error, has_libcuda())


def run_probe(program: str, wait_s: float = PROBE_S) -> dict[str, Any]:
    """Return the JSON object that `program` prints last, or `{"error": one line}`."""
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=wait_s)
    except subprocess.TimeoutExpired:
        return {"error": f"did not answer within {wait_s:.0f} s"}
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer
    if done.returncode < 0:
        return {"error": f"the import killed its process with signal {-done.returncode}"}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": lines[-1].strip() if lines else f"exit status {done.returncode}"}


def ask_driver() -> tuple[tuple[Gpu, ...], str | None]:
    """Return the GPUs that `nvidia-smi` lists, and why it listed none."""
    if shutil.which("nvidia-smi") is None:
        return (), "nvidia-smi is not installed"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"nvidia-smi failed: {error}"
    if done.returncode != 0:
        text = " ".join((done.stdout + done.stderr).split())
        return (), f"nvidia-smi failed: {text[:200] or f'exit status {done.returncode}'}"
    return tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip()), None


def _gpu(line: str) -> Gpu:
    name, driver, *memory = (part.strip() for part in line.split(","))
    # A GPU cut into MIG slices answers "[N/A]" or "[Insufficient Permissions]" for its memory.
    total_mib, free_mib = (int(part) if part.isdigit() else 0 for part in memory)
    return Gpu(name, driver, total_mib << 20, free_mib << 20)


def has_libcuda() -> bool:
    """Return whether the driver's library loads; loading it opens no GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
