"""Models that a pipeline holds in its own process: asked without a hop, and coalesced as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from deployments.servable import Servable
from deployments.tensors import Array, Arrays
from serve_app.client import values as conversion
from serve_app.pipeline import values
from serve_app.pipeline.steps import Call, Columns, one_by_one


def own_call(servable: Servable) -> Call:
    """Return what asks a model of this process."""
    specs, most = servable.signature.inputs, servable.max_batch_size

    async def ask(inputs: Mapping[str, Array], deadline_s: float | None) -> Arrays:
        with servable.counted() as request:
            request.decoded(inputs)
            answer = await servable.predict(inputs, deadline_s)
            request.answered(answer)
        return answer.outputs

    async def call(columns: Columns, count: int, deadline_s: float | None) -> Arrays:
        if any(values.is_ragged(array) for array in columns.values()):
            return await one_by_one(call, columns, count, deadline_s)
        if all(columns[spec.name].dtype == spec.dtype for spec in specs) and count <= most:
            return await ask(columns, deadline_s)
        rows = conversion.to_rows(servable.signature, columns)
        names = [spec.name for spec in specs]
        pieces = (dict(zip(names, piece, strict=True)) for piece in conversion.split(rows, most))
        return conversion.join(await asyncio.gather(*(ask(piece, deadline_s) for piece in pieces)))

    return call
