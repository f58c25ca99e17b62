"""What both ASGI apps of the server share: lifespan, websockets, and the one place where errors become answers."""

from __future__ import annotations

from serve_app.http.asgi import Receive, Scope, Send, answer_lifespan, send_response
from serve_app.http.bodies import ClientGone
from serve_app.http.errors import error_response
from serve_app.protocols.codec import Response
from serve_app.protocols.errors import MethodNotAllowed


class HttpApp:
    """An ASGI app that answers every HTTP request by `respond`, or by what that raises."""

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Return the answer to one request; every app has its own."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go what the app holds, at the server's end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's own messages; the only `except` on a request's way is here."""
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send, self.close)
            return
        if scope["type"] == "websocket":
            # Before it is accepted this is a 403, which is all that ASGI has for "not here".
            await send({"type": "websocket.close"})
            return
        try:
            response = await self.respond(scope, receive)
        except ClientGone:
            return
        except Exception as error:
            response = error_response(error, _request_id(scope))
        await send_response(response, send)


def _request_id(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")


def require_method(scope: Scope, method: str) -> None:
    """Raise `MethodNotAllowed` where a request has another method; GET includes HEAD."""
    asked: str = scope["method"]
    if asked != method and (asked, method) != ("HEAD", "GET"):
        raise MethodNotAllowed(asked, scope["path"], "GET, HEAD" if method == "GET" else method)
