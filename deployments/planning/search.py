"""Tries every candidate in every bucket within the budget."""

from __future__ import annotations

import time

from deployments.candidates import Candidate, Runner, Unfit, all_candidates
from deployments.errors import LoadError
from deployments.planning.buckets import Bucket
from deployments.planning.options import PlanOptions
from deployments.planning.reference import Reference
from deployments.planning.subject import Subject
from deployments.planning.timing import HOPELESS, time_trials
from deployments.planning.trials import Trial
from deployments.planning.verification import Differs

BUILDING_SHARE = 0.7
"""Of a bucket's time; the rest is for timing what was built."""
FIRST_BUCKET_SHARE = 0.6
"""Of the budget: tracing and freezing happen there, once for all buckets, and most requests are single."""
NEGLIGIBLE_S = 1e-3
"""What a slower candidate may lose by dispatch alone: a larger batch may still turn that round."""
SPENT = "skipped: the budget is spent"


class Search:
    """Tries candidates bucket by bucket; what failed or was hopeless in one bucket is not tried in the next."""

    def __init__(self, subject: Subject, reference: Reference, options: PlanOptions, ends_s: float) -> None:
        self._subject = subject
        self._reference = reference
        self._options = options
        self._candidates = _selected(options)
        self._open: dict[str, Runner] = {}
        self._given_up: dict[str, str] = {}
        self._ends_s = ends_s

    def run(self, buckets: tuple[Bucket, ...]) -> dict[Bucket, list[Trial]]:
        """Return the table of trials; raises `LoadError` with what was tried where a bucket has none that is ok."""
        table: dict[Bucket, list[Trial]] = {}
        for index, bucket in enumerate(buckets):
            left = len(buckets) - index
            share = FIRST_BUCKET_SHARE if index == 0 and left > 1 else 1 / left
            table[bucket] = self._try_bucket(bucket, share * max(0.0, self._ends_s - time.monotonic()))
            self._learn(table[bucket])
            self._tell((index + 1) / len(buckets), f"batch size {bucket.batch_size} done")
        return table

    def _try_bucket(self, bucket: Bucket, share_s: float) -> list[Trial]:
        start_s = time.monotonic()
        trials: list[Trial] = []
        for candidate in self._candidates:
            late = time.monotonic() - start_s > BUILDING_SHARE * share_s
            has_one = any(trial.is_ok for trial in trials)
            trials.append(self._try(candidate, bucket, is_late=late and has_one))
        if not any(trial.is_ok for trial in trials):
            raise LoadError(failure_text(bucket, trials))
        time_trials(trials, self._reference.cases(bucket)[0].inputs, start_s + share_s)
        return trials

    def _try(self, candidate: Candidate, bucket: Bucket, is_late: bool) -> Trial:
        """Build and verify one candidate; every failure becomes its status."""
        trial = Trial(candidate, bucket)
        if candidate.name in self._given_up:
            trial.status = self._given_up[candidate.name]
        elif self._reference.is_random and not candidate.keeps_variables:
            trial.status = "skipped: the model draws random numbers, which a frozen copy of its state would repeat"
        elif is_late and candidate.name not in self._open:
            trial.status = SPENT
        else:
            self._tell(None, f"batch size {bucket.batch_size}: {candidate.name}")
            attempt(trial, self._build, self._reference)
        return trial

    def _build(self, candidate: Candidate, bucket: Bucket) -> Runner:
        if candidate.name in self._open:
            return self._open[candidate.name]
        runner = candidate.build(self._subject, bucket)
        if runner.is_open:
            self._open[candidate.name] = runner
        return runner

    def _learn(self, trials: list[Trial]) -> None:
        """Put the fastest first for the next bucket, and give up on what failed or is far too slow."""
        best = min((trial for trial in trials if trial.is_ok), key=lambda trial: trial.p50_s)
        speed = {trial.name: trial.p50_s for trial in trials}
        self._candidates.sort(key=lambda candidate: speed[candidate.name])
        for trial in trials:
            if trial.status == SPENT:
                continue
            if not trial.is_ok:
                self._given_up.setdefault(trial.name, trial.status)
            elif trial.fastest_s > max(HOPELESS * best.p50_s, best.p50_s + NEGLIGIBLE_S):
                factor = trial.p50_s / best.p50_s
                self._given_up[trial.name] = (
                    f"skipped: {factor:.1f} times slower than {best.name} at batch size {trial.bucket.batch_size}"
                )

    def _tell(self, fraction: float | None, text: str) -> None:
        if self._options.progress is not None:
            self._options.progress(fraction, text)


def attempt(trial: Trial, build: object, reference: Reference) -> None:
    """Build and verify `trial`, alone and as part of what its bucket's batch is, and note the outcome."""
    try:
        trial.runner = build(trial.candidate, trial.bucket)  # type: ignore[operator]
        errors = [
            reference.check(case, outputs)
            for case in reference.cases(trial.bucket)
            for outputs in (trial.runner.run(case.inputs) for _ in range(trial.runner.warming_runs))
        ]
        trial.error = max((error for error in errors if error is not None), default=None)
    except Unfit as unfit:
        trial.status = f"unfit: {unfit}"
    except Differs as differs:
        trial.status, trial.error = f"differs: {differs}", differs.error
    except LoadError:
        raise
    except Exception as error:  # whatever TensorFlow raises: the candidate is dropped, not the model
        trial.status = f"failed: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:200]


def _selected(options: PlanOptions) -> list[Candidate]:
    """Return the candidates that the options allow; raises `LoadError` for a name that there is not."""
    candidates = all_candidates()
    names = {candidate.name for candidate in candidates}
    unknown = sorted(set(options.only) - names)
    if unknown:
        raise LoadError(f"unknown candidates {unknown}; there are {sorted(names)}")
    return [candidate for candidate in candidates if not options.only or candidate.name in options.only]


def failure_text(bucket: Bucket, trials: list[Trial]) -> str:
    """Return the table of what was tried, for the error of a model that nothing runs correctly."""
    lines = "\n".join(f"  {trial.name}: {trial.status}" for trial in trials)
    return f"no candidate runs the model correctly at batch size {bucket.batch_size}:\n{lines}"
