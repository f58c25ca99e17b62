"""One candidate tried in one bucket: what became of it, and its times."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deployments.candidates import Candidate, Runner
from deployments.candidates._bucket import Bucket

OK = "ok"


@dataclass(slots=True, eq=False)
class Trial:
    """One candidate tried in one bucket."""

    candidate: Candidate
    bucket: Bucket
    runner: Runner | None = None
    status: str = OK
    error: float | None = None
    """The largest absolute error against the reference."""
    times_s: list[float] = field(default_factory=list)
    undisturbed_s: list[float] = field(default_factory=list)
    """The times of those calls in which the system gave the core to nobody else."""
    remembered_s: tuple[float, float] | None = None
    """The p50 and p99 that a kept plan gives, in seconds; stands for `times_s` then."""
    first_s: float = float("inf")
    """A call's time right after it was built and warmed, in seconds: what is hopeless shows in one."""

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def is_ok(self) -> bool:
        """Whether it is verified and may be chosen."""
        return self.status == OK and self.runner is not None

    @property
    def p50_s(self) -> float:
        """The median time of a call, in seconds; infinite before the first."""
        return self.percentile_s(50)

    @property
    def fastest_s(self) -> float:
        """The fastest call, in seconds: what no other load on the machine can have made slower."""
        return min(self.times_s, default=float("inf"))

    @property
    def p99_s(self) -> float:
        """The 99th percentile, in seconds; the slowest call where there were few."""
        return self.percentile_s(99)

    def percentile_s(self, percent: int) -> float:
        """Return a percentile of the times, in seconds; of a kept plan the 99th or else the median.

        Of the undisturbed calls, where they are at least half: other processes' turns are no time of the candidate's,
        and would come upon any other as well. A call so long that it is mostly disturbed is taken as it is.
        """
        if self.remembered_s is not None:
            return self.remembered_s[1 if percent == 99 else 0]
        times_s = self.undisturbed_s if 2 * len(self.undisturbed_s) >= len(self.times_s) else self.times_s
        return float(np.percentile(times_s, percent)) if times_s else float("inf")

    @property
    def blocking_s(self) -> float:
        """How long a call may block its thread, in seconds: its p99, or ten times its median where that is less.

        What other virtual machines take is not to be told from the call's own time, and a hop to another thread
        would suffer it as well.
        """
        return min(self.p99_s, 10 * self.p50_s)

    def row(self) -> dict[str, object]:
        """Return this trial's line of the published table."""
        timed = bool(self.times_s)
        return {
            "name": self.name,
            "p50_ms": round(self.p50_s * 1e3, 5) if timed else None,
            "p99_ms": round(self.p99_s * 1e3, 5) if timed else None,
            "max_abs_error": self.error,
            "status": self.status,
        }
