"""Times candidates against each other so that the machine's drift hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deployments.planning.trials import Trial
from deployments.tensors import Arrays

BURST_S = 0.002
"""A turn lasts about this long: candidates of microseconds run warm, as under load, and none waits for long."""
LONGEST_BURST = 50
ENOUGH_CALLS = 600
"""Calls after which a p99 is more than its few slowest."""
FEWEST_TURNS = 3
HOPELESS = 3.0
"""How many times slower than the best a candidate is when its timing ends after `FEWEST_TURNS`."""
UTTERLY_HOPELESS = 20.0
"""And after the first turn."""


def time_trials(trials: Sequence[Trial], arrays: Arrays, deadline_s: float) -> None:
    """Call every trial's runner in turns until each has enough times or `deadline_s` (monotonic) is over.

    Every trial gets `FEWEST_TURNS` turns whatever the deadline, unless it is hopeless after the first.
    """
    running = [trial for trial in trials if trial.is_ok]
    turns = 0
    while running:
        for trial in running:
            _take_turn(trial, arrays)
        turns += 1
        best_s = min(trial.p50_s for trial in trials if trial.times_s)
        running = [trial for trial in running if not _is_done(trial, best_s, turns)]
        if turns >= FEWEST_TURNS and time.monotonic() > deadline_s:
            return


def _is_done(trial: Trial, best_s: float, turns: int) -> bool:
    hopeless = UTTERLY_HOPELESS if turns < FEWEST_TURNS else HOPELESS
    return len(trial.times_s) >= ENOUGH_CALLS or trial.p50_s > hopeless * best_s


def _take_turn(trial: Trial, arrays: Arrays) -> None:
    """Make one burst of calls; the first, which finds another candidate's data in the caches, is not counted."""
    assert trial.runner is not None
    run, clock = trial.runner.run, time.perf_counter_ns
    last_s = trial.times_s[-1] if trial.times_s else 0.0
    calls = LONGEST_BURST if last_s == 0.0 else int(BURST_S / last_s)
    started_s = time.monotonic()
    if last_s < BURST_S:
        run(arrays)
    for _ in range(min(max(calls, 1), LONGEST_BURST)):
        start_ns = clock()
        run(arrays)
        trial.times_s.append((clock() - start_ns) * 1e-9)
        if time.monotonic() - started_s > 2 * BURST_S:
            return
