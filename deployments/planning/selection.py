"""Which candidate serves which bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deployments.candidates._bucket import Bucket
from deployments.planning.trials import Trial

Table = Mapping[Bucket, Sequence[Trial]]

TIE = 1.03
"""Medians this close are decided by the 99th percentile: repeated measurements differ by as much."""
ONE_FOR_ALL = 1.05
"""One candidate for every bucket may cost this much more than the best: it holds the weights once."""


def choose(table: Table) -> dict[Bucket, Trial]:
    """Return the trial to serve each bucket with; every bucket must have one that is ok."""
    best = {bucket: _best(trials) for bucket, trials in table.items()}
    return _one_for_all(table, best) or best


def _best(trials: Sequence[Trial]) -> Trial:
    ok = [trial for trial in trials if trial.is_ok]
    fastest_s = min(trial.p50_s for trial in ok)
    ties = [trial for trial in ok if trial.p50_s <= TIE * fastest_s] or ok
    return min(ties, key=lambda trial: trial.p99_s)


def _one_for_all(table: Table, best: Mapping[Bucket, Trial]) -> dict[Bucket, Trial] | None:
    """Return the single candidate that is near the best everywhere, the nearest of several; None if there is none."""
    near: dict[str, float] = {}
    for name in {trial.name for trial in best.values()}:
        ratios = [_ratio(name, table[bucket], best[bucket]) for bucket in table]
        if max(ratios) <= ONE_FOR_ALL:
            near[name] = max(ratios)
    if not near:
        return None
    name = min(near, key=lambda name: near[name])
    return {bucket: next(trial for trial in trials if trial.name == name) for bucket, trials in table.items()}


def _ratio(name: str, trials: Sequence[Trial], best: Trial) -> float:
    trial = next((trial for trial in trials if trial.name == name and trial.is_ok), None)
    if trial is None:
        return float("inf")
    return 1.0 if trial is best else trial.p50_s / best.p50_s
