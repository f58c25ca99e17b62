"""The asking end for threads: a connection each, kept for the next call."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable

from deployments.errors import DeadlineExceeded, ReplicaGone
from deployments.execution import Answer
from deployments.tensors import Arrays, Signature
from serve_app.lane import frames, places
from serve_app.lane.client import HELLO_S, LOOK_S

_CHUNK = 1 << 18


class BlockingLanes:
    """The lanes to one application's replicas, for calls that block; safe to share between threads.

    Replicas take turns. A connection serves one call at a time, and goes back when its answer is whole.
    """

    def __init__(self, app_name: str, signature: Signature) -> None:
        self._app_name = app_name
        self._signature = signature
        self._digest = frames.digest(signature)
        self._idle: dict[str, list[socket.socket]] = {}
        self._paths: tuple[str, ...] = ()
        self._refused: set[str] = set()
        self._looked_s = float("-inf")
        self._turns = itertools.count()

    def ask(self, arrays: Arrays, deadline_s: float | None) -> Answer | None:
        """Return the answer to checked `arrays`, in the signature's order; None where there is no lane.

        Raises what the replica raises, `DeadlineExceeded`, having hung up, and `ReplicaGone` where it died.
        """
        opened = self._open()
        if opened is None:
            return None
        path, connection = opened
        try:
            answer = _exchange(connection, arrays, deadline_s, self._signature)
        except (OSError, EOFError, ValueError) as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the model did not answer before the deadline") from None
            raise ReplicaGone(f"the lane to the replica: {error}") from None
        except BaseException:
            connection.close()
            raise
        self._idle.setdefault(path, []).append(connection)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Hang up what is idle."""
        for connections in self._idle.values():
            while connections:
                connections.pop().close()

    def _open(self) -> tuple[str, socket.socket] | None:
        if time.monotonic() - self._looked_s > LOOK_S:
            self._look()
        paths = self._paths
        for _ in range(len(paths)):
            path = paths[next(self._turns) % len(paths)]
            idle = self._idle.setdefault(path, [])
            connection = _taken(idle) or self._connected(path)
            if connection is not None:
                return path, connection
        return None

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        base = places.folder()
        known = set() if base is None else places.found(base, self._app_name)
        self._refused &= known
        self._paths = tuple(sorted(known - self._refused))
        for path in [path for path in self._idle if path not in known]:
            for connection in self._idle.pop(path):
                connection.close()

    def _connected(self, path: str) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(HELLO_S)
        try:
            connection.connect(path)
            _, kind, told = _frame(connection)
            if kind == frames.HELLO and bytes(told) == self._digest:
                return connection
        except (OSError, EOFError):  # killed, or stopping
            pass
        connection.close()
        self._refused.add(path)
        self._paths = tuple(known for known in self._paths if known != path)
        return None


def _taken(idle: list[socket.socket]) -> socket.socket | None:
    """Return an idle connection that is still open."""
    while idle:
        connection = idle.pop()
        connection.setblocking(False)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return connection  # nothing to read: the other side has not hung up
        except OSError:
            pass
        connection.close()
    return None


def _exchange(
    connection: socket.socket, arrays: Arrays, deadline_s: float | None, signature: Signature
) -> Answer | Exception:
    timeout_s = None if deadline_s is None else deadline_s - time.monotonic()
    if timeout_s is not None and timeout_s <= 0:
        raise TimeoutError
    connection.settimeout(timeout_s)
    connection.sendall(b"".join(frames.ask(1, arrays, timeout_s)))

    def left() -> None:
        if deadline_s is not None:
            connection.settimeout(max(1e-6, deadline_s - time.monotonic()))

    _, kind, body = _frame(connection, left)
    return frames.error_in(body) if kind == frames.ERROR else frames.answer_in(body, signature.outputs)


def _frame(connection: socket.socket, before: Callable[[], None] = lambda: None) -> tuple[int, int, memoryview]:
    splitter = frames.Splitter()
    while True:
        received = connection.recv(_CHUNK)
        if not received:
            raise EOFError("the replica hung up")
        for frame in splitter.feed(received):
            return frame
        before()
