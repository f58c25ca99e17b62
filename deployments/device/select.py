"""The device a replica predicts on. The only file that knows GPUs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from deployments.device import gpu_memory
from deployments.errors import LoadError

Wanted = Literal["auto", "gpu", "cpu"]
WANTED: tuple[Wanted, ...] = ("auto", "gpu", "cpu")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """The device TensorFlow was set up for."""

    kind: Literal["gpu", "cpu"]
    tf_name: str
    """For `tf.device`: `/GPU:0` or `/CPU:0`."""
    description: str
    """The hardware's own name, e.g. `NVIDIA H200`."""
    memory_limit_mb: int | None
    """The hard cap; None where memory grows as needed, and on the CPU."""
    tf32: bool
    """Whether float32 matrix products and convolutions may be rounded to TensorFloat-32 (10-bit mantissa)."""


def select(wanted: Wanted, *, gpu_memory_mb: int | None = None, tf32: bool = False, share: float = 1.0) -> Device:
    """Set TensorFlow up for the wanted device and return it.

    `gpu_memory_mb` is a hard cap in MiB; without one, a `share` below 1 of the GPU brings its own (`gpu_memory` in this
    room), and with a whole GPU memory grows as needed. TensorFloat-32 is off unless asked for: it changes results in
    the third decimal. Call this before anything else touches TensorFlow's devices; a second call
    with the same arguments changes nothing. Raises `LoadError` where `gpu` is wanted and TensorFlow sees none, where
    the share has no room, or where TensorFlow has already started otherwise.
    """
    if wanted not in WANTED:
        raise LoadError(f"device '{wanted}' is unknown; expected one of {', '.join(WANTED)}")
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if gpus:
        return _use_gpu(gpus[0], gpu_memory.cap_mb(gpu_memory_mb, share, gpu_memory.card_mb), tf32)
    if wanted == "gpu":
        raise LoadError(no_gpu_text())
    if wanted == "auto":
        logger.warning("No GPU is visible to TensorFlow, so this model is served on the CPU. `solo doctor` says why.")
    return _use_cpu(tf32)


def no_gpu_text() -> str:
    """Return why TensorFlow sees no GPU, as far as this machine shows it, and what to install."""
    return f"device: gpu was asked for, but TensorFlow {tf.__version__} sees no GPU. {_missing_part()} {REMEDY}"


REMEDY = (
    "A GPU needs: an NVIDIA driver (`nvidia-smi` lists the GPU), CUDA's libraries (`pip install 'keras-solo[gpu]'`), "
    "and a CUDA_VISIBLE_DEVICES that does not hide it. `solo doctor` checks each. "
    "`device: cpu` serves without one, `device: auto` takes what there is."
)


def _missing_part() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is '{visible}', which hides every GPU."
    if not Path("/proc/driver/nvidia/version").exists():
        return "No NVIDIA driver is loaded on this machine."
    if not tf.test.is_built_with_cuda():
        return "This TensorFlow was built without CUDA."
    return "There is an NVIDIA driver, so CUDA's libraries are likely missing or of another version."


def _use_gpu(gpu: Any, gpu_memory_mb: int | None, tf32: bool) -> Device:
    """Show TensorFlow the first GPU alone: one replica owns one."""
    with _before_start():
        tf.config.set_visible_devices([gpu], "GPU")
        if gpu_memory_mb is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            # A limit, not a grab: beside a virtual device TensorFlow refuses growth in its API, but its allocator heeds
            # this variable when the device is made (https://www.tensorflow.org/guide/gpu, GPUBFCAllocator).
            os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            cap = tf.config.LogicalDeviceConfiguration(memory_limit=gpu_memory_mb)
            tf.config.set_logical_device_configuration(gpu, [cap])
    details = tf.config.experimental.get_device_details(gpu)
    return Device("gpu", "/GPU:0", str(details.get("device_name", "GPU")), gpu_memory_mb, tf32)


def _use_cpu(tf32: bool) -> Device:
    with _before_start():
        tf.config.set_visible_devices([], "GPU")
    return Device("cpu", "/CPU:0", cpu_description(), None, tf32)


@contextmanager
def _before_start() -> Iterator[None]:
    """Turn TensorFlow's refusal to change devices that are in use into a `LoadError`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise LoadError(f"TensorFlow's devices cannot be set up in this process any more: {error}") from error


def cpu_description() -> str:
    """Return the CPU's model name and the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {cores} cores"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "CPU"
