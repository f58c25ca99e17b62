"""The plan as a whole, on real models: what it chooses, runs, publishes, remembers and refuses."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deployments.candidates import Unfit, all_candidates
from deployments.candidates.session import Session
from deployments.errors import InvalidInput, LoadError, NotReady
from deployments.loading import from_keras
from deployments.planning import search
from deployments.planning.plan import Plan, PlanOptions, make_plan
from deployments.tensors import Rows
from tests.support import architectures

L = keras.layers
QUICK = PlanOptions(allowed_batch_sizes=(1, 4), budget_s=8.0)


def options(**changes: Any) -> PlanOptions:
    return PlanOptions(**{"allowed_batch_sizes": (1, 4), "budget_s": 8.0, **changes})


@pytest.fixture(scope="module")
def mlp() -> Any:
    return architectures.build("mlp")


@pytest.fixture(scope="module")
def plan(mlp: Any) -> Plan:
    return make_plan(from_keras(mlp), options())


def test_every_count_up_to_the_largest_is_answered_as_the_model_does(plan: Plan, mlp: Any) -> None:
    x = np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)
    for count in (1, 2, 3, 4):
        (got,) = plan.run((x[:count],), count)
        assert got.shape == (count, 10)
        np.testing.assert_allclose(got, mlp(x[:count]).numpy(), atol=1e-5)


def test_arrays_that_are_views_read_only_and_unaligned_are_taken(plan: Plan, mlp: Any) -> None:
    x = np.random.default_rng(2).standard_normal((1, 16)).astype(np.float32)
    body = b"?" + x.tobytes()
    view = np.frombuffer(body, np.float32, offset=1).reshape(1, 16)
    assert not view.flags.writeable
    np.testing.assert_allclose(plan.run((view,), 1)[0], mlp(x).numpy(), atol=1e-5)
    np.testing.assert_allclose(plan.run((x[:, ::-1],), 1)[0], mlp(x[:, ::-1].copy()).numpy(), atol=1e-5)


def test_outputs_are_the_callers_to_keep(plan: Plan) -> None:
    first, second = np.zeros((1, 16), np.float32), np.ones((1, 16), np.float32)
    kept = plan.run((first,), 1)[0]
    before = kept.copy()
    for _ in range(50):
        plan.run((second,), 1)
    np.testing.assert_array_equal(kept, before)


def test_nothing_is_traced_after_readiness(plan: Plan) -> None:
    for count in (1, 2, 3, 4, 1):
        plan.run((np.zeros((count, 16), np.float32),), count)
    assert plan.report()["traces_after_ready"] == 0


def test_the_counter_counts(mlp: Any) -> None:
    fresh = make_plan(from_keras(mlp), options(budget_s=0, only=("tf.function",)))
    before = fresh.subject.traces
    assert before > 0, "planning traced the model"
    fresh.subject.traces += 1
    assert fresh.report()["traces_after_ready"] == 1


def test_report_has_the_published_form(plan: Plan) -> None:
    report = plan.report()
    assert report["chosen"].keys() == report["candidates"].keys() == {"1", "4"}
    names = {candidate.name for candidate in all_candidates()}
    for bucket, rows in report["candidates"].items():
        assert {row["name"] for row in rows} == names
        assert all(row.keys() == {"name", "p50_ms", "p99_ms", "max_abs_error", "status"} for row in rows)
        chosen = next(row for row in rows if row["name"] == report["chosen"][bucket])
        assert chosen["status"] == "ok"
        assert 0 < chosen["p50_ms"] <= chosen["p99_ms"]
        assert chosen["max_abs_error"] < 1e-5
    assert (report["device"], report["precision"], report["from_cache"]) == ("CPU", "float32", False)
    assert report["memory"]["host_after_mib"] > 0
    assert report["factor_over_predict"] > 10, "model.predict costs tens of milliseconds whatever the model"


def test_the_fastest_is_chosen_within_the_documented_margin(plan: Plan) -> None:
    for bucket, rows in plan.report()["candidates"].items():
        timed = [row["p50_ms"] for row in rows if row["status"] == "ok" and row["p50_ms"] is not None]
        chosen = next(row for row in rows if row["name"] == plan.report()["chosen"][bucket])
        assert chosen["p50_ms"] <= 1.05 * min(timed) + 1e-5


def test_expected_times_are_the_measured_ones(plan: Plan) -> None:
    report = plan.report()
    for count, bucket in ((1, "1"), (2, "4"), (4, "4")):
        row = next(row for row in report["candidates"][bucket] if row["name"] == report["chosen"][bucket])
        assert plan.expected_s(count) == pytest.approx(row["p50_ms"] / 1e3, rel=0.01)


def test_inline_follows_the_bound(mlp: Any) -> None:
    model = from_keras(mlp)
    assert make_plan(model, options(budget_s=0, inline_bound_ms=1e6)).is_inline(1)
    assert not make_plan(model, options(budget_s=0, inline_bound_ms=1e-6)).is_inline(1)


def test_a_budget_of_zero_takes_the_first_that_verifies(mlp: Any) -> None:
    report = make_plan(from_keras(mlp), options(budget_s=0)).report()
    for rows in report["candidates"].values():
        assert [row["status"] for row in rows].count("ok") == 1
        assert all("budget" in row["status"] or "GPUs only" in row["status"] for row in rows if row["status"] != "ok")


def test_only_the_named_candidates_are_tried(mlp: Any) -> None:
    report = make_plan(from_keras(mlp), options(only=("eager", "session"))).report()
    assert {row["name"] for row in report["candidates"]["1"]} == {"eager", "session"}
    with pytest.raises(LoadError, match="unknown candidates"):
        make_plan(from_keras(mlp), options(only=("sesion",)))


@pytest.mark.parametrize("sizes", [(), (0,), (4, 1), (1, 1)])
def test_batch_sizes_that_do_not_ascend_are_refused(mlp: Any, sizes: tuple[int, ...]) -> None:
    with pytest.raises(LoadError, match="allowed_batch_sizes"):
        make_plan(from_keras(mlp), options(allowed_batch_sizes=sizes))


def test_a_closed_plan_refuses_instead_of_crashing(mlp: Any) -> None:
    fresh = make_plan(from_keras(mlp), options(budget_s=0))
    fresh.close()
    with pytest.raises(NotReady):
        fresh.run((np.zeros((1, 16), np.float32),), 1)
    fresh.close()


def test_what_is_not_chosen_is_freed_and_so_is_the_model(mlp: Any) -> None:
    model = from_keras(architectures.build("mlp"))
    fresh = make_plan(model, options(only=("session-single", "session", "litert")))
    assert fresh.model is None, "frozen candidates need no variables"
    watched = weakref.ref(model)
    del model
    gc.collect()
    assert watched() is None
    assert len({id(trial.runner) for trial in fresh.chosen.values()}) <= 2
    assert fresh.run((np.zeros((1, 16), np.float32),), 1)[0].shape == (1, 10)


def test_a_model_that_runs_on_its_variables_survives_its_callers_reference() -> None:
    model = architectures.build("mlp")
    x = np.ones((1, 16), np.float32)
    want = model(x).numpy()
    loaded = from_keras(model)
    for name in ("eager", "tf.function", "tf.function-direct", "xla", "xla-direct"):
        fresh = make_plan(loaded, options(budget_s=0, only=(name,), allowed_batch_sizes=(1,)))
        assert fresh.model is loaded
        np.testing.assert_allclose(fresh.run((x,), 1)[0], want, atol=1e-5)


class TestCache:
    def test_a_second_start_skips_the_timing_and_answers_alike(
        self, mlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timed: list[int] = []
        time_trials = search.time_trials
        monkeypatch.setattr(search, "time_trials", lambda *args: (timed.append(len(args[0])), time_trials(*args)))
        model = from_keras(mlp)
        # Few ways and time enough: a plan whose budget ran out would be carried on instead.
        wanted = options(cache_dir=tmp_path, budget_s=60.0, only=("session", "tf.function"))
        first = make_plan(model, wanted)
        assert timed
        timed.clear()
        second = make_plan(model, wanted)
        assert not timed
        assert second.report()["from_cache"]
        assert "not timed again" in second.summary()
        for part in ("chosen", "candidates", "predict_p50_ms", "inline"):
            assert second.report()[part] == first.report()[part]
        x = np.ones((3, 16), np.float32)
        np.testing.assert_allclose(second.run((x,), 3)[0], mlp(x).numpy(), atol=1e-5)

    def test_another_batch_size_or_model_plans_anew(self, mlp: Any, tmp_path: Path) -> None:
        make_plan(from_keras(mlp), options(cache_dir=tmp_path, only=("session",)))
        for model, changes in ((mlp, {"allowed_batch_sizes": (1, 2)}), (architectures.build("custom"), {})):
            fresh = make_plan(from_keras(model), options(cache_dir=tmp_path, only=("session",), **changes))
            assert not fresh.report()["from_cache"]

    def test_a_kept_choice_that_no_longer_verifies_is_planned_anew(
        self, mlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = from_keras(mlp)
        only = ("session", "session-caller")
        first = make_plan(model, options(cache_dir=tmp_path, only=only))
        broken = first.report()["chosen"]["1"]
        build = Session.build

        def failing(self: Any, *arguments: Any) -> Any:
            if self.name == broken:
                raise Unfit("gone with an upgrade")
            return build(self, *arguments)

        monkeypatch.setattr(Session, "build", failing)
        second = make_plan(model, options(cache_dir=tmp_path, only=only))
        assert not second.report()["from_cache"]
        assert set(second.report()["chosen"].values()) == set(only) - {broken}


class TestLengths:
    def test_open_lengths_run_shape_polymorphic_candidates_only(self) -> None:
        model = architectures.build("any_length")
        plan = make_plan(from_keras(model), options(allowed_batch_sizes=(1, 2), budget_s=60.0))
        statuses = {row["name"]: row["status"] for row in plan.report()["candidates"]["1"]}
        assert "allowed_lengths" in statuses["xla"]
        for length in (1, 5, 31):
            tokens = np.arange(length, dtype=np.int32)[None] % 40
            np.testing.assert_allclose(plan.run((tokens,), 1)[0], model(tokens).numpy(), atol=1e-5)
        assert plan.lengths is None
        assert plan.traces_after_ready == 0

    def test_allowed_lengths_make_every_candidate_possible(self) -> None:
        model = architectures.build("any_length")
        only = ("xla", "session-single")
        wanted = options(allowed_batch_sizes=(1, 2), allowed_lengths=(4, 8), only=only, budget_s=60.0)
        plan = make_plan(from_keras(model), wanted)
        assert plan.report()["chosen"].keys() == {"1x4", "2x4", "1x8", "2x8"}
        assert all(row["status"] == "ok" for row in plan.report()["candidates"]["1x4"])
        assert plan.lengths is not None
        tokens = np.array([[3, 1, 2]], np.int32)
        rows = Rows((tokens,), 1, ((3,),))
        padded = plan.lengths.pad(rows)
        (got,) = plan.lengths.cut(plan.run(padded.arrays, 1), rows)
        np.testing.assert_allclose(got, model(np.array([[3, 1, 2, 0]], np.int32)).numpy()[:, :3], atol=1e-5)
        with pytest.raises(InvalidInput, match="'tokens': length 3"):
            plan.run((tokens,), 1)
        assert plan.traces_after_ready == 0


class TestRefusals:
    def test_rows_that_influence_each_other_need_a_batch_size_of_one(self) -> None:
        class Centred(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x - tf.reduce_mean(x, axis=0, keepdims=True)

        model = from_keras(keras.Sequential([L.Input((4,)), L.Dense(3), Centred()]))
        with pytest.raises(LoadError, match=r"rows of one batch influence each other.*allowed_batch_sizes to \[1\]"):
            make_plan(model, QUICK)
        assert make_plan(model, options(allowed_batch_sizes=(1,), budget_s=0)).batch_sizes == (1,)

    def test_an_output_without_the_batch_axis_is_refused(self) -> None:
        class Summed(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return tf.reduce_sum(x)

        with pytest.raises(LoadError, match="batch"):
            make_plan(from_keras(keras.Sequential([L.Input((4,)), Summed()])), QUICK)

    def test_a_model_that_refuses_every_sample_says_why(self, caplog: pytest.LogCaptureFixture) -> None:
        class Refusing(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                with tf.control_dependencies([tf.debugging.assert_greater(x, 1e9, message="only huge numbers")]):
                    return tf.identity(x)

        plan = make_plan(from_keras(keras.Sequential([L.Input((4,)), Refusing()])), QUICK)
        assert re.search(r"refuses every sample input.*InvalidArgumentError", caplog.text)
        assert all(name == "eager" for name in plan.report()["chosen"].values())

    def test_nothing_correct_fails_with_the_table_of_tries(self) -> None:
        class TwoFaced(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x if tf.executing_eagerly() else x + 1.0

        model = from_keras(keras.Sequential([L.Input((4,)), TwoFaced()]))
        with pytest.raises(LoadError) as caught:
            make_plan(model, options(only=("session", "tf.function", "xla")))
        text = str(caught.value)
        assert "no candidate runs the model correctly" in text
        assert all(f"{name}: differs: output" in text for name in ("session", "tf.function", "xla"))
        assert set(make_plan(model, QUICK).report()["chosen"].values()) == {"eager"}


def test_a_model_that_writes_its_state_keeps_its_variables() -> None:
    class Counting(keras.layers.Layer):
        def build(self, _shape: Any) -> None:
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

        def call(self, x: Any) -> Any:
            self.calls.assign_add(1.0)
            return 2.0 * x

    layer = Counting()
    plan = make_plan(from_keras(keras.Sequential([L.Input((4,)), layer])), options())
    statuses = {row["name"]: row["status"] for row in plan.report()["candidates"]["1"]}
    assert all("writes its own state" in statuses[name] for name in ("session", "session-single", "litert"))
    before = float(layer.calls.numpy())
    plan.run((np.ones((1, 4), np.float32),), 1)
    assert float(layer.calls.numpy()) == before + 1


def test_a_random_model_is_served_without_frozen_randomness() -> None:
    class Noisy(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x: Any) -> Any:
            return x + keras.random.normal(tf.shape(x), seed=self.seeds)

    plan = make_plan(from_keras(keras.Sequential([L.Input((4,)), Noisy()])), options())
    rows = plan.report()["candidates"]["1"]
    assert all("random" in row["status"] for row in rows if row["name"].startswith(("session", "litert")))
    x = (np.zeros((1, 4), np.float32),)
    assert not np.array_equal(plan.run(x, 1)[0], plan.run(x, 1)[0])


def test_lower_precision_is_held_against_the_exact_model(mlp: Any) -> None:
    lowered = architectures.build("mlp")
    for layer in lowered._flatten_layers():
        layer.dtype_policy = "mixed_bfloat16"
    exact, model = from_keras(mlp), from_keras(lowered)
    report = make_plan(model, options(precision="mixed_bfloat16", budget_s=0), exact).report()
    error = report["candidates"]["1"][0]["max_abs_error"]
    assert 1e-5 < error < report["tolerance"], "bfloat16 has 8 bits of mantissa"
    with pytest.raises(LoadError, match="is off by"):
        make_plan(model, options(precision="mixed_bfloat16", tolerance=1e-6, budget_s=0), exact)


def test_progress_is_told_from_start_to_end(mlp: Any) -> None:
    heard: list[tuple[float | None, str]] = []
    make_plan(from_keras(mlp), options(only=("session",), progress=lambda *told: heard.append(told)))
    assert heard[-1][0] == 1.0
    assert any("session" in text for _, text in heard)
