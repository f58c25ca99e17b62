"""A process that is killed with its sockets in custody resets no connection, and says what became of requests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from serve_app.fast_path.custodian import LAST_WORDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="custody is Linux's")

REPLICA = """
import asyncio, socket, sys, time
from serve_app.fast_path import custodian, custody

async def main():
    listening = socket.create_server(("127.0.0.1", 0), backlog=50)
    kept = custody.give([listening], asyncio.get_running_loop())
    print(listening.getsockname()[1], flush=True)
    states = {b"F": custodian.FREE, b"A": custodian.ASKED, b"a": custodian.ANSWERING}
    held = []
    for word in iter(lambda: sys.stdin.readline().strip(), ""):
        if word == "close":
            connection, slot = held.pop()
            connection.close()
            kept.let_go(slot)
        else:
            connection, _ = listening.accept()
            slot = kept.hold(connection.fileno())
            kept.marks[slot] = states[connection.recv(1)]
            held.append((connection, slot))
        print("done", flush=True)

asyncio.run(main())
"""


class Replica:
    """A process with a listening socket that is told when to accept; the first byte of a connection is its state."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", REPLICA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self, words: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 5)
        connection.sendall(words)
        return connection

    def do(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def replica() -> Iterator[Replica]:
    running = Replica()
    yield running
    with suppress(OSError):
        running.process.kill()
    running.process.communicate()


def rest_of(connection: socket.socket) -> bytes:
    """Return what comes until the end of the stream; raises `ConnectionResetError` where it is reset."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def test_the_connections_of_a_killed_process_end_in_order(replica: Replica) -> None:
    words = {b"F": b"", b"Funread": LAST_WORDS, b"A": LAST_WORDS, b"Aunread": LAST_WORDS, b"a": b"", b"aunread": b""}
    connections = {word: replica.connect(word) for word in words}
    for _ in words:
        replica.do("accept")
    waiting = [replica.connect(b""), replica.connect(b"POST")]
    os.kill(replica.process.pid, signal.SIGKILL)
    assert {word: rest_of(connection) for word, connection in connections.items()} == words
    assert [rest_of(connection) for connection in waiting] == [b"", LAST_WORDS]
    for connection in (*connections.values(), *waiting):
        connection.sendall(b"more")  # as HAProxy may, before it has seen the end
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        replica.connect(b"F")


def test_a_connection_that_the_process_closes_ends_at_once(replica: Replica) -> None:
    with replica.connect(b"F") as connection:
        replica.do("accept")
        replica.do("close")
        assert rest_of(connection) == b""


def test_the_last_words_are_a_whole_answer_in_the_protocols_form() -> None:
    head, _, body = LAST_WORDS.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"\r\nretry-after: 1" in head
    assert b"content-length: %d\r\n" % len(body) in head
    assert body.startswith(b'{"error":')


def test_the_custodian_is_gone_soon_after(replica: Replica) -> None:
    with open(f"/proc/{replica.process.pid}/task/{replica.process.pid}/children") as children:
        (custodian,) = map(int, children.read().split())
    replica.process.kill()
    ends_s = time.monotonic() + 10
    while os.path.exists(f"/proc/{custodian}") and time.monotonic() < ends_s:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{custodian}")
