"""Ways elsewhere than where the model was loaded to run: on the host of a GPU, or in another precision.

A small model may be faster without the GPU, and most models are faster in fewer bits; a plan that may choose has these
ways as well, marked by their names: `cpu:litert`, `mixed_float16:session-xla`.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.candidates._bucket import Bucket
from deployments.candidates._interface import Candidate, Runner
from deployments.candidates._subject import Subject
from deployments.source import Precision

HOST = "cpu"
LOWERED: tuple[Precision, ...] = ("mixed_float16", "mixed_bfloat16")
MARKED_PRECISIONS = ("tf32", *LOWERED)


@dataclass(frozen=True)
class Elsewhere:
    """A candidate on the host's own cores, whatever the device that is planned for, or in another precision."""

    inner: Candidate
    mark: str
    """`cpu`, or the precision."""

    @property
    def name(self) -> str:
        """The candidate's, marked."""
        return f"{self.mark}:{self.inner.name}"

    @property
    def order(self) -> int:
        """The candidate's own."""
        return self.inner.order

    @property
    def family(self) -> str:
        """What the candidate shares, there."""
        return f"{self.mark}:{self.inner.family}"

    @property
    def keeps_variables(self) -> bool:
        """Never: the model's variables are those of the device and the precision that it was loaded for."""
        return False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return the candidate's runner there; raises as it does."""
        lowered = next((precision for precision in LOWERED if precision == self.mark), None)
        other = subject.on_host() if lowered is None else subject.in_precision(lowered)
        return self.inner.build(other, bucket)


def device_kind(name: str, is_gpu: bool) -> str:
    """Return where a candidate of a plan runs: `gpu` or `cpu`."""
    return "gpu" if is_gpu and not name.startswith(f"{HOST}:") else "cpu"


def precision_of(name: str) -> str | None:
    """Return the precision that a candidate's name is marked with; None: the plan's own."""
    mark = name.partition(":")[0]
    return mark if mark in MARKED_PRECISIONS else None
