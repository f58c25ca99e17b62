"""The end of a cluster of our own: what was accepted is answered, and then nothing is left.

Serve's own way down (`serve.shutdown`, Ray 2.60) stops one thing after another, 19 s for seven models on two cores.
Behind a HAProxy that has ended softly only other processes of the cluster still ask replicas; once these have
their answers too, there is nothing to be gentle with.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

LIMIT_S = 20.0
"""How long requests may take to be answered, as long as Serve gives a replica."""
POLL_S = 0.1
ASKED_S = 2.0
"""How long replicas may take to say how many requests they have; whose event loop stands still has no more time."""
LEAVE_S = 2.0
"""How long processes may take to end by themselves."""
_REPLICA = "SERVE_REPLICA::"


def wait_until_idle(limit_s: float = LIMIT_S) -> None:
    """Return when no replica of this cluster has a request, after `limit_s` at the latest."""
    import ray
    from ray.util import list_named_actors

    ends_s = time.monotonic() + limit_s
    with contextlib.suppress(Exception):  # a replica that is gone, or cannot say, is not waited for
        names = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
        replicas = [ray.get_actor(name, namespace="serve") for name in names if name.startswith(_REPLICA)]
        wait_until_none(lambda: sum(_requests(replicas)), ends_s)


def wait_until_none(count: Callable[[], int], ends_s: float) -> None:
    """Return when `count` says 0, at `ends_s` (`time.monotonic`) at the latest."""
    while count() and time.monotonic() < ends_s:
        time.sleep(POLL_S)


def _requests(replicas: list[Any]) -> list[int]:
    import ray

    counts: list[int] = ray.get([one.get_num_ongoing_requests.remote() for one in replicas], timeout=ASKED_S)
    return counts


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Have nothing written to this process's stderr: Ray's core writes there itself, in colours, that it was ended."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def end(processes: set[psutil.Process], leave_s: float = LEAVE_S) -> None:
    """End what is left after `leave_s`: HAProxy outlives a killed proxy actor."""
    _, alive = psutil.wait_procs(list(processes), timeout=leave_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
