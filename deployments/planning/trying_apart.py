"""Planning's search as a job for a process that may die: candidates are built, verified and timed there.

What comes back is a plan as its file would hold it: names and times. The replica then builds the chosen ones alone, as
at every later start. Memory that the others took goes with the process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from deployments import loading
from deployments.candidates._subject import Subject
from deployments.device.select import select
from deployments.planning.buckets import buckets
from deployments.planning.cache import StoredPlan
from deployments.planning.findings import Apart, searched
from deployments.planning.forkserver import ForkServer
from deployments.planning.guarding import Watch
from deployments.planning.options import PlanOptions, Progress
from deployments.source import Source, WantedPrecision, loaded_in

PATIENCE_S, PATIENCE_BUDGETS = 60.0, 3.0
"""How long a candidate may take to be built and verified, or for one turn of timing, at least and in budgets."""


@dataclass(frozen=True)
class Search:
    """One search on the CPU, as `forkserver.Job`."""

    source: Source
    """On this node."""
    options: PlanOptions
    precision: WantedPrecision

    @property
    def patience_s(self) -> float:
        """How long a candidate may take before it counts as hung, in seconds."""
        return max(PATIENCE_S, PATIENCE_BUDGETS * self.options.budget_s)

    def run(self, watch: Watch, tell: Progress) -> StoredPlan:
        """Load the model and search; raises `LoadError` as `make_plan` does."""
        select("cpu")
        precision = loaded_in(self.precision)
        model = loading.load(self.source, precision)
        exact = loading.load(self.source) if precision != "float32" else None
        options = replace(self.options, progress=tell)
        subject = Subject(model, options.device, options.kept_files, exact, partial(loading.load, self.source))
        return searched(subject, options, buckets(model.signature, options), exact, watch)


def searcher(server: ForkServer, source: Source, precision: WantedPrecision, tell: Progress) -> Apart:
    """Return what searches for a plan of the model at `source` by way of `server`."""

    def apart(options: PlanOptions) -> StoredPlan | None:
        plain = replace(options, cache_dir=None, files=options.kept_files, progress=None)
        found: StoredPlan | None = server.run(Search(source, plain, precision), tell)
        return found

    return apart
