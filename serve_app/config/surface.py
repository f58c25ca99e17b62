"""What one model's HTTP surface allows; validated where the serve config is read."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.config.tokens import BY_SERVER, TokenSource
from serve_app.protocols.image.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of `ModelRoutes`."""

    max_body_bytes: int = 64 * 1024 * 1024
    """The largest request body, as sent and as inflated; beyond it the answer is 413."""
    server_timing: bool = True
    """Whether every inference answer carries a Server-Timing header."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Everything that shapes a model's HTTP surface and nothing of its inference."""

    limits: Limits
    preprocess: Preprocess | None = None
    tokens: TokenSource = BY_SERVER
    cors_origins: tuple[str, ...] = ()
    metrics: bool = True
    """Whether the counters are published to Ray's metrics export."""
    shared_memory: bool = False
    """Whether tensors may lie in shared memory of the replica's node."""
