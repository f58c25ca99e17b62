"""Plans that may choose: the CPU beside a GPU, and the precision; devices are simulated by ways of known speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments import candidates
from deployments.candidates import Runner, candidates_for
from deployments.device import ledger
from deployments.loading import from_keras
from deployments.planning.plan import PlanOptions, make_plan
from tests.support import architectures

GPU = "/GPU:0"
"""Where there is none, TensorFlow runs what is meant for it on the CPU."""


class Way:
    """Runs the model itself; on "GPUs" a call takes `gpu_ms` whatever its rows, on CPUs `cpu_ms` a row."""

    name, order, family, keeps_variables = "way", 1, "way", False

    def __init__(self, gpu_ms: float, cpu_ms: float) -> None:
        self.gpu_ms, self.cpu_ms = gpu_ms, cpu_ms

    def build(self, subject: Any, bucket: Any) -> Runner:
        taken_s = (self.gpu_ms if subject.is_gpu else self.cpu_ms * bucket.batch_size) / 1e3
        call = subject.model.call

        def run(arrays: Any) -> Any:
            time.sleep(taken_s)
            return tuple(output.numpy() for output in call(*arrays))

        return Runner(run, is_open=False)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what plans an MLP for a "GPU" with a way of these speeds."""
    monkeypatch.setattr(ledger, "read", lambda _device: ledger.Reading(0, 0, 0))
    model = from_keras(architectures.build("mlp"))

    def plan(gpu_ms: float, cpu_ms: float, **more: Any) -> Any:
        monkeypatch.setattr(candidates, "all_candidates", lambda: [Way(gpu_ms, cpu_ms)])
        options = {"allowed_batch_sizes": (1, 16), "budget_s": 1.5, "device": GPU, "tries_host": True, **more}
        return make_plan(model, PlanOptions(**options))

    return plan


def test_each_batch_size_takes_the_faster_device(planned: Callable[..., Any]) -> None:
    report = planned(gpu_ms=20, cpu_ms=4).report()
    assert report["chosen"] == {"1": "cpu:way", "16": "way"}
    assert report["devices"] == {"1": "cpu", "16": "gpu"}
    assert report["fastest_ms"]["1"]["gpu"] > 2 * report["fastest_ms"]["1"]["cpu"]
    assert report["fastest_ms"]["16"]["gpu"] * 2 < report["fastest_ms"]["16"]["cpu"]
    assert report["advice"] is None


def test_a_gpu_that_never_wins_is_said_to_be_free(planned: Callable[..., Any]) -> None:
    plan = planned(gpu_ms=20, cpu_ms=0.2)
    assert plan.report()["devices"] == {"1": "cpu", "16": "cpu"}
    assert plan.runs_on_host
    assert plan.report()["advice"] == (
        "the GPU is not faster at any batch size: num_gpus: 0 serves as fast and leaves it to others"
    )
    assert plan.report()["advice"] in plan.summary()


def test_a_gpu_that_was_asked_for_is_kept(planned: Callable[..., Any]) -> None:
    report = planned(gpu_ms=30, cpu_ms=1, tries_host=False).report()
    assert report["devices"] == {"1": "gpu", "16": "gpu"}
    assert {row["name"] for rows in report["candidates"].values() for row in rows} == {"way"}
    assert report["advice"] is None


def test_a_kept_plan_keeps_the_devices(planned: Callable[..., Any], tmp_path: Path) -> None:
    first = planned(gpu_ms=20, cpu_ms=4, cache_dir=tmp_path).report()
    again = planned(gpu_ms=20, cpu_ms=4, cache_dir=tmp_path).report()
    assert (first["from_cache"], again["from_cache"]) == (False, True)
    assert again["devices"] == first["devices"] == {"1": "cpu", "16": "gpu"}


def test_where_one_way_on_the_cpu_is_hopeless_no_other_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "read", lambda _device: ledger.Reading(0, 0, 0))
    ways = [Way(gpu_ms=1, cpu_ms=500), Way(gpu_ms=1, cpu_ms=500)]
    ways[1].name = "another"
    built: list[tuple[str, bool]] = []
    for way in ways:
        build = way.build

        def counted(subject: Any, bucket: Any, build: Any = build, name: str = way.name) -> Runner:
            built.append((name, subject.is_gpu))
            return build(subject, bucket)

        way.build = counted  # type: ignore[method-assign]
    monkeypatch.setattr(candidates, "all_candidates", lambda: ways)
    options = PlanOptions((1,), 4.0, device=GPU, tries_host=True)
    report = make_plan(from_keras(architectures.build("mlp")), options).report()
    assert sorted(built) == [("another", False), ("another", True), ("way", True)]
    statuses = {row["name"]: row["status"] for row in report["candidates"]["1"]}
    assert statuses["cpu:way"].endswith("times as long by cpu:another")


def test_which_ways_there_are_where() -> None:
    on_cpu = {each.name for each in candidates_for(is_gpu=False, tries_host=True)}
    assert not [name for name in on_cpu if ":" in name]
    on_gpu = {each.name for each in candidates_for(is_gpu=True, tries_host=True, tries_precisions=True)}
    assert {"cpu:litert", "cpu:session-xla", "tf32:onnx-cuda-graph", "mixed_float16:onnx-cuda-graph-nhwc"} <= on_gpu
    assert {"mixed_bfloat16:session-xla", "onnx-cuda-graph"} <= on_gpu
    assert not {"cpu:onnx-cuda-graph", "cpu:eager", "tf32:onnx-cuda"} & on_gpu


def test_the_precision_is_chosen_among_those_near_enough() -> None:
    from deployments import loading
    from deployments.source import Source

    source = Source("bench.models:mlp")
    only = ("session-single", "mixed_float16:session-single", "mixed_bfloat16:session-single")
    options = PlanOptions((1, 4), 8.0, precision="auto", only=only)
    plan = make_plan(loading.load(source), options, load=lambda precision: loading.load(source, precision))
    report = plan.report()
    rows = {row["name"]: row for row in report["candidates"]["1"]}
    assert rows.keys() == set(only)
    assert rows["session-single"]["max_abs_error"] < 1e-6 < rows["mixed_bfloat16:session-single"]["max_abs_error"]
    assert (report["precision"], report["tolerance"]) == ("auto", 1e-2)
    assert report["precisions"]["1"] in ("float32", "mixed_float16", "mixed_bfloat16")
    assert plan.traces_after_ready == 0


def test_a_precision_beyond_the_tolerance_is_not_taken() -> None:
    from deployments import loading
    from deployments.source import Source

    source = Source("bench.models:mlp")
    only = ("session-single", "mixed_bfloat16:session-single")
    options = PlanOptions((1,), 8.0, precision="auto", tolerance=1e-6, only=only)
    plan = make_plan(loading.load(source), options, load=lambda precision: loading.load(source, precision))
    statuses = {row["name"]: row["status"] for row in plan.report()["candidates"]["1"]}
    assert statuses["mixed_bfloat16:session-single"].startswith("differs")
    assert plan.report()["chosen"] == {"1": "session-single"}
