"""Ending HAProxy so that what it accepted is answered.

Serve (2.60) kills HAProxy first when it shuts down, and every request on its way with it. So before that: HAProxy's
soft stop (SIGUSR1; its supervisor is asked by SIGUSR2, and has what waits taken first) closes the listening sockets,
and each connection after its next answer. Idle connections keep such
a HAProxy alive (`option idle-close-on-response`), so its end says nothing; its console tells how many requests are
still on their way, and a session that was opened before the signal outlives it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from serve_app.front.haproxy import SUPERVISOR

LIMIT_S = 20.0
"""How long requests may take to be answered, as long as Serve gives a replica."""
POLL_S = 0.05
QUIET_POLLS = 3
"""How often in a row nothing must be on its way: between two requests of one connection there is nothing."""
PROMPT = b"\n> "
BACKENDS = b"show stat -1 2 -1\n"
SESSIONS = 4
"""The column of `show stat` with the requests that a backend works on (HAProxy 2.8's management guide, 9.1)."""


def console(wanted: Path) -> Path:
    """Return the newest admin socket: Serve puts it into a folder of the node's beside the path that it was given."""
    found = [wanted, *wanted.parent.glob(f"*/{wanted.name}")]
    return max((path for path in found if path.exists()), key=lambda path: path.stat().st_mtime, default=wanted)


def soft_stop(processes: Iterable[psutil.Process], console: Path, limit_s: float = LIMIT_S) -> None:
    """Let HAProxy and its supervisors among `processes` take nothing more, and return when nothing is on its way.

    `console` is the admin socket of the newest. Returns after `limit_s` at the latest, at once without HAProxy.
    """
    ours = [process for process in processes if _is_haproxy(process)]
    if not ours:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as session:
        session.settimeout(2.0)
        session.connect(str(console))
        session.sendall(b"prompt\n")
        _read(session)
        for process in ours:
            _ask_to_end(process)
        _wait_until_quiet(session, limit_s)


def _ask_to_end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        if _is_supervisor(process):
            process.send_signal(signal.SIGUSR2)
        elif parent is None or not _is_supervisor(parent):
            process.send_signal(signal.SIGUSR1)


def left_behind(folder: Path) -> set[psutil.Process]:
    """Return HAProxy and its supervisors that still run with a configuration in `folder`, whoever their parent is."""
    return {process for process in psutil.process_iter() if _is_haproxy(process) and _mentions(process, folder)}


def _mentions(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(part.startswith(f"{folder}/") for part in process.cmdline())
    except psutil.Error:
        return False


def _is_haproxy(process: psutil.Process) -> bool:
    try:
        return "haproxy" in process.name() or _is_supervisor(process)
    except psutil.Error:
        return False


def _is_supervisor(process: psutil.Process) -> bool:
    """Return whether a process runs `supervisor.main`, by its command; raises `psutil.Error` where it is gone."""
    return any(SUPERVISOR in word for word in process.cmdline()[:4])


def _wait_until_quiet(session: socket.socket, limit_s: float) -> None:
    ends_s, quiet = time.monotonic() + limit_s, 0
    while quiet < QUIET_POLLS and time.monotonic() < ends_s:
        session.sendall(BACKENDS)
        quiet = 0 if on_their_way(_read(session)) else quiet + 1
        time.sleep(POLL_S)


def on_their_way(table: str) -> int:
    """Return how many requests the backends in a `show stat` table work on."""
    rows = [line.split(",") for line in table.splitlines() if line and not line.startswith("#")]
    return sum(int(row[SESSIONS]) for row in rows if len(row) > SESSIONS and row[SESSIONS].isdigit())


def _read(session: socket.socket) -> str:
    """Return the console's answer; raises `OSError` where HAProxy has ended."""
    answer = b""
    while not answer.endswith(PROMPT):
        piece = session.recv(65536)
        if not piece:
            raise ConnectionResetError("the console is closed")
        answer += piece
    return answer.removesuffix(PROMPT).decode(errors="replace")
