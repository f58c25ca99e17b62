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
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn, Protocol

from deployments.candidates._context import has_run
from deployments.errors import SoloError
from deployments.events import event
from deployments.planning.options import Progress

LOOK_S = 0.05
"""How often the fork server looks after its worker."""
SILENT_S = 600.0
"""How long nothing may be tried before the worker counts as hung: it loads the model then, and asks it."""
MEMORY_SHARE = 0.8
"""Of the memory that is free when a worker starts, how much it may take."""
DONE, REFUSED, FAILED, TOLD, LOST, DIED = "done", "refused", "failed", "told", "lost", "died"
"""What the fork server says: the job's result; a `SoloError`; a traceback; progress; a try that killed its worker; and
that a worker died while nothing was tried."""
_MARK = struct.Struct("=QB")
_LONGEST = 200
_PR_SET_PDEATHSIG = 1


class Watch:
    """What the worker shares with its fork server: the name of what is being tried, and what was lost before."""

    def __init__(self, lost: Mapping[str, str]) -> None:
        self._lost = lost
        self._memory = mmap.mmap(-1, _MARK.size + _LONGEST)
        self._turns = 0

    def crashed(self) -> Mapping[str, str]:
        """Return what killed an earlier worker, and how."""
        return self._lost

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Say that `name` is being tried, until the block ends."""
        self.turn(name)
        yield
        self.turn("")

    def turn(self, name: str) -> None:
        """Say that from now on `name` is being tried, or nothing."""
        self._turns += 1
        encoded = name.encode()[:_LONGEST]
        self._memory[_MARK.size : _MARK.size + len(encoded)] = encoded
        self._memory[: _MARK.size] = _MARK.pack(self._turns, len(encoded))

    def read(self) -> tuple[int, str]:
        """Return how often something was said, and what is being tried."""
        turns, length = _MARK.unpack(self._memory[: _MARK.size])
        return turns, self._memory[_MARK.size : _MARK.size + length].decode(errors="replace")


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


@contextlib.contextmanager
def started() -> Iterator[ForkServer | None]:
    """Yield a fork server for the block, None where there can be none: not Linux, or TensorFlow has begun to run."""
    server = _start() if sys.platform == "linux" and not has_run() else None
    try:
        yield server
    finally:
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
    return ForkServer(pid, ours)


def _serve(control: Connection[Any, Any]) -> NoReturn:
    """Be the fork server: do one job after another until the other end is closed."""
    try:
        _let_go_of_all_but({0, 1, 2, control.fileno()})
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked decides
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
    guard = _Guard(pid, watch, job.patience_s)
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


class _Guard:
    """Ends a worker that hangs or takes the machine's memory."""

    def __init__(self, pid: int, watch: Watch, patience_s: float) -> None:
        self.cause = ""
        self._pid = pid
        self._watch = watch
        self._patience_s = patience_s
        self._resident = _resident_bytes(pid)
        self._limit = int(MEMORY_SHARE * free_bytes())
        self._turns, self._since_s = 0, time.monotonic()

    def look(self) -> None:
        """Look once."""
        turns, name = self._watch.read()
        if turns != self._turns:
            self._turns, self._since_s = turns, time.monotonic()
        elif time.monotonic() - self._since_s > (patience_s := self._patience_s if name else SILENT_S):
            self._end(f"it hung for {patience_s:.0f} s")
        taken = _resident_bytes(self._pid) - self._resident
        if taken > self._limit:
            self._end(f"it took {taken / 2**30:.1f} GiB of memory, {MEMORY_SHARE:.0%} of what was free")

    def _end(self, cause: str) -> None:
        if not self.cause:
            self.cause = cause
            os.kill(self._pid, signal.SIGKILL)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError):
        return 0


def free_bytes() -> int:
    """Return how much memory can be had: the machine's, or this container's where that is less."""
    found = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found, default=0))
