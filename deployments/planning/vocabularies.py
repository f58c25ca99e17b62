"""How many indices an input may hold, read from the model's graph rather than from any layer's class."""

from __future__ import annotations

from collections import deque
from typing import Any

from deployments.candidates._subject import Subject

GATHERS = {"ResourceGather": (0, 1), "GatherV2": (0, 1), "Gather": (0, 1)}
"""Ops that look rows up, with the positions of the table and the indices among their inputs."""
PASSING = {
    *("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "Transpose", "Select", "SelectV2"),
    *("Minimum", "Maximum", "AddV2", "Add", "Sub", "StopGradient", "ConcatV2", "Pack", "Unpack", "Split"),
}
"""Ops through which an index reaches its gather unchanged, or nearly."""


def vocabularies(subject: Subject, concrete: Any) -> dict[int, int]:
    """Return input position to the rows of the smallest table that it indexes, for those inputs that index one."""
    inputs = {tensor.name: index for index, tensor in enumerate(concrete.inputs[: len(subject.signature.inputs)])}
    found: dict[int, int] = {}
    for operation in concrete.graph.get_operations():
        if operation.type not in GATHERS:
            continue
        table, indices = (operation.inputs[position] for position in GATHERS[operation.type])
        rows = _rows(table)
        for index in _sources(indices, inputs) if rows else ():
            found[index] = min(rows, found.get(index, rows))
    return found


def _rows(table: Any) -> int:
    """Return the first axis of a gather's table, whose shape a resource handle carries beside itself; 0: unknown."""
    shape = table.shape
    data = getattr(table, "_handle_data", None)
    if data is not None and data.is_set:
        dimensions = data.shape_and_type[0].shape.dim
        return int(dimensions[0].size) if dimensions else 0
    return int(shape[0]) if shape.rank and shape[0] is not None else 0


def _sources(tensor: Any, inputs: dict[str, int]) -> set[int]:
    """Return which inputs reach `tensor` through ops that pass indices on."""
    waiting, seen, found = deque([tensor]), set(), set()
    while waiting:
        current = waiting.popleft()
        if current.name in seen:
            continue
        seen.add(current.name)
        if current.name in inputs:
            found.add(inputs[current.name])
        elif current.op.type in PASSING:
            waiting.extend(current.op.inputs)
    return found
