"""From what a user has (lists, arrays of a near dtype, names or none) to checked rows, and back to what they expect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import numpy as np

from deployments.conversion import to_array
from deployments.errors import InvalidInput, PredictionFailed
from deployments.tensors import STRING, Array, Arrays, Rows, Signature


def to_rows(signature: Signature, inputs: object) -> Rows:
    """Return `inputs`, one `[rows, ...]` array-like or a mapping of them by name, in the signature's dtypes.

    Arrays that already fit are not copied. Raises `InvalidInput` for a wrong name or shape, a ragged list, and
    where a value would change its meaning: floats for an integer input, numbers beyond its range.
    """
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
            raise InvalidInput(f"the model has {len(signature.inputs)} inputs: expected a dict of {names}")
        inputs = {signature.inputs[0].name: inputs}
    specs = {spec.name: spec for spec in signature.inputs}
    return signature.check(
        {name: to_array(specs[name], value) if name in specs else np.empty(0) for name, value in inputs.items()}
    )


PIECES_UNDER_WAY = 8
"""Of one batch: enough to keep several replicas busy, and half of what one replica lets wait by default."""


async def by_pieces(rows: Rows, size: int, send: Callable[[Arrays], Awaitable[Arrays]]) -> Arrays:
    """Send a batch in pieces of at most `size` rows, several at a time; one that fails ends the others."""
    if rows.count <= size:
        return await send(rows.arrays)
    turn = asyncio.Semaphore(PIECES_UNDER_WAY)

    async def in_turn(piece: Arrays) -> Arrays:
        async with turn:
            return await send(piece)

    tasks = [asyncio.ensure_future(in_turn(piece)) for piece in split(rows, size)]
    try:
        return join(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def split(rows: Rows, size: int) -> Iterator[Arrays]:
    """Yield `rows` in order, in pieces of at most `size` rows each: views."""
    for start in range(0, rows.count, size):
        yield tuple(array[start : start + size] for array in rows.arrays)


def join(pieces: Sequence[Arrays]) -> Arrays:
    """Return the pieces' outputs as one, `[all rows, ...]` each."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
    except ValueError as error:
        raise PredictionFailed(f"the pieces of this batch have answers of different shapes: {error}") from None


def to_answer(signature: Signature, outputs: Arrays) -> Array | dict[str, Array]:
    """Return a sole output bare, several by name; every array is writable and the caller's own."""
    # What Ray deserializes is read-only: a view of the object store, which the caller would keep full.
    owned = [array if array.flags.writeable and array.flags.aligned else array.copy() for array in outputs]
    if len(owned) == 1:
        return owned[0]
    return {spec.name: array for spec, array in zip(signature.outputs, owned, strict=True)}


def size_bytes(arrays: Arrays) -> int:
    """Return roughly how many bytes `arrays` travel as; strings are measured one by one."""
    return sum(
        sum(4 + len(item) for item in array.ravel()) if array.dtype == STRING else array.nbytes for array in arrays
    )
