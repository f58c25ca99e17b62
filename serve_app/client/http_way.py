"""The front door of this node over kept-alive connections: one exchange, blocking or on an event loop.

Plain sockets: requests have a Content-Length, and so have a model's answers. Those of others on the way (Serve, or a
proxy) may come in chunks or end with the connection, and are read as well. Libraries for more cost more than the model
(measured on 2 cores: a plain socket 0.95 ms to the answer, `http.client` 1.20 ms).
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from deployments.errors import DeadlineExceeded, ReplicaGone
from serve_app.client.http_messages import Buffers, Reply

CONNECT_S = 2.0
"""A front door on this node accepts at once or is not there."""
_HEAD_BYTES = 65536
_JOIN_BYTES = 65536
"""Requests up to this are joined and sent with one system call; a copy of more costs more than the calls."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpWay:
    """Connections to one HTTP address, kept for the next exchange; safe to share between threads and loops."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.host = f"{host}:{port}"
        self._sockets: list[socket.socket] = []
        self._streams: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Streams]] = WeakKeyDictionary()

    def exchange(self, request: Buffers, deadline_s: float | None) -> Reply:
        """Send `request` and return the reply, blocking; `deadline_s` is on `time.monotonic`'s clock.

        Raises `ReplicaGone` where the connection fails, and `DeadlineExceeded`, having hung up, so that the
        replica drops the request too.
        """
        connection = None
        try:
            connection = self._socket()
            reply = _exchange(connection, request, deadline_s)
        except BaseException as error:
            if connection is not None:
                connection.close()
            raise self._meaning(error, deadline_s) from None
        if _is_kept(reply):
            self._sockets.append(connection)
        else:
            connection.close()
        return reply

    async def exchange_async(self, request: Buffers, deadline_s: float | None) -> Reply:
        """Do what `exchange` does, without blocking the running loop; a cancelled caller hangs up."""
        streams, timer = None, None
        try:
            streams = await self._open_streams()
            if deadline_s is not None:
                timer = asyncio.get_running_loop().call_later(deadline_s - time.monotonic(), streams[1].transport.abort)
            reply = await _exchange_async(streams, request)
        except BaseException as error:
            if streams is not None:
                streams[1].transport.abort()
            raise self._meaning(error, deadline_s) from None
        finally:
            if timer is not None:
                timer.cancel()
        if _is_kept(reply):
            self._streams.setdefault(asyncio.get_running_loop(), []).append(streams)
        else:
            streams[1].close()
        return reply

    def close(self) -> None:
        """Close the idle connections."""
        while self._sockets:
            self._sockets.pop().close()

    def _meaning(self, error: BaseException, deadline_s: float | None) -> BaseException:
        """Return what a broken exchange means to the caller."""
        if not isinstance(error, (OSError, EOFError)):
            return error
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return DeadlineExceeded("the model did not answer before the deadline")
        return ReplicaGone(f"the front door at {self.host}: {error}")

    def _socket(self) -> socket.socket:
        while self._sockets:
            connection = self._sockets.pop()
            # An idle connection has something to read only when the other side has closed it.
            if not _is_readable(connection):
                return connection
            connection.close()
        connection = socket.create_connection(self.address, CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    async def _open_streams(self) -> Streams:
        idle = self._streams.get(asyncio.get_running_loop(), [])
        while idle:
            streams = idle.pop()
            if not streams[0].at_eof() and not streams[1].is_closing():
                return streams
            streams[1].close()
        return await asyncio.open_connection(*self.address, limit=_HEAD_BYTES)


def _exchange(connection: socket.socket, request: Buffers, deadline_s: float | None) -> Reply:
    _arm(connection, deadline_s)
    for buffer in _joined(request):
        connection.sendall(buffer)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection, deadline_s)
    head, _, begun = received.partition(b"\r\n\r\n")
    status, headers = _parse_head(head)
    if (size_bytes := _content_length(headers)) is None:
        return Reply(status, headers, _read_unsized(connection, begun, headers, deadline_s))
    body = bytearray(size_bytes)
    body[: len(begun)] = begun
    view, at = memoryview(body), len(begun)
    while at < len(body):
        _arm(connection, deadline_s)
        count = connection.recv_into(view[at:])
        if not count:
            raise ConnectionError("closed within an answer")
        at += count
    return Reply(status, headers, body)


def _read_unsized(
    connection: socket.socket, begun: bytes, headers: Mapping[bytes, bytes], deadline_s: float | None
) -> bytearray:
    """Return a body that comes in chunks or ends with the connection; `begun` is what has come of it."""
    received = bytearray(begun)
    if _is_chunked(headers):
        while (body := _dechunked(received)) is None:
            received += _receive(connection, deadline_s)
        return body
    while True:
        _arm(connection, deadline_s)
        piece = connection.recv(_HEAD_BYTES)
        if not piece:
            return received
        received += piece


def _receive(connection: socket.socket, deadline_s: float | None) -> bytes:
    _arm(connection, deadline_s)
    received = connection.recv(_HEAD_BYTES)
    if not received:
        raise ConnectionError("closed without an answer")
    return received


async def _exchange_async(streams: Streams, request: Buffers) -> Reply:
    reader, writer = streams
    for buffer in _joined(request):
        writer.write(buffer)
        await writer.drain()
    status, headers = _parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
    if (size_bytes := _content_length(headers)) is not None:
        return Reply(status, headers, bytearray(await reader.readexactly(size_bytes)))
    if not _is_chunked(headers):
        return Reply(status, headers, bytearray(await reader.read()))
    received = bytearray()
    while (body := _dechunked(received)) is None:
        piece = await reader.read(_HEAD_BYTES)
        if not piece:
            raise ConnectionError("closed within an answer")
        received += piece
    return Reply(status, headers, body)


def _joined(request: Buffers) -> Buffers:
    return [b"".join(request)] if sum(map(len, request)) <= _JOIN_BYTES else request


def _parse_head(head: bytes) -> tuple[int, Mapping[bytes, bytes]]:
    """Return the status and the headers, their names in lower case; raise `ConnectionError` for what is not HTTP."""
    lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if not lines[0].startswith(b"HTTP/1.") or not lines[0][9:12].isdigit():
        raise ConnectionError(f"expected an HTTP answer, got {lines[0][:80]!r}")
    return int(lines[0][9:12]), headers


def _content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Return the bytes of the body, None where its end shows otherwise (RFC 9112, section 6.3)."""
    length = headers.get(b"content-length")
    if length is None or _is_chunked(headers):
        return None
    if not length.isdigit():
        raise ConnectionError(f"expected a Content-Length, got {length[:80]!r}")
    return int(length)


def _is_chunked(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")


def _is_kept(reply: Reply) -> bool:
    """Return whether the connection that `reply` came on can carry another request."""
    has_end = b"content-length" in reply.headers or _is_chunked(reply.headers)
    return has_end and reply.headers.get(b"connection", b"").lower() != b"close"


def _dechunked(received: bytearray) -> bytearray | None:
    """Return the body whose chunks `received` holds, None while some are to come (RFC 9112, section 7.1)."""
    body, at = bytearray(), 0
    while (line_ends := received.find(b"\r\n", at)) >= 0:
        size = received[at:line_ends].partition(b";")[0].strip()
        try:
            size_bytes = int(size, 16)
        except ValueError:
            raise ConnectionError(f"expected the size of a chunk, got {bytes(size[:80])!r}") from None
        at = line_ends + 2
        if not size_bytes:
            return body if received.find(b"\r\n\r\n", line_ends) >= 0 else None
        body += received[at : at + size_bytes]
        at += size_bytes + 2
    return None


def _arm(connection: socket.socket, deadline_s: float | None) -> None:
    """Give the connection's next call what is left of the time."""
    if deadline_s is None:
        connection.settimeout(None)
        return
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
