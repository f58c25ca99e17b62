"""A burst of new connections is taken in one pass of the event loop, and a connection that was reset is let go.

uvloop (0.23) takes one connection a pass. Where requests run on the event loop, a busy pass is as long as all requests
that it answers, so of 64 new connections the last waited 64 passes for its first answer: 0.8 s, where the others'
took 30 ms (an MLP as JSON, 2 cores, `tests/fast_path/test_accepting.py`). HAProxy opens such bursts, too.

And it resets connections that it has no use for. uvicorn (0.54) cancels its keep-alive timer only where a connection
ended in order; else the timer, 90 s under Serve, holds the connection, its protocol, and the last request: under
overload 8 MB more a second (`tests/faults/overload.py`).
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from serve_app.fast_path import custody
from serve_app.fast_path.parser import predicting
from serve_app.fast_path.past_serve import FastPath

Beside = Callable[["FastPath | None"], Awaitable[Any]]
_beside: list[Beside] = []


def open_beside(make: Beside) -> None:
    """Have what `make` returns (None for nothing) opened with this process's HTTP server, and closed with it.

    `make` takes the server's `FastPath`, None where requests go Serve's way.
    """
    _beside.append(make)


def tend_connections() -> None:
    """Have every uvicorn server that starts in this process from now on take and let go its connections so.

    Where the event loop is not uvloop's (asyncio takes all by itself), and for TLS, it only lets go. Where its app is
    a `FastPath`, predictions are answered from the parser's calls (see `exchange`).
    """
    plain = uvicorn.Server.startup
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    async def startup(self: Any, sockets: list[socket.socket] | None = None) -> None:
        protocol = _letting_go(self.config.http_protocol_class)
        loop = asyncio.get_running_loop()
        kept = custody.give(sockets, loop) if sockets and not self.config.ssl else None
        if kept is not None:
            protocol = custody.held(protocol, kept)
        handler = self.config.loaded_app
        while handler is not None and not isinstance(handler, FastPath):
            handler = getattr(handler, "app", None)  # what uvicorn has put around it
        self.config.http_protocol_class = protocol if handler is None else predicting(self.config, protocol, handler)
        await plain(self, sockets=sockets)
        self.servers += [kept] if kept is not None else []
        if type(loop).__module__.startswith("uvloop") and not self.config.ssl:
            make = functools.partial(_protocol, self)
            # uvicorn closes these with its own.
            self.servers += [Taker(sock, make, loop) for sock in sockets or ()]
        for opened in [await make_beside(handler) for make_beside in _beside]:
            self.servers += [] if opened is None else [opened]

    uvicorn.Server.startup = startup  # type: ignore[method-assign]


def _letting_go(protocol: Any) -> Any:
    """Return uvicorn's class for a connection, with the timer gone when the connection is."""
    if not hasattr(protocol, "_unset_keepalive_if_required"):
        return protocol

    class LettingGo(protocol):  # type: ignore[misc]
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unset_keepalive_if_required()

    return LettingGo


def _protocol(server: Any) -> asyncio.Protocol:
    """Return a protocol for one connection, as `uvicorn.Server.startup` makes it."""
    config = server.config
    made: asyncio.Protocol = config.http_protocol_class(
        config=config, server_state=server.server_state, app_state=server.lifespan.state
    )
    return made


class Taker:
    """Takes what waits at a listening socket, beside the server that owns it."""

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._socket = listening.dup()
        self._socket.setblocking(False)
        self._protocol = protocol
        self._loop = loop
        self._connecting: set[asyncio.Task[Any]] = set()
        loop.add_reader(self._socket, self._take)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Return: nothing is left to wait for, since uvicorn has seen its connections off by then."""

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # none left; or no descriptor is free, and then uvloop's own accept says so
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client is gone already
            connection.close()
