"""One waiting request, and the joining and cutting of several requests' rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deployments.errors import DeadlineExceeded
from deployments.execution import Answer
from deployments.tensors import Array, Arrays, Rows


@dataclass(slots=True, eq=False)
class Entry:
    """An accepted request on its way to an outcome: exactly one answer or exactly one error."""

    rows: Rows
    deadline_s: float | None
    """On `time.monotonic`'s clock."""
    accepted_ns: int
    """On `time.perf_counter_ns`'s clock."""
    future: asyncio.Future[Answer]
    expected_s: float = 0.0
    """How soon an answer was expected when it was accepted, by the plan's times; 0: nobody asked."""
    outcome: Answer | Exception | None = None
    is_withdrawn: bool = False
    """Whether the caller has gone; written by the event loop, read by the device thread."""
    is_settled: bool = False
    """Whether the caller has been answered or has gone; for the event loop alone."""

    def expire(self) -> None:
        """Make the outcome `DeadlineExceeded`."""
        self.outcome = DeadlineExceeded("the request's deadline passed while it waited; it was not run")

    def settle(self) -> None:
        """Give the outcome to the caller, if one still waits; on the event loop."""
        if self.future.done():
            return
        if isinstance(self.outcome, Answer):
            self.future.set_result(self.outcome)
        else:
            self.future.set_exception(self.outcome or RuntimeError("an entry was settled without an outcome"))


def join_rows(members: Sequence[Entry], count: int, size: int) -> Arrays:
    """Return the members' rows end to end, `[size, ...]` per input, filled up from `count` with the last row.

    A fresh copy: a buffer kept and reused would be read by answers that alias their input (an identity layer
    on the CPU returns the very memory it was fed). Filling up here spares the executor a second copy.
    """
    return tuple(
        _join([member.rows.arrays[i] for member in members], count, size) for i in range(len(members[0].rows.arrays))
    )


def _join(parts: list[Array], count: int, size: int) -> Array:
    if size == count:
        return np.concatenate(parts)
    joined = np.empty((size, *parts[0].shape[1:]), parts[0].dtype)
    np.concatenate(parts, out=joined[:count])
    joined[count:] = joined[count - 1]
    return joined
