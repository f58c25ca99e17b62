"""A stop that a signal may ask for at any moment."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection


class Stop:
    """What `threading.Event` is to threads, for signal handlers.

    An event's `set` takes a lock, which the main thread may hold where the signal finds it, just before or after a
    wait: both stand still for ever then (CPython runs handlers in the main thread). A byte in a pipe needs no lock.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._is_set = False

    def set(self) -> None:
        """Stop whoever waits, and whoever will."""
        if not self._is_set:
            self._is_set = True
            os.write(self._write, b"x")

    def is_set(self) -> bool:
        """Return whether the stop was asked for."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Return whether the stop is asked for, within `timeout_s` seconds."""
        if not self._is_set:
            select.select([self._read], [], [], timeout_s)
        return self._is_set

    def on(self, signals: Collection[int] = (signal.SIGINT, signal.SIGTERM)) -> None:
        """Have these signals ask for it, whatever handled them before."""
        for number in signals:
            signal.signal(number, lambda *_: self.set())
