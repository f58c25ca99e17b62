"""Captured graphs, as far as no card is needed: the driver is a fake (`tests.support.cuda_fakes`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from deployments.candidates import Unfit, all_candidates
from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.candidates.onnx_cuda import OnnxCuda
from deployments.loading import from_keras
from tests.support import architectures, cuda_fakes

WAYS = {candidate.name: candidate for candidate in all_candidates() if isinstance(candidate, OnnxCuda)}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> cuda_fakes.Log:
    return cuda_fakes.install(monkeypatch)


def subject_of(name: str) -> Subject:
    """Return a subject that is planned for a GPU; TensorFlow itself runs it on the CPU."""
    return Subject(from_keras(architectures.build(name)), "/GPU:0")


def rows_of(subject: Subject, bucket: Bucket, seed: int) -> tuple[Any, ...]:
    random = np.random.default_rng(seed)
    pairs = zip(subject.signature.inputs, bucket.shapes(subject.signature), strict=True)
    return tuple(
        (random.uniform(0, 1, shape) if spec.dtype.kind == "f" else random.integers(0, 2, shape)).astype(spec.dtype)
        for spec, shape in pairs
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "several", "transformer", "lstm"])
def test_every_launch_answers_its_own_inputs(log: cuda_fakes.Log, name: str, way: str) -> None:
    subject = subject_of(name)
    runners = {size: WAYS[way].build(subject, Bucket(size)) for size in (1, 4)}
    answers = []
    for seed in range(3):
        for size, runner in runners.items():
            rows = rows_of(subject, Bucket(size), seed)
            answers.append((runner.run(rows), [np.asarray(output) for output in subject.model.call(*rows)]))
    for got, want in answers:  # all at the end: an answer must not be a view of what the next launch overwrites
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    for runner in runners.values():
        runner.close()
    assert (log.open_buffers, log.graphs) == (0, 0)


def test_half_the_bits_are_made_of_the_model_in_float32(log: cuda_fakes.Log) -> None:
    subject = subject_of("mlp")
    way = WAYS["onnx-cuda-graph"].in_precision("mixed_float16")
    assert way.name == "mixed_float16:onnx-cuda-graph"
    rows = rows_of(subject, Bucket(4), 0)
    (got,) = way.build(subject, Bucket(4)).run(rows)
    error = np.abs(got - np.asarray(subject.model.call(*rows)[0])).max()
    assert 0 < error < 5e-3


def test_tf32_is_asked_for_where_it_is_meant_and_nowhere_else(log: cuda_fakes.Log) -> None:
    WAYS["onnx-cuda-graph"].in_precision("tf32").build(subject_of("mlp"), Bucket(1))
    assert log.settings["use_tf32"] == "1"
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    WAYS["onnx-cuda-graph-nhwc"].build(subject_of("mlp"), Bucket(1))
    assert (log.settings["use_tf32"], log.settings["prefer_nhwc"]) == ("0", "1")


def test_a_capture_that_fails_leaves_nothing_behind(log: cuda_fakes.Log) -> None:
    """Seen on an H200: what it left was the next model's failure."""
    log.fails_in_capture = True
    with pytest.raises(RuntimeError, match="capturing"):
        WAYS["onnx-cuda-graph"].build(subject_of("mlp"), Bucket(1))
    assert (log.open_buffers, log.graphs, log.forgotten) == (0, 0, 1)


def test_a_graph_that_would_read_memory_of_others_is_refused(log: cuda_fakes.Log) -> None:
    log.foreign = 2
    with pytest.raises(Unfit, match="2 steps of a captured run would read host memory that is not kept"):
        WAYS["onnx-cuda-graph"].build(subject_of("mlp"), Bucket(1))
    assert (log.open_buffers, log.graphs) == (0, 0)


def test_on_a_cpu_and_without_cuda_it_is_unfit() -> None:
    with pytest.raises(Unfit, match="runs on GPUs only"):
        WAYS["onnx-cuda"].build(Subject(from_keras(architectures.build("mlp")), "/CPU:0"), Bucket(1))
    with pytest.raises(Unfit, match="this ONNX Runtime has no CUDA"):
        WAYS["onnx-cuda"].build(subject_of("mlp"), Bucket(1))
