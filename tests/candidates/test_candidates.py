"""Every candidate on every architecture: it answers what the model answers, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

from deployments import candidates, events
from deployments.candidates import Unfit, all_candidates
from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.loading import Source, from_keras, load
from deployments.model import LoadedModel
from deployments.planning.attempts import Attempts
from deployments.planning.crashes import CrashLog
from deployments.planning.plan import PlanOptions, make_plan
from deployments.planning.reference import Reference
from tests.support import architectures, keras2_models

CANDIDATES = {candidate.name: candidate for candidate in all_candidates()}
NO_STRINGS = {"litert", "litert-threads", "xla", "xla-direct", "session-xla", "onnx", "onnx-threads"}
"""What cannot run the text model, each for its own reason."""


def test_every_candidate_of_the_issue_is_there() -> None:
    wanted = {"eager", "tf.function", "xla", "session", "session-single", "session-xla-clusters", "litert"}
    assert wanted <= CANDIDATES.keys()


@pytest.mark.parametrize(
    "text", ["import tensorflow.python.gone", "from tensorflow import GONE", "CANDIDATE = 1", "1 / 0"]
)
def test_a_file_that_cannot_be_imported_costs_its_own_candidates_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "broken_today.py").write_text(text)
    monkeypatch.setattr(events.log, "handlers", [caplog.handler])
    monkeypatch.setattr(events.log, "propagate", False)
    monkeypatch.setattr(candidates, "__path__", [*candidates.__path__, str(tmp_path)])
    candidates._candidates_of.cache_clear()
    for _ in range(2):
        assert {candidate.name for candidate in all_candidates()} == CANDIDATES.keys()
    assert [record.candidates for record in caplog.records] == ["deployments.candidates.broken_today"]
    assert caplog.messages[0].startswith("deployments.candidates.broken_today cannot be used with this TensorFlow: ")
    candidates._candidates_of.cache_clear()


KERAS_2 = {f"keras 2: {make.__name__}": make for make in keras2_models.PLANNED}


@pytest.fixture(params=[*architectures.SMALL, *KERAS_2])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    """Every architecture; those of Keras 2 out of a file, as they come."""
    if request.param in architectures.SMALL:
        return from_keras(architectures.build(request.param))
    tf_keras.utils.set_random_seed(1)
    KERAS_2[request.param]().save(tmp_path / "model.keras")
    return load(Source(str(tmp_path / "model.keras")))


def test_candidates_agree_with_the_model_alone_and_in_a_batch(model: LoadedModel) -> None:
    options = PlanOptions(allowed_batch_sizes=(1, 4))
    subject = Subject(model, options.device)
    attempts = Attempts(subject, Reference(subject, options), CrashLog(None, ""))
    for name, candidate in CANDIDATES.items():
        for size in (4, 1):
            trial = attempts.attempt(candidate, Bucket(size))
            if name.startswith("onnx-cuda"):
                assert trial.status == "unfit: runs on GPUs only"
                continue
            if name.startswith("onnx") and trial.status.startswith("unfit: needs "):
                continue  # optional packages
            if name == "session-xla-clusters" or (model.signature.has_strings and name in NO_STRINGS):
                assert trial.status.startswith(("unfit: ", "failed: ")), f"{name}: {trial.status}"
                continue
            assert trial.status == "ok", f"{name} at {size}: {trial.status}"
            assert trial.error is not None
            assert trial.error < 1e-4
            assert trial.runner is not None
            if not trial.runner.is_open:
                trial.runner.close()
                break  # compiling once more for one row takes seconds; the plans below do that


def test_the_served_answer_is_the_models_own(model: LoadedModel) -> None:
    """Inputs that the plan has not seen, in every count, through whatever was chosen."""
    plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1, 4), budget_s=3.0))
    for count in (1, 2, 3, 4):
        inputs = tuple(unseen(spec, count) for spec in model.signature.inputs)
        want = [np.asarray(output) for output in model.call(*inputs)]
        got = plan.run(inputs, count)
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)
            assert one.dtype == other.dtype
    assert plan.traces_after_ready == 0
    plan.close()


def unseen(spec: Any, count: int) -> Any:
    """Return rows for `spec` from another distribution than the plan's samples."""
    random = np.random.default_rng(count)
    shape = (count, *spec.shape[1:])
    if spec.dtype == object:
        return np.array(random.choice(np.array([b"the", b"model", b"nobody", b""], dtype=object), shape), dtype=object)
    if spec.dtype.kind in "iu":
        return random.integers(0, 20, shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    return random.gamma(1.0, 1.0, shape).astype(spec.dtype)


def test_a_missing_private_name_drops_the_candidate_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.candidates import _frozen, _session, direct

    monkeypatch.setattr(_frozen, "convert_variables_to_constants_v2", None)
    monkeypatch.setattr(_session, "TF_SessionRunCallable", None)
    monkeypatch.setattr(direct, "pywrap_tfe", None)
    model = from_keras(architectures.build("mlp"))
    plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1,), budget_s=5.0))
    statuses = {row["name"]: row["status"] for row in plan.report()["candidates"]["1"]}
    for name in ("session", "session-single", "session-caller", "session-xla", "tf.function-direct", "xla-direct"):
        assert statuses[name].startswith("unfit: this TensorFlow"), f"{name}: {statuses[name]}"
    assert statuses["tf.function"] in ("ok", "skipped: the budget is spent")


def test_tables_are_frozen_with_their_content() -> None:
    """A session has no access to the eager table, so an answer from a known word proves that it was rebuilt."""
    model = from_keras(architectures.build("text"))
    subject = Subject(model, "/CPU:0")
    runner = CANDIDATES["session-single"].build(subject, Bucket(1))
    known = np.array([[b"answers", b"the", b"model", "Zürich".encode(), b"nobody"]], dtype=object)
    np.testing.assert_allclose(runner.run((known,))[0], model.call(known)[0].numpy(), atol=1e-6)
    runner.close()


def test_models_too_large_for_a_graph_are_unfit_before_anything_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.candidates import _frozen

    monkeypatch.setattr(_frozen, "GRAPH_LIMIT_BYTES", 100)
    subject = Subject(from_keras(architectures.build("mlp")), "/CPU:0")
    for name in ("session", "session-single", "session-xla"):
        with pytest.raises(Unfit, match="do not fit into a graph"):
            CANDIDATES[name].build(subject, Bucket(1))


def test_many_weights_are_not_copied_into_the_code_of_every_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.candidates import session_xla

    monkeypatch.setattr(session_xla, "EMBEDDED_BYTES", 100)
    subject = Subject(from_keras(architectures.build("mlp")), "/CPU:0")
    with pytest.raises(Unfit, match="'xla-direct' shares them"):
        CANDIDATES["session-xla"].build(subject, Bucket(1))
    monkeypatch.setattr(session_xla, "EMBEDDED_BYTES", subject.weights_bytes)
    CANDIDATES["session-xla"].build(subject, Bucket(1)).close()


@pytest.mark.parametrize("name", ["session-single", "session", "litert", "xla-direct", "tf.function-direct"])
def test_a_candidate_may_be_called_from_several_threads(name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = from_keras(architectures.build("mlp"))
    runner = CANDIDATES[name].build(Subject(model, "/CPU:0"), Bucket(1))
    inputs = [np.full((1, 16), value, np.float32) for value in np.linspace(-2, 2, 64)]
    want = [model.call(x)[0].numpy() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda x: runner.run((x,))[0], inputs))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
