"""A uvicorn in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn


@contextlib.asynccontextmanager
async def serving(app: Any, sock: socket.socket, **settings: Any) -> AsyncIterator[Any]:
    """Serve `app` on `sock` by a uvicorn with `settings` until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, loop="none", **settings))
    running = asyncio.ensure_future(server._serve([sock]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await running
