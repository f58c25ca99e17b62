"""What a fork server sees of its worker: what it tries, how long for, and how much memory it has taken."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

START_S, SILENT_S = 20.0, 600.0
"""How long a fork may take to begin, and how long nothing may be tried: the model is loaded then, and asked."""
MEMORY_SHARE = 0.8
"""Of the memory that is free when a worker starts, how much it may take."""
_MARK = struct.Struct("=QB")
_LONGEST = 200


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


class Guard:
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
        else:
            patience_s = self._patience_s if name else SILENT_S if turns else START_S
            if time.monotonic() - self._since_s > patience_s:
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
