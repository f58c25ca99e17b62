"""`ModelStreamInfer`: requests of one stream run concurrently, so that they may share batches, and answer in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

from serve_app.grpc.messages import ModelInferRequest, ModelStreamInferResponse
from serve_app.grpc.statuses import text_of

MAX_IN_FLIGHT = 64
"""Requests of one stream that are read ahead; beyond it the client's flow control holds the rest back."""

_WANTS_FINAL = "triton_enable_empty_final_response"

Infer = Callable[[bytes], Awaitable[Any]]


async def answer_stream(requests: AsyncIterable[bytes], infer: Infer) -> AsyncIterator[Any]:
    """Yield a `ModelStreamInferResponse` for each request, in the requests' order; an error ends only its own request.

    `infer` returns a `ModelInferResponse`, or raises.
    """
    running: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(MAX_IN_FLIGHT)
    reader = asyncio.create_task(_read(requests, infer, running))
    task = None
    try:
        while (task := await running.get()) is not None:
            yield await task
        await reader
    finally:
        reader.cancel()
        for left in _left(task, running):
            left.cancel()


async def _read(requests: AsyncIterable[bytes], infer: Infer, running: asyncio.Queue[Any]) -> None:
    try:
        async for body in requests:
            await running.put(asyncio.create_task(_answer(body, infer)))
    finally:
        await running.put(None)


async def _answer(body: bytes, infer: Infer) -> Any:
    try:
        response = await infer(body)
    except Exception as error:
        return ModelStreamInferResponse(error_message=text_of(error))
    if _WANTS_FINAL.encode() in body and _WANTS_FINAL in ModelInferRequest.FromString(body).parameters:
        # Triton's mark of a request's last response; here every response is its request's only one.
        response.parameters["triton_final_response"].bool_param = True
    return ModelStreamInferResponse(infer_response=response)


def _left(task: asyncio.Task[Any] | None, running: asyncio.Queue[Any]) -> list[asyncio.Task[Any]]:
    left = [] if task is None else [task]
    while not running.empty():
        if (other := running.get_nowait()) is not None:
            left.append(other)
    return left
