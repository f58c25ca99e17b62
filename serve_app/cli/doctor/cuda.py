"""The NVIDIA driver, the CUDA libraries that TensorFlow's GPU build opens, and the GPUs that it then sees."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.probes import Machine
from serve_app.cli.doctor.software import installed_version

GPU_EXTRA = "make serve (adds the extra `gpu` where there is a driver), or pip install 'tensorflow[and-cuda]'"
DRIVER = (525, "525.60.13")
"""CUDA 12's oldest Linux driver, https://docs.nvidia.com/deploy/cuda-compatibility/ (minor version compatibility)."""
GIB = 1 << 30


@dataclass(frozen=True)
class Library:
    """A file that one pip package brings to `site-packages/nvidia/FOLDER/`."""

    folder: str
    file: str
    purpose: str


# TensorFlow 2.21 finds them through the run path `$ORIGIN/../nvidia/FOLDER/lib` (readelf -d), else as the system does.
LIBRARIES = {
    "nvidia-cuda-runtime-cu12": Library("cuda_runtime/lib", "libcudart.so.12", "CUDA runtime"),
    "nvidia-cublas-cu12": Library("cublas/lib", "libcublas.so.12", "matrix products"),
    "nvidia-cudnn-cu12": Library("cudnn/lib", "libcudnn.so.9", "convolutions, recurrent layers"),
    "nvidia-cufft-cu12": Library("cufft/lib", "libcufft.so.11", "Fourier transforms"),
    "nvidia-curand-cu12": Library("curand/lib", "libcurand.so.10", "random numbers"),
    "nvidia-cusolver-cu12": Library("cusolver/lib", "libcusolver.so.11", "linear algebra"),
    "nvidia-cusparse-cu12": Library("cusparse/lib", "libcusparse.so.12", "sparse matrices"),
    "nvidia-cuda-cupti-cu12": Library("cuda_cupti/lib", "libcupti.so.12", "profiling"),
    "nvidia-nccl-cu12": Library("nccl/lib", "libnccl.so.2", "several GPUs"),
    "nvidia-nvjitlink-cu12": Library("nvjitlink/lib", "libnvJitLink.so.12", "linking of kernels"),
    "nvidia-cuda-nvrtc-cu12": Library("cuda_nvrtc/lib", "libnvrtc.so.12", "compilation of kernels"),
    "nvidia-cuda-nvcc-cu12": Library("cuda_nvcc/bin", "ptxas", "XLA's assembler"),
}


def checks(machine: Machine) -> list[Check]:
    """Return the rows on the driver, each CUDA library and each GPU."""
    return [driver(machine), *(library(package, machine) for package in needed_packages()), *gpus(machine)]


def driver(machine: Machine) -> Check:
    """Check that there is an NVIDIA driver that is new enough for CUDA 12."""
    if not machine.gpus:
        if not machine.has_libcuda:
            return Check("NVIDIA driver", "n/a", "none: models run on the CPU", "for a GPU, install NVIDIA's driver")
        found = f"libcuda.so.1 loads, but {machine.driver_error or 'nvidia-smi lists no GPU'}"
        return Check("NVIDIA driver", "warn", found, "in a container, start it with --gpus all; see nvidia-smi")
    version = machine.gpus[0].driver
    if int(version.partition(".")[0]) < DRIVER[0]:
        return Check("NVIDIA driver", "fail", f"{version} is too old for CUDA 12", f"install {DRIVER[1]} or newer")
    if not machine.has_libcuda:
        advice = "in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        return Check("NVIDIA driver", "fail", f"{version}, but libcuda.so.1 does not load", advice)
    return Check("NVIDIA driver", "ok", f"{version}, {len(machine.gpus)} GPU(s)")


