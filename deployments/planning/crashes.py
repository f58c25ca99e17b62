"""Remembers which candidate was being tried when a process died, so that the next start leaves it out.

A candidate that kills its process cannot be caught. While one is tried a file says so; one left behind by a
dead process is a strike. A process may also be killed from outside, so it takes `STRIKES` for a candidate to be
left out, and a strike lapses after `LAPSE_S`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

STRIKES = 2
LAPSE_S = 7 * 24 * 3600.0


class Crashes(Protocol):
    """Who is told what is being tried, and knows what not to try."""

    def crashed(self) -> Mapping[str, str]:
        """Return the candidates that are to be left out, and why."""

    def trying(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Be told that `name` is being tried, until the block ends."""

    def turn(self, name: str) -> None:
        """Be told that `name` is being timed from now on."""


class CrashLog:
    """The strikes of one plan's candidates in `folder`; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder = folder
        self._key = key

    def crashed(self) -> dict[str, str]:
        """Return the candidates that were being tried in `STRIKES` or more processes that died, and that they did."""
        counts: Counter[str] = Counter()
        for path in self._left_behind():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if time.time() - path.stat().st_mtime > LAPSE_S:
                    path.unlink()
                else:
                    counts[path.read_text()[:100]] += 1
        return {name: "the process died while this was tried" for name, count in counts.items() if count >= STRIKES}

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Say on disk that `name` is being tried, until the block ends in any way but the process's death."""
        path = self._mark(name)
        try:
            yield
        finally:
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()

    def turn(self, name: str) -> None:
        """Say nothing of a candidate's turn in timing: a file each would cost more than the turn."""

    def _mark(self, name: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / f"{self._key}.{os.getpid()}-{time.time_ns()}.trying"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        except OSError:
            return None
        return path

    def _left_behind(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return [path for path in self._folder.glob(f"{self._key}.*.trying") if not _is_alive(path)]


def _is_alive(path: Path) -> bool:
    """Return whether the process that wrote `path` still runs here."""
    process = path.name.split(".")[1].split("-")[0]
    if not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
