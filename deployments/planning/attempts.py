"""Builds one candidate for one bucket and verifies it; whatever goes wrong becomes its status."""

from __future__ import annotations

import time

from deployments.candidates import Candidate, Runner, Unfit
from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.errors import LoadError
from deployments.planning.crashes import Crashes
from deployments.planning.reference import Reference
from deployments.planning.trials import Trial
from deployments.planning.verification import Differs

RANDOM = "skipped: the model draws random numbers, which a frozen copy of its state would repeat"
LONGEST_TEXT = 200


class Attempts:
    """Builds and verifies; an open runner is built once and serves every bucket."""

    def __init__(self, subject: Subject, reference: Reference, crashes: Crashes) -> None:
        self._subject = subject
        self._reference = reference
        self.crashes = crashes
        self._crashed = crashes.crashed()
        self._open: dict[str, Runner] = {}

    @property
    def is_gpu(self) -> bool:
        """Whether the device that is planned for is a GPU."""
        return self._subject.is_gpu

    def is_built(self, name: str) -> bool:
        """Return whether the candidate needs no building for a further bucket."""
        return name in self._open

    def attempt(self, candidate: Candidate, bucket: Bucket) -> Trial:
        """Return the candidate's trial in `bucket`: ok and warm, or with why not.

        Raises `LoadError` only where the model itself is at fault.
        """
        trial = Trial(candidate, bucket)
        if candidate.name in self._crashed:
            trial.status = f"skipped: {self._crashed[candidate.name]}"
            return trial
        if self._reference.is_random and not candidate.keeps_variables:
            trial.status = RANDOM
            return trial
        with self.crashes.trying(candidate.name):
            self._attempt(trial)
        return trial

    def _attempt(self, trial: Trial) -> None:
        try:
            trial.runner = self._runner(trial.candidate, trial.bucket)
            trial.error = self._verify(trial.runner, trial.bucket, trial.name)
            if self.is_gpu:
                trial.first_s = self._first_s(trial.runner, trial.bucket)
        except Unfit as unfit:
            trial.status = f"unfit: {unfit}"
        except Differs as differs:
            trial.status, trial.error = f"differs: {differs}", differs.error
        except LoadError:
            raise
        except Exception as error:  # whatever TensorFlow raises: the candidate is dropped, not the model
            trial.status = f"failed: {type(error).__name__}: {_first_line(error)}"

    def _runner(self, candidate: Candidate, bucket: Bucket) -> Runner:
        if candidate.name in self._open:
            return self._open[candidate.name]
        runner = candidate.build(self._subject, bucket)
        if runner.is_open:
            self._open[candidate.name] = runner
        return runner

    def _verify(self, runner: Runner, bucket: Bucket, name: str) -> float | None:
        """Return the largest absolute error over the bucket's cases and warming runs, None for a random model."""
        errors = [
            self._reference.check(case, outputs, name)
            for case in self._reference.cases(bucket)
            for outputs in (runner.run(case.inputs) for _ in range(runner.warming_runs))
        ]
        return max((error for error in errors if error is not None), default=None)

    def _first_s(self, runner: Runner, bucket: Bucket) -> float:
        """Return the time of one call, in seconds."""
        inputs = self._reference.cases(bucket)[0].inputs
        started_s = time.perf_counter()
        runner.run(inputs)
        return time.perf_counter() - started_s


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:LONGEST_TEXT]
