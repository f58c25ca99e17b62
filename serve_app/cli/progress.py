"""How far models are while they load and are planned: a bar each on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

LINE_EVERY_S = 2.0
"""A plan has dozens of steps of a fraction of a second; a log file needs only to show that it goes on."""

Show = Callable[[str, float, str], None]
"""Takes a model's name, the done fraction of its plan (0..1) and what is under way, as often as one likes."""


@contextlib.contextmanager
def shown(terminal: IO[str], say: Callable[[str], None]) -> Iterator[Show]:
    """Yield what shows progress on `terminal`; `say` prints one line."""
    if not terminal.isatty():
        yield Lines(say).show
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    name, step = TextColumn("{task.fields[model]}"), TextColumn("{task.description}")
    columns = (name, BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(), step)
    with Progress(*columns, console=Console(file=terminal), transient=True) as display:
        yield Bars(display).show


class Lines:
    """At most one line a model every `LINE_EVERY_S`, and only where something has changed; the last one always."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last: dict[str, tuple[float, str]] = {}

    def show(self, model: str, fraction: float, step: str) -> None:
        """Print the step unless it is known, or too soon."""
        said_s, said = self._last.get(model, (float("-inf"), ""))
        if step == said or (fraction < 1 and time.monotonic() - said_s < LINE_EVERY_S):
            return
        self._last[model] = (time.monotonic(), step)
        self._say(f"{model}: {step}" + (f" ({fraction:.0%} of the plan)" if fraction else ""))


class Bars:
    """One bar a model."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tasks: dict[str, Any] = {}

    def show(self, model: str, fraction: float, step: str) -> None:
        """Move the model's bar."""
        if model not in self._tasks:
            self._tasks[model] = self._display.add_task("", total=1.0, model=model)
        self._display.update(self._tasks[model], completed=fraction, description=step)


class Steps:
    """One plan's steps as a fraction that never falls: a candidate at a time, and exact after each batch size."""

    def __init__(self, model: str, show: Show) -> None:
        self._model = model
        self._show = show
        self._step = self._bucket = 0.0
        self._shown = self._done = 0.0

    def expect(self, candidates: int, buckets: int) -> None:
        """Learn how many candidates are tried, for how many shapes."""
        # One more step than candidates: timing them takes as long as building some.
        self._step = 1 / (buckets * (candidates + 1))
        self._bucket = 1 / buckets

    def tell(self, fraction: float | None, step: str) -> None:
        """Take a plan's progress: what begins now, or (with a fraction) which batch size is done."""
        if fraction is None:
            self._shown = min(self._shown + self._step, self._done + self._bucket)
        else:
            self._shown = self._done = fraction
        self._show(self._model, self._shown, step)
