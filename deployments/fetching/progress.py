"""Counting a download's bytes as fsspec reports them."""

from __future__ import annotations

from collections.abc import Callable

from fsspec.callbacks import Callback


class Bytes(Callback):  # type: ignore[misc]
    """Adds up the files of one download; a filesystem sets `value`, or adds to it, and then calls."""

    def __init__(self, told: Callable[[int], None]) -> None:
        super().__init__()
        self._told = told
        self._before = 0

    @property
    def came(self) -> int:
        """Bytes that have come so far."""
        return int(self._before + self.value)

    def next_file(self) -> None:
        """Count from here on for another file."""
        self._before, self.value = self.came, 0

    def call(self, *_: object, **__: object) -> None:
        """Tell; called by fsspec after every piece."""
        self._told(self.came)
