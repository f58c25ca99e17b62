"""Cross-origin requests: off unless a config names origins; then answered here, without a middleware class.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serve_app.http.asgi import App, Message, Receive, Scope, Send, send_response
from serve_app.protocols.codec import Header, Response

ANY = "*"

_PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, inference-header-content-length, x-request-id, "
        b"x-request-timeout-seconds",
    ),
    (b"access-control-max-age", b"600"),
)
_EXPOSED: Header = (
    b"access-control-expose-headers",
    b"inference-header-content-length, retry-after, server-timing, www-authenticate, x-request-id",
)


def with_cors(app: App, origins: Sequence[str]) -> App:
    """Return `app` with pages of `origins` allowed to read its answers; without origins it is `app` itself.

    Preflight requests carry no token by design, and are answered before one is asked for.
    """
    if not origins:
        return app
    allowed = frozenset(origin.encode() for origin in origins)

    async def cors(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        origin = headers.get(b"origin")
        if origin is None or not (origin in allowed or ANY.encode() in allowed):
            await app(scope, receive, send)
            return
        own = _of_origin(origin, allowed)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await send_response(Response(b"", 200, b"text/plain", (*own, *_PREFLIGHT)), send)
            return

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start" and not _names_origin(message["headers"]):
                message["headers"] = [*message["headers"], *own, _EXPOSED]
            await send(message)

        await app(scope, receive, send_with)

    return cors


def _of_origin(origin: bytes, allowed: frozenset[bytes]) -> tuple[Header, ...]:
    if ANY.encode() in allowed:
        return ((b"access-control-allow-origin", b"*"),)
    return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))


def _names_origin(headers: Iterable[Header]) -> bool:
    """Return whether an answer that was passed on has these headers already, from a model's own replica."""
    return any(name == b"access-control-allow-origin" for name, _ in headers)
