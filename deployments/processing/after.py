"""`after`: the model's outputs become the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deployments.errors import LoadError
from deployments.processing.before import by_row
from deployments.processing.columns import Column
from deployments.processing.function import Parameter, UserFunction, find
from deployments.processing.options import FunctionOptions
from deployments.processing.results import columns_of, discovered
from deployments.tensors import Arrays, TensorSpec

FALLBACK = "output"
"""What an output is called that nobody has named."""
Kind = Literal["output", "outputs", "request"]


@dataclass(frozen=True, slots=True)
class After:
    """The function with what it takes and what it returns."""

    function: UserFunction
    takes: Mapping[str, tuple[Kind, int]]
    """Parameter to what it gets: one output (by its place), all of them by name, or the request's inputs by name."""
    outputs: tuple[TensorSpec, ...]
    """The model's."""
    request: tuple[Column, ...]
    """What clients send."""
    per_row: bool
    returns: tuple[TensorSpec, ...] = ()
    """What clients get; empty until it is declared, annotated or found."""

    @property
    def needs_request(self) -> bool:
        """Whether the function wants what the client sent."""
        return any(kind == "request" for kind, _ in self.takes.values())

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the answer's tensors for `count` rows of the model's outputs, and the request's."""
        return columns_of(self.result(arrays, count), self.returns, count, self.per_row, self.function.owner)

    def found(self, arrays: Arrays, count: int) -> tuple[TensorSpec, ...]:
        """Return what comes out, learnt by running the function."""
        return discovered(self.result(arrays, count), self.per_row, FALLBACK)

    def result(self, arrays: Arrays, count: int) -> Any:
        """Return what the function itself returns; a list of rows' results where it takes a row at a time."""
        outputs = arrays[: len(self.outputs)]
        named = {spec.name: array for spec, array in zip(self.outputs, outputs, strict=True)}
        asked: dict[str, Any] = {}
        if self.needs_request:
            pairs = zip(self.request, arrays[len(self.outputs) :], strict=True)
            asked = {column.spec.name: column.values(array) for column, array in pairs}
        if not self.per_row:
            return self.function(self._values(outputs, named, asked))
        values = {
            name: outputs[place] if kind == "output" else _rows(named if kind == "outputs" else asked, count)
            for name, (kind, place) in self.takes.items()
        }
        return by_row(self.function, values, count)

    def _values(self, outputs: Arrays, named: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        whole = {"outputs": named, "request": asked}
        return {name: outputs[place] if kind == "output" else whole[kind] for name, (kind, place) in self.takes.items()}


def _rows(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def make_after(options: FunctionOptions, outputs: Sequence[TensorSpec], request: Sequence[Column]) -> After:
    """Find the function and what it takes; raises `LoadError` where that is not known."""
    function = find(options, "after")
    names = [spec.name for spec in outputs]
    takes: dict[str, tuple[Kind, int]] = {}
    rest: list[Parameter] = []
    for parameter in function.parameters:
        name = parameter.name
        if name in names:
            takes[name] = ("output", names.index(name))
        elif name == "outputs":
            takes[name] = ("outputs", 0)
        elif name == "request":
            takes[name] = ("request", 0)
        elif parameter.is_required:
            takes[name] = ("output", 0)  # in its place among the parameters
            rest.append(parameter)
    if len(rest) > 1 or (rest and (len(names) > 1 or any(takes[n][0] == "output" for n in takes if n != rest[0].name))):
        known = ", ".join(f"'{name}'" for name in names)
        raise LoadError(
            f"{function.owner}: what its parameter '{rest[0].name}' takes is not known; the model's outputs are "
            f"{known}; 'outputs' gets all of them, 'request' what the client sent"
        )
    per_row = function.returns.is_row if options.per_row is None else options.per_row
    declared = options.tensors or (() if function.returns.spec is None else (function.returns.spec,))
    opened = tuple(spec.opened() for spec in outputs)
    return After(function, takes, opened, tuple(request), per_row, tuple(spec.opened() for spec in declared))
