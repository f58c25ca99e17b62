"""One keep-alive connection with at most one request on it, and the event loop that such connections live on."""

from __future__ import annotations

import asyncio
import gc
import select
import selectors
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from serve_app.load.request import Request

MOST_DESCRIPTORS = 1024
"""`select` takes file descriptors below this alone."""
MOST_CONNECTIONS = 480
"""Half of them, so that a server in the same process (in tests) fits too where there is no epoll."""
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop that wakes up to the microsecond, with the garbage collector off.

    epoll's timeouts are whole milliseconds, in asyncio as in uvloop, and a Poisson schedule of a thousand requests a
    second kept that badly is neither.
    """
    loop = asyncio.SelectorEventLoop(_selector())
    collects = gc.isenabled()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_end_tasks())
        loop.close()
        if collects:
            gc.enable()


def _selector() -> selectors.BaseSelector:
    if hasattr(selectors, "EpollSelector"):
        return _Punctual()
    return selectors.SelectSelector()  # macOS; takes few files, and microseconds


if hasattr(selectors, "EpollSelector"):

    class _Punctual(selectors.EpollSelector):
        """epoll, waited for by `select`, which takes microseconds and is asked about one file: epoll's own."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Return what is ready within `timeout` seconds."""
            if timeout is not None and timeout > 0 and self.fileno() < MOST_DESCRIPTORS:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)


async def _end_tasks() -> None:
    """Cancel every other task and wait for its end: some are still connecting, or connecting again."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Connection(asyncio.Protocol):
    """Reports each answer's status to `answered`, and its own end, once, to `lost`."""

    def __init__(self, answered: Callable[[Connection, int], None], lost: Callable[[Connection], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._received = bytearray()
        self._whole_bytes = 0
        """Length of head and body, once the head is here; -1 for a chunked answer."""
        self._status = 0
        self._says_close = False
        self._closed = 0
        """How many transports were closed here, whose ends are therefore no loss."""
        self._request: Request | None = None
        self.due_s = 0.0
        """When the request on it was due, and when it was sent; its user's."""
        self.sent_s = 0.0
        self.transport: asyncio.Transport | None = None

    async def open(self, request: Request) -> Connection:
        """Connect to where `request` goes; raises `OSError`."""
        self._request = request
        context = ssl.create_default_context() if request.is_secure else None
        host, port = request.address
        await asyncio.get_running_loop().create_connection(lambda: self, host, port, ssl=context)
        return self

    def send(self, message: bytes) -> None:
        """Send one request; the answer comes to `answered`."""
        if self.transport is None:
            asyncio.get_running_loop().create_task(self._send_anew(message))
        else:
            self.transport.write(message)

    async def _send_anew(self, message: bytes) -> None:
        """Connect again and send: the server had announced that its last answer here was the last."""
        assert self._request is not None
        try:
            await self.open(self._request)
        except OSError:
            self._lost(self)
        else:
            self.send(message)

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio calls this."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Collect the answer; asyncio calls this."""
        self._received += data
        if self._whole_bytes == 0 and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._read_head(bytes(self._received[: end + 2]).lower(), end + 4)
        if self._whole_bytes and self._is_whole():
            status, self._status, self._whole_bytes = self._status, 0, 0
            self._received.clear()
            if self._says_close and self.transport is not None:
                self.transport.close()
                self.transport, self._closed = None, self._closed + 1
            self._answered(self, status)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Tell the user; asyncio calls this."""
        if self._closed:
            self._closed -= 1
        else:
            self._lost(self)

    def _read_head(self, head: bytes, head_bytes: int) -> None:
        self._status = int(head[9:12])
        # HAProxy says so when it makes way for one with a new configuration (RFC 9112, section 9.6).
        self._says_close = b"\r\nconnection: close" in head
        # With its line's start: a binary answer has an Inference-Header-Content-Length, too.
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        chunked = b"\r\ntransfer-encoding: chunked" in head
        self._whole_bytes = -1 if chunked else head_bytes + int(length or 0)

    def _is_whole(self) -> bool:
        if self._whole_bytes < 0:
            return self._received.endswith(b"0\r\n\r\n")
        return len(self._received) >= self._whole_bytes
