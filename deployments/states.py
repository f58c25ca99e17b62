"""Which of a recurrent model's tensors are states: inputs that its own outputs become, unseen by clients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deployments.errors import LoadError
from deployments.tensors import Arrays, Rows, Signature, TensorSpec, dtype_name, shape_text


class States:
    """A model's states among its tensors; what they hold is kept elsewhere."""

    visible: Signature
    """The model without its states."""

    def __init__(self, model: Signature, states: Mapping[str, str]) -> None:
        """Find `states`, input to output, in `model`; raises `LoadError` where one is not there or cannot be kept."""
        self._model = model
        inputs, outputs = ({spec.name: spec for spec in specs} for specs in (model.inputs, model.outputs))
        self._specs = [_state(name, output, inputs, outputs) for name, output in states.items()]
        names, returned = set(states), set(states.values())
        self.visible = Signature(
            tuple(spec for spec in model.inputs if spec.name not in names),
            tuple(spec for spec in model.outputs if spec.name not in returned),
        )
        if not self.visible.inputs or not self.visible.outputs:
            raise LoadError("sequences.states: expected an input and an output beside the states")
        order = [spec.name for spec in model.outputs]
        self._kept = [order.index(output) for output in states.values()]
        self._told = [order.index(spec.name) for spec in self.visible.outputs]
        shown = [spec.name for spec in self.visible.inputs]
        both = [*shown, *states]
        self._order = [both.index(spec.name) for spec in model.inputs]
        self._shown = [[spec.name for spec in model.inputs].index(name) for name in shown]

    def zeros(self, count: int) -> Arrays:
        """Return the states that a sequence begins with, each `[count, ...]`."""
        return tuple(np.zeros((count, *(axis or 1 for axis in spec.row_shape)), spec.dtype) for spec in self._specs)

    def joined(self, arrays: Arrays, states: Arrays) -> Arrays:
        """Return the model's inputs in its own order, `arrays` being the visible ones."""
        both = (*arrays, *states)
        return tuple(both[place] for place in self._order)

    def checked(self, arrays: Arrays, states: Arrays) -> Rows:
        """Return the model's inputs as rows for its coalescer."""
        names = (spec.name for spec in self._model.inputs)
        return self._model.check(dict(zip(names, self.joined(arrays, states), strict=True)))

    def shown(self, inputs: Arrays) -> Arrays:
        """Return the visible ones of the model's inputs."""
        return tuple(inputs[place] for place in self._shown)

    def told(self, outputs: Arrays) -> Arrays:
        """Return the visible ones of the model's outputs."""
        return tuple(outputs[place] for place in self._told)

    def kept(self, outputs: Arrays) -> Arrays:
        """Return copies of the states among the model's outputs, which may be views of a whole batch's."""
        return tuple(np.array(outputs[place]) for place in self._kept)


def _state(name: str, output: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> TensorSpec:
    """Return the spec of one state; raises `LoadError` unless input and output are alike, and of a fixed shape."""
    for kind, wanted, known in (("input", name, inputs), ("output", output, outputs)):
        if wanted not in known:
            names = ", ".join(f"'{each}'" for each in known)
            raise LoadError(f"sequences.states: the model has no {kind} '{wanted}'; it has {names}")
    taken, returned = inputs[name], outputs[output]
    if None in taken.row_shape:
        raise LoadError(f"sequences.states: input '{name}' {shape_text(taken.shape)} has a dynamic axis: no zeros fit")
    if (taken.dtype, taken.row_shape) != (returned.dtype, returned.row_shape):
        raise LoadError(
            f"sequences.states: input '{name}' is {dtype_name(taken.dtype)} {shape_text(taken.shape)}, but output "
            f"'{output}' {dtype_name(returned.dtype)} {shape_text(returned.shape)}"
        )
    return taken
