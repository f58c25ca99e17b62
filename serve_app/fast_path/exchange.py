"""A prediction goes from uvicorn's parser to the model's routes in one call, without a task of its own.

uvicorn (0.54) answers each request in a task, which begins a pass of the event loop later, and hands it body and
answer as messages through an event. That pays where an answer comes in parts, or takes its time. A prediction is one
body in and one out, and most are answered before the parser's call returns; one that waits for the device is carried
on by what it waits for. Parsing, pipelining, closing, and every other request stay uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol

from serve_app.fast_path.custodian import ANSWERING
from serve_app.fast_path.stepping import Stepping
from serve_app.http.asgi import Message, Receive, Scope, Send
from serve_app.http.errors import error_response

JOINED_BYTES = 65536
"""An answer up to this length is copied behind its head: cheaper than a second piece for the system call."""
_STATUS_LINES = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Handler(Protocol):
    """What answers predictions; `serve_app.fast_path.past_serve.FastPath` is the real one."""

    def answer(
        self, scope: Scope, receive: Receive, send: Send, cancel: Callable[[], None] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Answer a request that `takes` was true of, as an ASGI app does.

        There is no task to ask for: `cancel` cancels what the answer waits for.
        """
        ...

    def takes(self, scope: Scope) -> bool:
        """Return whether a POST request is for `answer` now, by its path and headers."""
        ...


class Exchange(Stepping):
    """One prediction and its answer, in the place of uvicorn's `RequestResponseCycle`, whose public names it has."""

    __slots__ = (
        *("_body", "_handler", "_headers", "_protocol", "_reader", "_status"),
        *("disconnected", "keep_alive", "missing_bytes", "response_complete"),
    )

    def __init__(self, protocol: Any, handler: Handler, keep_alive: bool, body_bytes: int) -> None:
        super().__init__()
        self._protocol = protocol
        self._handler = handler
        self._body: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None
        """Done when the body is whole, where the app waits for that."""
        self._status = 0
        self._headers: Any = ()
        self.keep_alive = keep_alive
        self.missing_bytes = body_bytes
        """How much of the body is still to come, by what the head says of it."""
        self.disconnected = False
        self.response_complete = False

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self.missing_bytes -= len(piece)
        if not self.response_complete:
            self._body.append(piece)

    def end_body(self) -> None:
        """Begin, or carry on who waits for the body: it is whole."""
        if self._reader is not None:
            if not self._reader.done():
                self._reader.set_result(None)
        else:
            self.begin()

    def begin(self) -> None:
        """Run the app as far as it gets; nothing if it has begun."""
        if self._coroutine is None and not self.response_complete:
            self._begin_with(self._handler.answer(self._protocol.scope, self.receive, self.send, self.cancel))

    def leave(self) -> None:
        """Cancel whatever the app waits for: the client is gone."""
        self.disconnected = True
        self.cancel()

    async def receive(self) -> Message:
        """Return the whole body as ASGI's one message."""
        if self.missing_bytes and not self.disconnected:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if self.disconnected:
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Keep the head of the answer; write it with the body."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message["headers"]
            return
        flow = self._protocol.flow
        while flow.write_paused and not self.disconnected:
            await flow.drain()
        if not self.disconnected:
            self._write(message["body"])

    def _write(self, body: bytes) -> None:
        protocol = self._protocol
        parts = [_STATUS_LINES[self._status]]
        for name, value in protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in self._headers:
            if name == b"connection":  # nobody here says anything but `close`
                self.keep_alive = False
            else:
                parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        transport = protocol.transport
        protocol.marks[protocol.slot] = ANSWERING
        if len(body) > JOINED_BYTES:
            transport.writelines((b"".join(parts), body))
        else:
            parts.append(body)
            transport.write(b"".join(parts))
        self.response_complete = True
        if not self.keep_alive:
            transport.close()

    def _end(self, error: BaseException | None) -> None:
        """Close the books: the app has returned, or failed."""
        self._coroutine = self._waits = None
        self._body = []
        if self.disconnected:
            self.response_complete = True
            return
        if not self.response_complete:
            # The app answers its failures itself: what it did not is one of ours, and logged as such.
            self.keep_alive = False
            response = error_response(error or RuntimeError("the request was not answered"))
            self._status = response.status
            self._headers = (
                (b"content-type", response.content_type),
                (b"content-length", b"%d" % len(response.body)),
            )
            self._write(response.body)
        self._protocol.on_response_complete()