def needed_packages() -> list[str]:
    """Return the pip packages of TensorFlow's extra `and-cuda`, as the installed TensorFlow declares them."""
    try:
        texts = importlib.metadata.requires("tensorflow") or []
    except importlib.metadata.PackageNotFoundError:
        return list(LIBRARIES)
    parsed = [Requirement(text) for text in texts]
    found = [r.name for r in parsed if r.marker is not None and 'extra == "and-cuda"' in str(r.marker)]
    return found or list(LIBRARIES)


def library(package: str, machine: Machine) -> Check:
    """Check that one CUDA library is where TensorFlow looks for it."""
    known = LIBRARIES.get(package)
    name = f"{known.file} ({known.purpose})" if known else package
    if (place := _place(package, known)) is not None:
        return Check(name, "ok", place)
    if not machine.has_driver:
        return Check(name, "n/a", f"missing, not needed without a GPU; {package} brings it")
    return Check(name, "fail", "missing: TensorFlow would see no GPU", f"pip install {package}; or all: {GPU_EXTRA}")


def _place(package: str, known: Library | None) -> str | None:
    """Return where the package's file lies, or that the package is installed; None where neither."""
    if known is None:
        return installed_version(package)
    if any(Path(folder, known.folder, known.file).exists() for folder in _nvidia_folders()):
        return f"{package} {installed_version(package) or ''}".strip()
    folders = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part]
    outside = next((folder / known.file for folder in folders if (folder / known.file).exists()), None)
    found = str(outside) if outside else shutil.which(known.file) or system_libraries().get(known.file)
    return found or _loaded(known.file)


def _nvidia_folders() -> list[str]:
    """Return every folder of the namespace package `nvidia`, wherever its parts were installed."""
    spec = importlib.util.find_spec("nvidia")
    return [] if spec is None else list(spec.submodule_search_locations or ())


def _loaded(file: str) -> str | None:
    """Return where the loader finds a library, as TensorFlow would ask it; None where it does not."""
    try:
        ctypes.CDLL(file)
    except OSError:
        return None
    return f"{file}, as the loader finds it"


@lru_cache(maxsize=1)
def system_libraries() -> dict[str, str]:
    """Return the dynamic linker's cache: file name to path."""
    tool = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        listing = subprocess.run([tool, "-p"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split("=>") for line in listing.splitlines() if "=>" in line)
    return {left.split()[0]: right.strip() for left, right in pairs}


def gpus(machine: Machine) -> list[Check]:
    """Return one row per GPU that TensorFlow sees, or one that says why it sees none."""
    seen = machine.tensorflow.get("gpus", [])
    if seen:
        return [_gpu(index, gpu, machine) for index, gpu in enumerate(seen)]
    if not machine.gpus:
        return [Check("GPUs", "n/a", "none")]
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:
        advice = "unset it; Ray sets it for every replica by itself"
        return [Check("GPUs", "fail", "hidden from TensorFlow by CUDA_VISIBLE_DEVICES", advice)]
    found = f"the driver lists {len(machine.gpus)}, TensorFlow sees none"
    return [Check("GPUs", "fail", found, f"mend the rows above; else {GPU_EXTRA}, or device: cpu in the config")]


def _gpu(index: int, seen: dict[str, Any], machine: Machine) -> Check:
    name = seen.get("device_name", "unknown")
    capability = ".".join(map(str, seen.get("compute_capability", ()))) or "unknown"
    listed = machine.gpus[index] if index < len(machine.gpus) else None
    memory = f"{listed.total_bytes / GIB:.1f} GiB, {listed.free_bytes / GIB:.1f} free" if listed else "memory unknown"
    if machine.tensorflow.get("gpu_error"):
        advice = "end the process that holds its memory (see nvidia-smi)"
        return Check(f"GPU {index}", "warn", f"{name}, {memory}: {machine.tensorflow['gpu_error']}", advice)
    usable = f"{seen['memory_bytes'] / GIB:.1f} GiB for TensorFlow" if "memory_bytes" in seen else "limit unknown"
    return Check(f"GPU {index}", "ok", f"{name}, compute capability {capability}, {memory}, {usable}")
