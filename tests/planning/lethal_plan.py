"""Plans a model in this fresh process with one candidate more, which does what the first argument says.

Prints the plan's report as JSON, and on which thread of life it went on. Run by `test_trying_apart`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np


def abort() -> None:
    os.abort()


def segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(3600)


def gorge() -> None:
    """Take 1 GiB after another, up to 20."""
    taken = [np.ones(2**27) for _ in range(20)]
    print(len(taken))


DEEDS: dict[str, Any] = {each.__name__: each for each in (abort, segv, hang, gorge)}


class Lethal:
    """A candidate that does its deed when it is built, or in its first run."""

    name = "lethal"
    family = "lethal"
    order = 0
    keeps_variables = True
    is_open = True
    warming_runs = 1

    def __init__(self, deed: str) -> None:
        self.deed, _, self.when = deed.partition("@")

    def build(self, *_: Any) -> Lethal:
        if self.when != "run":
            DEEDS[self.deed]()
        return self

    def run(self, _arrays: Any) -> Any:
        DEEDS[self.deed]()

    def close(self) -> None:
        """Hold nothing."""


def install(deed: str) -> None:
    """Have planning in this process try the lethal candidate first."""
    from deployments import candidates

    harmless = candidates.all_candidates

    def lethal_too() -> list[Any]:
        return [Lethal(deed), *harmless()]

    candidates.all_candidates = lethal_too


def main(deed: str, folder: str) -> None:
    from deployments.device import environment

    environment.prepare("cpu", log_level=3)
    from pathlib import Path

    from deployments.planning import guarding, trying_apart
    from deployments.planning.from_source import plan_source
    from deployments.planning.options import PlanOptions
    from deployments.source import Source

    install(deed)
    trying_apart.PATIENCE_S, trying_apart.PATIENCE_BUDGETS = (15.0 if deed.startswith("hang") else 60.0), 0.0
    free = guarding.free_bytes
    guarding.free_bytes = lambda: min(free(), 2 * 2**30)
    options = PlanOptions(
        allowed_batch_sizes=(1, 2), budget_s=8.0, only=("lethal", "session", "litert"), cache_dir=Path(folder)
    )
    told: list[str] = []
    plan = plan_source(Source("models/digits.keras"), options, kind="cpu", tell=lambda _, text: told.append(text)).plan
    answer = plan.run(plan.sample.arrays, 1)
    print(json.dumps({"report": plan.report(), "told": told, "shape": answer[0].shape}))


if __name__ == "__main__":
    main(*sys.argv[1:])
