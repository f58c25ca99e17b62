"""The knobs of coalescing, named as their users know them from Serve and Triton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deployments.errors import ConfigError

Mode = Literal["off", "window", "continuous"]
MODES: tuple[Mode, ...] = ("off", "window", "continuous")

QUEUE_BATCHES = 16
"""How many full batches may wait by default: a second of work where a batch takes 60 ms, and at 32 rows of a
float32 image of 224 by 224 pixels 300 MB of request bodies."""


@dataclass(frozen=True, slots=True)
class CoalesceOptions:
    """Who may share a batch, how long it may wait for company, and how much may wait at all."""

    mode: Mode = "continuous"
    max_batch_size: int = 32
    """Rows, not requests; never more than the plan's largest batch size."""
    batch_wait_timeout_s: float = 0.01
    """`window` only: `@serve.batch`'s timer, with its default."""
    max_queue_delay_ms: float = 0.0
    """`continuous` only: how long an idle device waits for company (Triton's `max_queue_delay_microseconds`)."""
    max_queue_rows: int | None = None
    """Rows that may wait; None for `QUEUE_BATCHES` full batches. A single larger request passes if none waits."""

    def __post_init__(self) -> None:
        """Raise `ConfigError`, naming the knob, for a value that makes no sense."""
        if self.mode not in MODES:
            raise ConfigError(f"coalesce: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.max_batch_size < 1:
            raise ConfigError(f"max_batch_size: expected at least 1, got {self.max_batch_size}")
        if self.batch_wait_timeout_s < 0:
            raise ConfigError(f"batch_wait_timeout_s: expected 0 or more, got {self.batch_wait_timeout_s}")
        if self.max_queue_delay_ms < 0:
            raise ConfigError(f"max_queue_delay_ms: expected 0 or more, got {self.max_queue_delay_ms}")
        if self.max_queue_rows is not None and self.max_queue_rows < 1:
            raise ConfigError(f"max_queue_rows: expected at least 1, got {self.max_queue_rows}")

    @property
    def queue_limit_rows(self) -> int:
        """How many rows may wait, the default resolved."""
        return QUEUE_BATCHES * self.max_batch_size if self.max_queue_rows is None else self.max_queue_rows
