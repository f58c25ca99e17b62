"""What happens to a replica's functions while its model is loaded and planned, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deployments.errors import LoadError
from deployments.lengths import Lengths
from deployments.model import LoadedModel, Preprocessor
from deployments.planning import given
from deployments.planning.options import PlanOptions
from deployments.processing.before import Before, make_before
from deployments.processing.columns import Annotation, Column
from deployments.processing.function import Parameter, UserFunction
from deployments.processing.options import ProcessingOptions
from deployments.processing.starting import Functions, make_functions, within
from deployments.states import States
from deployments.tensors import Array, Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    from deployments.planning.plan import Plan  # which imports TensorFlow


class Preparing:
    """Makes `before` once the model's inputs are known, turns samples into these, and tries everything at last."""

    def __init__(self, options: ProcessingOptions, limit_s: float, states: Mapping[str, str] | None = None) -> None:
        """Prepare for a model whose `states`, input to output, neither function sees."""
        self._options = options
        self._limit_s = limit_s
        self._states = states
        self._before: Before | None = None
        self._samples: Arrays | None = None

    def prepare(self, model: LoadedModel, plan: PlanOptions) -> PlanOptions:
        """Return the plan's options, with samples of what clients send made into the model's inputs."""
        states = None if self._states is None else States(model.signature, self._states)
        inputs = model.signature.inputs if states is None else states.visible.inputs
        options = self._options.before
        if options is not None:
            self._before = within(self._limit_s, "before", lambda: make_before(options, inputs))
        elif model.preprocessor is not None and self._options.preprocessor:
            self._before = brought(model.preprocessor, inputs)
        if self._before is None or plan.samples is None:
            return plan
        try:
            asked = given.read(plan.samples, Signature(self._before.inputs, ()))
        except LoadError:
            return plan  # they are the model's own, or planning says what is wrong with them
        self._samples = asked
        before = self._before
        made = within(self._limit_s, before.function.owner, lambda: before.run(asked, len(asked[0])))
        rows = tuple(_even(array, spec) for array, spec in zip(made, inputs, strict=True))
        if states is not None:
            rows = states.joined(rows, states.zeros(len(asked[0])))
        return replace(plan, samples=None, rows=rows)

    def functions(self, plan: Plan, states: States | None = None) -> Functions | None:
        """Return the functions, tried around the planned model and its `states`; None where there are none."""
        if self._before is None and not self._options:
            return None
        sample = tuple(plan.subject.sample or ())
        return make_functions(
            self._options,
            plan.signature if states is None else states.visible,
            run_model=lambda arrays: _run(plan, arrays, states),
            model_sample=states.shown(sample) if states is not None and sample else sample,
            samples=self._samples,
            prepared=self._before,
            limit_s=self._limit_s,
        )


def brought(preprocessor: Preprocessor, model_inputs: tuple[TensorSpec, ...]) -> Before:
    """Return a model's own preprocessor as its `before`."""
    columns: Mapping[str, Column] = {spec.name: Column(spec) for spec in preprocessor.inputs}
    parameters = tuple(Parameter(name, Annotation(), True, True) for name in columns)
    function = UserFunction(f"the model's {preprocessor.name}", preprocessor.call, parameters, False, Annotation())
    return Before(function, columns, tuple(spec.opened() for spec in model_inputs), per_row=False)


def _even(array: Array, spec: TensorSpec) -> Array:
    """Return rows of one shape: where those of the samples differ, the first again and again."""
    if array.dtype != object or spec.dtype == object:
        return array
    return np.stack([array[0]] * len(array))


def _run(plan: Plan, arrays: Arrays, states: States | None) -> Arrays:
    """Return the planned model's outputs, `[rows, …]`, row by row; of one with states as from their beginning."""
    if states is not None:
        arrays = states.joined(arrays, states.zeros(len(arrays[0])))
    names = [spec.name for spec in plan.signature.inputs]
    rows = plan.signature.check(dict(zip(names, arrays, strict=True)))
    lengths: Lengths | None = plan.lengths
    padded = rows if lengths is None else lengths.pad(rows)
    each = [plan.run(tuple(array[i : i + 1] for array in padded.arrays), 1) for i in range(rows.count)]
    outputs = tuple(np.concatenate(parts) for parts in zip(*each, strict=True))
    cut = outputs if lengths is None else lengths.cut(outputs, rows)
    return cut if states is None else states.told(cut)
