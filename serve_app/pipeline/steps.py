"""One step at work: which rows, item by item or not, by a deployed model or a function; for own models see `own`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    PredictionFailed,
    SoloError,
    UnknownModel,
)
from deployments.processing.before import by_row
from deployments.processing.columns import Column, column
from deployments.processing.function import UserFunction
from deployments.processing.pace import Pace
from deployments.processing.results import columns_of
from deployments.tensors import Array, Arrays, TensorSpec
from serve_app.client import Model
from serve_app.pipeline import values
from serve_app.pipeline.wiring import Wired, several

Columns = Mapping[str, Array]
Call = Callable[[Columns, int, float | None], Awaitable[Arrays]]
"""Takes columns by input, their rows and the deadline; returns the outputs in the wired order."""
CHEAP_S = 0.5e-3
"""A function runs on the event loop while its calls take less, and on a thread otherwise."""


@dataclass(frozen=True, slots=True)
class Working:
    """A wired step that can be run."""

    wired: Wired
    call: Call

    async def run(self, columns: Columns, condition: Array | None, count: int, deadline_s: float | None) -> Arrays:
        """Return the step's outputs for `count` rows; raises the step's error with its name before it."""
        try:
            if condition is None:
                return await self._each(columns, count, deadline_s)
            return await self._where(columns, condition, count, deadline_s)
        except SoloError as error:
            raise named(error, f"step '{self.wired.step.name}'") from error

    async def _where(self, columns: Columns, condition: Array, count: int, deadline_s: float | None) -> Arrays:
        """Run the rows where the condition holds, fill the others."""
        rows = np.flatnonzero(condition.reshape(count, -1)[:, 0])
        if len(rows) == count:
            return await self._each(columns, count, deadline_s)
        otherwise = self.wired.step.otherwise
        if not len(rows):
            specs = self.wired.outputs
            if not specs:
                raise PredictionFailed("what it returns for no row is not known: list its outputs")
            shown = [several(spec) for spec in specs] if self.wired.step.for_each else specs
            return tuple(values.filled(spec, count, values.filler(spec.dtype, otherwise)) for spec in shown)
        picked = {name: array[rows] for name, array in columns.items()}
        outputs = await self._each(picked, len(rows), deadline_s)
        return tuple(values.scattered(each, rows, count, values.filler(each.dtype, otherwise)) for each in outputs)

    async def _each(self, columns: Columns, count: int, deadline_s: float | None) -> Arrays:
        """Run all rows; item by item where the step fans out."""
        fanned = self.wired.step.for_each
        if not fanned:
            return await self.call(columns, count, deadline_s)
        items: dict[str, Array] = {}
        counts: list[int] = []
        for name in fanned:
            items[name], found = values.items_of(columns[name])
            if counts and found != counts:
                raise PredictionFailed(f"for_each: '{name}' has {found} items a row, '{fanned[0]}' {counts}")
            counts = found
        for name, array in columns.items():
            if name not in items:
                items[name] = np.repeat(array, counts, axis=0)
        if not sum(counts):
            specs = [several(spec) for spec in self.wired.outputs]
            return tuple(values.filled(spec, count, values.filler(spec.dtype, 0)) for spec in specs)
        outputs = await self.call(items, sum(counts), deadline_s)
        return tuple(values.in_rows(each, counts) for each in outputs)


def named(error: SoloError, who: str) -> SoloError:
    """Return the same kind of error, with the step's name before its text."""
    text = f"{who}: {error}"
    if isinstance(error, Overloaded):
        return Overloaded(text, error.retry_after_s)
    for kind in (InvalidInput, DeadlineExceeded, NotReady):
        if isinstance(error, kind):
            return kind(text)
    # A model that is gone, or does not let the pipeline in, is no fault of the client's.
    return NotReady(text) if isinstance(error, UnknownModel) else PredictionFailed(text)


def model_call(wired: Wired) -> Call:
    """Return what asks the step's deployed model."""
    step = wired.step
    assert step.model is not None
    model = Model(step.model, step.version)
    names = [spec.name for spec in wired.outputs]

    async def call(columns: Columns, count: int, deadline_s: float | None) -> Arrays:
        if any(values.is_ragged(array) for array in columns.values()):
            return await one_by_one(call, columns, count, deadline_s)
        if (outputs := await model.ask(columns, deadline_s)) is not None:
            return outputs
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        answer = await model.predict_async(columns, timeout_s)
        return tuple(answer[name] for name in names) if isinstance(answer, dict) else (answer,)

    return call


async def one_by_one(call: Call, columns: Columns, count: int, deadline_s: float | None) -> Arrays:
    """Ask about rows of different shapes at once, each by itself."""
    rows = [
        {name: array[row][None] if values.is_ragged(array) else array[row : row + 1] for name, array in columns.items()}
        for row in range(count)
    ]
    answers = await asyncio.gather(*(call(row, 1, deadline_s) for row in rows))
    return tuple(values.gathered([answer[0] for answer in parts]) for parts in zip(*answers, strict=True))


def function_call(wired: Wired, specs: Mapping[str, TensorSpec | None], wanted: tuple[str | None, ...]) -> Call:
    """Return what calls the step's function; `specs` are its sources' by parameter, `wanted` the outputs by name.

    A sole output that is not named is called by None.
    """
    function = wired.function
    assert function is not None
    taken = {name: _column(function, name, specs.get(name)) for name in wired.sources}
    pace = Pace(2 * CHEAP_S)

    def run(columns: Columns, count: int) -> Arrays:
        started_s = time.perf_counter()
        given = {name: taken[name].values(array) for name, array in columns.items()}
        if wired.per_row:
            result: Any = by_row(function, given, count)
        else:
            result = function(given)
        pace.note(time.perf_counter() - started_s)
        if wired.outputs:
            return columns_of(result, wired.outputs, count, wired.per_row, function.owner)
        return _undeclared(result, wanted, count, wired.per_row)

    async def call(columns: Columns, count: int, deadline_s: float | None) -> Arrays:  # noqa: ARG001 - as every Call
        is_cheap = pace.expected_s <= CHEAP_S
        return run(columns, count) if is_cheap else await asyncio.to_thread(run, columns, count)

    return call


def _column(function: UserFunction, name: str, spec: TensorSpec | None) -> Column:
    said = next((each.said for each in function.parameters if each.name == name), None)
    if said is None or spec is None:
        placeholder = TensorSpec(name, np.dtype(object), (None,))
        return Column(placeholder, "array" if said is None else said.form)
    return column(spec, said, function.owner)


def _undeclared(result: Any, wanted: tuple[str | None, ...], count: int, per_row: bool) -> Arrays:
    """Return the outputs that other steps use, of a function that declares none."""
    made = []
    for name in wanted:
        column, first = result, result[0] if per_row and result else result
        if name is not None and isinstance(first, Mapping):
            try:
                column = [row[name] for row in result] if per_row else result[name]
            except KeyError:
                raise PredictionFailed(f"its function returned no '{name}'") from None
        array = values.free(column, count)
        if array is None:
            raise PredictionFailed(f"its function returned no column of {count} rows{f' for {name!r}' if name else ''}")
        made.append(array)
    return tuple(made)
