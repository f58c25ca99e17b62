"""ASGI's lifespan scope: an app that leaves it unanswered makes every request to it hang under Serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serve_app.responses import Receive, Send


async def answer(receive: Receive, send: Send, on_shutdown: Callable[[], Awaitable[None]] | None = None) -> None:
    """Confirm start-up and shut-down, running `on_shutdown` before the latter."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if on_shutdown is not None:
                await on_shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
