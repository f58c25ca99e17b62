"""What a benchmark ran on, for its JSON."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from serve_app.cli.doctor import probes

PACKAGES = ("keras-solo", "tensorflow", "keras", "ray", "numpy")


def describe() -> dict[str, Any]:
    """Return CPU, memory, GPUs (as the driver and as TensorFlow see them), and versions."""
    asked = probes.ask()
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gpus": [asdict(gpu) for gpu in asked.gpus],
        "tensorflow": dict(asked.tensorflow),
        "load_generator": "wrk" if shutil.which("wrk") else "asyncio",
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
