"""A timer that only ever moves earlier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back once, at the earliest time it was set to; for the event loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None

    def set_in(self, left_s: float) -> None:
        """Ring in `left_s` seconds (at once if negative), unless it rings before that anyway."""
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + left_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, left_s), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._callback()
