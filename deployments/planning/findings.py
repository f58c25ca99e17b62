"""Finds out what runs each bucket best: from a kept plan where one holds, else by searching."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deployments.candidates import all_candidates
from deployments.candidates._bucket import Bucket
from deployments.candidates._subject import Subject
from deployments.events import event
from deployments.model import LoadedModel
from deployments.planning import cache
from deployments.planning.attempts import Attempts
from deployments.planning.baseline import predict_p50_s
from deployments.planning.cache import StoredPlan
from deployments.planning.crashes import Crashes, CrashLog
from deployments.planning.identity import identity
from deployments.planning.options import PlanOptions
from deployments.planning.reference import NoSample, Reference
from deployments.planning.remembering import merged, remembered, restored, unfinished
from deployments.planning.search import Search, ways
from deployments.planning.selection import choose
from deployments.planning.trials import Trial

PLAIN = "eager"
"""The candidate that calls the model's own function."""
ASSUMED_S = 0.01
"""What a call of the plain function is taken to last where nothing was measured: deadlines and batches ask for it."""
WAIT_BUDGETS = 3
"""How many budgets a replica waits for another that measures for the same plan: verifying comes on top of one."""


@dataclass(frozen=True)
class Findings:
    """The chosen trials, and all that was found out on the way."""

    chosen: Mapping[Bucket, Trial]
    rows: Mapping[str, list[dict[str, Any]]]
    """Bucket to the published table, the fastest first."""
    predict_p50_s: float | None
    from_cache: bool = False


Apart = Callable[[PlanOptions], StoredPlan | None]
"""Searches in another process, which may die of it; None where that could not be."""


def find(
    subject: Subject,
    options: PlanOptions,
    wanted: tuple[Bucket, ...],
    exact: LoadedModel | None = None,
    apart: Apart | None = None,
) -> Findings:
    """Return the findings for `wanted`; every chosen runner is verified and warm, the others are closed.

    A kept plan whose budget ran out is carried on: what it skipped is tried now, against what it had chosen. What has
    to be searched is searched by `apart`, and only what that has chosen is built here.
    """
    known_as = identity(subject.model, options)
    reference = Reference(subject, options, None if exact is None else exact.call)
    # Made first: a model that takes no sample, or whose rows influence each other, fails before anything is built.
    try:
        subject.sample = reference.cases(wanted[0])[0].inputs
    except NoSample as error:
        return _unplanned(subject, wanted, str(error))
    longest = reference.longest(subject.sample)
    subject.signature = subject.signature.bounded(reference.bounds(subject.sample), longest)
    attempts = Attempts(subject, reference, CrashLog(options.cache_dir, cache.key(known_as)))

    def search(options: PlanOptions) -> Findings:
        stored = None if apart is None else apart(options)
        chosen = None if stored is None else restored(stored, attempts, wanted)
        if stored is not None and chosen is not None:
            return _restored(stored, chosen)
        return _search(attempts, reference, options, wanted, subject)

    if options.cache_dir is None:
        return search(options)
    stored = _stored(options, known_as, wanted)
    # A kept plan that somebody else carries on is good enough; without one there is nothing to start from.
    wait_s = WAIT_BUDGETS * options.budget_s if stored is None else 0.0
    with cache.measuring(options.cache_dir, known_as, wait_s) as alone:
        stored = _stored(options, known_as, wanted)
        left = unfinished(stored) if stored is not None and alone and options.budget_s > 0 else ()
        chosen = None if stored is None or left else restored(stored, attempts, wanted)
        if stored is not None and chosen is not None:
            _note(options, known_as, stored)
            return _restored(stored, chosen, from_cache=True)
        found = search(replace(options, only=left or options.only))
        if stored is not None and left:
            found = replace(found, rows=merged(stored.candidates, found.rows))
        if options.budget_s > 0:
            starts = stored.starts + 1 if stored is not None and left else 1
            kept = remembered(found.chosen, found.rows, found.predict_p50_s, starts)
            cache.store(options.cache_dir, known_as, kept)
            _note(options, known_as, kept)
    return found


def searched(
    subject: Subject,
    options: PlanOptions,
    wanted: tuple[Bucket, ...],
    exact: LoadedModel | None,
    crashes: Crashes,
) -> StoredPlan:
    """Search in a process that may die, where `crashes` is told of what is tried; return what `Apart` does."""
    reference = Reference(subject, options, None if exact is None else exact.call)
    found = _search(Attempts(subject, reference, crashes), reference, options, wanted, subject)
    return remembered(found.chosen, found.rows, found.predict_p50_s)


def _note(options: PlanOptions, known_as: Mapping[str, Any], kept: StoredPlan) -> None:
    """Let the next start know before it loads the model that there is nothing to search."""
    if options.cache_dir is not None and options.source_key is not None and not unfinished(kept):
        cache.note(options.cache_dir, options.source_key, known_as)


def _restored(stored: StoredPlan, chosen: Mapping[Bucket, Trial], *, from_cache: bool = False) -> Findings:
    rows = {bucket: [dict(row) for row in rows] for bucket, rows in stored.candidates.items()}
    return Findings(chosen, rows, stored.predict_p50_s, from_cache)


def _stored(options: PlanOptions, known_as: Mapping[str, Any], wanted: tuple[Bucket, ...]) -> StoredPlan | None:
    assert options.cache_dir is not None
    names = {candidate.name for candidate in ways(options)}
    stored = cache.load(options.cache_dir, known_as, names)
    return stored if stored is not None and stored.chosen.keys() == {bucket.key for bucket in wanted} else None


def _search(
    attempts: Attempts, reference: Reference, options: PlanOptions, wanted: tuple[Bucket, ...], subject: Subject
) -> Findings:
    table = Search(attempts, reference, options).run(wanted)
    chosen = choose(table)
    _drop_unchosen(table, chosen)
    baseline_s = predict_p50_s(subject.model, reference.cases(wanted[0])[0].inputs, options.budget_s)
    rows = {bucket.key: [trial.row() for trial in _ranked(trials)] for bucket, trials in table.items()}
    return Findings(chosen, rows, baseline_s)


def _unplanned(subject: Subject, wanted: tuple[Bucket, ...], reason: str) -> Findings:
    """Return findings by which the model runs as its author would call it, unmeasured and unverified."""
    (eager,) = (candidate for candidate in all_candidates() if candidate.name == PLAIN)
    runner = eager.build(subject, wanted[0])
    event(
        "unplanned",
        f"served as it is, several times slower: {reason}. Give rows that it takes: samples: rows.npz (or .json), or "
        "--samples for `solo plan`",
        level=logging.WARNING,
        cause=reason,
    )
    chosen = {bucket: Trial(eager, bucket, runner, remembered_s=(ASSUMED_S, ASSUMED_S)) for bucket in wanted}
    rows = {bucket.key: [{**trial.row(), "status": f"unverified: {reason}"}] for bucket, trial in chosen.items()}
    return Findings(chosen, rows, None)


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
