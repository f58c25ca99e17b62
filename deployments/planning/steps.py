"""The calls behind `Plan.run`: one per number of rows, resolved once so that a request looks nothing up twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deployments.candidates._bucket import Bucket
from deployments.errors import InvalidInput, NotReady
from deployments.planning.trials import Trial
from deployments.tensors import Array, Arrays, Signature

Step = Callable[[Arrays], Arrays]


def steps(signature: Signature, chosen: Mapping[Bucket, Trial]) -> list[Step]:
    """Return what runs `count` rows, at index `count`; index 0 is never called."""
    sizes = sorted({bucket.batch_size for bucket in chosen})
    exact = {size: _exact(signature, size, chosen) for size in sizes}
    table: list[Step] = [_refuse]
    for count in range(1, sizes[-1] + 1):
        size = next(size for size in sizes if size >= count)
        table.append(exact[size] if size == count else _padded(exact[size], count, size))
    return table


def _refuse(_arrays: Arrays) -> Arrays:
    raise InvalidInput("a batch needs at least one row")


def closed(_arrays: Arrays) -> Arrays:
    """Stand for every step of a plan that is closed."""
    raise NotReady("the plan is closed")


def _exact(signature: Signature, size: int, chosen: Mapping[Bucket, Trial]) -> Step:
    runs = {bucket.length: _run(trial) for bucket, trial in chosen.items() if bucket.batch_size == size}
    return runs[None] if None in runs else _by_length(signature, runs)


def _run(trial: Trial) -> Step:
    assert trial.runner is not None
    return trial.runner.run


def _by_length(signature: Signature, runs: Mapping[int | None, Step]) -> Step:
    """Return a step that reads the length off the first dynamic axis; `Lengths.pad` has made it an allowed one."""
    position, axis = next(
        (position, axis)
        for position, spec in enumerate(signature.inputs)
        for axis, size in enumerate(spec.shape)
        if axis > 0 and size is None
    )
    name = signature.inputs[position].name

    def run(arrays: Arrays) -> Arrays:
        length = arrays[position].shape[axis]
        step = runs.get(length)
        if step is None:
            raise InvalidInput(f"input '{name}': length {length} is none of the allowed {sorted(map(str, runs))}")
        return step(arrays)

    return run


def _padded(step: Step, count: int, size: int) -> Step:
    """Return a step for `count` rows that runs `size` and cuts its outputs.

    The last row is repeated: a real one, so no padding value can be out of a model's range.
    """

    def run(arrays: Arrays) -> Arrays:
        return tuple(output[:count] for output in step(tuple(_repeat_last(array, size) for array in arrays)))

    return run


def _repeat_last(array: Array, rows: int) -> Array:
    padded = np.empty((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    padded[len(array) :] = array[-1]
    return padded


def by_count(sizes: Sequence[int], values: Mapping[int, float]) -> list[float]:
    """Return, at index `count`, the value of the batch size that runs `count` rows; index 0 repeats index 1."""
    counted = [values[next(size for size in sizes if size >= count)] for count in range(1, sizes[-1] + 1)]
    return [counted[0], *counted]
