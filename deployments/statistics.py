"""What a replica counts per request: plain integers, added on the event loop and read whenever somebody asks.

`serve_app` renders them as Triton's statistics and publishes them as metrics; adding costs under three
microseconds, two of them for the histograms (2 cores, of 410 a request).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from deployments.execution import Answer


class RunCounters(Protocol):
    """What a coalescer knows about the device's runs; `deployments.coalescing.counters.Counters` is the real one."""

    batches: int
    """Runs of the device."""
    sizes: dict[int, list[int]]
    """Batch size as run, padding included: [runs, nanoseconds]."""
    rows: int
    """Real rows run."""
    padded_rows: int
    """Rows run only to fill a batch up to an allowed size."""
    overloaded: int
    deadline: int
    expired: int
    cancelled: int
    retried_batches: int


@dataclass(slots=True)
class Stages:
    """Where one request's time went, in nanoseconds; all but the last field add up to it."""

    decode_ns: int
    """From the first byte seen to arrays: reading the body, inflating and decoding it."""
    queue_ns: int
    batch_ns: int
    """What coalescing took beside queueing and the run: checking, joining, handing over and cutting apart."""
    compute_ns: int
    encode_ns: int
    """From the model's outputs to the answer's bytes."""
    total_ns: int
    before_ns: int = 0
    """What the function before the model took, waiting for it included."""
    after_ns: int = 0
    steps: tuple[tuple[str, int], ...] = ()
    """Of a pipeline: its steps' parts of `compute_ns`."""

    @classmethod
    def between(cls, started_ns: int, decoded_ns: int, answered_ns: int, answer: Answer) -> Stages:
        """Return the stages of a request whose bytes are ready now; all times on `time.monotonic_ns`'s clock."""
        now_ns = time.monotonic_ns()
        queue_ns, compute_ns, around_ns = answer.queue_ns, answer.compute_ns, answer.before_ns + answer.after_ns
        return cls(
            decoded_ns - started_ns,
            queue_ns,
            max(0, answered_ns - decoded_ns - queue_ns - compute_ns - around_ns),
            compute_ns,
            now_ns - answered_ns,
            now_ns - started_ns,
            answer.before_ns,
            answer.after_ns,
            answer.steps,
        )


STAGES = ("decode", "queue", "batch", "compute", "encode")
FUNCTIONS = ("before", "after")
"""The stages of a model that has functions around it."""
TOTAL = "total"
_DECADES_NS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
BOUNDS_NS = (*(step * decade // 10 for decade in _DECADES_NS for step in (10, 25, 50)), 10_000_000_000)
"""The histograms' upper bounds, inclusive as Prometheus has them: 10 µs, 25, 50, 100 … 5 s, 10 s."""


def empty_counts() -> dict[str, list[int]]:
    """Return zeros for every stage and the total: one for each of `BOUNDS_NS`, and one for what is slower."""
    return {stage: [0] * (len(BOUNDS_NS) + 1) for stage in (*STAGES, TOTAL)}


@dataclass(slots=True)
class Statistics:
    """Totals of one replica since it was loaded; `_ns` are sums over successful requests unless named otherwise."""

    success_count: int = 0
    success_ns: int = 0
    fail_count: int = 0
    fail_ns: int = 0
    inference_count: int = 0
    """Rows answered."""
    decode_ns: int = 0
    queue_ns: int = 0
    batch_ns: int = 0
    compute_ns: int = 0
    encode_ns: int = 0
    before_ns: int = 0
    after_ns: int = 0
    last_inference_ms: int = 0
    """When the last request was answered, in milliseconds since 1970."""
    fail_causes: dict[str, int] = field(default_factory=dict)
    """Why requests failed: `invalid`, `overloaded`, `deadline`, `cancelled`, `failed`, … to counts."""
    counts: dict[str, list[int]] = field(default_factory=empty_counts)
    """How many successful requests' stage, or total, fell into each bucket of `BOUNDS_NS`."""

    def succeeded(self, rows: int, stages: Stages) -> None:
        """Count one answered request of `rows` rows."""
        self.success_count += 1
        self.success_ns += stages.total_ns
        self.inference_count += rows
        self.decode_ns += stages.decode_ns
        self.queue_ns += stages.queue_ns
        self.batch_ns += stages.batch_ns
        self.compute_ns += stages.compute_ns
        self.encode_ns += stages.encode_ns
        times_ns = (
            stages.decode_ns, stages.queue_ns, stages.batch_ns, stages.compute_ns, stages.encode_ns, stages.total_ns,
        )  # fmt: skip
        for counts, time_ns in zip(self.counts.values(), times_ns, strict=False):
            counts[bisect_left(BOUNDS_NS, time_ns)] += 1
        if stages.before_ns or stages.after_ns:
            self._functions(stages)
        self.last_inference_ms = time.time_ns() // 1_000_000

    def _functions(self, stages: Stages) -> None:
        """Count what the functions around the model took; their histograms come last, with the first such request."""
        self.before_ns += stages.before_ns
        self.after_ns += stages.after_ns
        for stage, time_ns in zip(FUNCTIONS, (stages.before_ns, stages.after_ns), strict=True):
            counts = self.counts.setdefault(stage, [0] * (len(BOUNDS_NS) + 1))
            counts[bisect_left(BOUNDS_NS, time_ns)] += 1

    def failed(self, cause: str, elapsed_ns: int) -> None:
        """Count one request that got an error, or whose client left."""
        self.fail_count += 1
        self.fail_ns += elapsed_ns
        self.fail_causes[cause] = self.fail_causes.get(cause, 0) + 1


def run_sizes(counters: RunCounters | None) -> Mapping[int, tuple[int, int]]:
    """Return each batch size that was run, ascending, with its runs and nanoseconds; a consistent copy."""
    sizes = {} if counters is None else dict(counters.sizes)
    return {size: (runs, run_ns) for size, (runs, run_ns) in sorted(sizes.items())}
