"""The service's calls behind bearer tokens, which gRPC carries as the metadata `authorization`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from serve_app.config.tokens import Tokens


def metadata_authorization(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Return the value of a gRPC call's metadata `authorization`, empty where it has none."""
    value = dict(metadata).get("authorization", "")
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


Metadata = Iterable[tuple[str, str | bytes]]

OPEN_METHODS = frozenset({"ServerLive", "ServerReady", "ModelReady"})
"""Health, which asks for no token."""


class Calls(Protocol):
    """What stands behind the methods: `ModelCalls` in a replica, `GatewayCalls` in the gateway."""

    async def call(self, method: str, body: bytes, metadata: Metadata) -> Any:
        """Return the message (or its bytes as `Encoded`) that answers `method`; raise the domain's errors."""
        ...

    async def infer(self, body: bytes, metadata: Metadata) -> Any:
        """Return the `ModelInferResponse` to one request of a stream."""
        ...


class GuardedCalls:
    """Calls that check the token first, and raise `Unauthorized`."""

    def __init__(self, calls: Calls, tokens: Tokens) -> None:
        self._calls = calls
        self._tokens = tokens

    async def call(self, method: str, body: bytes, metadata: Metadata) -> Any:
        """Answer the call `method`; health is open."""
        if method not in OPEN_METHODS:
            self._tokens.check(metadata_authorization(metadata))
        return await self._calls.call(method, body, metadata)

    async def infer(self, body: bytes, metadata: Metadata) -> Any:
        """Answer one request of a stream."""
        self._tokens.check(metadata_authorization(metadata))
        return await self._calls.infer(body, metadata)


def guarded_calls(calls: Calls, tokens: Tokens | None) -> Calls:
    """Return `calls` behind `tokens`; without tokens they are returned as they are and cost nothing."""
    return calls if tokens is None else GuardedCalls(calls, tokens)
