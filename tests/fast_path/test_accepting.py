"""Connections that wait are taken in one pass, none after the server has closed, and none is kept after a reset."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
import weakref
from typing import Any

import pytest
import uvicorn
import uvloop

from serve_app.fast_path import accepting, past_serve
from tests.fast_path.test_past_serve import FakeReplica
from tests.support.uvicorn_server import serving

BURST = 40
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Blocking:
    """An application that stands still on its first request, and notes how many connections there are at each."""

    def __init__(self) -> None:
        self.server: Any = None
        self.connections: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.connections:
            time.sleep(0.5)  # noqa: ASYNC251 - the burst comes meanwhile
        self.connections.append(len(self.server.server_state.connections))
        await answer(send)


async def answer(send: Any) -> None:
    """Send an empty 200."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def burst(app: Blocking, sock: socket.socket) -> list[bytes]:
    """Serve `app` on `sock`, send one request, and `BURST` more while it is answered; return all answers."""

    def clients() -> list[bytes]:
        first = socket.create_connection(sock.getsockname())
        first.sendall(REQUEST)
        time.sleep(0.1)
        others = [socket.create_connection(sock.getsockname()) for _ in range(BURST)]
        for other in others:
            other.sendall(REQUEST)
        return [other.recv(1000) for other in [first, *others]]

    async with serving(app, sock) as app.server:
        return await asyncio.to_thread(clients)


@pytest.fixture
def listening() -> Any:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.mark.parametrize("takes_all", [True, False])
def test_a_burst_of_connections_is_taken_at_once(
    takes_all: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)
    if takes_all:
        accepting.tend_connections()
        accepting.tend_connections()  # a second model in the same process changes nothing
    app = Blocking()
    address = listening.getsockname()
    answers = uvloop.run(burst(app, listening))
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert (app.connections[3] > BURST - 10) == takes_all, app.connections
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def resets(sock: socket.socket, count: int) -> int:
    """Answer one request on each of `count` connections that are then reset; return how many are kept."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    kept: weakref.WeakSet[Any] = weakref.WeakSet()

    def client(server: Any) -> None:
        with socket.create_connection(sock.getsockname()) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            kept.update(server.server_state.connections)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(app, sock, timeout_keep_alive=60) as server:
        for _ in range(count):
            await asyncio.to_thread(client, server)
        await asyncio.sleep(0.2)
        assert not server.server_state.connections
        gc.collect()
        return len(kept)


@pytest.mark.parametrize("lets_go", [True, False])
def test_a_connection_that_was_reset_is_not_kept(
    lets_go: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)
    if lets_go:
        accepting.tend_connections()
    assert uvloop.run(resets(listening, 3)) == (0 if lets_go else 3)


@pytest.mark.parametrize("offered", [True, False])
def test_predictions_go_from_the_parser_to_the_door(
    offered: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve's app is in uvicorn's own middleware; the fast path is found in it, where a model offered one."""
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)
    accepting.tend_connections()
    tasks: list[Any] = []

    async def own(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        await answer(send)

    async def serves(scope: Any, receive: Any, send: Any) -> None:
        await own(scope, receive, send)

    app: Any = past_serve.FastPath(serves, own, {"/infer"}, FakeReplica(), past_serve.serve_log.handlers)

    async def run() -> bytes:
        async with serving(app if offered else serves, listening):
            return await asyncio.to_thread(post, listening.getsockname())

    assert uvloop.run(run()).startswith(b"HTTP/1.1 200")
    assert (tasks == [None]) == offered


def post(address: Any) -> bytes:
    with socket.create_connection(address) as client:
        client.sendall(b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        return client.recv(1000)
