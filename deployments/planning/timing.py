"""Times candidates against each other so that the machine's drift hits all of them alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence

from deployments.planning.trials import Trial
from deployments.tensors import Arrays

BURST_S = 0.002
"""A turn lasts about this long: candidates of microseconds run warm, as under load, and none waits for long."""
LONGEST_BURST = 50
SETTLED_S = 0.05
"""A call this long is little disturbed by what its predecessor left: MobileNetV2's 12 ms read 15 after XLA's."""
ENOUGH_CALLS = 600
"""Calls after which a p99 is more than its few slowest."""
ENOUGH_ALONE = 200
"""Calls after which the best stops once all others are out."""
CLEAR_CALLS = 40
"""Calls after which a candidate is out whose faster quarter is slower than the best's slower quarter."""
FEWEST_TURNS = 3
HOPELESS = 3.0
"""When even a candidate's fastest call is this many times slower than the best's median, its timing ends."""
UTTERLY_HOPELESS = 10.0
"""And when it is that many times slower, after its first turn: XLA's MobileNetV2 takes half a second a call."""
_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)
"""Linux alone counts by thread."""


def time_trials(
    trials: Sequence[Trial],
    arrays: Arrays,
    deadline_s: float,
    turn: Callable[[str], None] = lambda name: None,  # noqa: ARG005
) -> None:
    """Call every trial's runner in turns until each has enough times or `deadline_s` (monotonic) is over.

    Every trial that is not utterly hopeless gets `FEWEST_TURNS` turns whatever the deadline. `turn` is told the name
    before each, and "" after the last.
    """
    running = [trial for trial in trials if trial.is_ok]
    turns = 0
    while running:
        # There and back, so that nobody always follows the same neighbour.
        for trial in running if turns % 2 == 0 else reversed(running):
            turn(trial.name)
            _take_turn(trial, arrays)
        turn("")
        turns += 1
        best = min((trial for trial in trials if trial.times_s), key=lambda trial: trial.p50_s)
        if turns < FEWEST_TURNS:
            running = [trial for trial in running if trial.fastest_s < UTTERLY_HOPELESS * best.p50_s]
            continue
        running = [trial for trial in running if not _is_done(trial, best, is_alone=running == [best])]
        if time.monotonic() > deadline_s:
            return


def _is_done(trial: Trial, best: Trial, is_alone: bool) -> bool:
    calls = len(trial.times_s)
    if calls >= (ENOUGH_ALONE if is_alone else ENOUGH_CALLS) or trial.fastest_s > HOPELESS * best.p50_s:
        return True
    return calls >= CLEAR_CALLS and trial.percentile_s(25) > best.percentile_s(75)


def _take_turn(trial: Trial, arrays: Arrays) -> None:
    """Make one burst of calls; the first finds cold caches, and threads of the last one still spinning.

    It is counted only of those that take too long to be called twice.
    """
    turn_s, was_undisturbed = _timed(trial, arrays)
    if turn_s > SETTLED_S:
        _note(trial, turn_s, was_undisturbed)
        return
    for _ in range(LONGEST_BURST):
        call_s, was_undisturbed = _timed(trial, arrays)
        _note(trial, call_s, was_undisturbed)
        turn_s += call_s
        if turn_s > BURST_S:
            return


def _note(trial: Trial, call_s: float, was_undisturbed: bool) -> None:
    trial.times_s.append(call_s)
    if was_undisturbed:
        trial.undisturbed_s.append(call_s)


def _timed(trial: Trial, arrays: Arrays) -> tuple[float, bool]:
    """Return how long a call took, and whether its thread kept its core all the time."""
    assert trial.runner is not None
    run = trial.runner.run
    before = _preemptions()
    start_ns = time.perf_counter_ns()
    run(arrays)
    call_s = (time.perf_counter_ns() - start_ns) * 1e-9
    return call_s, _preemptions() == before


def _preemptions() -> int:
    """Return how often the system has taken the core from this thread; 0 where it does not say."""
    return resource.getrusage(_THREAD).ru_nivcsw if _THREAD is not None else 0
