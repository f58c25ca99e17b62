"""The sockets of this process given into the custody of another, which ends them in order should this one be killed.

See `custodian` for why. Costs a message for every connection that comes or goes, and a byte written for every request
and every answer; 10 MB for the other process.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from serve_app.fast_path import custodian
from serve_app.fast_path.custodian import DEAF, HOLD, LET_GO, LISTEN, MESSAGE, NOT_HELD, SLOTS

AGAIN_S = 0.05
"""After what time messages are sent again that the other process had no room for."""


class Custody:
    """The other process, and what it holds. To be closed when the listening sockets are."""

    def __init__(self, listening: Sequence[socket.socket], loop: asyncio.AbstractEventLoop) -> None:
        """Start the process; raises `OSError` where the system has not what that takes (Linux has)."""
        self._loop = loop
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        memory = os.memfd_create("custody")
        os.ftruncate(memory, SLOTS)
        self.marks = mmap.mmap(memory, SLOTS)
        """What `custodian.FREE` and its like say of each slot."""
        self._slots = list(range(SLOTS - 1, NOT_HELD, -1))
        self._unsent: deque[tuple[int, int]] = deque()
        self.process = subprocess.Popen(
            [sys.executable, "-I", custodian.__file__, str(theirs.fileno()), str(memory)],
            pass_fds=(theirs.fileno(), memory),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # whoever ends a whole group leaves it to its work
        )
        theirs.close()
        os.close(memory)
        for sock in listening:
            self._send(LISTEN, NOT_HELD, sock.fileno())

    def hold(self, descriptor: int) -> int:
        """Have a connection held and return its slot; `NOT_HELD` where that cannot be now."""
        if self._unsent or not self._slots:
            return NOT_HELD
        slot = self._slots.pop()
        if self._send(HOLD, slot, descriptor):
            self.marks[slot] = custodian.ANSWERING  # as long as nobody says otherwise
            return slot
        self._slots.append(slot)
        return NOT_HELD

    def let_go(self, slot: int) -> None:
        """Have a connection no longer held: it ends when this process closes it."""
        if slot != NOT_HELD:
            self._surely(LET_GO, slot)

    def close(self) -> None:
        """Take no connections more; those that there are stay held."""
        self._surely(DEAF, NOT_HELD)

    async def wait_closed(self) -> None:
        """Return: there is nothing to wait for."""

    def _surely(self, what: int, slot: int) -> None:
        self._unsent.append((what, slot))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            what, slot = self._unsent[0]
            if not self._send(what, slot):
                if self._control.fileno() >= 0:
                    self._loop.call_later(AGAIN_S, self._flush)
                return
            self._unsent.popleft()
            if what == LET_GO:
                self._slots.append(slot)

    def _send(self, what: int, slot: int, *descriptors: int) -> bool:
        """Return whether a message was sent; where nobody is left to take it, none ever is."""
        try:
            socket.send_fds(self._control, [MESSAGE.pack(what, slot)], list(descriptors))
        except BlockingIOError:
            return False
        except OSError:
            self._control.close()
            self._unsent.clear()
            self._slots.clear()
            return False
        return True


def give(listening: Sequence[socket.socket], loop: asyncio.AbstractEventLoop) -> Custody | None:
    """Return the custody of `listening` and of its connections; None where there is none on this system."""
    with contextlib.suppress(OSError, AttributeError):
        return Custody(listening, loop) if sys.platform == "linux" else None
    return None


def held(protocol: Any, custody: Custody) -> Any:
    """Return uvicorn's class for a connection, with each connection in `custody`."""

    class Held(protocol):  # type: ignore[misc]
        marks = custody.marks
        slot = NOT_HELD

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if (sock := transport.get_extra_info("socket")) is not None:
                self.slot = custody.hold(sock.fileno())

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            slot, self.slot = self.slot, NOT_HELD
            custody.let_go(slot)

    return Held
