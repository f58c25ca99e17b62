"""What Serve's proxy says where a model has no replica: in the protocol's form, and with the model's own reason.

HAProxy sends a model's requests to the proxy while none of its replicas runs. Serve answers in plain text there, and
names its own parts.
"""

from __future__ import annotations

from deployments.errors import DeadlineExceeded, NotReady, SoloError
from serve_app.cluster.directory import Directory, not_ready, pick
from serve_app.config.paths import OF_MODEL
from serve_app.http.asgi import App, Message, Receive, Scope, Send, send_response
from serve_app.http.errors import error_response
from serve_app.protocols.codec import Response

_KINDS: dict[int, type[SoloError]] = {408: DeadlineExceeded, 503: NotReady}


class WithoutReplica:
    """An ASGI app around Serve's: plain-text refusals become the protocol's."""

    def __init__(self, serves: App, directory: Directory | None = None) -> None:
        self._serves = serves
        self._directory = directory or Directory()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but a plain-text 408 or 503."""
        held: list[Message] = []

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_plain_refusal(message):
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body"):
                    await send_response(await self._refusal(scope, held), send)

        await self._serves(scope, receive, watched if scope["type"] == "http" else send)

    async def _refusal(self, scope: Scope, held: list[Message]) -> Response:
        text = b"".join(message.get("body", b"") for message in held[1:]).decode(errors="replace")
        status = held[0]["status"]
        response = error_response(await self._error(scope["path"], status, text))
        kept = [(name, value) for name, value in held[0]["headers"] if not name.lower().startswith(b"content-")]
        return Response(response.body, status, response.content_type, (*response.headers, *kept))

    async def _error(self, path: str, status: int, text: str) -> SoloError:
        if _KINDS[status] is NotReady and (found := OF_MODEL.match(path)):
            try:
                model = pick(await self._directory.models(), found[1], found[2])
            except Exception:  # the controller is away, as Serve's words say then
                model = None
            if model is not None and model.state != "READY":
                return not_ready(model)
        return _KINDS[status](text)


def _is_plain_refusal(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start.get("headers", ())}
    return start["status"] in _KINDS and headers.get(b"content-type", b"").startswith(b"text/plain")
