"""Request bodies read and inflated under a bound, answers deflated when a client asks for nothing else."""

from __future__ import annotations

import asyncio
import zlib

from deployments.errors import InvalidInput
from serve_app.http.asgi import Message, Receive
from serve_app.protocols.codec import Headers
from serve_app.protocols.errors import BodyTooLarge, UnsupportedEncoding

_WINDOW_BITS = {b"gzip": zlib.MAX_WBITS | 16, b"x-gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}

CODINGS = (b"gzip", b"deflate")
"""Values of Accept-Encoding that are honoured: exactly one coding, and nothing else.

Most clients send `gzip, deflate, …` by habit with every request, and a tensor is not worth the milliseconds; who
wants it asks for one coding alone, as tritonclient does for `response_compression_algorithm`.
"""

_LOOP_BYTES = 4096
"""Compressed bodies up to this are inflated on the event loop: at deflate's most, 1032:1, 4 MB in about 5 ms."""

_WORTH_BYTES = 1024
"""Answers below this are sent as they are: they fit one packet either way."""


class ClientGone(BaseException):
    """The client hung up before its body was complete: like a cancellation, there is nobody to answer."""


async def read_body(receive: Receive, headers: Headers, limit_bytes: int) -> bytes:
    """Return the request's body as sent; joined at most once, and not copied when it came in one piece.

    Raises `BodyTooLarge` before reading where Content-Length says so, else as soon as more has come, and
    `ClientGone` where the client hangs up.
    """
    declared = headers.get(b"content-length", b"0")
    if len(declared) > 18 or (declared.isdigit() and int(declared) > limit_bytes):
        raise BodyTooLarge(limit_bytes)
    message = await receive()
    body = _piece(message)
    if not message.get("more_body", False):
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return body
    pieces, body_bytes = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        pieces.append(_piece(message))
        body_bytes += len(pieces[-1])
        if body_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return b"".join(pieces)


def _piece(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    return body


async def inflate_body(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """Return `body` without its Content-Encoding; large ones are inflated off the event loop."""
    encoding = encoding.strip().lower()
    if len(body) <= _LOOP_BYTES:
        return inflate(body, encoding, limit_bytes)
    return await asyncio.to_thread(inflate, body, encoding, limit_bytes)


def inflate(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """Return `body` inflated, never holding more than `limit_bytes` of the result.

    `deflate` is the zlib format, as RFC 9110 section 8.4.1.2 has it. Raises `UnsupportedEncoding`, `InvalidInput`
    for a damaged or unfinished stream or bytes after it, and `BodyTooLarge`.
    """
    if encoding in (b"", b"identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise UnsupportedEncoding(f"Content-Encoding '{encoding.decode('latin-1')}': expected gzip or deflate")
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        inflated = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is no {encoding.decode()} stream: {error}") from None
    if len(inflated) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not stream.eof or stream.unused_data:
        raise InvalidInput(f"the body's {encoding.decode()} stream is {'cut off' if not stream.eof else 'overlong'}")
    return inflated


async def deflate_body(body: bytes, encoding: bytes) -> bytes | None:
    """Return `body` compressed at zlib's fastest level, off the event loop; None where that is not worth it."""
    if len(body) < _WORTH_BYTES:
        return None
    return await asyncio.to_thread(_deflate, body, encoding)


def _deflate(body: bytes, encoding: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS[encoding])
    return stream.compress(body) + stream.flush()
