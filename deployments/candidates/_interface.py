"""What a candidate is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.tensors import Arrays


class Unfit(Exception):
    """The candidate cannot serve this model or bucket; the text becomes its status in the plan."""


def nothing() -> None:
    """Close a runner that holds nothing of its own."""


@dataclass(slots=True)
class Runner:
    """A built candidate."""

    run: Callable[[Arrays], Arrays]
    """Takes the bucket's arrays in the signature's order, `[batch, ...]` each, and returns the outputs, in host
    memory and safe to keep."""
    is_open: bool
    """Whether it serves every bucket: nothing is traced or compiled for a new shape."""
    warming_runs: int = 1
    """How many calls of one shape it takes until nothing is compiled any more."""
    close: Callable[[], None] = nothing
    """Frees what `run` holds beside the model's own variables; `run` is not called afterwards."""


class Candidate(Protocol):
    """One way of executing a prediction."""

    @property
    def name(self) -> str:
        """As it stands in the plan."""
        ...

    @property
    def order(self) -> int:
        """When it is tried: those that win most often and build fastest come first, in case the budget ends."""
        ...

    @property
    def family(self) -> str:
        """Candidates of one family share what takes longest to build, so the second costs little."""
        ...

    @property
    def keeps_variables(self) -> bool:
        """Whether it runs on the model's own variables, not on a copy of their values."""
        ...

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for `bucket`; raises `Unfit`, or whatever goes wrong in TensorFlow."""
        ...


@runtime_checkable
class InPrecisions(Protocol):
    """A candidate that makes lower precisions of the model itself."""

    def in_precision(self, precision: str) -> Candidate:
        """Return the same way in `precision`, marked by its name."""
        ...
