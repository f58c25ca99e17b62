"""uvicorn's connection with predictions taken out of its parser's calls, before a task is made for them."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import uvicorn

from deployments.events import event
from serve_app.fast_path.custodian import ANSWERING, ASKED, FREE, NOT_HELD
from serve_app.fast_path.exchange import Exchange, Handler

_LONGEST = 19
"""Digits of a length: more than any body has."""
_Connection: Any = object
"""What a connection is made of besides: uvicorn's class, which `predicting` is handed."""
_METHODS = (
    *("data_received", "connection_lost", "on_headers_complete", "on_body", "on_message_complete"),
    *("on_response_complete", "_unset_keepalive_if_required"),
)
_FIELDS = (
    *("loop", "transport", "flow", "parser", "cycle", "server_state"),
    *("scope", "headers", "url", "root_path", "expect_100_continue", "limit_concurrency"),
)
_INNER = {
    "flow": ("write_paused", "drain"),
    "parser": ("get_method", "get_http_version", "should_upgrade", "should_keep_alive"),
    "server_state": ("default_headers",),
}


def predicting(config: uvicorn.Config, protocol: Any, handler: Handler) -> Any:
    """Return uvicorn's class for a connection, with predictions answered by `handler`.

    It is `protocol` itself where a name that is used here is gone. uvicorn answers what a parser's call raises with
    400, so a missing name would not show as an error: it is looked for now, in a connection that carries nothing.
    """
    if missing := _missing(config, protocol):
        names = ", ".join(missing)
        event("slow_path", f"predictions take uvicorn's way: its connection has no {names}", missing=missing)
        return protocol
    marks = getattr(protocol, "marks", bytearray(1))
    return type("Predicting", (_Predicting, protocol), {"handler": handler, "marks": marks, "slot": NOT_HELD})


def _missing(config: uvicorn.Config, protocol: Any) -> list[str]:
    """Return the names that are used here and that this uvicorn's connections do not have."""
    if missing := [name for name in _METHODS if not hasattr(protocol, name)]:
        return missing
    try:
        from uvicorn.server import ServerState

        connection = protocol(config=config, server_state=ServerState(), app_state={})
        connection.connection_made(asyncio.Transport())
        connection.on_message_begin()
    except Exception as error:
        return [f"constructor as known ({error})"]
    if missing := [name for name in _FIELDS if not hasattr(connection, name)]:
        return missing
    return [
        f"{field}.{name}"
        for field, names in _INNER.items()
        for name in names
        if not hasattr(getattr(connection, field), name)
    ]


class _Predicting(_Connection):  # type: ignore[misc]
    handler: Handler
    marks: Any
    """What the custodian is to know of this connection's requests is at `slot`."""
    slot: int
    _exchange: Exchange | None = None
    """The newest exchange: its body may be on its way, or its answer."""
    cycle: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.marks[self.slot] = FREE

    def on_response_complete(self) -> None:
        self.marks[self.slot] = FREE
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or not exchange.missing_bytes or self.cycle is not exchange:
            super().data_received(data)
            exchange = self._exchange
            if exchange is not None and exchange.missing_bytes and self.cycle is exchange:
                # The app looks for room before it asks for the rest; and its time limit counts from here.
                exchange.begin()
            return
        # The rest of a body: nothing to parse, and the parser would copy it.
        self._unset_keepalive_if_required()
        missing_bytes = exchange.missing_bytes
        exchange.feed(data if len(data) <= missing_bytes else data[:missing_bytes])
        if exchange.missing_bytes:
            return
        self.parser = self._new_parser()
        exchange.end_body()
        if len(data) > missing_bytes:
            self.data_received(data[missing_bytes:])

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        if hasattr(parser, "set_dangerous_leniencies"):
            parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return parser

    def on_headers_complete(self) -> None:
        exchange = self._taken()
        if exchange is None:
            is_first = self.cycle is None or self.cycle.response_complete
            super().on_headers_complete()
            self._watch(self.cycle, is_first)
            return
        self.cycle = self._exchange = exchange

    def _watch(self, cycle: Any, is_first: bool) -> None:
        """Have the answer of `cycle`, which goes uvicorn's way, marked as begun by its first byte."""
        if is_first and hasattr(cycle, "transport"):
            self.marks[self.slot] = ASKED
            cycle.transport = _Marking(cycle.transport, self)
        else:
            self.marks[self.slot] = ANSWERING  # perhaps: nobody says when it begins

    def _taken(self) -> Exchange | None:
        parser, scope, cycle = self.parser, self.scope, self.cycle
        if (
            (cycle is not None and not cycle.response_complete)
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or parser.should_upgrade()
            or self.expect_100_continue
            or self.limit_concurrency is not None
            or not self.url.isascii()
        ):
            return None
        scope["method"] = "POST"
        scope["path"] = self.url.decode("ascii")
        body_bytes = _length(self.headers)
        if body_bytes is None or self.root_path or not self.handler.takes(scope):
            return None
        scope["raw_path"], scope["query_string"] = self.url, b""
        self.marks[self.slot] = ASKED
        return Exchange(self, self.handler, parser.should_keep_alive(), body_bytes)

    def on_body(self, body: bytes) -> None:
        if self.cycle is self._exchange and self._exchange is not None:
            self._exchange.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is self._exchange and self._exchange is not None:
            self._exchange.end_body()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            if self.cycle is exchange:
                self.cycle = None
            exchange.leave()
        super().connection_lost(exc)


class _Marking:
    """A transport that marks its connection's answer as begun when something is written."""

    def __init__(self, transport: Any, connection: _Predicting) -> None:
        self._transport = transport
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.marks[self._connection.slot] = ANSWERING
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the declared length of a request's body; None where it has none, and may be longer than any limit."""
    length = b""
    for name, value in headers:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            return None
    return int(length) if length.isdigit() and len(length) < _LONGEST else None
