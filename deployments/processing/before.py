"""`before`: what clients send becomes the model's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployments.errors import LoadError
from deployments.processing.columns import Column, column
from deployments.processing.function import Parameter, UserFunction, find
from deployments.processing.options import FunctionOptions
from deployments.processing.results import columns_of
from deployments.tensors import Arrays, TensorSpec

HOW = 'annotate it (str, bytes, dict, list[…] of these, Annotated[np.ndarray, "float32[-1, 8]"]) or list it in inputs'


@dataclass(frozen=True, slots=True)
class Before:
    """The function with what it takes and what it has to return."""

    function: UserFunction
    columns: Mapping[str, Column]
    """Parameter to the tensor that it takes; in the order of the outer signature."""
    returns: tuple[TensorSpec, ...]
    """The model's inputs."""
    per_row: bool

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What clients send."""
        return tuple(column.spec for column in self.columns.values())

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the model's inputs for `count` rows of `inputs`; see `columns_of`."""
        values = handed(self.columns, arrays)
        result = by_row(self.function, values, count) if self.per_row else self.function(values)
        return columns_of(result, self.returns, count, self.per_row, self.function.owner)


def handed(columns: Mapping[str, Column], arrays: Arrays) -> dict[str, Any]:
    """Return what each parameter gets."""
    return {name: each.values(array) for (name, each), array in zip(columns.items(), arrays, strict=True)}


def by_row(function: UserFunction, values: Mapping[str, Any], count: int) -> list[Any]:
    """Return what the function returns for each row."""
    return [function({name: value[row] for name, value in values.items()}) for row in range(count)]


def make_before(options: FunctionOptions, model_inputs: Sequence[TensorSpec]) -> Before:
    """Find the function and what it takes; raises `LoadError` where that is not known."""
    function = find(options, "before")
    declared = {spec.name: spec for spec in options.tensors}
    known = {spec.name: spec for spec in model_inputs}
    columns: dict[str, Column] = {}
    for parameter in function.parameters:
        spec = _taken(parameter, function, declared, known)
        if spec is not None:
            columns[parameter.name] = column(spec.opened(), parameter.said, function.owner)
    taken = {each.spec.name for each in columns.values()}
    for name, spec in declared.items():
        if name not in taken and not function.takes_others:
            raise LoadError(f"{function.owner} has no parameter '{name}', which inputs lists")
        if name not in taken:
            columns[name] = Column(spec.opened())
    if not columns:
        raise LoadError(f"{function.owner} takes nothing: it needs a parameter for what clients send")
    per_row = options.per_row
    if per_row is None:
        per_row = any(parameter.said.is_row for parameter in function.parameters if parameter.name in columns)
    return Before(function, columns, tuple(spec.opened() for spec in model_inputs), per_row)


def _taken(
    parameter: Parameter,
    function: UserFunction,
    declared: Mapping[str, TensorSpec],
    known: Mapping[str, TensorSpec],
) -> TensorSpec | None:
    """Return the tensor that a parameter takes: declared, annotated, or one of the model's own inputs."""
    name = parameter.name
    if name in declared:
        return declared[name]
    is_only = function.required == (parameter,)
    if declared:
        if is_only and len(declared) == 1:
            return next(iter(declared.values()))
    elif parameter.said.spec is not None and (parameter.is_required or parameter.said.form == "array"):
        return parameter.said.spec
    elif name in known:
        return known[name]
    elif is_only and len(known) == 1:
        return next(iter(known.values()))
    if parameter.is_required:
        raise LoadError(f"{function.owner}: what its parameter '{name}' takes is not known; {HOW}")
    return None
