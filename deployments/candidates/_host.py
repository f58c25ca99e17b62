"""The ways for CPUs on a node with a GPU: a small model may well be faster without it."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.candidates._bucket import Bucket
from deployments.candidates._interface import Candidate, Runner
from deployments.candidates._subject import Subject

MARK = "cpu:"
"""What the names of these ways begin with in a plan for a GPU."""


@dataclass(frozen=True)
class OnHost:
    """A candidate on the host's own cores, whatever the device that is planned for."""

    inner: Candidate

    @property
    def name(self) -> str:
        """The candidate's, marked."""
        return f"{MARK}{self.inner.name}"

    @property
    def order(self) -> int:
        """The candidate's own: between those of the GPU."""
        return self.inner.order

    @property
    def family(self) -> str:
        """What the candidate shares, on the host."""
        return f"{MARK}{self.inner.family}"

    @property
    def keeps_variables(self) -> bool:
        """Never: the model's variables are the GPU's."""
        return False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return the candidate's runner for the host; raises as it does."""
        return self.inner.build(subject.on_host(), bucket)


def device_kind(name: str, is_gpu: bool) -> str:
    """Return where a candidate of a plan runs: `gpu` or `cpu`."""
    return "gpu" if is_gpu and not name.startswith(MARK) else "cpu"
