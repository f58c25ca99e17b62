"""One inference, whatever the protocol: body → codec → servable → codec → answer, timed and counted.

A codec is two plain functions; reading, inflating, deadlines, statistics and the Server-Timing receipt are here,
once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.execution import Answer
from deployments.servable import Servable
from deployments.statistics import Stages
from deployments.tensors import Array, Arrays
from serve_app import bodies
from serve_app.bodies import Headers
from serve_app.errors import cause_of
from serve_app.limits import Limits
from serve_app.responses import Receive, Response


@dataclass(slots=True)
class Decoded:
    """A request as a codec read it."""

    inputs: Mapping[str, Array]
    timeout_s: float | None = None
    context: Any = None
    """What the codec's `encode` needs to know of it."""


class Codec(Protocol):
    """One protocol's two directions."""

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Return the request in an inflated `body`; raise `InvalidInput`."""
        ...

    def encode(self, outputs: Arrays, context: Any) -> Response:
        """Return the answer to a request; `outputs` in the signature's order."""
        ...


class Inference:
    """Answers inference requests to one model."""

    def __init__(self, servable: Servable, limits: Limits) -> None:
        self.servable = servable
        self.limits = limits

    async def answer(self, headers: Headers, receive: Receive, codec: Codec) -> Response:
        """Return the response to one request; every failure is counted here and raised on."""
        stages = Stages()
        try:
            return await self._answer(headers, receive, codec, stages)
        except BaseException as error:
            # Cancellation too: a client that left is part of the count.
            self.servable.statistics.failed(cause_of(error), stages.now_ns() - stages.started_ns)
            raise

    async def _answer(self, headers: Headers, receive: Receive, codec: Codec, stages: Stages) -> Response:
        decoded = codec.decode(await self._body(headers, receive), headers)
        stages.decoded_ns = stages.now_ns()
        answer = await self.servable.predict(decoded.inputs, _deadline_s(decoded.timeout_s, headers, stages))
        stages.answered_ns = stages.now_ns()
        response = codec.encode(answer.outputs, decoded.context)
        if (encoding := bodies.wanted_encoding(headers)) is not None:
            await _compress(response, encoding)
        stages.encoded_ns = stages.now_ns()
        rows = len(next(iter(decoded.inputs.values())))
        self.servable.statistics.succeeded(rows, answer, stages)
        if self.limits.server_timing:
            response.headers = (*response.headers, (b"server-timing", server_timing(answer, stages)))
        return response

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit_bytes = self.limits.max_body_bytes
        body = await bodies.read_body(receive, headers, limit_bytes)
        encoding = headers.get(b"content-encoding")
        return body if encoding is None else await bodies.inflate_body(body, encoding, limit_bytes)


def server_timing(answer: Answer, stages: Stages) -> bytes:
    """Return the Server-Timing header's value: the stages in milliseconds, adding up to `total`.

    `batch` is joining, checking and handing over; its description is how many rows shared the run.
    """
    return b'decode;dur=%.3f, queue;dur=%.3f, batch;desc="%d rows";dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, ' % (
        stages.decode_ns / 1e6,
        answer.queue_ns / 1e6,
        answer.batch_rows,
        stages.batch_ns(answer) / 1e6,
        answer.compute_ns / 1e6,
        stages.encode_ns / 1e6,
    ) + b"total;dur=%.3f" % (stages.total_ns / 1e6)


def _deadline_s(timeout_s: float | None, headers: Headers, stages: Stages) -> float | None:
    """Return the earlier of the protocol's and the header's deadline, on `time.monotonic`'s clock."""
    header = headers.get(b"x-request-timeout-seconds")
    if header is not None:
        header_s = _positive(header)
        timeout_s = header_s if timeout_s is None else min(timeout_s, header_s)
    if timeout_s is None or timeout_s == math.inf:
        return None
    return stages.started_ns / 1e9 + timeout_s


def _positive(header: bytes) -> float:
    """Return a header's seconds, infinity where it is malformed or not positive: Serve 2.60 reads it so too."""
    try:
        seconds = float(header)
    except ValueError:
        return math.inf
    return seconds if seconds > 0 else math.inf


async def _compress(response: Response, encoding: bytes) -> None:
    body = await bodies.deflate_body(response.body, encoding)
    if body is not None:
        response.body = body
        response.headers = (*response.headers, (b"content-encoding", encoding), (b"vary", b"Accept-Encoding"))
