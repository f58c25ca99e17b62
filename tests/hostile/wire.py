"""Plain HTTP/1.1 over asyncio's streams: sends bytes as they are, which no client library does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from tests.hostile.cases import Reply

LIMIT_BYTES = 1 << 20


class Broken(Exception):
    """The connection ended without a whole answer."""


class Connection:
    """One kept connection; opened when needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes, is_head: bool = False) -> Reply:
        """Send one whole request and return its answer; raises `Broken` where a new connection brings none."""
        fresh = self.streams is None
        try:
            return await self._ask(sent, is_head)
        except (Broken, OSError) as error:
            self.close()
            if fresh:
                raise Broken(f"{type(error).__name__} {error}") from None
        # A server may close a kept connection at any time: RFC 9112, section 9.3.1.
        return await self.ask(sent, is_head)

    async def _ask(self, sent: bytes, is_head: bool) -> Reply:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT_BYTES)
        reader, writer = self.streams
        # Read meanwhile: an early refusal of a large body ends the sending, and after that nothing can be read.
        reading = asyncio.ensure_future(read_reply(reader, is_head))
        writer.write(sent)
        try:
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            reply = await reading
        finally:
            reading.cancel()
        if reply.header("connection").lower() == "close":
            self.close()
        return reply

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].transport.abort()
            self.streams = None


async def read_reply(reader: asyncio.StreamReader, is_head: bool = False) -> Reply:
    """Return the next answer; raises `Broken` where the connection ends before or within it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if 100 <= status < 200:
            return await read_reply(reader, is_head)
        reply = Reply(status, head[:-4], b"")
        return reply if is_head or status in (204, 304) else Reply(status, head[:-4], await _body(reader, reply))
    except asyncio.IncompleteReadError as error:
        raise Broken(f"after {len(error.partial)} bytes: {error.partial[:80]!r}") from None
    except (IndexError, ValueError, asyncio.LimitOverrunError) as error:
        raise Broken(f"no HTTP: {error}") from None


async def _body(reader: asyncio.StreamReader, reply: Reply) -> bytes:
    if reply.header("transfer-encoding").lower() == "chunked":
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(pieces)
    length = reply.header("content-length")
    return await reader.readexactly(int(length)) if length else await reader.read()


async def exchange(
    port: int, pieces: Sequence[bytes], pause_s: float = 0.0, hang_up: bool = False, owed: int = 0
) -> list[Reply]:
    """Send `pieces` over a connection of their own, end the sending, and return all answers until it closes.

    With `hang_up` the connection is closed right after the last piece, unread. Where answers are `owed` the sending
    ends when they are here: HAProxy takes a client that ends it earlier for gone (`option abortonclose`).
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT_BYTES)
    replies = []
    try:
        with contextlib.suppress(OSError):
            for index, piece in enumerate(pieces):
                if index and pause_s:
                    await asyncio.sleep(pause_s)
                writer.write(piece)
                await writer.drain()
            if not hang_up and not owed:
                writer.write_eof()
        with contextlib.suppress(Broken, OSError):
            while not hang_up:
                replies.append(await read_reply(reader))
                if len(replies) == owed:
                    writer.write_eof()
    finally:
        writer.transport.abort()
    return replies
