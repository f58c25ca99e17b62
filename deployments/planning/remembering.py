"""From a plan's trials to its file, and back: a kept choice is built and verified again, only not timed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.candidates import all_candidates
from deployments.plan_cache import StoredPlan
from deployments.planning.attempts import Attempts
from deployments.planning.buckets import Bucket
from deployments.planning.trials import Trial

log = logging.getLogger("ray.serve")


def remembered(
    chosen: Mapping[Bucket, Trial], rows: Mapping[str, list[dict[str, Any]]], predict_p50_s: float | None
) -> StoredPlan:
    """Return a plan as its file holds it."""
    return StoredPlan({bucket.key: trial.name for bucket, trial in chosen.items()}, rows, predict_p50_s)


def restored(stored: StoredPlan, attempts: Attempts, buckets: Sequence[Bucket]) -> dict[Bucket, Trial] | None:
    """Return the kept choice, built, verified and warm; None where any of it does not hold any more."""
    if stored.chosen.keys() != {bucket.key for bucket in buckets}:
        return None
    candidates = {candidate.name: candidate for candidate in all_candidates()}
    chosen: dict[Bucket, Trial] = {}
    for bucket in buckets:
        trial = attempts.attempt(candidates[stored.chosen[bucket.key]], bucket)
        if not trial.is_ok:
            log.warning("the kept plan does not hold: %s is now '%s'; planning anew", trial.name, trial.status)
            return None
        trial.remembered_s = _times_s(stored, bucket, trial.name)
        chosen[bucket] = trial
    return chosen


def _times_s(stored: StoredPlan, bucket: Bucket, name: str) -> tuple[float, float]:
    row = next(row for row in stored.candidates[bucket.key] if row["name"] == name)
    return row["p50_ms"] / 1e3, row["p99_ms"] / 1e3
