"""Tries every candidate in every bucket within the budget."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deployments.candidates import Candidate, candidates_for
from deployments.candidates._bucket import Bucket
from deployments.candidates._elsewhere import device_kind
from deployments.errors import LoadError
from deployments.planning.attempts import Attempts
from deployments.planning.options import PlanOptions
from deployments.planning.reference import Reference
from deployments.planning.selection import ONE_FOR_ALL
from deployments.planning.timing import HOPELESS, UTTERLY_HOPELESS, time_trials
from deployments.planning.trials import Trial

BUILDING_SHARE = 0.7
"""Of a bucket's time; the rest is for timing what was built."""
FIRST_BUCKET_SHARE = 0.6
"""Of the budget: tracing and freezing happen there, once for all buckets, and most requests are single."""
NEGLIGIBLE_S = 1e-3
"""What a slower candidate may lose by dispatch alone: a larger batch may still turn that round."""
SPENT = "skipped: the budget is spent"


class Search:
    """Tries candidates bucket by bucket; what failed or was hopeless in one bucket is not tried in the next."""

    def __init__(self, attempts: Attempts, reference: Reference, options: PlanOptions) -> None:
        self._attempts = attempts
        self._reference = reference
        self._progress = options.progress
        self._candidates = selected(options)
        self._is_gpu = options.is_gpu
        self._given_up: dict[str, str] = {}
        self._ends_s = time.monotonic() + options.budget_s

    def run(self, buckets: tuple[Bucket, ...]) -> dict[Bucket, list[Trial]]:
        """Return the table of trials; raises `LoadError` with what was tried where a bucket has none that is ok."""
        table: dict[Bucket, list[Trial]] = {}
        for index, bucket in enumerate(buckets):
            left = len(buckets) - index
            share = FIRST_BUCKET_SHARE if index == 0 and left > 1 else 1 / left
            table[bucket] = self._try_bucket(bucket, share * max(0.0, self._ends_s - time.monotonic()))
            self._learn(table[bucket])
            self._tell((index + 1) / len(buckets), f"batch size {bucket.key}: done")
        return table

    def _try_bucket(self, bucket: Bucket, share_s: float) -> list[Trial]:
        start_s = time.monotonic()
        trials: list[Trial] = []
        for candidate in self._candidates:
            ok = [trial for trial in trials if trial.is_ok]
            is_cheap = any(trial.candidate.family == candidate.family for trial in ok)
            share = 1.0 if is_cheap else BUILDING_SHARE
            is_late = time.monotonic() - start_s >= share * share_s
            hopeless = self._hopeless_on_host(candidate, ok)
            if hopeless is not None:
                trials.append(Trial(candidate, bucket, status=hopeless))
            else:
                trials.append(self._try(candidate, bucket, is_late and bool(ok)))
        if not any(trial.is_ok for trial in trials):
            raise LoadError(failure_text(bucket, trials))
        inputs = self._reference.cases(bucket)[0].inputs
        time_trials(trials, inputs, start_s + share_s, self._attempts.crashes.turn)
        _retire(trials)
        return trials

    def _hopeless_on_host(self, candidate: Candidate, ok: Sequence[Trial]) -> str | None:
        """Return why no further way on the CPU is tried beside a GPU: the first is far behind; None: it is tried."""
        if not self._is_gpu or device_kind(candidate.name, self._is_gpu) == "gpu":
            return None
        gpu_s = min((trial.first_s for trial in ok if self._is_on_gpu(trial)), default=float("inf"))
        on_host = [trial for trial in ok if not self._is_on_gpu(trial)]
        host = min(on_host, key=lambda trial: trial.first_s, default=None)
        if host is None or host.first_s < UTTERLY_HOPELESS * gpu_s:
            return None
        return f"skipped: the CPU takes {host.first_s / gpu_s:.0f} times as long by {host.name}"

    def _try(self, candidate: Candidate, bucket: Bucket, is_late: bool) -> Trial:
        if candidate.name in self._given_up:
            return Trial(candidate, bucket, status=self._given_up[candidate.name])
        if is_late and not self._attempts.is_built(candidate.name):
            return Trial(candidate, bucket, status=SPENT)
        self._tell(None, f"batch size {bucket.key}: {candidate.name}")
        return self._attempts.attempt(candidate, bucket)

    def _learn(self, trials: list[Trial]) -> None:
        """Put the fastest first for the next bucket, and give up on what failed or is far too slow.

        A GPU's ways are held against each other alone: more rows favour them, so that one may lose to the CPU at one
        row and win at 64. What the CPU has lost it does not win back.
        """
        best = min((trial for trial in trials if trial.is_ok), key=lambda trial: trial.p50_s)
        on_gpu = [trial for trial in trials if trial.times_s and self._is_on_gpu(trial)]
        best_on_gpu = min(on_gpu, key=lambda trial: trial.p50_s, default=best)
        speed = {trial.name: trial.p50_s for trial in trials}
        self._candidates.sort(key=lambda candidate: speed[candidate.name])
        for trial in trials:
            if trial.status == SPENT:
                continue
            rival = best_on_gpu if self._is_on_gpu(trial) else best
            if not trial.times_s:
                self._given_up.setdefault(trial.name, trial.status)
            elif trial.fastest_s > max(HOPELESS * rival.p50_s, rival.p50_s + NEGLIGIBLE_S):
                self._given_up[trial.name] = (
                    f"skipped: {trial.p50_s / rival.p50_s:.1f} times slower than {rival.name} "
                    f"at batch size {trial.bucket.key}"
                )

    def _is_on_gpu(self, trial: Trial) -> bool:
        return device_kind(trial.name, self._is_gpu) == "gpu"

    def _tell(self, fraction: float | None, text: str) -> None:
        if self._progress is not None:
            self._progress(fraction, text)


def _retire(trials: list[Trial]) -> None:
    """Close this bucket's own runners that cannot be chosen any more, before the next bucket builds its own."""
    best_s = min(trial.p50_s for trial in trials if trial.is_ok)
    for trial in trials:
        runner = trial.runner
        if runner is not None and not runner.is_open and trial.p50_s > ONE_FOR_ALL * best_s:
            runner.close()
            trial.runner = None


def ways(options: PlanOptions) -> list[Candidate]:
    """Return every candidate that there is for the options' device, the most promising first."""
    return candidates_for(options.is_gpu, options.tries_host, options.tries_precisions)


def selected(options: PlanOptions) -> list[Candidate]:
    """Return the candidates that the options allow; raises `LoadError` for a name that there is not."""
    candidates = ways(options)
    names = {candidate.name for candidate in candidates}
    unknown = sorted(set(options.only) - names)
    if unknown:
        raise LoadError(f"unknown candidates {unknown}; there are {sorted(names)}")
    return [candidate for candidate in candidates if not options.only or candidate.name in options.only]


def failure_text(bucket: Bucket, trials: list[Trial]) -> str:
    """Return the table of what was tried, for the error of a model that nothing runs correctly."""
    lines = "\n".join(f"  {trial.name}: {trial.status}" for trial in trials)
    return f"no candidate runs the model correctly at batch size {bucket.key}:\n{lines}"
