"""What a benchmark ran on, for its JSON."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from serve_app.cli.doctor import probes

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("keras-solo", "tensorflow", "keras", "ray", "numpy")


def describe() -> dict[str, Any]:
    """Return the commit, CPU, memory, GPUs (as the driver and as TensorFlow see them), and versions."""
    asked = probes.ask()
    return {
        **moment(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gpus": [asdict(gpu) for gpu in asked.gpus],
        "tensorflow": dict(asked.tensorflow),
        "load_generator": "wrk" if shutil.which("wrk") else "asyncio",
    }


def moment() -> dict[str, Any]:
    """Return what every result says: when it was measured, of which commit, on which processor of how many cores."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit(),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
    }


def commit() -> str | None:
    """Return the checkout's commit; with `+` where its code is not that commit's; None where there is no git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!*.md")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
