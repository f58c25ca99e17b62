"""The plan's parts on their own: samples, verification, timing, selection."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from deployments.candidates import Runner
from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._subject import Subject
from deployments.loading import from_keras
from deployments.planning import timing
from deployments.planning.samples import samples, tiled
from deployments.planning.selection import choose
from deployments.planning.timing import ENOUGH_CALLS, FEWEST_TURNS, time_trials
from deployments.planning.trials import Trial
from deployments.planning.verification import Differs, largest_error
from deployments.planning.vocabularies import vocabularies
from deployments.tensors import STRING, Arrays, Signature, TensorSpec
from tests.support import architectures

ONE = Bucket(1)


def spec(dtype: Any, *inner: int, name: str = "x") -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), (None, *inner))


class Stub:
    """A candidate of which only name and order matter."""

    order = 1
    family = "stub"
    keeps_variables = False

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, subject: Any, bucket: Bucket) -> Runner:
        raise NotImplementedError


def trial(name: str, *times_s: float, bucket: Bucket = ONE, status: str = "ok") -> Trial:
    return Trial(Stub(name), bucket, Runner(lambda arrays: arrays, is_open=True), status, 0.0, list(times_s))


class TestSamples:
    def make(self, *inputs: TensorSpec, vocabulary: dict[int, int] | None = None, seed: int = 0) -> list[Arrays]:
        signature = Signature(inputs, ())
        shapes = Bucket(4).shapes(signature)
        return list(samples(signature, shapes, vocabulary or {}, (), seed))

    def test_they_fit_the_signature_and_are_the_same_for_the_same_seed(self) -> None:
        inputs = (spec("float32", 3), spec("int64", 2), spec("bool", 1), spec(STRING, 2), spec("uint8", 8, 8, 3))
        first, again, other = self.make(*inputs), self.make(*inputs), self.make(*inputs, seed=1)
        for one in inputs:
            for sample in first:
                one.check(sample[inputs.index(one)])
        assert all((a == b).all() for a, b in zip(first[0], again[0], strict=True))
        assert not (first[0][0] == other[0][0]).all()

    def test_floats_vary_within_and_between_rows(self) -> None:
        (x,) = self.make(spec("float32", 1000))[0]
        assert x.std(axis=1).min() > 0.1
        assert len({round(float(row.mean()), 3) for row in x}) == 4

    def test_images_have_structure_and_one_row_of_pixels_to_255(self) -> None:
        (x,) = self.make(spec("float32", 50, 50, 3))[0]
        assert 100 < x.max() <= 255
        smooth = x[0] - x[0].mean()
        neighbours = (smooth[:, 1:] * smooth[:, :-1]).mean() / (smooth**2).mean()
        assert neighbours > 0.5, "noise would be near 0"

    def test_indices_stay_within_the_vocabulary_whatever_the_dtype(self) -> None:
        for dtype in ("int32", "int64", "float32"):
            (x,) = self.make(spec(dtype, 500), vocabulary={0: 7})[0]
            assert set(np.unique(x)) == set(range(7))

    def test_later_samples_are_tamer(self) -> None:
        _, binary, zeros = (sample[0] for sample in self.make(spec("float32", 100)))
        assert set(np.unique(binary)) == {0, 1}
        assert not zeros.any()

    def test_tiling_repeats_rows_in_order(self) -> None:
        (x,) = tiled((np.arange(4)[:, None],), 6)
        assert x[:, 0].tolist() == [0, 1, 2, 3, 0, 1]


class TestVocabularies:
    @pytest.mark.parametrize(("name", "size"), [("embedding", 23), ("transformer", 50)])
    def test_they_are_read_from_the_graph(self, name: str, size: int) -> None:
        subject = Subject(from_keras(architectures.build(name)), "/CPU:0")
        assert vocabularies(subject, subject.concrete(open_shapes(subject.signature))) == {0: size}

    def test_a_model_without_lookups_has_none(self) -> None:
        subject = Subject(from_keras(architectures.build("mlp")), "/CPU:0")
        assert vocabularies(subject, subject.concrete(open_shapes(subject.signature))) == {}


class TestVerification:
    signature = Signature((), (TensorSpec("y", np.dtype("float32"), (None, None)),))

    def error(self, got: Any, want: Any, tolerance: float = 1e-3) -> float:
        return largest_error(self.signature, (np.asarray(got),), (np.asarray(want),), tolerance)

    def test_the_limit_grows_with_the_outputs(self) -> None:
        large = np.array([[1000.0, 0.0]], np.float32)
        assert self.error(large + np.float32(0.5), large) == pytest.approx(0.5)
        with pytest.raises(Differs, match=r"off by 1\.5, more than 1"):
            self.error(large + np.float32(1.5), large)

    def test_small_outputs_are_not_waved_through(self) -> None:
        small = np.full((1, 3), 1e-2, np.float32)
        with pytest.raises(Differs) as caught:
            self.error(small * 1.01, small)
        assert caught.value.error == pytest.approx(1e-4, rel=0.01)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_nan_and_infinity_must_stand_where_the_reference_has_them(self, bad: float) -> None:
        same = np.array([[1.0, bad]], np.float32)
        assert self.error(same, same) == 0.0
        with pytest.raises(Differs, match="NaN or infinity"):
            self.error(same, np.array([[1.0, 1.0]], np.float32))
        with pytest.raises(Differs, match="NaN or infinity"):
            self.error(np.array([[1.0, 1.0]], np.float32), same)

    def test_whole_numbers_and_strings_must_be_equal(self) -> None:
        assert self.error(np.array([[b"a"]], object), np.array([[b"a"]], object)) == 0.0
        with pytest.raises(Differs, match="1 of 2 values wrong"):
            self.error(np.array([[1, 2]]), np.array([[1, 3]]))

    def test_shape_dtype_and_number_of_outputs_count(self) -> None:
        one = np.ones((1, 2), np.float32)
        with pytest.raises(Differs, match="instead of"):
            self.error(np.ones((2, 1), np.float32), one)
        with pytest.raises(Differs, match="instead of"):
            self.error(np.ones((1, 2)), one)
        with pytest.raises(Differs, match="0 outputs instead of 1"):
            largest_error(self.signature, (), (one,), 1.0)


class TestSelection:
    def test_the_smallest_median_wins_and_near_ties_go_to_the_smaller_tail(self) -> None:
        steady, spiky = trial("steady", *[1.02] * 100), trial("spiky", *[1.0] * 98, 9.0, 9.0)
        slow = trial("slow", *[1.2] * 100)
        assert choose({ONE: [spiky, slow, steady]})[ONE] is steady

    def test_what_is_not_ok_is_never_chosen(self) -> None:
        wrong, right = trial("wrong", 1.0, status="differs"), trial("right", 5.0)
        assert choose({ONE: [wrong, right]})[ONE] is right

    def test_one_candidate_for_all_where_it_costs_little(self) -> None:
        two = Bucket(2)
        table = {
            ONE: [trial("a", 1.0), trial("b", 1.04)],
            two: [trial("a", 1.2, bucket=two), trial("b", 1.0, bucket=two)],
        }
        assert {t.name for t in choose(table).values()} == {"b"}

    def test_and_each_its_own_where_it_costs_more(self) -> None:
        two = Bucket(2)
        table = {
            ONE: [trial("a", 1.0), trial("b", 1.5)],
            two: [trial("a", 1.5, bucket=two), trial("b", 1.0, bucket=two)],
        }
        assert [t.name for t in choose(table).values()] == ["a", "b"]


class TestTiming:
    def test_every_trial_gets_its_turns_even_when_late(self) -> None:
        calls = {"a": 0, "b": 0}

        def counting(name: str) -> Trial:
            def run(arrays: Arrays) -> Arrays:
                calls[name] += 1
                time.sleep(0.003)
                return arrays

            return Trial(Stub(name), ONE, Runner(run, is_open=True))

        trials = [counting("a"), counting("b")]
        time_trials(trials, (), time.monotonic() - 1.0)
        assert calls == {"a": 2 * FEWEST_TURNS, "b": 2 * FEWEST_TURNS}, "each turn's first call is not counted"
        assert all(len(one.times_s) == FEWEST_TURNS and one.p50_s >= 0.003 for one in trials)

    def test_it_ends_when_there_is_enough_and_early_for_the_hopeless(self) -> None:
        fast = Trial(Stub("fast"), ONE, Runner(lambda arrays: arrays, is_open=True))

        def sleeping(arrays: Arrays) -> Arrays:
            time.sleep(0.02)
            return arrays

        slow = Trial(Stub("slow"), ONE, Runner(sleeping, is_open=True))
        time_trials([fast, slow], (), time.monotonic() + 60.0)
        assert len(slow.times_s) == 1
        assert FEWEST_TURNS <= len(fast.times_s) <= ENOUGH_CALLS + 50

    @pytest.mark.parametrize("every", [1, 3])
    def test_what_other_processes_took_is_not_the_candidates(self, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A third of the calls lose the core for 5 ms; where all do, that is what a call takes here."""
        calls = preemptions = now_ns = 0

        def run(arrays: Arrays) -> Arrays:
            nonlocal calls, preemptions, now_ns
            calls += 1
            is_hit = calls % every == 0
            preemptions += is_hit
            now_ns += 5_000_000 if is_hit else 10_000
            return arrays

        monkeypatch.setattr(timing, "_preemptions", lambda: preemptions)
        monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns)
        hit = Trial(Stub("hit"), ONE, Runner(run, is_open=True))
        time_trials([hit], (), time.monotonic() + 60.0)
        assert max(hit.times_s) == pytest.approx(0.005)
        assert hit.p99_s == pytest.approx(10e-6 if every == 3 else 0.005)

    def test_the_system_says_when_it_took_the_core(self) -> None:
        """Two that are always busy on one core take turns."""
        core = min(os.sched_getaffinity(0))
        hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        own = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(hog.pid, {core})
            os.sched_setaffinity(threading.get_native_id(), {core})
            before, ends_s = timing._preemptions(), time.monotonic() + 10
            while timing._preemptions() == before:
                assert time.monotonic() < ends_s
        finally:
            os.sched_setaffinity(threading.get_native_id(), own)
            hog.kill()
            hog.wait()

    def test_failed_trials_are_left_alone(self) -> None:
        failed = Trial(Stub("failed"), ONE, None, "failed: Error")
        time_trials([failed, trial("ok")], (), time.monotonic())
        assert failed.times_s == []


def test_a_call_blocks_for_its_tail_but_not_for_other_processes_preemptions() -> None:
    assert trial("steady", *[1e-3] * 99, 3e-3).blocking_s <= 3e-3
    preempted = trial("preempted", *[1e-5] * 90, *[5e-3] * 10)
    assert preempted.p99_s == pytest.approx(5e-3)
    assert preempted.blocking_s == pytest.approx(1e-4)
