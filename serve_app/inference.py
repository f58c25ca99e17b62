"""One inference, whatever the protocol: body → codec → servable → codec → answer, timed and counted.

A codec is two plain functions; reading, inflating, deadlines, statistics and the Server-Timing receipt are here,
once for all of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from deployments.errors import cause_of
from deployments.servable import Servable
from deployments.statistics import Stages
from deployments.tensors import Array, Arrays
from serve_app import bodies
from serve_app.bodies import Headers
from serve_app.departures import WhileWaiting
from serve_app.limits import Limits
from serve_app.responses import Receive, Response

A_YEAR_S = 3.2e7
"""A longer time limit is none: event loops cannot count so far."""
LONGEST_WAIT_S = 60.0
"""What a request may have waited at the front door; more says that the clocks of two nodes differ."""


class Decoded(Protocol):
    """A request as a codec read it."""

    inputs: Mapping[str, Array]
    timeout_s: float | None
    """The protocol's own time limit, counted from the request's arrival."""


RequestT = TypeVar("RequestT", bound=Decoded)


class Codec(Protocol[RequestT]):
    """One protocol's two directions."""

    def decode(self, body: bytes, headers: Headers) -> RequestT:
        """Return the request in an inflated `body`; raise `InvalidInput`."""
        ...

    def encode(self, outputs: Arrays, request: RequestT) -> Response:
        """Return the answer to `request`; `outputs` in the signature's order."""
        ...

    def is_quick(self, body: bytes) -> bool:
        """Return whether decoding `body` may hold up the event loop; a thread does it otherwise."""
        ...


class Inference:
    """Answers inference requests to one model."""

    def __init__(self, servable: Servable, limits: Limits) -> None:
        self.servable = servable
        self.limits = limits

    async def answer(self, headers: Headers, receive: Receive, codec: Codec[Any]) -> Response:
        """Return the response to one request; every failure is counted here and raised on."""
        started_ns = time.monotonic_ns()
        try:
            self.servable.check_room()
            body = await bodies.read_body(receive, headers, self.limits.max_body_bytes)
            if b"content-encoding" in headers:
                body = await bodies.inflate_body(body, headers[b"content-encoding"], self.limits.max_body_bytes)
            if codec.is_quick(body):
                request = codec.decode(body, headers)
            else:
                request = await asyncio.to_thread(codec.decode, body, headers)
            decoded_ns = time.monotonic_ns()
            deadline_s = _deadline_s(request.timeout_s, headers, started_ns)
            with WhileWaiting(receive):
                answer = await self.servable.predict(request.inputs, deadline_s)
            answered_ns = time.monotonic_ns()
            response = codec.encode(answer.outputs, request)
            if headers.get(b"accept-encoding") in bodies.CODINGS:
                await _compress(response, headers[b"accept-encoding"])
        except BaseException as error:
            # Cancellation too: a client that left is part of the count.
            self.servable.statistics.failed(cause_of(error), time.monotonic_ns() - started_ns)
            raise
        stages = Stages.between(started_ns, decoded_ns, answered_ns, answer)
        self.servable.statistics.succeeded(len(next(iter(request.inputs.values()))), stages)
        if self.servable.trace is not None:
            self.servable.trace(stages, answer.batch_rows)
        if self.limits.server_timing:
            response.headers = (*response.headers, (b"server-timing", server_timing(stages, answer.batch_rows)))
        return response


def server_timing(stages: Stages, batch_rows: int) -> bytes:
    """Return the Server-Timing header's value: the stages in milliseconds, adding up to `total`."""
    return (
        b'decode;dur=%.3f, queue;dur=%.3f, batch;desc="rows %d";dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, '
        b"total;dur=%.3f"
    ) % (
        stages.decode_ns / 1e6,
        stages.queue_ns / 1e6,
        batch_rows,
        stages.batch_ns / 1e6,
        stages.compute_ns / 1e6,
        stages.encode_ns / 1e6,
        stages.total_ns / 1e6,
    )


def _deadline_s(timeout_s: float | None, headers: Headers, started_ns: int) -> float | None:
    """Return the earlier of the protocol's and the header's deadline, on `time.monotonic`'s clock."""
    header = headers.get(b"x-request-timeout-seconds")
    seconds = None if header is None else positive_seconds(header)
    if seconds is not None:
        timeout_s = min(seconds, math.inf if timeout_s is None else timeout_s)
    if timeout_s is None or timeout_s == math.inf:
        return None
    return started_ns / 1e9 + timeout_s - _waited_s(headers)


def _waited_s(headers: Headers) -> float:
    """Return how long ago the front door took the request in: HAProxy's `x-request-start`, microseconds since 1970."""
    header = headers.get(b"x-request-start", b"")
    if not header.isdigit() or len(header) > 18:
        return 0.0
    return min(max(0.0, time.time() - int(header) / 1e6), LONGEST_WAIT_S)


def positive_seconds(header: bytes, otherwise: float | None = None) -> float | None:
    """Return a header's seconds; None, no limit, where they are not positive, `otherwise` where they are no number.

    Serve 2.60 reads x-request-timeout-seconds so, too.
    """
    try:
        seconds = float(header)
    except ValueError:
        return otherwise
    return seconds if 0 < seconds < A_YEAR_S else None


async def _compress(response: Response, encoding: bytes) -> None:
    body = await bodies.deflate_body(response.body, encoding)
    if body is not None:
        response.body = body
        response.headers = (*response.headers, (b"content-encoding", encoding), (b"vary", b"Accept-Encoding"))
