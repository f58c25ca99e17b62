"""Bearer tokens are asked for on all paths but the open ones; scheme and answers: RFC 6750 and RFC 9110, section 11."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serve_app.config.tokens import Tokens
from serve_app.http.asgi import App, Receive, Scope, Send, send_response
from serve_app.http.errors import error_response
from serve_app.protocols.errors import Unauthorized


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the value of an ASGI request's Authorization header, empty where it has none."""
    return next((value for name, value in headers if name == b"authorization"), b"")


def guarded(app: App, tokens: Tokens | None, is_open: Callable[[str], bool]) -> App:
    """Return `app` behind `tokens`, paths that are open apart; without tokens it is `app` itself and costs nothing."""
    if tokens is None:
        return app
    known = tokens

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                known.check(authorization_of(scope["headers"]))
            except Unauthorized as error:
                await send_response(error_response(error), send)
                return
        await app(scope, receive, send)

    return guard


def is_ready_path(path: str) -> bool:
    """Return whether a model's path asks only whether it is ready: health stays open."""
    return path.rstrip("/").endswith("/ready")
