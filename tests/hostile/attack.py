"""Sends a kind's cases with many connections at once, in batches, and judges what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import grpc

from tests.hostile import wire
from tests.hostile.cases import ANSWER_S, MODEL_FAILED, MODEL_FAILED_TEXT, Request, Tally, wrong_with
from tests.hostile.rpc import ALLOWED, Call, Caller, Stream
from tests.hostile.sockets import BOUND_S, Bytes
from tests.hostile.watch import Watched, good_answers

CLIENTS = 12
BATCH = 1000
MAX_FINDINGS = 40
"""Per kind; one defect found a thousand times is one defect."""

One = Callable[[Any, Tally], Awaitable[None]]


class Attack:
    """A server under attack; `run` sends one kind of cases."""

    ends_s = math.inf
    """When to stop, on `time.monotonic`'s clock; a batch that has begun is finished."""

    def __init__(self, port: int, grpc_port: int, watched: Watched) -> None:
        self.port = port
        self.watched = watched
        self.caller = Caller(grpc_port)

    async def run(self, kind: str, cases: Iterable[Any]) -> Tally:
        """Send all `cases`, batch by batch; after each, good requests must be answered and no process be gone."""
        tally, started_s, cases = Tally(kind), time.monotonic(), iter(cases)
        while time.monotonic() < self.ends_s and (batch := list(islice(cases, BATCH))):
            await self._batch(iter(batch), tally)
            tally.findings += await good_answers(self.port, self.caller)
            tally.findings += [f"{process} is gone" for process in self.watched.gone()]
            if len(tally.findings) > MAX_FINDINGS:
                break
        tally.seconds = time.monotonic() - started_s
        return tally

    async def _batch(self, cases: Iterator[Any], tally: Tally) -> None:
        await asyncio.gather(*(self._client(cases, tally) for _ in range(CLIENTS)))

    async def _client(self, cases: Iterator[Any], tally: Tally) -> None:
        connection = wire.Connection(self.port)
        sends: dict[type, One] = {
            Request: lambda case, to: self._request(connection, case, to),
            Bytes: self._bytes,
            Call: self._call,
            Stream: self._stream,
        }
        for case in cases:
            await sends[type(case)](case, tally)
        connection.close()

    async def _request(self, connection: wire.Connection, request: Request, tally: Tally) -> None:
        sent, is_head, started_s = request.encode(), request.method == "HEAD", time.monotonic()
        try:
            reply = await asyncio.wait_for(connection.ask(sent, is_head), ANSWER_S)
        except (asyncio.TimeoutError, wire.Broken, OSError) as error:
            connection.close()
            tally.count(type(error).__name__, time.monotonic() - started_s)
            tally.found(f"no answer ({type(error).__name__} {error})", sent)
            return
        model_failed = reply.body.startswith(MODEL_FAILED) and "simple_string" in request.path
        tally.count("500 by the model" if model_failed else str(reply.status), time.monotonic() - started_s)
        if model_failed:
            return
        if wrong := wrong_with(reply, is_head):
            tally.found(wrong, sent)

    async def _bytes(self, case: Bytes, tally: Tally) -> None:
        started_s, sent = time.monotonic(), b"".join(case.pieces)
        replies: list[wire.Reply] = []
        try:
            exchange = wire.exchange(self.port, case.pieces, case.pause_s, case.hang_up, case.answers or 0)
            replies = await asyncio.wait_for(exchange, BOUND_S)
            status = ",".join(sorted({str(reply.status) for reply in replies})) or "closed"
        except (asyncio.TimeoutError, OSError) as error:
            status = type(error).__name__
            tally.found(f"no end ({status})", sent)
        tally.count("hung up" if case.hang_up else status, time.monotonic() - started_s)
        for reply in replies:
            if reply.status >= 500 and reply.status not in (501, 505) and (reply.status != 503 or wrong_with(reply)):
                tally.found(f"status {reply.status}: {reply.body[:200]!r}", sent)
        answered = sum(reply.status == 200 for reply in replies)
        if case.answers is not None and answered < case.answers:
            tally.found(f"{answered} answers instead of {case.answers}", sent)

    async def _call(self, call: Call, tally: Tally) -> None:
        started_s = time.monotonic()
        code, details, _ = await self.caller.call(call, ANSWER_S)
        self._judge(code, details, time.monotonic() - started_s, tally, call.body, dict(call.metadata))

    async def _stream(self, stream: Stream, tally: Tally) -> None:
        started_s = time.monotonic()
        code, details, answers = await self.caller.stream(stream, ANSWER_S)
        sent, asked = b"|".join(stream.bodies), dict(stream.metadata)
        self._judge(code, details, time.monotonic() - started_s, tally, sent, asked)
        if code == grpc.StatusCode.OK and details != "cancelled" and answers != len(stream.bodies):
            tally.found(f"{answers} answers to {len(stream.bodies)} requests of a stream", sent)

    def _judge(self, code: Any, details: str, seconds: float, tally: Tally, sent: bytes, metadata: Any) -> None:
        if code == grpc.StatusCode.INTERNAL and details.startswith(MODEL_FAILED_TEXT) and b"simple_string" in sent:
            tally.count("INTERNAL by the model", seconds)
            return
        tally.count(code.name, seconds)
        is_late = code == grpc.StatusCode.DEADLINE_EXCEEDED and seconds >= ANSWER_S
        if code not in ALLOWED or is_late or "internal error" in details:
            tally.found(f"{code.name} {details[:300]!r} with metadata {metadata}", sent)


@contextlib.asynccontextmanager
async def attack(port: int, grpc_port: int, watched: Watched) -> AsyncIterator[Attack]:
    """Yield an `Attack`, its channel closed afterwards."""
    made = Attack(port, grpc_port, watched)
    try:
        yield made
    finally:
        await made.caller.close()
