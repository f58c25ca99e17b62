"""From a plan's trials to its file, and back: a kept choice is built and verified again, only not timed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.candidates import candidates_for
from deployments.candidates._bucket import Bucket
from deployments.planning.attempts import Attempts
from deployments.planning.cache import StoredPlan
from deployments.planning.search import SPENT
from deployments.planning.trials import Trial

Rows = Mapping[str, list[dict[str, Any]]]

STARTS = 3
"""Starts that measure for one plan, while its budget runs out each time; then it is left at what it found."""

log = logging.getLogger("ray.serve")


def remembered(chosen: Mapping[Bucket, Trial], rows: Rows, predict_p50_s: float | None, starts: int = 1) -> StoredPlan:
    """Return a plan as its file holds it."""
    return StoredPlan({bucket.key: trial.name for bucket, trial in chosen.items()}, rows, predict_p50_s, starts)


def unfinished(stored: StoredPlan) -> tuple[str, ...]:
    """Return what is to be tried once more: what the budget left out, and what was chosen instead; () if nothing."""
    skipped = {row["name"] for rows in stored.candidates.values() for row in rows if row["status"] == SPENT}
    if not skipped or stored.starts >= STARTS:
        return ()
    return tuple(sorted(skipped | set(stored.chosen.values())))


def merged(earlier: Rows, newer: Rows) -> dict[str, list[dict[str, Any]]]:
    """Return the newer rows of each bucket, followed by the earlier ones of what was not tried again."""
    names = {bucket: {row["name"] for row in rows} for bucket, rows in newer.items()}
    return {
        bucket: [*rows, *(dict(row) for row in earlier[bucket] if row["name"] not in names[bucket])]
        for bucket, rows in newer.items()
    }


def restored(stored: StoredPlan, attempts: Attempts, buckets: Sequence[Bucket]) -> dict[Bucket, Trial] | None:
    """Return the kept choice, built, verified and warm; None where any of it does not hold any more."""
    candidates = {
        candidate.name: candidate
        for candidate in candidates_for(attempts.is_gpu, tries_host=True, tries_precisions=True)
    }
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
