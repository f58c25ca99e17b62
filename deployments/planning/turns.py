"""How many models load and plan at once on a node: with fifty on two cores each would take fifty times as long.

A turn is a name in Linux's abstract socket namespace, of which there are as many as may load at once: a process that
dies gives its own back, and no file is left behind. Elsewhere everything loads at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

LOOK_S = 0.2
LEAST = 2
"""One that downloads or hangs does not hold up the others alone."""


def at_once() -> int:
    """Return how many may load at once: as many as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(LEAST, cores)


@contextlib.contextmanager
def turn(cluster: str, limit_s: float, tell: Callable[[], None], places: int | None = None) -> Iterator[None]:
    """Hold one of the node's `places` for the block; `tell` is called once where that has to be waited for.

    `cluster` names what shares the places. After `limit_s` the block goes on without one: those that hold them must
    be hanging, which is no reason for the rest to wait for ever.
    """
    if sys.platform != "linux":
        yield
        return
    names = [f"\0keras-solo/{os.getuid()}/{cluster}/{place}" for place in range(places or at_once())]
    held = _free(names)
    if held is None:
        tell()
        ends_s = time.monotonic() + limit_s
        while held is None and time.monotonic() < ends_s:
            time.sleep(LOOK_S)
            held = _free(names)
    try:
        yield
    finally:
        if held is not None:
            held.close()


def _free(names: Sequence[str]) -> socket.socket | None:
    """Return the first of the places that nobody holds, now held, or None."""
    for name in names:
        place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            place.bind(name)
        except OSError:
            place.close()
        else:
            return place
    return None
