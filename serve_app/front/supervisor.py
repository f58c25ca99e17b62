"""HAProxy's parent: it owns the listening sockets, and starts HAProxy again at once should that die.

Serve (2.60) starts a HAProxy for every change of its configuration, knows it by its process id, and looks after it
through its admin socket alone. So what Serve starts is this process (by `write_launcher`'s program): it adds our rules
to the configuration (`haproxy.improve`), opens the sockets, and runs HAProxy with them as `fd@N`, in the foreground.
While HAProxy is away, connections wait in the sockets' queues. On the next change the next supervisor is handed the
same sockets, so that a connection that waits is never reset.

Serve's admin socket is answered here: passed on to HAProxy's own, with the process id that Serve expects of it
(`HAProxyApi._get_running_pid`). Where HAProxy cannot be started again this process ends, and Serve's own health check
does the rest; where this process is killed the kernel ends HAProxy with it.

- SIGUSR1, Serve's request after a change: HAProxy finishes what it has, and this process ends with it.
- SIGUSR2, at the server's end: the same, but connections that wait are taken first, and new ones are not begun.
- SIGTERM, SIGINT: HAProxy ends now.

This module imports nothing but the standard library and `haproxy`: it runs at every change.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from serve_app.front import haproxy

SOCKETS = b"solo sockets\n"
"""Asks a supervisor's admin socket for its listening sockets."""
BACKLOG = 4096
START_S = 10.0
POLL_S = 0.01
SHORT_S = 1.0
"""A HAProxy that lived no longer than this did not really start;"""
MOST_SHORT = 5
"""and after so many of them in a row this process gives up."""
DRAIN_S = 1.0
PR_SET_PDEATHSIG = 1
_ADMIN = re.compile(r"(?m)^(    stats socket )(\S+)( .*)$")
_BIND = re.compile(r"(?m)^([ \t]+bind )(\S*:\d+)(?=\s|$)")
_STATE = re.compile(r"(?m)^    load-server-state-from-file .*\n")
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""A classic BPF program: return 0 bytes of every packet (asm-generic/socket.h, linux/filter.h)."""


def main(arguments: list[str]) -> NoReturn:
    """Run HAProxy with Serve's `arguments` until it has ended for good; become HAProxy where that cannot be done."""
    program = haproxy.haproxy()
    path = Path(arguments[arguments.index("-f") + 1]) if "-f" in arguments else None
    if path is not None:
        haproxy.improve(program, path)
        config = path.read_text(encoding="utf-8")
        if sys.platform == "linux" and _ADMIN.search(config):
            sys.exit(Supervisor(program, arguments, path, config).run())
    os.execv(program, [program, *arguments])


