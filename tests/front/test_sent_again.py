"""What HAProxy does with a request whose replica dies: sent again where it has it whole, else the protocol's 503."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from serve_app.fast_path.custodian import ASKED, part
from serve_app.front import haproxy
from serve_app.front.environment import FAST
from tests.front.test_haproxy import _wait_for, render

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DIES_AFTER_BYTES = 50_000
LARGE = 602_112


def closes(connection: socket.socket) -> None:
    connection.close()


def says_so(connection: socket.socket) -> None:
    """What a replica's custodian does."""
    part([(connection, ASKED)])


class Mortal:
    """A replica that answers, and dies once of a request with `die` in its path, as soon as it has enough of it."""

    def __init__(self, dies: Callable[[socket.socket], None]) -> None:
        self._dies = dies
        self._is_mortal = True
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._until_it_ends, args=(connection,), daemon=True).start()

    def _until_it_ends(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while piece := connection.recv(65536):
            data += piece
            head, end, body = data.partition(b"\r\n\r\n")
            length = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
            if not end or len(body) < min(length, DIES_AFTER_BYTES):
                continue
            path = head.split()[1].decode()
            if path.endswith("/die") and self._is_mortal:
                self._is_mortal = False
                self.asked.append(path)
                self._dies(connection)
                return
            if len(body) < length:
                continue
            if not path.endswith("/healthz"):
                self.asked.append(path)
            connection.sendall(ANSWER)
            data = b""

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=[closes, says_so])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Mortal]]:
    replica = Mortal(request.param)
    path, port, _ = render(tmp_path, {"app-one": replica.port}, {}, with_grpc=False)
    retry_on = f"retry-on {FAST['RAY_SERVE_HAPROXY_RETRY_ON']}\n    retries 3\n"
    path.write_text(re.sub(r"(?m)retry-on .*\n(    retries .*\n)?", retry_on, path.read_text()))
    with subprocess.Popen([haproxy.write_launcher(tmp_path), "-db", "-f", path], stderr=subprocess.DEVNULL) as process:
        _wait_for(port)
        yield port, replica
        process.kill()
    replica.close()


def post(connection: socket.socket, path: str, body: bytes, pause_s: float = 0.0) -> tuple[int, bytes]:
    """Send a POST, its body `pause_s` after its head; return the answer's status and the whole of it."""
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    time.sleep(pause_s)
    connection.sendall(body)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < _length(answer):
        piece = connection.recv(65536)
        assert piece, f"a bare close after {answer!r}"
        answer += piece
    return int(answer.split()[1]), answer


def _length(answer: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", answer)
    assert found
    return int(found[1])


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.05])
def test_a_request_is_sent_again_however_its_body_comes(front: tuple[int, Mortal], pause_s: float) -> None:
    port, replica = front
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        assert post(connection, "/v2/models/one/first", b"{}")[0] == 200
        assert post(connection, "/v2/models/one/die", b"{}", pause_s)[0] == 200
    assert [path.rpartition("/")[2] for path in replica.asked] == ["first", "die", "die"]


@pytest.mark.parametrize("front", [says_so], indirect=True)
def test_what_cannot_be_sent_again_is_told_to_come_again(front: tuple[int, Mortal]) -> None:
    port, _ = front
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        assert post(connection, "/v2/models/one/first", b"{}")[0] == 200
        status, answer = post(connection, "/v2/models/one/die", bytes(LARGE))
    assert status == 503
    assert b"\r\nretry-after: 1\r\n" in answer.lower()
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
