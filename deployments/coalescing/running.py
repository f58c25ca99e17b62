"""Running a batch: join, run, cut; and if it fails, each member alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from deployments.coalescing.counters import Counters
from deployments.coalescing.entries import Entry, join_rows
from deployments.coalescing.splitting import Splitter
from deployments.errors import OutOfMemory, PredictionFailed, SoloError
from deployments.execution import Answer, Executor
from deployments.tensors import Arrays

FAILURE_LIMIT = 8
"""Predictions that fail in a row before the device is called broken: more than one client's bad inputs make."""


class _AllWithdrawn(Exception):
    """Every caller left between two runs of one batch, so the rest need not run."""


class Runner:
    """Runs batches on the executor, from whichever one thread holds the device at the moment."""

    def __init__(self, executor: Executor, splitter: Splitter, counters: Counters) -> None:
        self.executor = executor
        self.splitter = splitter
        self.counters = counters
        self.consecutive_failures = 0
        self.running_since_s: float | None = None
        """When the present call started (`time.monotonic`), None while there is none."""
        self.expected_s = 0.0
        """What the present call is expected to take."""

    @property
    def rest_s(self) -> float:
        """How long the present call should still take, in seconds; 0 while there is none."""
        since_s = self.running_since_s
        return 0.0 if since_s is None else max(0.0, self.expected_s - (time.monotonic() - since_s))

    def run(self, members: Sequence[Entry]) -> None:
        """Give every member its outcome; raises nothing."""
        self.running_since_s = time.monotonic()
        try:
            self._run_together(members)
        except Exception as error:
            self._run_apart(members, error)
        finally:
            self.running_since_s = None

    def fail(self, members: Sequence[Entry], error: BaseException) -> None:
        """Give every member that has no outcome yet a `PredictionFailed`."""
        for member in members:
            if member.outcome is None:
                member.outcome = self._failed(error, member.rows.count)

    def run_direct(self, arrays: Arrays, count: int) -> Answer:
        """Return the answer to one request in one run, with nothing in between; raises as `run` settles it."""
        started_ns = time.perf_counter_ns()
        try:
            outputs = self.executor.run(arrays, count)
        except Exception as error:
            failed = self._failed(error, count)
            raise failed from failed.__cause__
        run_ns = time.perf_counter_ns() - started_ns
        self.consecutive_failures = 0
        counters = self.counters
        counters.requests += 1
        counters.ran(count, self.splitter.padded(count), run_ns)
        return Answer(outputs, 0, run_ns, count)

    def _run_together(self, members: Sequence[Entry]) -> None:
        started_ns = time.perf_counter_ns()
        count = sum(member.rows.count for member in members)
        outputs = self._outputs(members, count)
        run_ns = time.perf_counter_ns() - started_ns
        start = 0
        for member in members:
            end = start + member.rows.count
            cut = tuple(output[start:end] for output in outputs)
            self._answered(member, Answer(cut, started_ns - member.accepted_ns, run_ns, count))
            start = end

    def _answered(self, member: Entry, answer: Answer) -> None:
        member.outcome = answer
        self.consecutive_failures = 0
        self.counters.requests += 1
        self.counters.queue_ns += answer.queue_ns

    def _outputs(self, members: Sequence[Entry], count: int) -> Arrays:
        """Return the outputs of all members' rows, `[at least count, ...]` each."""
        pieces = self.splitter.pieces(count)
        self.expected_s = self.splitter.cost_s(count)
        if len(pieces) > 1:
            arrays = members[0].rows.arrays if len(members) == 1 else join_rows(members, count, count)
            return self._in_pieces(members, arrays, pieces)
        if len(members) == 1:
            return self._timed(members[0].rows.arrays, count, count)
        size = self.splitter.padded(count)
        return self._timed(join_rows(members, count, size), count, size)

    def _in_pieces(self, members: Sequence[Entry], arrays: Arrays, pieces: tuple[int, ...]) -> Arrays:
        outputs, start = [], 0
        for count in pieces:
            if all(member.is_withdrawn for member in members):
                raise _AllWithdrawn
            piece = tuple(array[start : start + count] for array in arrays)
            outputs.append(self._timed(piece, count, count))
            start += count
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))

    def _timed(self, arrays: Arrays, count: int, size: int) -> Arrays:
        """Run arrays of `size` rows, `count` of them real, and count the run."""
        started_ns = time.perf_counter_ns()
        outputs = self.executor.run(arrays, size)
        self.counters.ran(count, self.splitter.padded(size), time.perf_counter_ns() - started_ns)
        return outputs

    def _run_apart(self, members: Sequence[Entry], error: Exception) -> None:
        if isinstance(error, _AllWithdrawn):
            return
        if len(members) == 1:
            members[0].outcome = self._failed(error, members[0].rows.count)
            return
        self.counters.retried_batches += 1
        for member in members:
            self._run_again(member)

    def _run_again(self, member: Entry) -> None:
        if member.deadline_s is not None and time.monotonic() > member.deadline_s:
            self.counters.expired += 1
            member.expire()
        elif not member.is_withdrawn:
            try:
                self._run_together([member])
            except Exception as error:
                member.outcome = self._failed(error, member.rows.count)

    def _failed(self, error: BaseException, rows: int) -> SoloError:
        if isinstance(error, SoloError) and not isinstance(error, PredictionFailed):
            return error  # a function's word about what the client sent
        self.consecutive_failures += 1
        self.counters.failed_requests += 1
        self.counters.failed_rows += rows
        if isinstance(error, PredictionFailed):
            return error
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
        failed: PredictionFailed
        if _lacks_memory(error):
            what = f"out of memory for {rows} row{'s' * (rows > 1)} at once"
            failed = OutOfMemory(f"{what}; fewer may fit, or a larger gpu_memory_mb or share of the GPU: {text}")
        else:
            failed = PredictionFailed(f"the model failed on this input: {text}")
        failed.__cause__ = error
        return failed


def _lacks_memory(error: BaseException) -> bool:
    """Return whether a runtime found no memory, as NumPy, TensorFlow, ONNX Runtime and CUDA's driver say it."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
    said = ("Failed to allocate memory", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA failure 2: out of memory")
    return named or any(text in str(error) for text in said)