class Supervisor:
    """One HAProxy after another with one configuration."""

    def __init__(self, program: str, arguments: list[str], path: Path, config: str) -> None:
        admin = _ADMIN.search(config)
        assert admin is not None
        self._admin = Path(admin[2])
        # Short: HAProxy appends to it, and a Unix socket's path ends at 107 bytes.
        self._inner = self._admin.with_name(f"s{os.getpid()}")
        self._predecessors = predecessors(arguments)
        self._sockets = taken_over(self._admin)
        self._config = path.with_name(f"{path.name}.{os.getpid()}")
        self._command = [program, *kept(arguments), "-f", str(self._config)]
        self._text = self._with_sockets(_ADMIN.sub(rf"\g<1>{self._inner}\g<3>", config))
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ending = False

    def _with_sockets(self, config: str) -> str:
        """Return the configuration with every address that is bound replaced by a socket that is open."""
        wanted = {}

        def inherited(bind: re.Match[str]) -> str:
            wanted[bind[2]] = self._sockets.get(bind[2]) or listening(bind[2])
            return f"{bind[1]}fd@{wanted[bind[2]].fileno()}"

        config = _BIND.sub(inherited, config)
        for address in set(self._sockets) - set(wanted):
            self._sockets[address].close()
        self._sockets = wanted
        return config

    def run(self) -> int:
        """Return HAProxy's exit status once it is not to be started again."""
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._config.write_text(self._text, encoding="utf-8")
        self._start()
        if not self._answers():
            return self._wait()
        self._serve_admin()
        # Serve's states are of the moment of its change: a HAProxy that starts later finds out itself.
        self._config.write_text(_STATE.sub("", self._text), encoding="utf-8")
        for pid in self._predecessors:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGUSR1)
        try:
            return self._keep_running()
        finally:
            for path in (self._config, self._inner):
                path.unlink(missing_ok=True)

    def _keep_running(self) -> int:
        short = 0
        while True:
            started_s = time.monotonic()
            status = self._wait()
            short = short + 1 if time.monotonic() - started_s < SHORT_S else 0
            if self._is_ending or short > MOST_SHORT:
                return status
            sys.stderr.write(f"HAProxy ended with {status} and is started again\n")
            self._start()

    def _start(self) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        descriptors = [sock.fileno() for sock in self._sockets.values()]
        self._child = subprocess.Popen(self._command, pass_fds=descriptors, preexec_fn=die_with_parent)

    def _wait(self) -> int:
        assert self._child is not None
        return self._child.wait()

    def _answers(self) -> bool:
        """Return whether HAProxy answers its admin socket, which it opens with all others."""
        ends_s = time.monotonic() + START_S
        while time.monotonic() < ends_s and self._child is not None and self._child.poll() is None:
            with contextlib.suppress(OSError), _connected(self._inner):
                return True
            time.sleep(POLL_S)
        return False

    def _end(self, number: int, _: Any) -> None:
        """Have HAProxy end in the way that a signal asks for."""
        if number == signal.SIGUSR2 and not self._is_ending:
            refuse(list(self._sockets.values()))
        self._is_ending = True
        soft = number in {signal.SIGUSR1, signal.SIGUSR2}
        for sock in self._sockets.values():
            sock.close()  # before HAProxy's are: what comes after is refused, and waits for nobody
        if self._child is not None:
            self._child.send_signal(signal.SIGUSR1 if soft else signal.SIGTERM)

    def _serve_admin(self) -> None:
        """Answer at Serve's admin socket from now on, in the place of who did before."""
        sock = socket.socket(socket.AF_UNIX)
        path = self._admin.with_name(f"a{os.getpid()}")
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen()
        path.replace(self._admin)
        threading.Thread(target=self._accept, args=(sock,), daemon=True).start()

    def _accept(self, sock: socket.socket) -> None:
        while True:
            session, _ = sock.accept()
            threading.Thread(target=self._answer, args=(session,), daemon=True).start()

    def _answer(self, session: socket.socket) -> None:
        with contextlib.suppress(OSError), session:
            asked = session.recv(65536)
            if asked == SOCKETS:
                names = json.dumps(list(self._sockets)).encode()
                socket.send_fds(session, [names], [sock.fileno() for sock in self._sockets.values()])
                return
            with _connected(self._inner) as inner:
                inner.sendall(asked)
                self._relay(session, inner)

    def _relay(self, session: socket.socket, inner: socket.socket) -> None:
        others = {session: inner, inner: session}
        while session in others or inner in others:
            ready, _, _ = select.select(list(others), [], [])
            for one in ready:
                data = one.recv(65536)
                other = others[one]
                if data:
                    other.sendall(self._as_ours(data) if one is inner else data)
                elif one is inner:
                    return
                else:
                    del others[one]
                    other.shutdown(socket.SHUT_WR)

    def _as_ours(self, answer: bytes) -> bytes:
        """Return HAProxy's answer to `show info` with this process's id, which Serve looks for."""
        child = self._child
        return answer if child is None else answer.replace(b"\nPid: %d\n" % child.pid, b"\nPid: %d\n" % os.getpid())


def predecessors(arguments: list[str]) -> list[int]:
    """Return the process ids after `-sf`."""
    if "-sf" not in arguments:
        return []
    pids = []
    for word in arguments[arguments.index("-sf") + 1 :]:
        if not word.isdigit():
            break
        pids.append(int(word))
    return pids


def kept(arguments: list[str]) -> list[str]:
    """Return Serve's arguments without the configuration's path, its predecessors and their socket."""
    left, words = [], iter(arguments)
    takes_pids = False
    for word in words:
        if word in {"-f", "-x"}:
            next(words, None)
        elif word == "-sf":
            takes_pids = True
            continue
        elif not (takes_pids and word.isdigit()):
            left.append(word)
        else:
            continue
        takes_pids = False
    return left


def taken_over(admin: Path) -> dict[str, socket.socket]:
    """Return the listening sockets of the supervisor that answers at `admin`, by address; none where there is none."""
    with contextlib.suppress(OSError, ValueError), _connected(admin) as session:
        session.settimeout(2.0)
        session.sendall(SOCKETS)
        names, descriptors, _, _ = socket.recv_fds(session, 65536, 64)
        return dict(zip(json.loads(names), (socket.socket(fileno=fd) for fd in descriptors), strict=True))
    return {}


def listening(address: str) -> socket.socket:
    """Return a socket that listens at HAProxy's `address`: `HOST:PORT`, `*:PORT` or `:PORT`; raises `OSError`."""
    host, _, port = address.rpartition(":")
    host = "0.0.0.0" if host in {"", "*"} else host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # As HAProxy does: a supervisor of an earlier proxy of Serve's may be there still.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, int(port)))
    sock.listen(BACKLOG)
    return sock


def refuse(sockets: list[socket.socket], limit_s: float = DRAIN_S) -> None:
    """Have no connection begin at `sockets` any more, and return when those that wait have been taken.

    A listening socket that is closed resets what waits. Who comes meanwhile gets no answer, asks again a second later
    as TCP does, and is refused by then.
    """
    program = ctypes.create_string_buffer(_DROP_ALL)
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
    ends_s = time.monotonic() + limit_s
    while time.monotonic() < ends_s and select.select(sockets, [], [], 0)[0]:
        time.sleep(POLL_S)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as session:
        session.connect(str(path))
        yield session
