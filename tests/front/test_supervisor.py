"""HAProxy's supervisor: another HAProxy at once, the same sockets from one configuration to the next, and an end."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from serve_app.front import haproxy, supervisor
from tests.front.test_haproxy import EchoPath, render

ENDS_S = 15.0


@pytest.fixture
def model() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoPath)
    server.name = "app-one"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextmanager
def supervised(path: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    launcher = haproxy.write_launcher(path.parent)
    process = subprocess.Popen([launcher, "-db", "-f", path, *more], stderr=subprocess.DEVNULL)
    try:
        until(lambda: pid_of(path.parent / "admin.sock") == process.pid)
        yield process
    finally:
        process.kill()
        process.wait()


def until(holds: object) -> None:
    ends_s = time.monotonic() + ENDS_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def pid_of(admin: Path) -> int | None:
    """Return the process id that the admin socket tells Serve."""
    answer = b""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as session:
        session.connect(str(admin))
        session.sendall(b"show info\n")
        while piece := session.recv(65536):
            answer += piece
    return next((int(line[5:]) for line in answer.decode().splitlines() if line.startswith("Pid: ")), None)


def child_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


def ask(port: int, timeout_s: float = 10.0) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/v2/models/one")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_haproxy_that_dies_is_started_again_and_connections_wait_meanwhile(tmp_path: Path, model: int) -> None:
    path, http_port, grpc_port = render(tmp_path, {"app-one": model}, {})
    with supervised(path) as process:
        until(lambda: ask(http_port) == 200)
        first = child_of(process)
        first.send_signal(signal.SIGSTOP)
        waiting = [socket.create_connection(("127.0.0.1", port), 5) for port in (http_port, grpc_port)]
        first.kill()
        assert ask(http_port) == 200
        until(lambda: child_of(process).pid != first.pid)
        assert pid_of(tmp_path / "admin.sock") == process.pid
        waiting[0].sendall(b"GET /v2/models/one HTTP/1.1\r\nHost: x\r\n\r\n")
        assert waiting[0].recv(1000).startswith(b"HTTP/1.1 200")
        for connection in waiting:
            connection.close()


def test_the_next_one_takes_over_the_same_sockets(tmp_path: Path, model: int) -> None:
    path, http_port, _ = render(tmp_path, {"app-one": model}, {}, with_grpc=False)
    text = path.read_text()
    admin = tmp_path / "admin.sock"
    statuses: list[object] = []
    ends = threading.Event()

    def keep_asking() -> None:
        while not ends.is_set():
            try:
                statuses.append(ask(http_port))
            except (OSError, http.client.HTTPException) as error:
                statuses.append(error)

    with supervised(path) as old:
        until(lambda: ask(http_port) == 200)
        asking = threading.Thread(target=keep_asking)
        asking.start()
        path.write_text(text)  # Serve's, without our rules
        with supervised(path, "-sf", str(old.pid), "-x", str(admin)) as new:
            assert old.wait(ENDS_S) == 0
            time.sleep(0.2)
            ends.set()
            asking.join()
            assert new.poll() is None
    assert set(statuses) == {200}
    assert not list(tmp_path.glob(f"*{old.pid}*")), "the old one has left files"


def test_at_the_end_what_waits_is_taken_first(tmp_path: Path, model: int) -> None:
    path, http_port, _ = render(tmp_path, {"app-one": model}, {}, with_grpc=False)
    with supervised(path) as process:
        until(lambda: ask(http_port) == 200)
        child = child_of(process)
        child.send_signal(signal.SIGSTOP)
        waiting = [socket.create_connection(("127.0.0.1", http_port), 5) for _ in range(5)]
        for connection in waiting:
            connection.sendall(b"GET /v2/models/one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        process.send_signal(signal.SIGUSR2)
        time.sleep(0.2)
        child.send_signal(signal.SIGCONT)
        for connection in waiting:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.close()
        assert process.wait(ENDS_S) == 0
        with pytest.raises(ConnectionRefusedError):
            ask(http_port)


def test_haproxy_ends_with_its_supervisor(tmp_path: Path, model: int) -> None:
    path, _, _ = render(tmp_path, {"app-one": model}, {}, with_grpc=False)
    with supervised(path) as process:
        child = child_of(process)
        process.kill()
        child.wait(ENDS_S)


def test_a_haproxy_that_never_lives_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = render(tmp_path, {}, {}, with_grpc=False)
    program = tmp_path / "short-lived"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    watched = supervisor.Supervisor(str(program), ["-db", "-f", str(path)], path, path.read_text())
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    kept[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(watched, "_answers", lambda: True)
    try:
        assert watched.run() == 3
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_serves_arguments_are_handed_on_without_what_the_supervisor_does() -> None:
    arguments = ["-db", "-f", "/a/haproxy.cfg", "-dR", "-sf", "12", "13", "-x", "/a/admin.sock"]
    assert supervisor.kept(arguments) == ["-db", "-dR"]
    assert supervisor.predecessors(arguments) == [12, 13]
    assert supervisor.predecessors(["-db"]) == []


@pytest.mark.parametrize("address", ["127.0.0.1:0", "*:0", ":0", "localhost:0"])
def test_haproxys_addresses_are_understood(address: str) -> None:
    with supervisor.listening(address) as sock:
        host = sock.getsockname()[0]
        assert host == ("127.0.0.1" if address[0] in "1l" else "0.0.0.0")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
