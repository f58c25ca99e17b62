"""One model, ready to answer: signature, plan and coalescer joined; knows neither HTTP nor Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from deployments.errors import InvalidInput, PredictionFailed, cause_of
from deployments.execution import Answer
from deployments.lengths import Lengths
from deployments.response_cache import ResponseCache
from deployments.sequences import Sequences, SequenceStep
from deployments.statistics import RunCounters, Stages, Statistics
from deployments.tensors import Array, Arrays, Rows, Signature, TensorSpec


class Coalescer(Protocol):
    """Decides who runs with whom, and when. `deployments.coalescing` has the real ones."""

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; `deadline_s` is on `time.monotonic`'s clock."""
        ...


@dataclass(slots=True)
class Servable:
    """A deployed model version, as every protocol sees it."""

    name: str
    version: str
    signature: Signature
    coalescer: Coalescer
    max_batch_size: int
    labels: tuple[str, ...] = ()
    description: Mapping[str, Any] = field(default_factory=dict)
    """Facts for people and the repository: device, precision, source, fingerprint."""
    signature_name: str = "serving_default"
    """What TensorFlow Serving's clients call the signature."""
    method_name: str = "tensorflow/serving/predict"
    """What the signature says that it is for."""
    nonfinite: Literal["pass", "refuse"] = "pass"
    """What becomes of NaN and infinity in inputs and outputs: passed on as they are, or an error."""
    sequences: Sequences | None = None
    """The states of a recurrent model between requests; None: every request stands alone."""
    cache: ResponseCache | None = None
    """Answers for equal requests; None: every request is computed."""
    statistics: Statistics = field(default_factory=Statistics)
    plan_report: Callable[[], Mapping[str, Any]] | None = None
    """Returns the plan's table for `GET …/plan`."""
    lengths: Lengths | None = None
    """What dynamic inner axes are padded to; None leaves them as they come."""
    is_ready: Callable[[], bool] = lambda: True
    """Returns whether the model can answer now."""
    replica: str = ""
    """Which of the model's replicas this is; every one has counters of its own."""
    startup_s: float = 0.0
    """What loading, planning and warming took."""
    traces_after_ready: Callable[[], int] = lambda: 0
    """Returns how often the model was traced inside requests; anything but 0 is a defect."""
    trace: Callable[[Stages, int], None] | None = None
    """Takes each answered request's stages and its batch's rows where requests are traced."""
    memory_bytes: Callable[[], Mapping[str, int]] = dict
    """Returns the resident memory by kind: `host`, and `device` where that is a GPU."""

    @property
    def run_counters(self) -> RunCounters | None:
        """The coalescer's counters of runs; None where it keeps none."""
        return getattr(self.coalescer, "counters", None)

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the device."""
        return int(getattr(self.coalescer, "waiting", 0))

    def counted(self) -> Counted:
        """Return a context manager around one request: timed and counted, whichever way it ends."""
        return Counted(self)

    def check_room(self) -> None:
        """Raise `Overloaded` where one more row would be refused anyway: cheaper than to read and decode it first."""
        check = getattr(self.coalescer, "check_room", None)
        if check is not None:
            check()

    async def answer(
        self, inputs: Mapping[str, Array], timeout_s: float | None = None, step: SequenceStep | None = None
    ) -> Answer:
        """Answer a call that has nothing to decode, and count it; see `predict`."""
        with self.counted() as request:
            request.decoded(inputs)
            deadline_s = None if timeout_s is None else request.started_ns / 1e9 + timeout_s
            answer = await self.predict(inputs, deadline_s, step)
            request.answered(answer)
        return answer

    async def predict(
        self, inputs: Mapping[str, Array], deadline_s: float | None = None, step: SequenceStep | None = None
    ) -> Answer:
        """Check `inputs` (name to `[batch, ...]` array) and return their answer; `step` is theirs in a sequence.

        Raises `InvalidInput` before anything is queued, `Overloaded` or `DeadlineExceeded` where admission
        refuses, `PredictionFailed` where the model fails.
        """
        rows = self.signature.check(inputs)
        refuses = self.nonfinite == "refuse"
        if refuses and (spec := _first_nonfinite(self.signature.inputs, rows.arrays)) is not None:
            raise InvalidInput(f"input '{spec.name}' holds NaN or infinity, which this model refuses")
        if self.cache is None:
            answer = await self._computed(rows, deadline_s, step)
        else:
            key, kept = self.cache.find(rows)
            if kept is not None:
                return kept
            answer = await self._computed(rows, deadline_s, None)
        if refuses and (spec := _first_nonfinite(self.signature.outputs, answer.outputs)) is not None:
            raise PredictionFailed(f"output '{spec.name}' holds NaN or infinity")
        if self.cache is not None:
            self.cache.keep(key, answer)
        return answer

    async def _computed(self, rows: Rows, deadline_s: float | None, step: SequenceStep | None) -> Answer:
        if self.sequences is not None:
            return await self.sequences.submit(rows, deadline_s, step)
        if self.lengths is None:
            return await self.coalescer.submit(rows, deadline_s)
        return await self.lengths.through(self.coalescer.submit, rows, deadline_s)


class Counted:
    """One request from its arrival to its answer, whatever its protocol.

    Decoding comes first, then `decoded`, the prediction, `answered`, and encoding; every failure on the way is counted
    and raised on, cancellation too: a client that left is part of the count.
    """

    __slots__ = ("_answer", "_answered_ns", "_decoded_ns", "_inputs", "_servable", "stages", "started_ns")

    stages: Stages
    """Where the time went; there once the block has ended well."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def decoded(self, inputs: Mapping[str, Array]) -> None:
        """Take the time: these `[batch, ...]` arrays are asked about now."""
        self._decoded_ns = time.monotonic_ns()
        self._inputs = inputs

    def answered(self, answer: Answer) -> None:
        """Take the time: this is the answer, not encoded yet."""
        self._answered_ns = time.monotonic_ns()
        self._answer = answer

    def __enter__(self) -> Counted:
        self.started_ns = time.monotonic_ns()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        servable = self._servable
        if error is not None:
            servable.statistics.failed(cause_of(error), time.monotonic_ns() - self.started_ns)
            return
        answer = self._answer
        self.stages = Stages.between(self.started_ns, self._decoded_ns, self._answered_ns, answer)
        servable.statistics.succeeded(len(next(iter(self._inputs.values()))), self.stages)
        if servable.trace is not None:
            servable.trace(self.stages, answer.batch_rows)


def _first_nonfinite(specs: tuple[TensorSpec, ...], arrays: Arrays) -> TensorSpec | None:
    """Return the first tensor with a NaN or an infinity; kind V is bfloat16."""
    pairs = zip(specs, arrays, strict=True)
    return next((spec for spec, array in pairs if array.dtype.kind in "fV" and not np.isfinite(array).all()), None)
