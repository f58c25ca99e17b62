"""One inference, whatever the protocol: body → codec → servable → codec → answer, timed and counted.

A codec is two plain functions; reading, inflating, deadlines, statistics and the Server-Timing receipt are here,
once for all of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from deployments.servable import Servable
from deployments.statistics import Stages
from serve_app.config.surface import Limits
from serve_app.http import bodies
from serve_app.http.asgi import Receive
from serve_app.http.deadlines import deadline_of
from serve_app.http.disconnects import WhileWaiting
from serve_app.protocols.codec import Codec, Headers, Response


class Inference:
    """Answers inference requests to one model."""

    def __init__(self, servable: Servable, limits: Limits) -> None:
        self.servable = servable
        self.limits = limits

    async def answer(self, headers: Headers, receive: Receive, codec: Codec[Any]) -> Response:
        """Return the response to one request; every failure is counted here and raised on."""
        with self.servable.counted() as request:
            self.servable.check_room()
            body = await bodies.read_body(receive, headers, self.limits.max_body_bytes)
            if b"content-encoding" in headers:
                body = await bodies.inflate_body(body, headers[b"content-encoding"], self.limits.max_body_bytes)
            if codec.is_quick(body):
                decoded = codec.decode(body, headers)
            else:
                decoded = await asyncio.to_thread(codec.decode, body, headers)
            request.decoded(decoded.inputs)
            deadline_s = deadline_of(decoded.timeout_s, headers, request.started_ns)
            with WhileWaiting(receive):
                answer = await self.servable.predict(decoded.inputs, deadline_s, decoded.step)
            request.answered(answer)
            response = codec.encode(answer.outputs, decoded)
            if headers.get(b"accept-encoding") in bodies.CODINGS:
                await _compress(response, headers[b"accept-encoding"])
        if self.limits.server_timing:
            response.headers = (*response.headers, (b"server-timing", server_timing(request.stages, answer.batch_rows)))
        return response


def server_timing(stages: Stages, batch_rows: int) -> bytes:
    """Return the Server-Timing header's value: the stages in milliseconds, adding up to `total`."""
    around = b""
    if stages.before_ns or stages.after_ns:
        around = b"before;dur=%.3f, after;dur=%.3f, " % (stages.before_ns / 1e6, stages.after_ns / 1e6)
    for step, time_ns in stages.steps:  # they are the computing
        around += b"step-%b;dur=%.3f, " % (step.encode(), time_ns / 1e6)
    compute = b"" if stages.steps else b"compute;dur=%.3f, " % (stages.compute_ns / 1e6)
    return (b'decode;dur=%.3f, queue;dur=%.3f, batch;desc="rows %d";dur=%.3f, %bencode;dur=%.3f, %btotal;dur=%.3f') % (
        stages.decode_ns / 1e6,
        stages.queue_ns / 1e6,
        batch_rows,
        stages.batch_ns / 1e6,
        compute,
        stages.encode_ns / 1e6,
        around,
        stages.total_ns / 1e6,
    )


async def _compress(response: Response, encoding: bytes) -> None:
    body = await bodies.deflate_body(response.body, encoding)
    if body is not None:
        response.body = body
        response.headers = (*response.headers, (b"content-encoding", encoding), (b"vary", b"Accept-Encoding"))
