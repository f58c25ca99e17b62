"""The zygote: a process that imports, then forks a worker for whoever asks, until its standard input ends.

It is two processes: the first imports Ray and Serve, within a second, and is ready for the workers that everything
waits for; its child imports the rest, TensorFlow above all. `launching` starts it with two listening sockets, one for
each. Nothing is run here that is imported, so there are no threads of ours that a fork would miss.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_app.cluster.zygote import worker

RAY = (
    *("ray.actor", "ray._private.node", "ray._private.async_compat", "ray._private.runtime_env.setup_hook"),
    *("ray.serve._private.controller", "ray.serve._private.replica", "ray.serve._private.haproxy"),
)
"""What Ray's workers and Serve's actors import."""
FREE = frozenset(
    {
        *("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_LD_PRELOAD_ON_WORKERS", "SPT_NOENV"),  # Ray's, of each worker
        *("RAY_CLIENT_MODE", "PYTHONBREAKPOINT"),  # set by importing and starting Ray
        *("LINES", "COLUMNS"),  # set by importing readline
        worker.HOOK,  # what a worker calls first
    }
)
"""What workers may have otherwise. Any other difference is a setting that was read here, at import, and differs."""
ASKING_S = 5.0
"""How long a worker may take to say what it wants."""
MOST_BYTES = 1 << 24
YOUNG_S = 5.0
"""A fork that crashes younger than this has met what it cannot be without: forks are no good here."""
MOST_CRASHES = 3
LEAVE_S = 2.0
"""How long forks may take to end by themselves when everything does."""
POLL_S = 0.05
STDIN = 0
CRASHES = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})


@dataclass(frozen=True)
class Request:
    """A worker to be."""

    arguments: list[str]
    environment: Mapping[str, str]
    folder: str
    group: int
    """The process group that it is to be in: with a worker Ray (2.60) ends the group that it has started it in."""
    python: str
    streams: Sequence[int]


@dataclass
class Children:
    """The forks that were made, and how many of them crashed as they began."""

    born_s: dict[int, float] = field(default_factory=dict)
    crashes: int = 0

    def reap(self) -> None:
        """Take note of the forks that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                code = os.waitstatus_to_exitcode(status)
                is_young = time.monotonic() - self.born_s.pop(pid, 0.0) < YOUNG_S
                self.crashes += is_young and (code > 0 or -code in CRASHES)

    def end(self) -> None:
        """Return when all forks have ended, by themselves or after `LEAVE_S`, and the other zygote with its own."""
        ends_s = time.monotonic() + LEAVE_S
        while self.born_s and time.monotonic() < ends_s:
            self.reap()
            time.sleep(POLL_S)
        for pid in self.born_s:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()


def main(arguments: Sequence[str]) -> None:
    """Be the zygote.

    `arguments` are the two sockets' descriptors, what a fork runs, and what to import.
    """
    rays, wholes = (socket.socket(fileno=int(number)) for number in arguments[:2])
    target, modules = arguments[2], arguments[3:]
    before = dict(os.environ)
    # Ray's core reads these as it is loaded, and a worker cannot be without. One without a job takes part in any that
    # it is given; one ends when that process does which it takes for the raylet: here, the one that ends the cluster.
    os.environ["RAY_JOB_ID"] = worker.NO_JOB
    os.environ["RAY_RAYLET_PID"] = str(os.getppid())
    _load(RAY)
    if os.fork():
        wholes.close()
        request = _serve("Ray", rays, before)
    else:
        rays.close()
        _load(modules)
        request = _serve("everything", wholes, before)
    _become(request, target)


