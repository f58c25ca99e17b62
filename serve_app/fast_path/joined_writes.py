"""An answer's head and body in one write, where uvicorn would make two."""

from __future__ import annotations

from typing import Any

from serve_app.http.asgi import Send


def join_writes(send: Send) -> None:
    """Have uvicorn write the answer that `send` is about to begin in one go."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if hasattr(transport, "writelines"):
        cycle.transport = JoinedWrites(transport)  # type: ignore[union-attr]


class JoinedWrites:
    """A transport that keeps the first piece, an answer's head, until the second comes, its body.

    uvloop writes each at once: two system calls, two packets, and HAProxy woken twice.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the first piece; write it with the second."""
        if self._head is None:
            self._head = data
        elif self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close, after what was kept."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
