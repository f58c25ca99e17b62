"""Choosing the device, each time in a process of its own: TensorFlow's devices are set up once per process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from deployments.errors import LoadError

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))
gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU that TensorFlow sees")

PROLOGUE = """
import dataclasses, json
from deployments.device import ledger, select
from deployments.errors import LoadError
import tensorflow as tf
def show(**facts): print("RESULT" + json.dumps(facts))
"""


def in_process(code: str, **environment: str) -> tuple[dict[str, object], str]:
    """Run `code` in a fresh process and return what it shows, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    results = [line.removeprefix("RESULT") for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results, done.stderr
    return json.loads(results[-1]), done.stderr


@pytest.fixture(scope="module")
def without_gpu() -> tuple[dict[str, object], str]:
    """Every choice in turn in one process that sees no GPU: importing TensorFlow is the slow part."""
    return in_process(
        """
try:
    select.select("gpu")
except LoadError as error:
    text = str(error)
auto = select.select("auto")
first = select.select("cpu")
total = float(tf.reduce_sum(tf.ones(3)))
again = select.select("cpu")
exact = tf.config.experimental.tensor_float_32_execution_enabled()
rounded = select.select("cpu", tf32=True)
show(text=text, auto=auto.kind, same=first == again, cpu=dataclasses.asdict(first), total=total,
     gpus=len(tf.config.list_logical_devices("GPU")), memory=ledger.resident_bytes(first.tf_name), exact=exact,
     rounded=[tf.config.experimental.tensor_float_32_execution_enabled(), rounded.tf32])
""",
        CUDA_VISIBLE_DEVICES="",
    )


def test_cpu_hides_every_gpu_and_can_be_selected_again(without_gpu: tuple[dict[str, object], str]) -> None:
    shown, _ = without_gpu
    assert shown["same"] is True
    assert shown["gpus"] == 0
    assert set(shown["memory"]) == {"host"}  # type: ignore[call-overload]
    chosen = shown["cpu"]
    assert isinstance(chosen, dict)
    assert (chosen["kind"], chosen["tf_name"], chosen["memory_limit_mb"]) == ("cpu", "/CPU:0", None)
    assert "cores" in chosen["description"]


def test_tf32_is_on_only_when_asked_for(without_gpu: tuple[dict[str, object], str]) -> None:
    shown, _ = without_gpu
    assert shown["exact"] is False
    assert shown["rounded"] == [True, True]


def test_auto_without_a_gpu_serves_on_the_cpu_and_warns_once(without_gpu: tuple[dict[str, object], str]) -> None:
    shown, stderr = without_gpu
    assert shown["auto"] == "cpu"
    assert stderr.count("served on the CPU") == 1


def test_gpu_without_a_gpu_says_what_to_install(without_gpu: tuple[dict[str, object], str]) -> None:
    shown, _ = without_gpu
    for part in ("sees no GPU", "CUDA_VISIBLE_DEVICES is ''", "pip install 'keras-solo[gpu]'", "driver", "solo doctor"):
        assert part in str(shown["text"])


def test_an_unknown_device_is_refused() -> None:
    from deployments.device import select

    with pytest.raises(LoadError, match="'tpu' is unknown; expected one of auto, gpu, cpu"):
        select.select("tpu")  # type: ignore[arg-type]


@gpu
@pytest.mark.gpu
def test_a_gpu_grows_its_memory_and_counts_it() -> None:
    shown, _ = in_process("""
first = select.select("auto")
x = tf.ones((1024, 1024))
show(kind=first.kind, name=first.description, used=ledger.read(first.tf_name).device_bytes,
     same=first == select.select("gpu"), placed=x.device, peak=ledger.read(first.tf_name).device_peak_bytes)
""")
    assert shown["kind"] == "gpu"
    assert "GPU:0" in str(shown["placed"])
    assert 4 * 1024 * 1024 <= int(str(shown["used"])) < 100 * 1024 * 1024
    assert shown["same"] is True


@gpu
@pytest.mark.gpu
def test_a_hard_cap_holds() -> None:
    shown, _ = in_process("""
chosen = select.select("gpu", gpu_memory_mb=256)
try:
    tf.ones((1024, 1024, 128)); fits = True
except tf.errors.ResourceExhaustedError:
    fits = False
show(cap=chosen.memory_limit_mb, fits=fits)
""")
    assert shown == {"cap": 256, "fits": False}


@gpu
@pytest.mark.gpu
def test_a_limit_is_no_grab() -> None:
    """What the card has less after the first tensor is what CUDA takes itself, not the limit."""
    shown, _ = in_process("""
import ctypes
from deployments.device.cuda import Driver
def free_mib():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    Driver().call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value / 2**20
before = free_mib()
chosen = select.select("gpu", gpu_memory_mb=20000)
tf.ones((1024, 1024)).numpy()
show(cap=chosen.memory_limit_mb, taken=before - free_mib())
""")
    assert shown["cap"] == 20000
    assert float(str(shown["taken"])) < 2000


@gpu
@pytest.mark.gpu
def test_changing_the_device_after_the_start_is_refused() -> None:
    shown, _ = in_process("""
select.select("gpu")
tf.ones(3)
try:
    select.select("cpu")
except LoadError as error:
    show(text=str(error))
""")
    assert "cannot be set up in this process any more" in str(shown["text"])
