"""The conversion to ONNX, and ONNX Runtime on the CPU: what the model answers, in every form, or why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from deployments.candidates import Unfit, _onnx, all_candidates
from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._subject import Subject
from deployments.loading import from_keras
from deployments.planning.attempts import Attempts
from deployments.planning.crashes import CrashLog
from deployments.planning.options import PlanOptions
from deployments.planning.reference import Reference
from tests.support import architectures, onnx_kinds

WAYS = {candidate.name: candidate for candidate in all_candidates()}


def attempted(make: Any, name: str = "onnx", size: int = 4) -> Any:
    """Return the trial of one candidate, verified as planning does: two lengths where an axis is open."""
    options = PlanOptions(allowed_batch_sizes=(1, size))
    subject = Subject(from_keras(make()), options.device)
    reference = Reference(subject, options)
    return Attempts(subject, reference, CrashLog(None, "")).attempt(WAYS[name], Bucket(size))


@pytest.mark.parametrize("name", onnx_kinds.SMALL)
def test_a_kind_is_converted_and_answers_as_the_model(name: str) -> None:
    trial = attempted(onnx_kinds.SMALL[name])
    assert trial.status == "ok"
    assert trial.error < 1e-3, "planning holds it within 1e-4 of the largest output"


@pytest.mark.slow
@pytest.mark.parametrize("name", onnx_kinds.LARGE)
def test_a_large_kind_is_converted_and_answers_as_the_model(name: str) -> None:
    trial = attempted(onnx_kinds.LARGE[name], size=2)
    assert trial.status == "ok"
    assert trial.error < 1e-3, "planning holds it within 1e-4 of the largest output"


def test_several_threads_answer_alike() -> None:
    trial = attempted(onnx_kinds.unet, "onnx-threads")
    assert trial.status in ("ok", "unfit: one core: the same as 'onnx'")


def test_what_cannot_be_converted_is_unfit_by_the_ops_name() -> None:
    assert attempted(onnx_kinds.argmax).status == "unfit: tf2onnx cannot convert Bitcast"


def test_strings_are_unfit() -> None:
    assert attempted(lambda: architectures.build("text")).status.startswith("unfit: strings have no place")


@pytest.mark.parametrize("name", ["vit", "unet", "lstm", "masked_attention", "several"])
def test_half_the_bits_stay_near_and_keep_the_inputs_types(name: str) -> None:
    model = from_keras(onnx_kinds.SMALL[name]())
    subject = Subject(model, "/CPU:0")
    content = _onnx.halved(subject, open_shapes(subject.signature))
    session = _onnx.runtime().InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = inputs_of(model)
    got = session.run(None, dict(zip((each.name for each in session.get_inputs()), rows, strict=True)))
    for one, other in zip(got, model.call(*rows), strict=True):
        assert one.dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, np.asarray(other), atol=5e-3)


def inputs_of(model: Any, rows: int = 3) -> list[Any]:
    random = np.random.default_rng(3)
    shapes = [(rows, *(axis or 9 for axis in spec.shape[1:])) for spec in model.signature.inputs]
    pairs = zip(model.signature.inputs, shapes, strict=True)
    return [
        (random.uniform(0, 1, shape) if spec.dtype.kind == "f" else random.integers(0, 9, shape)).astype(spec.dtype)
        for spec, shape in pairs
    ]


def test_the_file_is_kept_and_taken_by_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_keras(onnx_kinds.mlp())
    shapes = open_shapes(model.signature)
    first = _onnx.converted(Subject(model, "/CPU:0", tmp_path), shapes)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(_onnx, "_convert", lambda *_: pytest.fail("converted again"))
    assert _onnx.converted(Subject(model, "/CPU:0", tmp_path), shapes) == first
    other = from_keras(onnx_kinds.mlp())
    with pytest.raises(pytest.fail.Exception):
        _onnx.converted(Subject(other, "/CPU:0", tmp_path), shapes)


def test_without_the_package_it_is_unfit_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    subject = Subject(from_keras(onnx_kinds.mlp()), "/CPU:0")
    with pytest.raises(Unfit, match=r"pip install 'keras-solo\[onnx\]'"):
        WAYS["onnx"].build(subject, Bucket(1))
