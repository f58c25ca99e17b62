"""Finds out what runs each bucket best: from a kept plan where one holds, else by searching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployments import plan_cache
from deployments.candidates import all_candidates
from deployments.model import LoadedModel
from deployments.planning.attempts import Attempts
from deployments.planning.baseline import predict_p50_s
from deployments.planning.buckets import Bucket
from deployments.planning.crashes import CrashLog
from deployments.planning.identity import identity
from deployments.planning.options import PlanOptions
from deployments.planning.reference import Reference
from deployments.planning.remembering import remembered, restored
from deployments.planning.search import Search
from deployments.planning.selection import choose
from deployments.planning.subject import Subject
from deployments.planning.trials import Trial


@dataclass(frozen=True)
class Findings:
    """The chosen trials, and all that was found out on the way."""

    chosen: Mapping[Bucket, Trial]
    rows: Mapping[str, list[dict[str, Any]]]
    """Bucket to the published table, the fastest first."""
    predict_p50_s: float | None
    from_cache: bool = False


def find(
    subject: Subject, options: PlanOptions, wanted: tuple[Bucket, ...], exact: LoadedModel | None = None
) -> Findings:
    """Return the findings for `wanted`; every chosen runner is verified and warm, the others are closed."""
    known_as = identity(subject.model, options)
    reference = Reference(subject, options, None if exact is None else exact.call)
    # Made first: a model that takes no sample, or whose rows influence each other, fails before anything is built.
    reference.cases(wanted[0])
    attempts = Attempts(subject, reference, CrashLog(options.cache_dir, plan_cache.key(known_as)))
    kept = _kept(options, known_as, attempts, wanted)
    if kept is not None:
        return kept
    found = _search(attempts, reference, options, wanted, subject)
    if options.cache_dir is not None and options.budget_s > 0:
        stored = remembered(found.chosen, found.rows, found.predict_p50_s)
        plan_cache.store(options.cache_dir, known_as, stored)
    return found


def _kept(
    options: PlanOptions, known_as: Mapping[str, Any], attempts: Attempts, wanted: tuple[Bucket, ...]
) -> Findings | None:
    if options.cache_dir is None:
        return None
    names = {candidate.name for candidate in all_candidates()}
    stored = plan_cache.load(options.cache_dir, known_as, names)
    chosen = None if stored is None else restored(stored, attempts, wanted)
    if stored is None or chosen is None:
        return None
    rows = {bucket: [dict(row) for row in rows] for bucket, rows in stored.candidates.items()}
    return Findings(chosen, rows, stored.predict_p50_s, from_cache=True)


def _search(
    attempts: Attempts, reference: Reference, options: PlanOptions, wanted: tuple[Bucket, ...], subject: Subject
) -> Findings:
    table = Search(attempts, reference, options).run(wanted)
    chosen = choose(table)
    _drop_unchosen(table, chosen)
    baseline_s = predict_p50_s(subject.model, reference.cases(wanted[0])[0].inputs, options.budget_s)
    rows = {bucket.key: [trial.row() for trial in _ranked(trials)] for bucket, trials in table.items()}
    return Findings(chosen, rows, baseline_s)


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: trial.p50_s)


def _drop_unchosen(table: Mapping[Bucket, Sequence[Trial]], chosen: Mapping[Bucket, Trial]) -> None:
    """Close and forget every runner that serves no bucket, so that weights are resident once."""
    kept = {id(trial.runner) for trial in chosen.values()}
    dropped = {id(trial.runner): trial.runner for trials in table.values() for trial in trials if trial.runner}
    for identity_, runner in dropped.items():
        if identity_ not in kept:
            runner.close()
    for trials in table.values():
        for trial in trials:
            if id(trial.runner) not in kept:
                trial.runner = None
