"""On a GPU: what the plan chose runs there, and stays there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployments.candidates import Unfit, all_candidates
from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._frozen import frozen
from deployments.candidates._session import SessionSettings
from deployments.candidates._subject import Subject
from deployments.loading import from_keras
from deployments.planning.plan import Plan, PlanOptions, make_plan
from tests.support import architectures

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="TensorFlow sees no GPU"),
]
GPU = "/GPU:0"


@pytest.fixture(scope="module")
def model() -> Any:
    # As `device.select` does: TensorFlow rounds float32's products to TensorFloat-32 unless told otherwise.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # Else TensorFlow takes the whole card at once, and ONNX Runtime, and whoever else is there, finds none.
    tf.config.experimental.set_memory_growth(tf.config.list_physical_devices("GPU")[0], True)
    with tf.device(GPU):
        return from_keras(architectures.build("cnn"))


@pytest.fixture(scope="module")
def plan(model: Any) -> Plan:
    return make_plan(model, PlanOptions(allowed_batch_sizes=(1, 8), budget_s=60.0, device=GPU, device_name="GPU"))


def test_weights_are_on_the_gpu(model: Any) -> None:
    assert all("GPU" in variable.device for variable in model.variables)


def test_the_plan_answers_as_the_model_does(plan: Plan, model: Any) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (8, 28, 28, 1)).astype(np.float32)
    want = model.call(x)[0].numpy()
    for count in (1, 5, 8):
        np.testing.assert_allclose(plan.run((x[:count],), count)[0], want[:count], atol=1e-4)


def test_candidates_for_cpus_alone_are_left_out(plan: Plan) -> None:
    statuses = {row["name"]: row["status"] for row in plan.report()["candidates"]["1"]}
    assert statuses["litert"] == "unfit: runs on CPUs only"


def test_a_traced_functions_outputs_are_on_the_gpu(model: Any) -> None:
    concrete = Subject(model, GPU).concrete(open_shapes(model.signature))
    with tf.device(GPU):
        assert "GPU" in concrete(tf.zeros((1, 28, 28, 1)))[0].device


def test_a_sessions_arithmetic_and_constants_run_on_the_gpu(model: Any) -> None:
    graph = frozen(Subject(model, GPU), open_shapes(model.signature))
    loaded, _ = graph.loaded
    metadata = tf.compat.v1.RunMetadata()
    trace = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    with tf.compat.v1.Session(graph=loaded, config=SessionSettings().config(is_gpu=True)) as session:
        feed = {graph.feeds[0]: np.zeros((1, 28, 28, 1), np.float32)}
        session.run(graph.fetches, feed, options=trace, run_metadata=metadata)
    placed = {node.node_name: stats.device for stats in metadata.step_stats.dev_stats for node in stats.node_stats}
    arithmetic = {name: device for name, device in placed.items() if "Conv2D" in name or "MatMul" in name}
    assert arithmetic
    assert all("GPU" in device for device in arithmetic.values()), arithmetic


def test_calls_do_not_copy_weights_to_the_gpu_again(plan: Plan, model: Any) -> None:
    """The allocator's peak during many calls stays within activations of what is resident."""
    x = (np.zeros((1, 28, 28, 1), np.float32),)
    plan.run(x, 1)
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    for _ in range(50):
        plan.run(x, 1)
    after = tf.config.experimental.get_memory_info("GPU:0")
    assert after["current"] <= before + 2**20


def test_the_ledger_has_the_gpus_numbers(plan: Plan) -> None:
    memory = plan.report()["memory"]
    assert memory["device_peak_mib"] >= memory["device_after_mib"] > 0


@pytest.mark.parametrize("name", [c.name for c in all_candidates()])
def test_every_candidate_agrees_on_the_gpu(name: str, model: Any) -> None:
    candidate = next(c for c in all_candidates() if c.name == name)
    if name.startswith(("litert", "onnx")) and "cuda" not in name:
        with pytest.raises(Unfit, match="runs on CPUs only"):
            candidate.build(Subject(model, GPU), Bucket(4))
        return
    runner = candidate.build(Subject(model, GPU), Bucket(4))
    x = np.random.default_rng(1).uniform(0, 1, (4, 28, 28, 1)).astype(np.float32)
    for _ in range(runner.warming_runs):
        got = runner.run((x,))[0]
    np.testing.assert_allclose(got, model.call(x)[0].numpy(), atol=1e-4 if ":" not in name else 5e-3)
    runner.close()
