"""What stands between the coalescer and a plan: how rows are run, and what that is expected to cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from deployments.tensors import Arrays, Rows


class Executor(Protocol):
    """Runs batches on one device. `Plan` is the real one; tests use small fakes."""

    batch_sizes: tuple[int, ...]
    """The allowed batch sizes, ascending; every one is compiled and warm."""
    runs_on_host: bool
    """Whether a run takes the host's own cores, from the event loop among others, rather than a device's."""

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the outputs of `count` rows, each `[count, ...]`, blocking until they are in host memory.

        `arrays` are `[count, ...]` each, `1 <= count <= batch_sizes[-1]`; other sizes than `batch_sizes` are padded
        to the next one and cut after. Raises whatever the model raises.
        """
        ...

    def expected_s(self, count: int) -> float:
        """Return the measured p50, in seconds, of running `count` rows in one call."""
        ...

    def is_inline(self, count: int) -> bool:
        """Return whether running `count` rows is short enough to block the event loop."""
        ...


@dataclass(slots=True)
class Answer:
    """The outputs of one request, each `[rows, ...]` in the signature's order, and what they cost."""

    outputs: Arrays
    queue_ns: int
    """From being accepted to the start of the batch that ran it."""
    compute_ns: int
    """The run of that batch, whole."""
    batch_rows: int
    """How many real rows that batch had, neighbours' included."""
    before_ns: int = 0
    """What the function before the model took, waiting for it included."""
    after_ns: int = 0
    """Likewise the one after it."""
    steps: tuple[tuple[str, int], ...] = ()
    """Of a pipeline: each step and by how much it put off the end; they add up to `compute_ns`."""


Submit = Callable[[Rows, "float | None"], Awaitable[Answer]]
"""Returns the answer to rows by a deadline on `time.monotonic`'s clock, as coalescers do."""