def _load(names: Iterable[str]) -> None:
    with _ray_drawing_nothing():
        for name in names:
            try:
                importlib.import_module(name)
            except Exception as error:  # whoever needs it says so better
                _note(f"{name} is not imported: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _ray_drawing_nothing() -> Iterator[None]:
    """Have Ray's own source of ids not begin before there are forks, which would all go on with the same ids.

    It begins with the first id that it gives: one for each class that is an actor's, as that is defined.
    """
    from ray import actor

    theirs = actor.ActorClassID

    class Drawn(theirs):  # type: ignore[valid-type, misc]
        @classmethod
        def from_random(cls) -> Any:
            return theirs(os.urandom(theirs.size()))

    actor.ActorClassID = Drawn
    try:
        yield
    finally:
        actor.ActorClassID = theirs


def _draws_alike() -> bool:
    """Return whether two forks would give the same ids."""
    from ray import UniqueID

    reading, writing = os.pipe()
    for _ in range(2):
        if not (pid := os.fork()):
            os.write(writing, UniqueID.from_random().binary())
            os._exit(0)
        os.waitpid(pid, 0)
    drawn = os.read(reading, 2 * UniqueID.size())
    os.close(reading)
    os.close(writing)
    return drawn[: UniqueID.size()] == drawn[UniqueID.size() :]


def _note(text: str) -> None:
    print(f"zygote: {text}", file=sys.stderr, flush=True)


def _serve(what: str, listening: socket.socket, before: Mapping[str, str]) -> Request:
    """Fork for whoever asks; return in the forks alone, with what each is to be."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray import _raylet

        title: Any = _raylet
        title.setproctitle(f"keras-solo: zygote of {what}")
    gc.collect()
    gc.freeze()  # a fork that looks through its objects for garbage would copy them all
    children = Children()
    if _draws_alike():
        _note("forks would give the same ids: none is made")
        children.crashes = MOST_CRASHES
    ended, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while children.crashes < MOST_CRASHES:
        ready, _, _ = select.select([listening.fileno(), STDIN, ended.fileno()], [], [])
        if ended.fileno() in ready:
            ended.recv(4096)
            children.reap()
        if STDIN in ready:
            break
        if listening.fileno() in ready:
            connection, _ = listening.accept()
            with connection, _asked(connection) as request:
                if request is None or not _is_alike(request, before):
                    continue
                pid = os.fork()
                if pid:
                    children.born_s[pid] = time.monotonic()
                    continue
                with contextlib.suppress(OSError):
                    os.setpgid(0, request.group)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listening, ended, wakeup):
                    one.close()
                connection.sendall(b"1")
                for number, stream in enumerate(request.streams):
                    os.dup2(stream, number)
                return request
    listening.close()
    os.read(STDIN, 1)  # it ends with whoever started this one
    children.end()
    os._exit(0)


@contextlib.contextmanager
def _asked(connection: socket.socket) -> Iterator[Request | None]:
    """Yield what a worker asks for, None where it ended meanwhile; its streams are closed after the block."""
    streams: list[int] = []
    try:
        yield _read(connection, streams)
    finally:
        for number in streams:
            os.close(number)


def _read(connection: socket.socket, streams: list[int]) -> Request | None:
    connection.settimeout(ASKING_S)
    try:
        head, received, _, _ = socket.recv_fds(connection, 8, 3)
        streams += received
        missing = int.from_bytes(head, "little")
        if missing > MOST_BYTES:
            raise ValueError(f"{missing:,} bytes, more than a process can be started with")
        parts = []
        while missing > 0 and (part := connection.recv(missing)):
            parts.append(part)
            missing -= len(part)
        asked: dict[str, Any] = json.loads(b"".join(parts))
        environment = dict(asked["environment"])
        return Request(asked["arguments"], environment, asked["folder"], asked["group"], asked["python"], streams)
    except (OSError, ValueError, LookupError, TypeError) as error:
        _note(f"not understood: {error}")
        return None


def _is_alike(request: Request, before: Mapping[str, str]) -> bool:
    """Return whether a worker's environment is the one that the imports have seen."""
    theirs = request.environment
    names = sorted(name for name in {*theirs, *before} - FREE if theirs.get(name) != before.get(name))
    if names or request.python != sys.executable:
        _note(f"a worker's environment differs: {', '.join(names) or request.python}")
        return False
    return True


def _become(request: Request, target: str) -> None:
    """Be the worker, to its end."""
    os.environ.update({name: request.environment[name] for name in FREE & {*request.environment} - {"RAY_JOB_ID"}})
    os.chdir(request.folder)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # or all forks would draw the same numbers
    worker.run(target, request.arguments)
