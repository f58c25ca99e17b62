"""Work in a process that may die: a fork of this one, made before TensorFlow has run anything.

TensorFlow's threads do not survive a fork, so a process that has run an op cannot be forked any more. The fork server
is a copy of this process from before that. It forks a worker for a job, in 10 ms instead of the four seconds that
another import takes; it watches the worker, ends it where it hangs or takes the machine's memory, and says what was
being tried when it died. Then the next worker goes without that.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn, Protocol

from deployments.candidates._context import has_run
from deployments.errors import SoloError
from deployments.events import event
from deployments.planning.guarding import START_S, Guard, Watch
from deployments.planning.options import Progress

LOOK_S = 0.05
"""How often the fork server looks after its worker."""
DONE, REFUSED, FAILED, TOLD, LOST, DIED = "done", "refused", "failed", "told", "lost", "died"
"""A job's result, a `SoloError`, a traceback, progress, a try that killed its worker, and a worker dead without one."""
_LONGEST = 200
_PR_SET_PDEATHSIG = 1


class Job(Protocol):
    """What a worker does; pickled on its way."""

    @property
    def patience_s(self) -> float:
        """How long one thing may be tried before it counts as hung."""

    def run(self, watch: Watch, tell: Progress) -> Any:
        """Return the result, pickled on its way back; a `SoloError` is raised in the process that asked."""


@dataclass
class ForkServer:
    """The other process, as seen from the one that asks."""

    _pid: int
    _control: Connection[Any, Any]

    def run(self, job: Job, tell: Progress) -> Any:
        """Return what `job` returns in a worker; None where no worker could be kept alive. Raises its `SoloError`."""
        try:
            self._control.send(job)
            while True:
                what, *said = self._control.recv()
                if what == TOLD:
                    tell(*said)
                elif what == DONE:
                    return said[0]
                elif what == REFUSED:
                    raise said[0]
                else:
                    _report(what, said)
                    if what != LOST:
                        return None
        except (EOFError, OSError):
            _report(DIED, ["the fork server ended"])
            return None

    def close(self) -> None:
        """End the process."""
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _report(what: str, said: list[str]) -> None:
    if what == LOST:
        event("candidate_lost", f"planning goes on without {said[0]}: {said[1]}", candidate=said[0], cause=said[1])
    else:
        event("planning_apart", f"planning goes on in this process: {said[0]}", cause=said[0])


_running: ForkServer | None = None


@contextlib.contextmanager
def started() -> Iterator[ForkServer | None]:
    """Yield a fork server for the block, None where there can be none: not Linux, or TensorFlow has begun to run.

    Within such a block it is that block's: for several models in one process, of which the first runs TensorFlow.
    """
    global _running
    if _running is not None:
        yield _running
        return
    _running = _start() if sys.platform == "linux" and not has_run() else None
    try:
        yield _running
    finally:
        server, _running = _running, None
        if server is not None:
            server.close()


def _start() -> ForkServer | None:
    ours, theirs = Pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: none of theirs is used
            pid = os.fork()
    except OSError as error:
        event("planning_apart", f"planning goes on in this process: {error}", cause=str(error))
        return None
    if pid == 0:
        _serve(theirs)
    theirs.close()
    server = ForkServer(pid, ours)
    with contextlib.suppress(EOFError):
        if ours.poll(START_S) and ours.recv():
            return server
    event("planning_apart", "planning goes on in this process: its fork has threads, or does not begin")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    server.close()
    return None


def _serve(control: Connection[Any, Any]) -> NoReturn:
    """Be the fork server: do one job after another until the other end is closed."""
    try:
        _let_go_of_all_but({0, 1, 2, control.fileno()})
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked decides
        # A library that starts threads in a fork (gRPC, where it may) would keep this one from forking in its turn.
        control.send(len(os.listdir("/proc/self/task")) == 1)
        while True:
            _run(control.recv(), control)
    except BaseException:  # a copy of somebody else's process: nothing of its end may run here
        os._exit(0)


def _let_go_of_all_but(kept: set[int]) -> None:
    """Give all other descriptors to nothing: sockets end with their process, and no number is used by others again."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept | {nothing}:
            with contextlib.suppress(OSError):
                os.dup2(nothing, int(name))


def _run(job: Job, control: Connection[Any, Any]) -> None:
    lost: dict[str, str] = {}
    while (end := _try(job, Watch(lost), control)) is not None:
        name, cause = end
        if not name or name in lost:
            control.send((DIED, cause))
            return
        lost[name] = cause
        control.send((LOST, name, cause))


def _try(job: Job, watch: Watch, control: Connection[Any, Any]) -> tuple[str, str] | None:
    """Run `job` in a worker; return None where it came to an end, else what was being tried and how it died."""
    results, theirs = Pipe(duplex=False)
    errors = os.memfd_create("errors")
    pid = os.fork()
    if pid == 0:
        _work(job, watch, theirs, errors)
    theirs.close()
    guard = Guard(pid, watch, job.patience_s)
    try:
        while True:
            if results.poll(LOOK_S):
                message = results.recv()
                control.send(message)
                if message[0] != TOLD:
                    return None
            if control.poll():
                os._exit(0)  # nobody waits any more; the worker dies with this process
            guard.look()
    except EOFError:
        _, status = os.waitpid(pid, 0)
        pid = 0
        return watch.read()[1], guard.cause or _cause(status, errors)
    finally:
        results.close()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(errors)


def _work(job: Job, watch: Watch, results: Connection[Any, Any], errors: int) -> NoReturn:
    """Be the worker."""
    try:
        _apart(errors)
        watch.turn("")
        try:
            results.send((DONE, job.run(watch, lambda *said: results.send((TOLD, *said)))))
        except SoloError as error:
            results.send((REFUSED, error))
        except Exception:
            results.send((FAILED, traceback.format_exc()))
    finally:
        os._exit(0)


def _apart(errors: int) -> None:
    """Keep this process's death to itself: no words on the terminal, no core, and first to go for want of memory."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.disable()
    for standard in (1, 2):
        os.dup2(errors, standard)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _cause(status: int, errors: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    how = f"with {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    size = os.fstat(errors).st_size
    lines = os.pread(errors, 4096, max(0, size - 4096)).decode(errors="replace").strip().splitlines()
    return f"its process died {how}" + (f": {lines[-1][:_LONGEST]}" if lines else "")
