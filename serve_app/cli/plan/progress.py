"""The plan's progress: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import IO, Any, Protocol


class Progress(Protocol):
    """Told what is happening."""

    def say(self, text: str) -> None:
        """Show what begins now."""
        ...

    def expect(self, candidates: int, buckets: int) -> None:
        """Learn how many steps planning has."""
        ...

    def tell(self, fraction: float | None, text: str) -> None:
        """Take the plan's own callback: one candidate begins, or (with a fraction) a batch size is done."""
        ...


@contextlib.contextmanager
def progress(terminal: IO[str]) -> Iterator[Progress]:
    """Yield a `Progress` that writes to `terminal`."""
    if not terminal.isatty():
        yield Lines(terminal)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    text = TextColumn("{task.description}")
    with RichProgress(*columns, text, console=Console(file=terminal), transient=True) as display:
        yield Bar(display)


class Lines:
    """One line a step, with the seconds since the start."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal
        self._started_s = time.monotonic()

    def say(self, text: str) -> None:
        """Print `text`."""
        print(f"[{time.monotonic() - self._started_s:5.1f} s] {text}", file=self._terminal, flush=True)

    def expect(self, candidates: int, buckets: int) -> None:
        """Say how much there is to do."""
        self.say(f"planning: {candidates} ways of executing, {buckets} shape{'s' if buckets > 1 else ''}")

    def tell(self, fraction: float | None, text: str) -> None:
        """Print the step."""
        self.say(text if fraction is None else f"{text} ({fraction:.0%})")


class Bar:
    """A bar whose steps are the candidates, corrected to the plan's own fraction after each batch size."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._task = display.add_task("", total=None)
        self._step = 0.0
        self._shown = 0.0
        self._done = 0.0

    def say(self, text: str) -> None:
        """Show `text` behind the bar."""
        self._display.update(self._task, description=text)

    def expect(self, candidates: int, buckets: int) -> None:
        """Give the bar its length."""
        # One more step than candidates: timing them takes as long as building some.
        self._step = 1 / (buckets * (candidates + 1))
        self._bucket = 1 / buckets
        self._display.update(self._task, total=1.0, completed=0.0)

    def tell(self, fraction: float | None, text: str) -> None:
        """Advance by one candidate, never past the batch size being tried; a fraction is exact."""
        if fraction is None:
            self._shown = min(self._shown + self._step, self._done + self._bucket)
        else:
            self._shown = self._done = fraction
        self._display.update(self._task, completed=self._shown, description=text)
