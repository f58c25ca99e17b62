"""A coroutine carried on without a task: begun in the caller's own call, continued by what it waits for.

A task begins a pass of the event loop later. Most predictions are answered before they wait for anything, so most of
what is run by this class is over before `_begin_with` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Stepping:
    """Runs one coroutine; a subclass says in `_end` what becomes of its end."""

    __slots__ = ("_coroutine", "_is_cancelled", "_waits")

    def __init__(self) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._waits: asyncio.Future[Any] | None = None
        """What the coroutine waits for."""
        self._is_cancelled = False
        """Whether its next wait is to be cancelled."""

    def _begin_with(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` as far as it gets."""
        self._coroutine = coroutine
        self._step(None)

    def _end(self, error: BaseException | None) -> None:
        """Close the books: the coroutine has returned, or failed with `error`."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cancel what the coroutine waits for, or will wait for next."""
        if self._waits is None or not self._waits.cancel():
            self._is_cancelled = True

    def _step(self, _: object) -> None:
        """Carry the coroutine on to where it waits next, as a task would."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        try:
            waits = coroutine.send(None)
        except StopIteration:
            self._end(None)
        except (KeyboardInterrupt, SystemExit):
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
        else:
            self._wait_for(waits)

    def _wait_for(self, waits: asyncio.Future[Any] | None) -> None:
        if waits is None:  # `asyncio.sleep(0)`
            asyncio.get_running_loop().call_soon(self._step, None)
            return
        waits._asyncio_future_blocking = False
        self._waits = waits
        waits.add_done_callback(self._step)
        if self._is_cancelled:
            self._is_cancelled = False
            waits.cancel()
