"""Models that a pipeline holds in its own process: asked without a hop, and coalesced as any other."""

from __future__ import annotations

from deployments.servable import Servable
from deployments.tensors import Arrays
from serve_app.client import values as conversion
from serve_app.pipeline import values
from serve_app.pipeline.steps import Call, Columns, one_by_one


def own_call(servable: Servable) -> Call:
    """Return what asks a model of this process."""
    names, most = [spec.name for spec in servable.signature.inputs], servable.max_batch_size

    async def call(columns: Columns, count: int, deadline_s: float | None) -> Arrays:
        if any(values.is_ragged(array) for array in columns.values()):
            return await one_by_one(call, columns, count, deadline_s)

        async def ask(piece: Arrays) -> Arrays:
            inputs = dict(zip(names, piece, strict=True))
            with servable.counted() as request:
                request.decoded(inputs)
                answer = await servable.predict(inputs, deadline_s)
                request.answered(answer)
            return answer.outputs

        return await conversion.by_pieces(conversion.to_rows(servable.signature, columns), most, ask)

    return call
