"""ASGI without a framework: the types of its three arguments, and one response of one body.

Starlette's `Response` builds header objects and a background task per answer; this one sends two messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
BINARY = b"application/octet-stream"


@dataclass(slots=True)
class Response:
    """A whole answer: body, status, content type and further headers (names in lower case)."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()

    async def send(self, send: Send) -> None:
        """Send it as one start and one body message."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(value: Any) -> Response:
    """Return `value` as a JSON answer; numpy scalars and arrays in it are allowed."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
