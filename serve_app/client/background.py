"""One event loop in a thread of its own, for blocking calls that have several things under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the coroutine's result, blocking this thread only; an interrupt here cancels it there.

    Works inside a running event loop too (a notebook's, an async actor's), which it blocks like any other call.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _running_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="keras-solo-client", daemon=True).start()
        return _loop
