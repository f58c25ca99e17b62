"""A request's way through the steps: each runs once what it needs is there, and beside those it does not need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from deployments.execution import Answer
from deployments.tensors import Array, Rows, TensorSpec
from serve_app.pipeline import values
from serve_app.pipeline.graph import Source
from serve_app.pipeline.steps import Call, Working, function_call, model_call
from serve_app.pipeline.wiring import Wired, Wiring


class Running:
    """A wired pipeline as `servable.Coalescer`: what is coalesced is coalesced by its models."""

    def __init__(self, wiring: Wiring, calls: Mapping[str, Call] | None = None) -> None:
        """Run `wiring`; `calls` say how steps are asked, by name, that are neither deployed models nor functions."""
        self._inputs = [Source(None, spec.name) for spec in wiring.signature.inputs]
        self._outputs = list(zip(wiring.outputs, (spec.name for spec in wiring.signature.outputs), strict=True))
        self._names = {wired.step.name: _produced(wired, wiring) for wired in wiring.steps}
        specs = _specs(wiring)
        self._steps = [
            Working(wired, (calls or {}).get(wired.step.name) or _call(wired, specs, self._names[wired.step.name]))
            for wired in wiring.steps
        ]
        waits = [_waits(wired) for wired in wiring.steps]
        self._is_chain = all(waited >= {wiring.steps[i].step.name} for i, waited in enumerate(waits[1:]))
        self._waits = {working.wired.step.name: waited for working, waited in zip(self._steps, waits, strict=True)}

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        """Return the answer to `rows`; raises the first error of a step, with the others cancelled."""
        started_ns = time.perf_counter_ns()
        known: dict[Source, Array] = dict(zip(self._inputs, rows.arrays, strict=True))
        ended: list[tuple[str, int]] = []
        if self._is_chain:
            for working in self._steps:
                await self._step(working, known, rows.count, deadline_s, ended)
        else:
            await self._graph(known, rows.count, deadline_s, ended)
        outputs = tuple(values.answered(known[found], name) for found, name in self._outputs)
        times = _shares(started_ns, ended)
        return Answer(outputs, 0, sum(took_ns for _, took_ns in times), rows.count, steps=times)

    async def _step(
        self,
        working: Working,
        known: dict[Source, Array],
        count: int,
        deadline_s: float | None,
        ended: list[tuple[str, int]],
    ) -> None:
        wired = working.wired
        columns = {name: known[found] for name, found in wired.sources.items()}
        condition = None if wired.condition is None else known[wired.condition]
        outputs = await working.run(columns, condition, count, deadline_s)
        name = wired.step.name
        for output, column in zip(self._names[name], outputs, strict=True):
            known[Source(name, output)] = column
        if len(outputs) == 1:
            known[Source(name, None)] = outputs[0]
        ended.append((name, time.perf_counter_ns()))

    async def _graph(
        self, known: dict[Source, Array], count: int, deadline_s: float | None, ended: list[tuple[str, int]]
    ) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}

        async def after(working: Working) -> None:
            for name in self._waits[working.wired.step.name]:
                await asyncio.shield(tasks[name])
            await self._step(working, known, count, deadline_s, ended)

        try:
            for working in self._steps:
                tasks[working.wired.step.name] = asyncio.ensure_future(after(working))
            done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def _call(wired: Wired, specs: Mapping[Source, TensorSpec], names: Sequence[str | None]) -> Call:
    if wired.function is None:
        return model_call(wired)
    by_parameter = {name: specs.get(found) for name, found in wired.sources.items()}
    return function_call(wired, by_parameter, tuple(names))


def _waits(wired: Wired) -> set[str]:
    found = [*wired.sources.values(), *([] if wired.condition is None else [wired.condition])]
    return {each.step for each in found if each.step is not None}


def _produced(wired: Wired, wiring: Wiring) -> tuple[str | None, ...]:
    """Return the outputs of a step by name: the declared ones, or those that somebody uses."""
    if wired.outputs:
        return tuple(spec.name for spec in wired.outputs)
    used = [*wiring.outputs]
    for each in wiring.steps:
        used += [*each.sources.values(), *([] if each.condition is None else [each.condition])]
    return tuple(dict.fromkeys(found.name for found in used if found.step == wired.step.name))


def _specs(wiring: Wiring) -> dict[Source, TensorSpec]:
    """Return what is known of each value."""
    specs: dict[Source, TensorSpec] = {Source(None, spec.name): spec for spec in wiring.signature.inputs}
    for wired in wiring.steps:
        several = bool(wired.step.for_each)
        for spec in () if several else wired.outputs:
            specs[Source(wired.step.name, spec.name)] = spec
            if len(wired.outputs) == 1:
                specs[Source(wired.step.name, None)] = spec
    return specs


def _shares(started_ns: int, ended: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Return by how much each step put off the end: side by side, they share the time between two ends."""
    shares, at_ns = [], started_ns
    for name, end_ns in ended:
        shares.append((name, end_ns - at_ns))
        at_ns = end_ns
    return tuple(shares)
