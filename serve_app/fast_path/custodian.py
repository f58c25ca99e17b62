"""A process beside a replica that has its sockets, too, and ends the connections in order when the replica is gone.

A process that is killed leaves its sockets to the kernel, which resets every connection with bytes that were not read.
HAProxy (2.8) sends a request again whose replica *closed* the connection without an answer, or answered 502, but not
one whose replica *reset* it: that it ends, without a word to a client that has asked before. The kernel closes nothing
that somebody else still holds. So this process holds what the replica holds, and once the replica is gone it

- takes no connection more, and those that wait for being taken along with the others;
- sends the end of the stream everywhere, and reads what still comes, so that nothing is reset;
- answers 502 where a request is on its way and no answer has begun: HAProxy sends it to another replica, and where it
  cannot (`LAST_WORDS` says so in the protocol's form) passes the answer on.

It is one file of the standard library, run by its path with `python -I`: the replica's process is a large one to fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import select
import signal
import socket
import struct
import sys
import time

MESSAGE = struct.Struct("=BI")
"""What to do, and with which slot; a socket to hold comes along."""
HOLD, LET_GO, LISTEN, DEAF = range(4)
SLOTS = 8192
NOT_HELD = 0
"""The slot of all connections that are not held: nobody looks at it."""
FREE, ASKED, ANSWERING = range(3)
"""What the byte of a slot says: no request is there, one is, or its answer has begun (and may be half sent)."""
SETTLE_S = 0.1
"""How long HAProxy may take to let go of connections without a request."""
LINGER_S = 5.0
"""How long what comes after the end of the stream is read: HAProxy closes at once."""
WAITED = b'{"error":"the replica that worked on this request died; try again"}'
LAST_WORDS = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(WAITED), WAITED)
)
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""A classic BPF program: return 0 bytes of every packet (asm-generic/socket.h, linux/filter.h)."""


def main(control: socket.socket, states: mmap.mmap) -> None:
    """Hold what comes over `control` until the other end is closed, and then end all of it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the replica may go on for a while
    listening: list[socket.socket] = []
    held: dict[int, socket.socket] = {}
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE.size, 1)
        except OSError:
            break
        if not message:
            break
        what, slot = MESSAGE.unpack(message)
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if what == LISTEN:
            listening += sockets
        elif what == DEAF:
            _close(listening)
            listening.clear()
        elif what == HOLD and sockets:
            held[slot] = sockets[0]
        elif what == LET_GO and slot in held:
            held.pop(slot).close()
    waiting = [connection for one in listening for connection in refuse(one)]
    part([(connection, states[slot]) for slot, connection in held.items()] + [(one, FREE) for one in waiting])


def part(connections: list[tuple[socket.socket, int]]) -> None:
    """End all connections, by their slots' states: first those without a request.

    HAProxy sends a request again over any connection that it takes for open: three that have just ended, and it gives
    up. So the others end when it has let go of these.
    """
    asked = {connection for connection, state in connections if _is_asked(connection, state)}
    idle = [connection for connection, state in connections if state == FREE and connection not in asked]
    for connection in idle:
        farewell(connection)
    linger(idle, SETTLE_S)
    for connection, _ in connections:
        if connection.fileno() >= 0:
            farewell(connection, LAST_WORDS if connection in asked else b"")
    linger([connection for connection, _ in connections if connection.fileno() >= 0])


def refuse(listening: socket.socket) -> list[socket.socket]:
    """Have `listening` take nothing more, and return what it had taken: closed before, it would reset that."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
    taken = []
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            taken.append(listening.accept()[0])
    listening.close()
    return taken


def farewell(connection: socket.socket, words: bytes = b"") -> None:
    """Send `words`, and the end of the stream."""
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        if words:
            connection.send(words)
        connection.shutdown(socket.SHUT_WR)


def linger(connections: list[socket.socket], limit_s: float = LINGER_S) -> None:
    """Read what comes until the other ends are closed, `limit_s` at the most, and close."""
    ends_s = time.monotonic() + limit_s
    poll = select.poll()
    open_ones = {connection.fileno(): connection for connection in connections}
    for descriptor in open_ones:
        poll.register(descriptor, select.POLLIN)
    while open_ones and time.monotonic() < ends_s:
        for descriptor, _ in poll.poll(1000 * limit_s):
            if not _reads(open_ones[descriptor]):
                poll.unregister(descriptor)
                open_ones.pop(descriptor).close()


def _reads(connection: socket.socket) -> bool:
    """Read what is there; return whether there may be more."""
    try:
        return bool(connection.recv(2**20))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _is_asked(connection: socket.socket, state: int) -> bool:
    """Return whether a request is on its way and no answer has begun."""
    if state != FREE:
        return state == ASKED
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


if __name__ == "__main__":
    with mmap.mmap(int(sys.argv[2]), SLOTS) as memory:
        main(socket.socket(fileno=int(sys.argv[1])), memory)
