"""How many models load and plan at once on a node: with fifty on two cores each would take fifty times as long.

A turn is a lock on one of a few files of this cluster's on this node; whoever holds it may die with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

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
    key = hashlib.sha256(cluster.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"keras-solo-turns-{os.getuid()}-{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks = [FileLock(folder / f"{place}.lock") for place in range(places or at_once())]
    held = _free(locks)
    if held is None:
        tell()
        ends_s = time.monotonic() + limit_s
        while held is None and time.monotonic() < ends_s:
            time.sleep(LOOK_S)
            held = _free(locks)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def _free(locks: list[FileLock]) -> FileLock | None:
    for lock in locks:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            return lock
    return None
