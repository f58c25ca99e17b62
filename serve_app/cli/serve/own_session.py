"""The server in a session of its own, so that whoever ends a whole group of processes ends it as one signal would.

A terminal's Ctrl-C goes to every process of the foreground's group: Ray's own die of it at once, with all requests on
their way. So the process that was started only watches. It hands on the first signal, waits for the end, however often
it is asked again, and clears up where the server was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import psutil

from serve_app.cluster.ending import end

PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(serve: Callable[[], int]) -> int:
    """Return the exit status of `serve`, run in a child; to be called before there are threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    parent = os.getpid()
    child = os.fork()
    if not child:
        _be_the_server(serve, parent)
    return _watch(child)


def _be_the_server(serve: Callable[[], int], parent: int) -> None:
    status = 1
    try:
        os.setsid()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            status = serve()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _watch(child: int) -> int:
    asked = False

    def hand_on(*_: Any) -> None:
        nonlocal asked
        if not asked:
            asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under `nohup`
            signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _, state = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(state)
    if status < 0:
        end(_of_session(child), 0.0)
    return status if status >= 0 else 128 - status


def _of_session(leader: int) -> set[psutil.Process]:
    """Return what is left of a session whose leader is gone."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader:
                found.add(process)
    return found
