"""One model, ready to answer: signature, plan and coalescer joined; knows neither HTTP nor Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.execution import Answer
from deployments.tensors import Array, Rows, Signature


class Coalescer(Protocol):
    """Decides who runs with whom, and when. `deployments.coalescing` has the real ones."""

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; `deadline_s` is on `time.monotonic`'s clock."""
        ...


@dataclass(slots=True)
class Servable:
    """A deployed model version, as every protocol sees it."""

    name: str
    version: str
    signature: Signature
    coalescer: Coalescer
    max_batch_size: int
    labels: tuple[str, ...] = ()
    description: Mapping[str, Any] = field(default_factory=dict)
    """Facts for people and the repository: device, precision, source, fingerprint."""

    async def predict(self, inputs: Mapping[str, Array], deadline_s: float | None = None) -> Answer:
        """Check `inputs` (name to `[batch, ...]` array) and return their answer.

        Raises `InvalidInput` before anything is queued, `Overloaded` or `DeadlineExceeded` where admission
        refuses, `PredictionFailed` where the model fails.
        """
        return await self.coalescer.submit(self.signature.check(inputs), deadline_s)
